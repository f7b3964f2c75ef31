package worker

import (
	"fmt"
	"testing"
	"time"
)

// A step-up as operators see it, from the question to its webhooks.
func TestInspect(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(7 * time.Second)
		me, _, _ := r.lease.holder()
		in := r.inspected(v.ID)
		if in.Status != Pending || in.Caller != "bank" || in.Provider != "singpass" || in.Owner != me || !in.OwnerAlive || in.IntervalMS != 5000 ||
			in.NextPollAt == nil || len(in.Deliveries) != 1 || in.Deliveries[0].Webhook != "ledger" || in.Reason != nil || in.Doubt != "" {
			t.Errorf("pending: %+v", in)
		}
		r.receiver.mu.Lock()
		r.receiver.status = []int{500}
		r.receiver.mu.Unlock()
		r.provider.provide(nil, denial)
		time.Sleep(10 * time.Second)
		in = r.inspected(v.ID)
		if in.Status != Denied || in.Reason.Code != DeniedByUser || in.CompletedAt == nil || in.Owner != "" || in.NextPollAt != nil || in.Doubt != "" {
			t.Errorf("final: %+v", in)
		}
		d := in.Deliveries[0]
		if len(in.Deliveries) != 1 || d.Status != DeliveryDelivered || d.Attempts != 2 || d.Type != "step_up.denied" || d.EventID == "" || d.Failing || !d.Resendable {
			t.Errorf("delivery: %+v", d)
		}
		if len(in.Attempts) != 2 || *in.Attempts[0].Status != 500 || in.Attempts[1].Outcome != "delivered" {
			t.Errorf("attempts: %+v", in.Attempts)
		}

		r.rdb.HSet(t.Context(), keyRecord(v.ID), "st", "approved", "code", "")
		if in = r.inspected(v.ID); in.Status != Denied || in.Reason.Code != DeniedByUser || in.Doubt == "" {
			t.Errorf("edited: %+v", in)
		}
		r.rdb.HSet(t.Context(), keyRecord(v.ID), "end", "")
		if in = r.inspected(v.ID); in.Doubt == "" {
			t.Errorf("without its seal: %+v", in)
		}
		for _, id := range []string{"", "x", "su_00AAAAAAAAAAAAAAAAAAAA", "su_ffAAAAAAAAAAAAAAAAAAAA"} {
			_, err := r.Inspect(t.Context(), id)
			refusedAs(t, id, err, CodeNotFound)
			_, err = r.RedeliverAsOperator(t.Context(), id)
			refusedAs(t, id, err, CodeNotFound)
		}
		r.cut.off.Store(true)
		_, err := r.Inspect(t.Context(), v.ID)
		refusedAs(t, "no Redis", err, CodeStorageUnavailable)
	})
}

func (r *rig) inspected(id string) Inspection {
	r.t.Helper()
	in, err := r.Inspect(r.t.Context(), id)
	if err != nil {
		r.t.Fatalf("Inspect: %v", err)
	}
	return in
}

// An operator sends a caller's webhooks again; the audit log says who it was.
func TestRedeliverAsOperator(t *testing.T) {
	t.Parallel()
	path := auditPath(t)
	r := auditRig(t, path, fast)
	r.provider.provide(nil, denial)
	v := r.asked("k", "S1234567D")
	r.settledAs(v.ID, Denied, 1)
	r.until("it is let go", func() bool { return r.inspected(v.ID).Owner == "" })
	caller, err := r.RedeliverAsOperator(t.Context(), v.ID)
	if err != nil || caller != "bank" {
		t.Fatalf("caller %q, %v", caller, err)
	}
	r.until("it came again", func() bool { return len(r.receiver.all()) == 2 })
	if all := r.receiver.all(); all[0].id != all[1].id || string(all[0].body) != string(all[1].body) {
		t.Error("it came with another id or other bytes")
	}
	untilAudited(t, path, 6)
	for _, d := range readAudit(t, path) {
		by := ""
		if d.What == whatRedeliver {
			by = byOperator
		}
		if d.By != by || d.Caller != "bank" {
			t.Errorf("line %+v, want by %q", d, by)
		}
	}
	v = r.asked("k2", "S7654321D")
	_, err = r.RedeliverAsOperator(t.Context(), v.ID)
	if err != nil { // it may still be pending, or final already
		refusedAs(t, fmt.Sprint("pending ", v.ID), err, CodeInProgress)
	}
}
