package worker

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"stepup/ciba"
)

var denial = &ciba.Refusal{Code: "access_denied"}

// gaps are the times between attempts.
func gaps(got []received) (all []time.Duration) {
	for i := 1; i < len(got); i++ {
		all = append(all, got[i].at.Sub(got[i-1].at))
	}
	return all
}

// same fails unless every attempt carried the same id and bytes.
func same(t *testing.T, got []received) {
	t.Helper()
	for _, g := range got {
		if g.id != got[0].id || !bytes.Equal(g.body, got[0].body) || !strings.HasPrefix(g.id, "evt_") {
			t.Errorf("id %s and\n%s, first id %s and\n%s", g.id, g.body, got[0].id, got[0].body)
		}
	}
}

// The schedule of a receiver that is down: each attempt within two seconds of its
// due time, never early, under one id and with the same bytes.
func TestDeliverySchedule(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.down(http.StatusInternalServerError, 12)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(15 * time.Minute)
		got := r.receiver.all()
		if len(got) != 13 {
			t.Fatalf("%d attempts, want 13", len(got))
		}
		same(t, got)
		for i, want := range []time.Duration{1, 2, 5, 10, 20, 30, 60, 60, 60, 60, 120, 300} {
			want *= time.Second
			most := want + 2*time.Second
			if want >= time.Minute {
				most += want / 5 // jitter
			}
			if gap := gaps(got)[i]; gap < want || gap > most {
				t.Errorf("gap %d is %v, want %v to %v", i+1, gap, want, most)
			}
		}
		v, _ := r.ended(t, id)
		if d := v.Deliveries[0]; d.Status != DeliveryDelivered || d.Attempts != 13 || *d.LastStatus != 200 || d.NextAttemptAt != nil {
			t.Errorf("delivery %s", asJSON(t, d))
		}
	})
}

// While a receiver is down, callers see how it fares.
func TestPendingDeliveryIsShown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.down(http.StatusBadGateway, 100)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(25 * time.Second)
		v, _ := r.ended(t, id)
		d := v.Deliveries[0]
		if d.Status != DeliveryPending || d.Attempts != len(r.receiver.all()) || *d.LastStatus != 502 || d.NextAttemptAt == nil || time.Until(d.NextAttemptAt.Time) <= 0 {
			t.Errorf("delivery %s", asJSON(t, d))
		}
	})
}

// 410 stops that event for that webhook.
func TestGoneStops(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.status = []int{500, 410}
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Minute)
		v, _ := r.ended(t, id)
		if d := v.Deliveries[0]; d.Status != DeliveryStopped || d.Attempts != 2 || *d.LastStatus != 410 {
			t.Errorf("delivery %s", asJSON(t, d))
		}
		if n := len(r.receiver.all()); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
	})
}

// An event with an identity ends at result_ttl. Its follower says that a result
// existed, holds nothing personal, and goes on.
func TestIdentityEventEndsAtResultTTL(t *testing.T) {
	log := &logBook{}
	inBubble(t, func(o *Options, s *Settings) { o.Log = log.logger(); s.ResultTTL = 5 * time.Minute }, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		r.receiver.down(http.StatusInternalServerError, 1000)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(8 * time.Minute)
		r.receiver.down(0, 0) // it is up again
		time.Sleep(5 * time.Minute)

		v, _ := r.ended(t, id)
		end := v.CompletedAt.Add(5 * time.Minute)
		var full, follower []received
		for _, g := range r.receiver.all() {
			switch g.Type {
			case "step_up.approved":
				full = append(full, g)
			case "step_up.delivery_expired":
				follower = append(follower, g)
			}
		}
		if len(full) < 8 || len(follower) < 2 {
			t.Fatalf("%d attempts at the event and %d at its follower", len(full), len(follower))
		}
		same(t, full)
		same(t, follower)
		if last := full[len(full)-1]; last.at.After(end) {
			t.Errorf("the identity was sent %v after the end", last.at.Sub(end))
		}
		f := follower[0]
		// "Fetch is over" is said when it is true.
		if f.at.Before(end) || f.at.After(end.Add(2*time.Second)) {
			t.Errorf("the follower came %v after the end of the fetch", f.at.Sub(end))
		}
		if f.id == full[0].id || f.Data.ID != id || f.Data.Status != Approved || f.Data.Identity != nil || f.Data.Reference != nil || len(f.Data.Metadata) != 0 {
			t.Errorf("follower %s", f.body)
		}
		for _, secret := range []string{"S1234567D", "ref-k", `"v"`} {
			if bytes.Contains(f.body, []byte(secret)) {
				t.Errorf("follower holds %s: %s", secret, f.body)
			}
		}
		if len(v.Deliveries) != 2 || v.Deliveries[0].Status != DeliveryUndelivered || v.Deliveries[1].Status != DeliveryDelivered {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
		if log.alarms("undelivered") != 1 {
			t.Error("operators were not told")
		}
		// The identity is gone, the status is still told.
		if v.Status != Approved || v.Identity != nil {
			t.Errorf("step-up %s", asJSON(t, v))
		}
	})
}

// What carries no identity goes on for 24 hours, across a pause of the service.
func TestDeniedGoesOnForADay(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.down(http.StatusInternalServerError, 1000)
		start := time.Now()
		id := r.asked("k", "S1234567D").ID
		time.Sleep(time.Minute)
		r.nap(23*time.Hour - time.Minute)
		before := len(r.receiver.all())
		time.Sleep(90 * time.Second)
		v, _ := r.ended(t, id)
		if n := len(r.receiver.all()) - before; n == 0 || v.Deliveries[0].Status != DeliveryPending {
			t.Errorf("after 23 h: %d attempts, %s", n, asJSON(t, v.Deliveries))
		}
		r.nap(time.Until(start.Add(24*time.Hour + time.Minute)))
		time.Sleep(10 * time.Second)
		v, _ = r.ended(t, id)
		if v.Status != Denied || v.Deliveries[0].Status != DeliveryUndelivered || len(v.Deliveries) != 1 {
			t.Errorf("after 24 h: %s", asJSON(t, v))
		}
		for _, g := range r.receiver.all() {
			if g.Type != "step_up.denied" || g.at.After(v.CompletedAt.Add(24*time.Hour)) {
				t.Errorf("%s after %v", g.Type, g.at.Sub(v.CompletedAt.Time))
			}
		}
	})
}

// One webhook that is down costs the other nothing: it gets the event once.
func TestTwoWebhooks(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "up", Events: []string{"step_up.*"}}, Webhook{Name: "down", Events: []string{"step_up.*"}})
		s["down"].down(http.StatusServiceUnavailable, 5)
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(2 * time.Minute)
		up, down := s["up"].all(), s["down"].all()
		if len(up) != 1 || len(down) != 6 {
			t.Fatalf("%d and %d attempts, want 1 and 6", len(up), len(down))
		}
		same(t, down)
		if up[0].id == down[0].id {
			t.Error("one webhook-id for two webhooks")
		}
		near(t, "the first round, side by side", up[0].at.Sub(down[0].at), 0)
		v, _ := r.ended(t, id)
		if v.Deliveries[0].Attempts != 1 || v.Deliveries[1].Attempts != 6 {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
	})
}

// A webhook gets what it subscribed to, and under `reference` nothing personal.
func TestEventsAndContent(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "all", Events: []string{"step_up.*"}}, Webhook{Name: "approvals", Events: []string{"step_up.approved"}},
			Webhook{Name: "denials", Events: []string{"step_up.denied", "step_up.expired"}},
			Webhook{Name: "bare", Events: []string{"step_up.*"}, Reference: true})
		r.provider.provide(nil, denial)
		r.asked("k1", "S1234567D")
		time.Sleep(10 * time.Second)
		r.provider.provide(nil, someone())
		id := r.asked("k2", "S1234567D").ID
		time.Sleep(10 * time.Second)
		for name, want := range map[string]string{"all": "[denied approved]", "approvals": "[approved]", "denials": "[denied]", "bare": "[denied approved]"} {
			types := []string{}
			for _, g := range s[name].all() {
				types = append(types, strings.TrimPrefix(g.Type, "step_up."))
			}
			if fmt.Sprint(types) != want {
				t.Errorf("%s got %v, want %s", name, types, want)
			}
		}
		full, bare := s["all"].all()[1], s["bare"].all()[1]
		if full.Data.Identity == nil || *full.Data.Reference != "ref-k2" || full.Data.Metadata["k"] != "v" || bytes.Contains(full.body, []byte("deliveries")) {
			t.Errorf("full: %s", full.body)
		}
		if d := bare.Data; d.ID != id || d.Status != Approved || d.Identity != nil || d.Reference != nil || len(d.Metadata) != 0 || bytes.Contains(bare.body, []byte("S1234567D")) {
			t.Errorf("reference: %s", bare.body)
		}
		v, _ := r.ended(t, id)
		if len(v.Deliveries) != 3 {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
	})
}

// What a webhook has taken did arrive, whatever becomes of sending it again: nobody is told to ask the person once more.
func TestTakenBeforeIsNotUndelivered(t *testing.T) {
	log := &logBook{}
	change := func(o *Options, s *Settings) { o.Log, s.ResultTTL = log.logger(), 5*time.Minute }
	inBubble(t, change, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second)
		r.receiver.down(http.StatusInternalServerError, 1000)
		if _, err := r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		v, _ := r.ended(t, id)
		if len(v.Deliveries) != 1 || v.Deliveries[0].Status != DeliveryDelivered || v.Deliveries[0].Attempts < 5 || v.Identity != nil {
			t.Errorf("%s", asJSON(t, v))
		}
		for _, g := range r.receiver.all() {
			if g.Type != "step_up.approved" {
				t.Errorf("the bank was told %s", g.Type)
			}
		}
		if log.alarms("undelivered") != 0 {
			t.Error("operators were told that it was not delivered")
		}
	})
}
