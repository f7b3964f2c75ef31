package worker

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"stepup/webhook"
)

// spans calls RedeliverSpan until there is no more.
func (r *rig) spans(t *testing.T, s Span) (sum Redelivered) {
	t.Helper()
	for {
		done, err := r.RedeliverSpan(t.Context(), "bank", s)
		if err != nil {
			t.Fatalf("RedeliverSpan: %v", err)
		}
		sum.StepUps, sum.Busy, sum.Gone = sum.StepUps+done.StepUps, sum.Busy+done.Busy, sum.Gone+done.Gone
		if s.Cursor = done.NextCursor; s.Cursor == "" {
			return sum
		}
	}
}

// After an outage of a receiver, one call sends again what it missed in a range of time, what
// was given up and what would be tried minutes later: the same ids and bytes, and nothing that
// it has, or that other receivers have.
func TestRedeliverSpan(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour, s.ResultTTL = 1000, 5*time.Minute }, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "up", Events: []string{"step_up.*"}}, Webhook{Name: "down", Events: []string{"step_up.*"}})
		r.provider.provide(nil, denial)
		make := func(what string, n int) (ids []string) {
			for i := range n {
				ids = append(ids, r.asked(fmt.Sprint(what, i), fmt.Sprintf("S%07dA", i)).ID)
			}
			time.Sleep(10 * time.Second)
			return ids
		}
		make("fine", 5)
		s["down"].down(http.StatusServiceUnavailable, 10000)
		began := time.Now()
		early := make("early", 60)
		time.Sleep(time.Minute)
		middle := time.Now()
		late := make("late", 70)
		r.provider.provide(nil, someone()) // this one ends in five minutes
		approved := make("yes", 1)[0]
		time.Sleep(6 * time.Minute)
		up, down := len(s["up"].all()), len(s["down"].all())
		s["down"].down(0, 0)

		if got := r.spans(t, Span{From: began, Until: middle, Webhook: "up"}); got != (Redelivered{}) {
			t.Errorf("nothing failed there: %+v", got)
		}
		if got := r.spans(t, Span{From: middle.Add(time.Minute)}); got != (Redelivered{}) {
			t.Errorf("nothing was final then: %+v", got)
		}
		if _, err := r.RedeliverSpan(t.Context(), "bank", Span{Webhook: "none"}); !isCode(err, CodeNotFound) {
			t.Errorf("no such webhook: %v", err)
		}
		if got, err := r.RedeliverSpan(t.Context(), "other", Span{}); err != nil || got != (Redelivered{}) {
			t.Errorf("another caller: %+v, %v", got, err)
		}
		if got := r.spans(t, Span{From: middle}); got.StepUps != 71 || got.Gone != 0 || got.Busy != 0 {
			t.Errorf("of the second half: %+v", got)
		}
		time.Sleep(10 * time.Second)
		if n := len(s["up"].all()) - up; n != 0 {
			t.Errorf("%d sent to the receiver that has them", n)
		}
		again := slices.DeleteFunc(s["down"].all()[down:], func(g received) bool { return slices.Contains(early, g.Data.ID) }) // by themselves
		if len(again) != 71 {
			t.Errorf("%d sent again", len(again))
		}
		for _, g := range again {
			first := s["down"].all()[slices.IndexFunc(s["down"].all(), func(f received) bool { return f.id == g.id })]
			same(t, []received{first, g})
			if !slices.Contains(append(late, approved), g.Data.ID) || g.Data.ID == approved && g.Type != typeExpired {
				t.Errorf("again %s of %s", g.Type, g.Data.ID)
			}
		}
		if got := r.spans(t, Span{From: began}); got.StepUps < 40 || got.StepUps > 60 || got.Gone != 1 { // some came by themselves; an identity is gone
			t.Errorf("of everything: %+v", got)
		}
		time.Sleep(time.Minute)
		if got := r.spans(t, Span{}); got.StepUps != 0 {
			t.Errorf("once it has everything: %+v", got)
		}
		for _, id := range append(early, late...) {
			if v, _ := r.ended(t, id); v.Deliveries[1].Status != DeliveryDelivered {
				t.Errorf("deliveries of %s: %s", id, asJSON(t, v.Deliveries))
			}
		}
	})
}

// One step-up that does not open hides none of the others.
func TestRedeliverSpanPassesOver(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.down(http.StatusServiceUnavailable, 1000)
		var ids []string
		for n := range 3 {
			ids = append(ids, r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n)).ID)
			time.Sleep(8 * time.Second)
		}
		if err := r.rdb.HSet(t.Context(), keyRecord(ids[0]), "end", "edited").Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // none is being sent
		if got := r.spans(t, Span{}); got != (Redelivered{StepUps: 2, Gone: 1}) {
			t.Errorf("%+v", got)
		}
	})
}

// The log of attempts says when, how long, with what answer and signed by which keys; never
// what was sent. It keeps the last of many.
func TestAttempts(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		private, _ := webhook.NewKeyPair()
		both, err := webhook.ParseSecrets([]byte(webhook.NewSecret() + "\n" + private))
		if err != nil {
			t.Fatal(err)
		}
		r.provider.provide(nil, someone())
		r.receiver.status = []int{503, 410}
		id := r.asked("k", "S1234567D").ID
		time.Sleep(20 * time.Second)
		bank := r.set.Callers["bank"]
		bank.Webhooks = slices.Clone(bank.Webhooks)
		bank.Webhooks[0].Endpoint.Secrets = append(both, r.receiver.secrets...)
		r.set.Callers = map[string]Caller{"bank": bank}
		r.Reload(r.set)
		if _, err := r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		all, err := r.Attempts(t.Context(), "bank", id)
		if err != nil || len(all) != 3 {
			t.Fatalf("%s, %v", asJSON(t, all), err)
		}
		old := []string{r.receiver.secrets[0].KeyID()}
		for i, want := range []struct {
			outcome, reason string
			status          int
			keys            []string
		}{
			{"failed", webhook.ReasonStatus, 503, old},
			{"gone", webhook.ReasonGone, 410, old},
			{"delivered", "", 200, []string{both[0].KeyID(), both[1].KeyID(), old[0]}},
		} {
			got, sent := all[i], r.receiver.all()[i]
			if got.Outcome != want.outcome || (got.Reason == nil) != (want.reason == "") || got.Reason != nil && *got.Reason != want.reason || *got.Status != want.status || !slices.Equal(got.KeyIDs, want.keys) ||
				got.EventID != sent.id || got.Type != "step_up.approved" || got.Webhook != "ledger" || got.At.Sub(sent.at).Abs() > time.Millisecond {
				t.Errorf("attempt %d is %s", i, asJSON(t, got))
			}
		}
		if _, err := r.Attempts(t.Context(), "other", id); !isCode(err, CodeNotFound) {
			t.Errorf("another caller: %v", err)
		}
	})
	d := Delivery{Event: "evt_1"}
	for i := range 3 * keepAttempts {
		d.log(attempt{At: int64(i), Keys: fmt.Sprint("key-", i/100)})
	}
	log := d.attempts()
	if last := log[len(log)-1]; len(log) != keepAttempts || !slices.Equal(log[0].KeyIDs, []string{"key-1"}) || last.At.UnixMilli() != 3*keepAttempts-1 {
		t.Errorf("%d attempts are kept, the first %s, the last %s", len(log), asJSON(t, log[0]), asJSON(t, last))
	}
}
