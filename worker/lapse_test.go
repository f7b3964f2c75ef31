package worker

import (
	"testing"
	"time"

	"stepup/ciba"
)

// every gives the provider an interval and a hold of its own.
func every(interval, hold time.Duration) func(*Options, *Settings) {
	return func(_ *Options, s *Settings) {
		p := s.Providers["singpass"]
		p.Interval, p.Hold = interval, hold
		s.Providers["singpass"] = p
	}
}

// A step-up that sleeps while its process's lease lapses is neither stopped nor
// ambiguous when the process comes back: nobody else had it.
func TestALapseInItsSleepLeavesAStepUpAlone(t *testing.T) {
	inBubble(t, every(20*time.Second, 0), func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{}, &ciba.Refusal{Code: "expired_token"})
		v := r.asked("k", "S1234567D")
		time.Sleep(21 * time.Second) // polled once
		s := r.running(v.ID)
		r.cut.off.Store(true)
		time.Sleep(6 * time.Second)
		r.cut.off.Store(false)
		time.Sleep(8 * time.Second)
		if s == nil || r.running(v.ID) != s {
			t.Error("it was stopped")
		}
		time.Sleep(16 * time.Second)
		if got, err := r.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Expired {
			t.Errorf("%s %+v %v, want expired", got.Status, got.Reason, err)
		}
	})
}

// What is let go because nobody runs it keeps what the provider asked for.
func TestWhatIsLetGoKeepsItsRetryAfter(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Transient{RetryAfter: 2 * time.Minute}, &ciba.Pending{})
		v := r.asked("k", "S1234567D")
		time.Sleep(7 * time.Second)
		r.running(v.ID).stop() // as if its handler had panicked
		time.Sleep(time.Minute)
		if n := len(r.provider.times()); n != 1 {
			t.Errorf("%d polls within Retry-After, want the first alone", n)
		}
	})
}

// After all processes were down for a while, what they let go is polled while there
// is time, whatever the provider may hold.
func TestARestartNearTheEndStillPolls(t *testing.T) {
	inBubble(t, every(5*time.Second, 35*time.Second), func(t *testing.T, a *rig) {
		a.provider.expires = time.Minute
		v := a.asked("k", "S1234567D")
		time.Sleep(16 * time.Second)
		a.stop()
		time.Sleep(14 * time.Second)
		a.provider.provide(nil, someone())
		b, c := a.another(), a.another()
		time.Sleep(time.Minute)
		if got, err := b.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %+v %v, want approved", got.Status, got.Reason, err)
		}
		b.stop()
		c.stop()
	})
}

// A create that a drain refuses at the provider's rate does not keep the person
// busy, nor does it count in the person's hour.
func TestADrainDoesNotKeepThePerson(t *testing.T) {
	limited := func(_ *Options, s *Settings) {
		p := s.Providers["singpass"]
		p.Rate.Ask = 1
		s.Providers["singpass"] = p
		s.PersonPerHour = 1
	}
	inBubble(t, limited, func(t *testing.T, a *rig) {
		a.asked("k", "S1234567D")
		refused := make(chan error)
		go func() { _, err := a.ask("k2", "S7654321F"); refused <- err }()
		time.Sleep(500 * time.Millisecond)
		go a.stop()
		if err := <-refused; !isCode(err, CodeDraining) {
			t.Fatalf("refused with %v", err)
		}
		time.Sleep(50 * time.Second)
		b := a.another()
		time.Sleep(6 * time.Second)
		if _, err := b.ask("k3", "S7654321F"); err != nil {
			t.Errorf("the person is refused: %v", err)
		}
		b.stop()
	})
}

// A cancel while an unknown waits for a late approval is a cancel.
func TestACancelDuringTheSecondThought(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		v := a.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		b := a.another()
		a.cut.off.Store(true) // it dies
		a.provider.provide(nil, &ciba.Refusal{Code: "invalid_grant"})
		polls := len(a.provider.times())
		for len(a.provider.times()) == polls {
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if got, err := b.Cancel(t.Context(), "bank", v.ID); err != nil || got.Status != Cancelled {
			t.Errorf("%s %v", got.Status, err)
		}
		a.cut.off.Store(false)
		time.Sleep(10 * time.Second)
		b.stop()
	})
}
