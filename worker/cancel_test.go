package worker

import (
	"sync"
	"testing"
	"time"

	"stepup/ciba"
)

// Cancel: polling stops, the bank is told, and the person's prompt is left alone.
func TestCancel(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		id := r.asked("k", "S1234567D").ID
		time.Sleep(12 * time.Second)
		start := time.Now()
		v, err := r.Cancel(t.Context(), "bank", id)
		if err != nil || v.Status != Cancelled || v.Reason.Code != CancelledCode || v.CompletedAt == nil {
			t.Fatalf("%s, %v", asJSON(t, v), err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("cancelled after %v", took)
		}
		time.Sleep(time.Minute)
		if n := r.provider.polled(); n != 2 {
			t.Errorf("%d polls, want the 2 before", n)
		}
		hooks := r.receiver.all()
		if len(hooks) != 1 || hooks[0].Type != "step_up.cancelled" || hooks[0].Data.Reason.Code != CancelledCode {
			t.Errorf("webhooks %+v", hooks)
		}
		_, err = r.Cancel(t.Context(), "bank", id)
		if e := refusedAs(t, "twice", err, CodeAlreadyFinal); e.ID != id {
			t.Errorf("%+v", e)
		}
	})
}

func TestCancelOfAnApproved(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second)
		_, err := r.Cancel(t.Context(), "bank", id)
		refusedAs(t, "approved", err, CodeAlreadyFinal)
		if v, _ := r.ended(t, id); v.Status != Approved || v.Identity == nil || len(r.receiver.all()) != 1 {
			t.Errorf("%s", asJSON(t, v))
		}
	})
}

// An approval that is on its way when the caller cancels is discarded and counted.
func TestApprovalAfterCancel(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		discarded := &tally{}
		r.met.discarded = discarded
		r.provider.holds = 20 * time.Second
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second) // the poll of second 5 is being held
		if v, err := r.Cancel(t.Context(), "bank", id); err != nil || v.Status != Cancelled {
			t.Fatalf("%s, %v", v.Status, err)
		}
		time.Sleep(time.Minute)
		v, _ := r.ended(t, id)
		if v.Status != Cancelled || v.Identity != nil {
			t.Errorf("%s", asJSON(t, v))
		}
		if n := discarded.n.Load(); n != 1 {
			t.Errorf("%d answers discarded, want 1", n)
		}
		hooks := r.receiver.all()
		if len(hooks) != 1 || hooks[0].Type != "step_up.cancelled" {
			t.Errorf("webhooks %+v", hooks)
		}
		if n := r.provider.polled(); n != 1 {
			t.Errorf("%d polls, want 1", n)
		}
	})
}

// Cancel reaches a step-up that another process polls.
func TestCancelFromAnotherProcess(t *testing.T) {
	t.Parallel()
	owner := onRedis(t, fast)
	id := owner.asked("k", "S1234567D").ID
	owner.until("polled", func() bool { return owner.provider.polled() > 0 })
	opts := owner.opts
	opts.Role = RoleAPI
	edge, err := New(opts, owner.set)
	if err != nil {
		t.Fatal(err)
	}
	v, err := edge.Cancel(t.Context(), "bank", id)
	if err != nil || v.Status != Cancelled {
		t.Fatalf("%s, %v", v.Status, err)
	}
	owner.settledAs(id, Cancelled, 1)
}

// Many cancels and an approval at once: one final state, and everybody is told the same.
func TestCancelRacesApproval(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.provider.provide(nil, &ciba.Pending{})
	id := r.asked("k", "S1234567D").ID
	r.until("polled", func() bool { return r.provider.polled() > 0 })
	var all sync.WaitGroup
	told := make([]State, 20)
	r.provider.provide(nil, someone())
	for i := range told {
		all.Go(func() {
			v, err := r.Cancel(t.Context(), "bank", id)
			if err != nil {
				refusedAs(t, "cancel", err, CodeAlreadyFinal)
			}
			told[i] = v.Status
		})
	}
	all.Wait()
	r.until("the webhook", func() bool { return len(r.receiver.all()) == 1 })
	v, err := r.Show(t.Context(), "bank", id)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range told {
		if s != v.Status {
			t.Errorf("one was told %s, the step-up is %s", s, v.Status)
		}
	}
	if hook := r.receiver.all()[0]; hook.Data.Status != v.Status {
		t.Errorf("the webhook says %s, the step-up is %s", hook.Data.Status, v.Status)
	}
}
