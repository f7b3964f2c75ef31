package worker

import (
	"errors"
	"testing"
	"time"
)

// gaps are the times between a provider's polls.
func (p *scripted) gaps() []time.Duration {
	times := p.times()
	var g []time.Duration
	for i := 1; i < len(times); i++ {
		g = append(g, times[i].Sub(times[i-1]))
	}
	return g
}

func TestNoRedisCommandPerPoll(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(12 * time.Second) // claimed, two polls
		r.named.id.Store(v.ID)
		before := len(r.provider.times())
		time.Sleep(2 * time.Minute)
		if n := len(r.provider.times()) - before; n != 24 {
			t.Fatalf("%d polls in two minutes, want 24", n)
		}
		if n := r.named.count.Load(); n != 0 {
			t.Errorf("%d Redis commands named the step-up during 24 polls", n)
		}
	})
}

// A worker that is cut off from Redis stops sending within three seconds; another
// takes over, never early, never at the same time.
func TestTakeoverFromACutOffWorker(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		v := a.asked("k", "S1234567D")
		time.Sleep(11 * time.Second) // polls at 5 and 10
		b := a.another()
		a.cut.off.Store(true)
		time.Sleep(time.Minute)
		polls := len(a.provider.times())
		a.provider.provide(nil, someone())
		time.Sleep(10 * time.Second)
		if polls < 8 {
			t.Errorf("only %d polls: nobody took over", polls)
		}
		for i, g := range a.provider.gaps() {
			if g < 5*time.Second || g > 13*time.Second {
				t.Errorf("gap %d is %v", i, g)
			}
		}
		if a.provider.overlaps() != 0 {
			t.Errorf("%d overlaps", a.provider.overlaps())
		}
		got, err := b.Show(t.Context(), "bank", v.ID)
		if err != nil || got.Status != Approved || len(b.receiver.all()) != 1 {
			t.Errorf("%+v, %v, %d webhooks", got.Status, err, len(b.receiver.all()))
		}
		// The first one comes back under a new id and finds nothing to do.
		a.cut.off.Store(false)
		time.Sleep(time.Minute)
		if n := len(b.receiver.all()); n != 1 {
			t.Errorf("%d webhooks after the return", n)
		}
		b.stop()
	})
}

// A frozen process keeps its request open at the provider; hold is how long.
func TestHoldCoversAFrozenProcess(t *testing.T) {
	hold := func(_ *Options, s *Settings) {
		p := s.Providers["singpass"]
		p.Hold = 30 * time.Second
		s.Providers["singpass"] = p
	}
	inBubble(t, hold, func(t *testing.T, a *rig) {
		a.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		b := a.another()
		a.cut.off.Store(true)
		time.Sleep(90 * time.Second)
		gap := a.provider.gaps()[1]
		if gap < 30*time.Second {
			t.Errorf("polled again %v after the last one, with a hold of 30 s", gap)
		}
		a.cut.off.Store(false)
		time.Sleep(10 * time.Second)
		b.stop()
	})
}

// A lease that lapsed while nobody else was there: the worker goes on under a new id, and nothing is ambiguous.
func TestALapsedWorkerGoesOnAlone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		before, _, _ := r.lease.holder()
		r.cut.off.Store(true)
		time.Sleep(8 * time.Second)
		sent := len(r.provider.times())
		r.cut.off.Store(false)
		time.Sleep(20 * time.Second)
		if after, ok, _ := r.lease.holder(); !ok || after == before {
			t.Errorf("lease %s after %s", after, before)
		}
		if sent != 2 {
			t.Errorf("%d polls while the lease was out, want none after the first 2", sent-2)
		}
		if len(r.provider.times()) < 4 {
			t.Errorf("%d polls: it did not go on", len(r.provider.times()))
		}
		if rec, err := r.store.read(t.Context(), v.ID); err != nil || rec.State != Pending {
			t.Errorf("%+v %v", rec, err)
		}
	})
}

// The drain waits for the answer in flight and stores it; what only waits is let
// go and goes on elsewhere at its own pace.
func TestDrain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		v := a.asked("k", "S1234567D")
		time.Sleep(6 * time.Second)
		b := a.another()
		time.Sleep(6 * time.Second) // polls at 5 and 10; b is steady
		a.stop()
		if _, err := a.ask("k2", "S7654321B"); !isCode(err, CodeDraining) {
			t.Errorf("a draining process answers %v", err)
		}
		time.Sleep(4 * time.Second)
		if gap := a.provider.gaps()[1]; gap < 5*time.Second || gap > 7*time.Second {
			t.Errorf("polled elsewhere after %v, want the interval", gap)
		}
		a.provider.mu.Lock()
		a.provider.holds, a.provider.answers = 10*time.Second, []any{someone()}
		a.provider.mu.Unlock()
		time.Sleep(5 * time.Second) // a poll is in flight now
		b.stop()
		c := a.another()
		time.Sleep(10 * time.Second)
		got, err := c.Show(t.Context(), "bank", v.ID)
		if err != nil || got.Status != Approved || len(c.receiver.all()) != 1 {
			t.Errorf("%s %v, %d webhooks", got.Status, err, len(c.receiver.all()))
		}
		if a.provider.overlaps() != 0 {
			t.Errorf("%d overlaps", a.provider.overlaps())
		}
		c.stop()
	})
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// The record is the truth: with every task gone, the step-up still finishes.
func TestLostTasksAreMadeGood(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.provider.provide(nil, someone())
	// A pending record that no task names, as after a crash between the record and the task.
	set := r.settings.Load()
	c := r.newCreate(set, &Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
	p := prompt{Question: c.Question}
	if _, err := r.store.begin(t.Context(), &c.rec, c.idem, c.fingerprint, set.Sealer.sealJSON(&c.rec, fieldPrompt, p), nil); err != nil {
		t.Fatal(err)
	}
	c.rec.Expires = time.Now().Add(time.Minute)
	p.ID = "auth"
	if err := r.store.asked(t.Context(), &c.rec, c.idem, existing{}, set.Sealer.sealJSON(&c.rec, fieldPrompt, p)); err != nil {
		t.Fatal(err)
	}
	r.settledAs(c.rec.ID, Approved, 1)
}

// A process that died between the intent and the provider's answer: nobody knows,
// the caller is told so, and nothing is ever sent again.
func TestAnIntentWithoutAnAnswerEndsAsUnknown(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		set := r.settings.Load()
		c := r.newCreate(set, &Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
		if _, err := r.store.begin(t.Context(), &c.rec, c.idem, c.fingerprint, "x", nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		v, err := r.Show(t.Context(), "bank", c.rec.ID)
		if err != nil || v.Status != Unknown || v.Reason.Code != InitiationUnknown {
			t.Fatalf("%+v %v", v, err)
		}
		hooks := r.receiver.all()
		if len(hooks) != 1 || hooks[0].Type != "step_up.unknown" || r.provider.pushes() != 0 || len(r.provider.times()) != 0 {
			t.Errorf("%d webhooks, %d pushes, %d polls", len(hooks), r.provider.pushes(), len(r.provider.times()))
		}
	})
}

func TestPaceNeverGoesBelowTheInterval(t *testing.T) {
	p := &pace{interval: 5 * time.Second, expires: time.Now().Add(time.Hour), jitter: defaultJitter}
	for range 20 {
		p.fail()
		if w := p.NextBackOff(); w < p.interval || w > maxBackOff*12/10 {
			t.Fatalf("wait %v", w)
		}
	}
	p.atLeast = 10 * time.Minute
	if w := p.NextBackOff(); w < 10*time.Minute {
		t.Errorf("Retry-After undercut: %v", w)
	}
	p.Reset()
	if w := p.NextBackOff(); w != p.interval {
		t.Errorf("after a success %v, want the interval", w)
	}
	p.expires = time.Now().Add(-6 * time.Second)
	if w := p.NextBackOff(); w >= 0 {
		t.Errorf("a poll more than %v late: %v, want none", lateGrace, w)
	}
}
