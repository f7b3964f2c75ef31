package worker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"stepup/ciba"
	"stepup/webhook"
)

// subscriber is a receiver's key: the public half for us, the private one for it.
func subscriber(t testing.TB) (*webhook.Recipient, []webhook.PrivateKey) {
	t.Helper()
	private, public := webhook.NewEncryptionKey()
	recipient, err := webhook.ParseRecipient([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := webhook.ParsePrivateKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	return recipient, keys
}

// Encrypted content is what full content would be, for the receiver alone; around it stands
// what reference content has. The follower of an identity has nothing to encrypt.
func TestEncryptedContent(t *testing.T) {
	recipient, keys := subscriber(t)
	every := []string{"step_up.*"}
	inBubble(t, func(_ *Options, s *Settings) { s.ResultTTL = time.Minute }, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "full", Events: every}, Webhook{Name: "bare", Events: every, Reference: true}, Webhook{Name: "secret", Events: every, Encrypt: recipient})
		for n, answer := range []any{someone(), denial} {
			r.provider.provide(nil, answer)
			r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n))
			time.Sleep(10 * time.Second)
			full, bare, secret := s["full"].all()[n].body, s["bare"].all()[n].body, s["secret"].all()[n].body
			inside, err := webhook.Open(secret, keys)
			if err != nil || string(inside) != string(full) {
				t.Errorf("inside is\n%s, %v, full is\n%s", inside, err, full)
			}
			var around struct {
				Type, Timestamp string
				Data            map[string]any
			}
			if err := json.Unmarshal(secret, &around); err != nil || around.Data["encrypted"] == "" {
				t.Fatalf("%s: %v", secret, err)
			}
			delete(around.Data, "encrypted")
			var want map[string]any
			if err := json.Unmarshal(bare, &want); err != nil || asJSON(t, around.Data) != asJSON(t, want["data"]) {
				t.Errorf("around it stands\n%s, and bare is\n%s", asJSON(t, around.Data), bare)
			}
		}
		s["secret"].down(http.StatusInternalServerError, 1000)
		r.provider.provide(nil, identified)
		r.asked("k2", "S0000003A")
		time.Sleep(40 * time.Second)
		s["secret"].down(0, 0)
		s["secret"].down(http.StatusInternalServerError, 3) // until the identity's time is over
		time.Sleep(time.Minute)
		got := s["secret"].all()
		last := got[len(got)-1]
		if last.Type != typeExpired || strings.Contains(string(last.body), "encrypted") {
			t.Errorf("the last event is %s", last.body)
		}
		if inside, err := webhook.Open(last.body, keys); err != nil || string(inside) != string(last.body) {
			t.Errorf("with nothing inside: %s, %v", inside, err)
		}
	})
}

// kmsMost is what key management services sign: the id, the time and the body with dots between.
const kmsMost = 4096

// What is signed stays within what a key management service signs: always without personal
// data, and with an identity for all the metadata that is said here.
func TestSignedSize(t *testing.T) {
	recipient, _ := subscriber(t)
	sealer, err := ParseSealKeys(NewSealKeys())
	if err != nil {
		t.Fatal(err)
	}
	r := &record{ID: newID(63), Caller: strings.Repeat("c", 64), Provider: strings.Repeat("p", 64), State: Approved,
		Created: time.Now(), Expires: time.Now(), Completed: time.Now(), Purged: time.Now()}
	nric, uuid, foreign, country, now := "S1234567D", "e1c8a1f0-7c7e-4dd5-9f4e-1234567890ab", "G1234567890123456", "SG", time.Now()
	sub := "s=" + nric + ",u=" + uuid + ",fid=" + foreign + ",coi=" + country
	identity := ciba.Identity{Subject: sub, Bound: true, NRIC: &nric, UUID: &uuid, ForeignID: &foreign, Country: &country,
		ACR: "urn:singpass:authentication:loa:2", AMR: []string{"pwd", "otp-sms", "face"}, AuthTime: &now, IssuedAt: &now,
		Claims: map[string]any{"iss": "https://id.singpass.gov.sg", "aud": strings.Repeat("a", 32), "sub": sub, "iat": now.Unix(), "exp": now.Unix(),
			"auth_time": now.Unix(), "amr": []string{"pwd", "otp-sms", "face"}, "acr": "urn:singpass:authentication:loa:2", "nonce": strings.Repeat("n", 43)}}
	for _, c := range []struct {
		name     string
		hook     Webhook
		metadata int // bytes, of at most 2,048
		identity *ciba.Identity
	}{
		{"reference", Webhook{Reference: true}, 2048, &identity},
		{"full, without identity", Webhook{}, 2048, nil},
		{"full", Webhook{}, 2048, &identity},
		{"encrypted, without identity", Webhook{Encrypt: recipient}, 1100, nil},
		{"encrypted", Webhook{Encrypt: recipient}, 900, &identity},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := *r
			reason := &Reason{Code: ProviderMisconfigured, Message: reasonText[InitiationUnknown], ProviderError: strings.Repeat("e", 64), TraceID: strings.Repeat("t", 128)}
			if c.identity != nil {
				reason = nil
			}
			res := &result{State: Approved, Reason: reason, Identity: c.identity, Completed: ms(r.Completed), Until: ms(r.Completed)}
			s := &session{held: &held{record: r}, set: &Settings{Sealer: sealer}}
			s.face = face{Reference: strings.Repeat("r", 128), Metadata: map[string]string{"k": strings.Repeat("m", c.metadata-1)}}
			var e ending
			c.hook.Events = []string{"step_up.*"}
			(&Worker{}).address(s, &e, c.hook, res)
			blob, id := "", s.Deliveries[0].Event
			for _, list := range [][]any{e.personal, e.events} {
				for i := 0; i+1 < len(list); i += 2 {
					if name := list[i].(string); name == id || name == eventField(id) {
						blob = list[i+1].(string)
					}
				}
			}
			body, err := s.set.Sealer.open(&s.record, id, blob)
			if err != nil {
				t.Fatal(err)
			}
			if size := len(id) + len(".1700000000.") + len(body); size > kmsMost {
				t.Errorf("%d bytes are signed, more than %d", size, kmsMost)
			} else {
				t.Logf("%d bytes", size)
			}
		})
	}
}

// Where the identity goes with the last 2xx, nothing of the person is left in Redis, not even
// for who has the seal keys; before it, nothing of the person lies there in the clear.
func TestPurgeLeavesNothingOfThePerson(t *testing.T) {
	t.Parallel()
	recipient, _ := subscriber(t)
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); s.PurgeOnDelivery = true })
	every := []string{"step_up.*"}
	r.pulls(Webhook{Name: "full", Events: every}, Webhook{Name: "secret", Events: every, Encrypt: recipient}, inbox("inbox"))
	who := someone()
	who.Claims = map[string]any{"name": "Canary Tan"}
	r.provider.provide(nil, &ciba.Pending{}, who)
	id := r.asked("k", "S1234567D").ID
	words := []string{"S1234567D", "Canary Tan", "auth-req-secret"}
	clear := func(when string) {
		t.Helper()
		dump := r.dump(t)
		for _, word := range words {
			if strings.Contains(dump, word) {
				t.Errorf("%s, %q is in Redis in the clear", when, word)
			}
		}
	}
	clear("while it is asked")
	r.until("an event to pull", func() bool { return len(r.waits(t, EventFilter{}).Events) == 1 })
	clear("before the last acknowledgement")
	if n := r.opened(t, id, words[:2]); n != 3 { // the result and two events: of the third only its receiver learns anything
		t.Errorf("%d sealed fields name the person, want 3", n)
	}
	r.until("the other webhooks delivered", func() bool {
		v, _ := r.ended(t, id)
		return v.Deliveries[0].Status == DeliveryDelivered && v.Deliveries[1].Status == DeliveryDelivered
	})
	r.takes(t, r.waits(t, EventFilter{}).Events[0].ID)
	clear("after it")
	if n := r.opened(t, id, words); n != 0 {
		t.Errorf("%d sealed fields still name the person", n)
	}
}

// opened counts the sealed fields of a step-up that hold one of the words, as somebody reads
// who has Redis and the seal keys.
func (r *rig) opened(t *testing.T, id string, words []string) (n int) {
	t.Helper()
	rec, err := r.store.read(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	fields := r.rdb.HGetAll(t.Context(), keyPersonal(id)).Val()
	for name, blob := range r.rdb.HGetAll(t.Context(), keyEvents(id)).Val() {
		fields[name] = blob
	}
	fields["end"], fields[fieldPrompt] = rec.Tombstone, r.rdb.Get(t.Context(), keyPrompt(id)).Val()
	for name, blob := range fields {
		if blob == "" {
			continue
		}
		plain, err := r.set.Sealer.open(rec, strings.TrimPrefix(name, "ev:"), blob)
		if err != nil {
			t.Fatalf("field %s: %v", name, err)
		}
		for _, word := range words {
			if strings.Contains(string(plain), word) {
				n++
				break
			}
		}
	}
	return n
}
