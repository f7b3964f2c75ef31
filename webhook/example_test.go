package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"stepup/webhook"
)

// A receiver: verify, keep the event, then answer 2xx.
func ExampleRead() {
	private, public := webhook.NewKeyPair()
	secrets, err := webhook.ParseSecrets([]byte(private)) // the sender's file
	if err != nil {
		log.Fatal(err)
	}
	keys, err := webhook.ParseKeys([]byte(public)) // the receiver's file: whpk_ and whsec_ lines
	if err != nil {
		log.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := webhook.Read(r, keys, time.Now())
		if err != nil {
			http.Error(w, "not verified", http.StatusUnauthorized)
			return
		}
		var event struct{ Type string }
		if err := json.Unmarshal(m.Body, &event); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		fmt.Println(m.ID, event.Type) // store it here; skip an id that is already there
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()

	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} // for this example only
	sender := webhook.Sender{Client: webhook.NewClient(loopback)}
	attempt := sender.Send(context.Background(),
		webhook.Endpoint{URL: receiver.URL, Secrets: secrets},
		webhook.Message{ID: "evt_7K3", Body: []byte(`{"type":"step_up.approved"}`)})
	fmt.Println(attempt.Outcome, attempt.Status)
	// Output:
	// evt_7K3 step_up.approved
	// delivered 204
}
