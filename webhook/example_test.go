package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"time"

	"stepup/webhook"
)

// receiver is what a bank writes: verify, open, keep, and only then answer 2xx.
type receiver struct {
	keys    []webhook.Key        // whsec_ and whpk_ lines; in a rotation the old and the new
	private []webhook.PrivateKey // for `content: encrypted`; else none
	kept    sync.Map             // your database: a table with a unique key over data.id and type
}

func (v *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m, err := webhook.Read(r, v.keys, time.Now())
	if err != nil {
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	if err := v.keep(m.Body); err != nil {
		log.Print(err)
		http.Error(w, "not kept", http.StatusInternalServerError) // it is sent again
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (v *receiver) keep(body []byte) error {
	whole, err := webhook.Open(body, v.private)
	if err != nil {
		return err
	}
	var event struct {
		Type string
		Data struct {
			ID       string
			Identity *struct{ Bound bool }
		}
	}
	if json.Unmarshal(whole, &event) != nil {
		return errors.New("not an event") // its own error may quote the event
	}
	if !strings.HasPrefix(event.Type, "step_up.") {
		return nil // endpoint.test, or of a later version
	}
	// The same event comes again until it is answered, and once from each of your webhooks.
	if _, again := v.kept.LoadOrStore([2]string{event.Data.ID, event.Type}, whole); again {
		return nil
	}
	// The type decides. Everything else is not approved; so is an unknown, because nobody can prove the yes.
	// Whom bound does not vouch for must be compared with the customer whom you meant.
	approved := event.Type == "step_up.approved" && event.Data.Identity != nil && event.Data.Identity.Bound
	fmt.Println(event.Data.ID, event.Type, approved)
	return nil
}

func Example() {
	private, public := webhook.NewKeyPair()
	keys, err := webhook.ParseKeys([]byte(public)) // the receiver's file
	if err != nil {
		log.Fatal(err)
	}
	v := httptest.NewServer(&receiver{keys: keys})
	defer v.Close()

	secrets, err := webhook.ParseSecrets([]byte(private)) // the sender's file
	if err != nil {
		log.Fatal(err)
	}
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} // for this example only
	sender := webhook.Sender{Client: webhook.NewClient(loopback)}
	for _, body := range []string{
		`{"type":"step_up.approved","data":{"id":"su_7K3","status":"approved","identity":{"bound":true}}}`,
		`{"type":"step_up.approved","data":{"id":"su_7K3","status":"approved","identity":{"bound":true}}}`, // again
		`{"type":"step_up.unknown","data":{"id":"su_7K4","status":"unknown","identity":null}}`,
	} {
		attempt := sender.Send(context.Background(),
			webhook.Endpoint{URL: v.URL, Secrets: secrets}, webhook.Message{ID: "evt_1", Body: []byte(body)})
		fmt.Println(attempt.Outcome, attempt.Status)
	}
	// Output:
	// su_7K3 step_up.approved true
	// delivered 204
	// delivered 204
	// su_7K4 step_up.unknown false
	// delivered 204
}

// What a receiver makes of encrypted content: without the private key it learns how a step-up ended, and of nobody.
func ExampleOpen() {
	private, public := webhook.NewEncryptionKey() // as `stepup keygen --webhook FILE --kind encryption` makes it
	recipient, err := webhook.ParseRecipient([]byte(public))
	if err != nil {
		log.Fatal(err)
	}
	encrypted, err := recipient.Encrypt([]byte(`{"type":"step_up.approved","data":{"id":"su_7K3","status":"approved","reference":"txn-881"}}`))
	if err != nil {
		log.Fatal(err)
	}
	body := fmt.Sprintf(`{"type":"step_up.approved","data":{"id":"su_7K3","status":"approved","encrypted":%q}}`, encrypted)

	keys, err := webhook.ParsePrivateKeys(private) // the receiver's file; in a rotation it has both keys
	if err != nil {
		log.Fatal(err)
	}
	event, err := webhook.Open([]byte(body), keys) // a body that Read or Verify has accepted
	fmt.Printf("%s %v\n", event, err)
	// Output:
	// {"type":"step_up.approved","data":{"id":"su_7K3","status":"approved","reference":"txn-881"}} <nil>
}
