package worker

import (
	"net/http"
	"testing"
	"time"

	"stepup/ciba"
)

// purge_on_delivery: the identity is gone as soon as every webhook that carries it
// has it, and not before.
func TestPurgeOnDelivery(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PurgeOnDelivery = true }, func(t *testing.T, r *rig) {
		s := r.newStreet(Webhook{Name: "up", Events: []string{"step_up.*"}}, Webhook{Name: "down", Events: []string{"step_up.*"}})
		s["down"].down(http.StatusServiceUnavailable, 2)
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(6 * time.Second)
		v, _ := r.ended(t, id)
		if v.Identity == nil || v.PurgedAt != nil {
			t.Errorf("one webhook still lacks it: %s", asJSON(t, v))
		}
		time.Sleep(10 * time.Second)
		v, _ = r.ended(t, id)
		if v.Status != Approved || v.Identity != nil || v.PurgedAt == nil || v.CompletedAt == nil || v.Reference == nil {
			t.Errorf("after the last 2xx: %s", asJSON(t, v))
		}
		got := s["down"].all()
		if last := got[len(got)-1].at; v.PurgedAt.Sub(last) < -time.Second || v.PurgedAt.Sub(last) > time.Second {
			t.Errorf("purged at %v, the last 2xx was at %v", v.PurgedAt, last)
		}
		for field := range r.rdb.HGetAll(t.Context(), keyPersonal(id)).Val() {
			if field != "result" && field != "face" {
				t.Errorf("field %s is left", field)
			}
		}
		_, err := r.Redeliver(t.Context(), "bank", id)
		refusedAs(t, "redeliver", err, CodeResultGone)
		// A denial carries nobody and is never purged.
		r.provider.provide(nil, denial)
		id = r.asked("k2", "S1234567D").ID
		time.Sleep(10 * time.Second)
		if v, _ := r.ended(t, id); v.PurgedAt != nil {
			t.Errorf("denied: %s", asJSON(t, v))
		}
	})
}

// After result_ttl the identity is gone and the status is still told.
func TestResultTTL(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.ResultTTL = 2 * time.Minute }, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second)
		v, _ := r.ended(t, id)
		if v.ResultExpiresAt == nil || v.ResultExpiresAt.Sub(v.CompletedAt.Time) != 2*time.Minute {
			t.Errorf("result_expires_at of %s", asJSON(t, v))
		}
		time.Sleep(time.Until(v.ResultExpiresAt.Time) - time.Second)
		if v, _ := r.ended(t, id); v.Identity == nil {
			t.Error("the identity went before its time")
		}
		time.Sleep(2 * time.Second)
		if v, _ := r.ended(t, id); v.Status != Approved || v.Identity != nil {
			t.Errorf("afterwards: %s", asJSON(t, v))
		}
		_, err := r.Redeliver(t.Context(), "bank", id)
		refusedAs(t, "redeliver", err, CodeResultGone)
	})
}

// Redeliver: the same id and bytes again, as often as asked.
func TestRedeliver(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{}, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(time.Second)
		_, err := r.Redeliver(t.Context(), "bank", id)
		refusedAs(t, "while pending", err, CodeInProgress)
		time.Sleep(20 * time.Second)
		r.receiver.down(http.StatusInternalServerError, 1)
		v, err := r.Redeliver(t.Context(), "bank", id)
		if err != nil || v.Deliveries[0].Status != DeliveryPending || v.Status != Approved {
			t.Errorf("redeliver: %s, %v", asJSON(t, v), err)
		}
		time.Sleep(10 * time.Second)
		if _, err = r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Errorf("once more: %v", err)
		}
		time.Sleep(10 * time.Second)
		got := r.receiver.all()
		if len(got) != 4 { // first, refused, repeated, once more
			t.Fatalf("%d attempts, want 4", len(got))
		}
		same(t, got)
		if v, _ := r.ended(t, id); v.Deliveries[0].Status != DeliveryDelivered || v.Deliveries[0].Attempts != 4 {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
	})
}

// What was stopped or given up can be sent again as well.
func TestRedeliverAfterGone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		r.receiver.down(http.StatusGone, 1)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second)
		if _, err := r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		got := r.receiver.all()
		if len(got) != 2 {
			t.Fatalf("%d attempts, want 2", len(got))
		}
		same(t, got)
		if v, _ := r.ended(t, id); v.Deliveries[0].Status != DeliveryDelivered {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
	})
}
