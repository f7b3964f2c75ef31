package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// dump is every key and value of the rig's Redis database, asynq's included.
func (r *rig) dump(t *testing.T) string {
	t.Helper()
	ctx := t.Context()
	var out strings.Builder
	keys := r.rdb.(*redis.Client).Scan(ctx, 0, "*", 1000).Iterator()
	n := 0
	for keys.Next(ctx) {
		key := keys.Val()
		n++
		var v any
		switch kind := r.rdb.Type(ctx, key).Val(); kind {
		case "string":
			v = r.rdb.Get(ctx, key).Val()
		case "hash":
			v = r.rdb.HGetAll(ctx, key).Val()
		case "list":
			v = r.rdb.LRange(ctx, key, 0, -1).Val()
		case "set":
			v = r.rdb.SMembers(ctx, key).Val()
		case "zset":
			v = r.rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
		case "none": // it went meanwhile
		default:
			t.Fatalf("key %s is a %s", key, kind)
		}
		fmt.Fprintf(&out, "%s = %v\n", key, v)
	}
	if err := keys.Err(); err != nil || n == 0 {
		t.Fatalf("%d keys, %v", n, err)
	}
	return out.String()
}

// Unique strings in every personal or secret place; none of them is in
// Redis or in the log, at any time of a step-up's life.
func TestCanaries(t *testing.T) {
	t.Parallel()
	log := &logBook{}
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); o.Log = log.logger() })
	canaries := []string{
		"S8765432Z",             // hint, and the NRIC that comes back
		"canary-reference",      //
		"canary-metadata-key",   //
		"canary-metadata-value", //
		"canary-idempotency",    //
		"canary-binding",        //
		"auth-req-secret",       // auth_req_id, see rig
		"canary-token",          // the success answer that waits
		"canary-uuid", "canary-claim", "canary-evidence",
	}
	check := func(when string) {
		t.Helper()
		dump := r.dump(t)
		for _, c := range canaries {
			for line := range strings.Lines(dump) {
				if strings.Contains(line, c) {
					t.Errorf("%s: %s is in Redis: %.200s", when, c, line)
				}
			}
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, c) {
					t.Errorf("%s: %s is in the log: %.300s", when, c, line)
				}
			}
		}
	}
	nric, uuid := "S8765432Z", "canary-uuid"
	who := Identity{Subject: "s=S8765432Z", Bound: true, NRIC: &nric, UUID: &uuid, AMR: []string{}, Claims: map[string]any{"c": "canary-claim"},
		IDToken: "canary-evidence", Fingerprint: [32]byte{7}}
	goOn := make(chan struct{})
	r.provider.provide(nil, &ciba.Pending{}, &ciba.Ambiguous{Err: errCut}, func(a Asked) (Identity, error) {
		select {
		case <-goOn:
			return who, nil
		default:
			return Identity{}, &ciba.Unverified{IDToken: "canary-token", Err: errors.New("key set down")}
		}
	})
	r.receiver.down(500, 1)
	q := Request{Caller: "bank", IdempotencyKey: "canary-idempotency", Provider: "singpass", Reference: "canary-reference",
		Question: Question{LoginHint: nric, BindingMessage: "canary-binding"}, Metadata: map[string]string{"canary-metadata-key": "canary-metadata-value"}}
	v, err := r.Ask(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	check("created")
	r.until("the token waits", func() bool { return r.rdb.HExists(t.Context(), keyRecord(v.ID), "ra").Val() })
	check("pending, with a token in hand")
	close(goOn)
	r.settledAs(v.ID, Approved, 1)
	check("final")
	r.until("delivered", func() bool {
		v, err := r.Show(t.Context(), "bank", v.ID)
		return err == nil && v.Deliveries[0].Status == DeliveryDelivered
	})
	check("delivered")
	// The scan sees what is there: the webhook did carry the canaries.
	if body := string(r.receiver.all()[0].body); !strings.Contains(body, nric) || !strings.Contains(body, "canary-claim") {
		t.Errorf("the webhook lacks the identity: %s", body)
	}
	// Neither do the values' printed forms hold them.
	if s := fmt.Sprintf("%v %+v %#v", who, q.Question, r.provider.asks); strings.Contains(s, nric) {
		t.Errorf("printed: %s", s)
	}
}

// Whoever writes Redis can make a webhook or a Show fail, but not lie.
func TestSpoiledResultIsNeverTold(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	approved := func(key, hint string, print byte) StepUp {
		who := someone()
		who.Fingerprint = [32]byte{print}
		r.provider.provide(nil, who)
		return r.settledAs(r.asked(key, hint).ID, Approved, int(print))
	}
	yes := approved("yes", "S1234567D", 1)
	r.provider.provide(nil, denial)
	no := r.settledAs(r.asked("no", "S7654321D").ID, Denied, 2)
	moved := r.rdb.HGet(t.Context(), keyPersonal(yes.ID), "result").Val()
	for name, how := range map[string]func(string) string{
		"another step-up's": func(string) string { return moved },
		"edited":            flipped,
		"cut":               func(b string) string { return b[:len(b)/2] },
		"in clear":          func(string) string { return `{"state":"approved","completed":1}` },
		"empty":             func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			before := r.rdb.HGet(t.Context(), keyPersonal(no.ID), "result").Val()
			r.spoil(t, keyPersonal(no.ID), "result", how)
			r.rdb.HSet(t.Context(), keyRecord(no.ID), "st", "approved", "code", "")
			if v, err := r.Show(t.Context(), "bank", no.ID); err == nil || v.Status == Approved {
				t.Errorf("shown as %s, %v", v.Status, err)
			}
			r.spoil(t, keyPersonal(no.ID), "result", func(string) string { return before })
			if v, err := r.Show(t.Context(), "bank", no.ID); err != nil || v.Status != Denied {
				t.Errorf("with the true result and a false index: %s, %v", v.Status, err)
			}
			r.rdb.HSet(t.Context(), keyRecord(no.ID), "st", "denied", "code", DeniedByUser)
		})
	}
}

// The index alone says nothing: neither of a step-up that is pending nor of one
// whose completion was dated back, as if its result had gone at its time.
func TestFalseIndexIsNeverTold(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.provider.provide(nil, &ciba.Pending{})
	v := r.asked("k", "S1234567D")
	for _, com := range []time.Duration{0, time.Hour} {
		r.rdb.HSet(t.Context(), keyRecord(v.ID), "st", "approved", "com", time.Now().Add(-com).UnixMilli())
		if v, err := r.Show(t.Context(), "bank", v.ID); err == nil && v.Status == Approved {
			t.Errorf("completed %v ago: shown as approved", com)
		}
	}
}

// An event's stored bytes are sent only if they are this event's, unchanged.
func TestSpoiledEventIsNeverSent(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "ledger", Events: []string{"step_up.*"}}, Webhook{Name: "bare", Events: []string{"step_up.*"}, Reference: true})
		who := someone()
		r.provider.provide(nil, who)
		yes := r.asked("yes", "S1234567D").ID
		time.Sleep(10 * time.Second)
		s["ledger"].down(500, 3)
		r.provider.provide(nil, denial)
		no := r.asked("no", "S7654321D").ID
		time.Sleep(6 * time.Second) // one attempt at the denial has failed
		event := func(id string, n int) string {
			rec, err := r.store.read(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return rec.Deliveries[n].Event
		}
		approval := r.rdb.HGet(t.Context(), keyPersonal(yes), eventField(event(yes, 0))).Val()
		bare := r.rdb.HGet(t.Context(), keyEvents(yes), event(yes, 1)).Val()
		if approval == "" || bare == "" {
			t.Fatal("no sealed events")
		}
		before := len(s["ledger"].all())
		r.spoil(t, keyEvents(no), event(no, 0), func(string) string { return approval })
		r.spoil(t, keyPersonal(no), eventField(event(no, 0)), func(string) string { return bare })
		time.Sleep(10 * time.Minute)
		if n := len(s["ledger"].all()) - before; n != 0 {
			t.Errorf("%d webhooks out of spoiled bytes: %s", n, s["ledger"].all()[before].body)
		}
		for _, g := range append(s["ledger"].all(), s["bare"].all()...) {
			if g.Type == "step_up.approved" && g.Data.ID != yes {
				t.Errorf("an approval of %s: %s", g.Data.ID, g.body)
			}
		}
		if v, _ := r.ended(t, no); v.Status != Denied || v.Deliveries[0].Status != DeliveryUndelivered {
			t.Errorf("%s", asJSON(t, v))
		}
	})
}

// A pending step-up whose sealed prompt was edited, exchanged or put back to what it
// was before it was asked cannot be asked about: nothing is sent, and it ends as
// unknown, for the person may have approved.
func TestSpoiledQuestionEndsUnknown(t *testing.T) {
	for how, spoil := range map[string]func(r *rig, t *testing.T, id, other string){
		"edited": func(r *rig, t *testing.T, id, _ string) { r.spoilPrompt(t, id, flipped) },
		"gone":   func(r *rig, t *testing.T, id, _ string) { r.rdb.Del(t.Context(), keyPrompt(id)) },
		"exchanged": func(r *rig, t *testing.T, id, other string) {
			blob := r.rdb.Get(t.Context(), keyPrompt(other)).Val()
			r.spoilPrompt(t, id, func(string) string { return blob })
		},
		"put back": func(r *rig, t *testing.T, id, _ string) {
			before := r.set.Sealer.sealJSON(&record{ID: id, Caller: "bank", Provider: "singpass"}, fieldPrompt, prompt{Question: Question{LoginHint: "S1234567D"}})
			r.spoilPrompt(t, id, func(string) string { return before })
		},
	} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, r *rig) {
				id, other := r.asked("k", "S1234567D").ID, r.asked("k2", "S7654321D").ID
				time.Sleep(time.Second)
				r.stop() // let go before the first poll
				spoil(r, t, id, other)
				if err := r.rdb.Del(t.Context(), keyPrompt(other)).Err(); err != nil {
					t.Fatal(err) // nor is the other one polled
				}
				r.nap(10 * time.Second)
				time.Sleep(7 * time.Minute)
				if n := r.provider.polled(); n != 0 {
					t.Errorf("%d polls without what to ask", n)
				}
				if v, at := r.ended(t, id); v.Status != Unknown || v.Reason.Code != ResultLost || at > 6*time.Minute {
					t.Errorf("%s after %v", asJSON(t, v), at)
				}
			})
		})
	}
}
