package worker

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// throng is a worker with step-ups in hand, without Redis: polls that are answered
// "not yet" need none.
type throng struct {
	*Worker
	t        testing.TB
	provider *scripted
	sessions []*session
	ended    []time.Time // when each step-up was let go
	as       []State     // and how it was settled, if it was
	beating  chan bool   // false: no beat goes through from here on
	all      sync.WaitGroup
}

// atTheGate runs a test in a bubble with n step-ups at an interval of 5 s, each due
// when due says, counted from the start.
func atTheGate(t *testing.T, n int, r Rate, due func(i int) time.Duration, test func(t *testing.T, c *throng)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nowhere := redis.NewClient(&redis.Options{MaintNotificationsConfig: noMaintenance(), Dialer: func(context.Context, string, string) (net.Conn, error) {
			panic("a poll that is answered pending needs no Redis")
		}})
		defer nowhere.Close()
		c := &throng{t: t, provider: &scripted{answers: []any{&ciba.Pending{}}}, ended: make([]time.Time, n), as: make([]State, n), beating: make(chan bool)}
		o := Options{Store: nowhere, Queue: nowhere, Lease: nowhere, Shards: 1, MaxInFlight: n, Role: RoleWorker, Log: testLog(t)}
		var err error
		if c.Worker, err = New(o, c.settings(r)); err != nil {
			t.Fatal(err)
		}
		c.all.Go(c.beat)
		defer c.end()
		synctest.Wait()
		for i := range n {
			c.begin(i, due(i))
		}
		test(t, c)
	})
}

// end lets everything go.
func (c *throng) end() {
	c.drainAll()
	close(c.beating)
	c.all.Wait()
	close(c.crew.over)
}

func (c *throng) settings(r Rate) Settings {
	return Settings{Providers: map[string]ProviderSettings{"singpass": {Provider: c.provider, Interval: 5 * time.Second, Rate: r}}}
}

// begin is a step-up that this process has claimed.
func (c *throng) begin(i int, due time.Duration) {
	now := time.Now()
	r := record{ID: fmt.Sprintf("su_0%d", i), Provider: "singpass", State: Pending, Owner: "w_me",
		Created: now, NotBefore: now.Add(due), Interval: 5 * time.Second, Expires: now.Add(5 * time.Minute)}
	s := &session{held: &held{record: r}, set: c.Worker.settings.Load(), signal: newSignal(),
		pace: pace{interval: r.Interval, expires: r.Expires}}
	s.asked = Asked{Expires: r.Expires, Interval: r.Interval}
	c.sessions = append(c.sessions, s)
	c.all.Go(func() {
		for {
			a, err := c.next(context.Background(), s)
			if a == nil || err != nil {
				break
			}
			v := settle(&s.record, *a, time.Now(), 0)
			if c.as[i] = v.state; v.state != Pending || c.goOn(context.Background(), s, v) != nil {
				break
			}
		}
		c.ended[i] = time.Now()
	})
}

// drainAll begins the drain, once.
func (c *throng) drainAll() {
	if !c.Draining() {
		close(c.draining)
	}
}

// beat keeps the lease fresh while it is told to.
func (c *throng) beat() {
	on, tick := true, time.NewTicker(beatEvery)
	defer tick.Stop()
	for open := true; open; {
		if on {
			c.lease.mu.Lock()
			c.lease.id, c.lease.beat = "w_me", time.Now()
			close(c.lease.fresh)
			c.lease.fresh = make(chan struct{})
			c.lease.mu.Unlock()
		}
		select {
		case on, open = <-c.beating:
		case <-tick.C:
		}
	}
}

// most is the largest number of polls in any window of that length.
func most(polls []time.Time, window time.Duration) (n int) {
	slices.SortFunc(polls, time.Time.Compare)
	from := 0
	for i, at := range polls {
		for at.Sub(polls[from]) >= window {
			from++
		}
		n = max(n, i-from+1)
	}
	return n
}

// What an outage or a takeover makes due at once goes out spread, at
// twice the steady rate or 2,000 a second, and everybody's turn comes.
func TestNoStormAfterAnOutage(t *testing.T) {
	for _, tc := range []struct{ n, rate int }{{2000, 2000}, {15_000, 6000}} {
		t.Run(fmt.Sprint(tc.n), func(t *testing.T) {
			atOnce := func(int) time.Duration { return time.Second }
			atTheGate(t, tc.n, Rate{}, atOnce, func(t *testing.T, c *throng) {
				start := time.Now().Add(time.Second)
				time.Sleep(time.Second + time.Duration(float64(tc.n)/float64(tc.rate)*float64(time.Second)))
				polls := c.provider.times()
				if len(polls) != tc.n {
					t.Errorf("%d polls, want one of each of %d", len(polls), tc.n)
				}
				if n := most(polls, 100*time.Millisecond); n > tc.rate/10+tc.rate/20+1 {
					t.Errorf("%d polls in 100 ms, want %d a second and a small burst", n, tc.rate)
				}
				if took := polls[len(polls)-1].Sub(start); took < time.Duration(tc.n)*time.Second/time.Duration(tc.rate)*9/10 {
					t.Errorf("all within %v", took)
				}
			})
		})
	}
}

// Redis is away for half a minute: everything waits for the lease, and then it
// does not go out together, nor does what stood at the gate when the lease went.
func TestNoStormWhenTheLeaseComesBack(t *testing.T) {
	spread := func(i int) time.Duration { return time.Duration(i) * 5 * time.Second / 2000 }
	atTheGate(t, 2000, Rate{}, spread, func(t *testing.T, c *throng) {
		time.Sleep(10 * time.Second)
		c.beating <- false
		time.Sleep(30 * time.Second)
		before := c.provider.polled()
		c.beating <- true
		time.Sleep(2 * time.Second)
		polls := c.provider.times()[before:]
		if len(polls) != 2000 {
			t.Errorf("%d polls in the two seconds after the outage, want 2000", len(polls))
		}
		if n := most(polls, 100*time.Millisecond); n > 310 {
			t.Errorf("%d polls in 100 ms", n)
		}
	})
}

// What is on time stays on time: 3,000 polls a second in no particular order.
func TestASteadyCrowdIsNotDelayed(t *testing.T) {
	due := func(i int) time.Duration { return time.Duration(i*7919%15_000) * 5 * time.Second / 15_000 }
	atTheGate(t, 15_000, Rate{}, due, func(t *testing.T, c *throng) {
		start := time.Now()
		time.Sleep(15*time.Second - 100*time.Microsecond)
		polls := c.provider.times()
		if len(polls) != 45_000 {
			t.Fatalf("%d polls in three intervals, want 45,000", len(polls))
		}
		slices.SortFunc(polls, time.Time.Compare)
		for i, at := range polls {
			if late := at.Sub(start) - time.Duration(i)*5*time.Second/15_000; late > time.Millisecond {
				t.Fatalf("poll %d is %v late", i, late)
			}
		}
	})
}

// Who waits for a turn is let go at once by a cancel or the drain, and takes no turn along.
func TestLeavingTheGate(t *testing.T) {
	atOnce := func(int) time.Duration { return time.Second }
	atTheGate(t, 20, Rate{Answer: 0.1}, atOnce, func(t *testing.T, c *throng) {
		time.Sleep(5 * time.Second) // one has been polled, one holds the baton
		for i, s := range c.sessions[:18] {
			s.cancel()
			synctest.Wait()
			if !c.ended[i].Equal(time.Now()) {
				t.Errorf("step-up %d still waits after its cancel", i)
			}
		}
		time.Sleep(6*time.Second + time.Millisecond) // the second turn, ten seconds after the first
		if n := c.provider.polled(); n != 2 {
			t.Errorf("%d polls in eleven seconds, want 2", n)
		}
		c.drainAll()
		synctest.Wait()
		for i, at := range c.ended[18:] {
			if !at.Equal(time.Now()) {
				t.Errorf("step-up %d still waits after the drain began", 18+i)
			}
		}
	})
}

// A step-up whose turn does not come before its time is over is settled by its
// deadline, as expired only where the provider said "not yet" near enough to it.
func TestNoTurnBeforeTheDeadline(t *testing.T) {
	atOnce := func(int) time.Duration { return 0 }
	atTheGate(t, 50, Rate{Answer: 0.1}, atOnce, func(t *testing.T, c *throng) {
		time.Sleep(5*time.Minute + lateGrace + time.Second)
		synctest.Wait()
		if n := c.provider.polled(); n < 31 || n > 32 {
			t.Errorf("%d polls in 310 s at one in ten", n)
		}
		ended := map[State]int{}
		for _, as := range c.as {
			ended[as]++
		}
		if ended[Expired] > 2 || ended[Expired]+ended[Unknown] != 50 {
			t.Errorf("ended as %v", ended)
		}
	})
}

// A reload changes the rate for everybody who waits, also for whoever is next.
func TestReloadChangesTheRate(t *testing.T) {
	atOnce := func(int) time.Duration { return 0 }
	atTheGate(t, 100, Rate{Answer: 0.01}, atOnce, func(t *testing.T, c *throng) {
		time.Sleep(10 * time.Second)
		if n := c.provider.polled(); n != 1 {
			t.Errorf("%d polls at one in 100 s", n)
		}
		c.Reload(c.settings(Rate{Answer: 20}))
		time.Sleep(6 * time.Second)
		if n := c.provider.polled(); n < 95 || n > 121 {
			t.Errorf("%d polls in six seconds at 20 a second", n)
		}
		c.Reload(c.settings(Rate{}))
		time.Sleep(7 * time.Second)
		if n := c.provider.polled(); n < 195 {
			t.Errorf("%d polls: the limit that is gone still holds", n)
		}
	})
}

// A provider's rate holds over all workers: two of them share ten polls a second
// while forty step-ups could use twenty, and every one ends right.
func TestWorkersShareTheRate(t *testing.T) {
	ten := func(o *Options, s *Settings) {
		o.MaxInFlight = 10 // 28 by the queues, so that neither takes all
		p := s.Providers["singpass"]
		p.Interval, p.Rate = 2*time.Second, Rate{Answer: 10}
		s.Providers["singpass"] = p
	}
	inBubble(t, ten, func(t *testing.T, a *rig) {
		b := a.another()
		time.Sleep(2 * time.Second) // each knows of the other
		var ids []string
		for i := range 40 {
			ids = append(ids, a.asked(fmt.Sprint("k", i), fmt.Sprint("S", i)).ID)
		}
		time.Sleep(30 * time.Second)
		if a.InFlight() == 0 || b.InFlight() == 0 {
			t.Fatalf("%d and %d step-ups in hand, want some with each", a.InFlight(), b.InFlight())
		}
		var n atomic.Int32
		a.provider.provide(nil, func(Asked) (Identity, error) {
			someone := someone()
			someone.Fingerprint[1] = byte(n.Add(1))
			return someone, nil
		})
		time.Sleep(20 * time.Second)
		for _, id := range ids {
			if got, err := a.Show(t.Context(), "bank", id); err != nil || got.Status != Approved {
				t.Errorf("%s %v", got.Status, err)
			}
		}
		polls := a.provider.times()
		if n := most(polls, time.Second); n > 10+2 { // a burst of one each
			t.Errorf("%d polls in a second, want ten", n)
		}
		// Whoever holds fewer step-ups may not use up its half, but the other one does.
		if took := polls[len(polls)-1].Sub(polls[0]); took > time.Duration(len(polls))*time.Second/5+2*time.Second {
			t.Errorf("%d polls took %v: the rate is not used", len(polls), took)
		}
		b.stop()
	})
}

// Creates wait a second for their turn at the most. What is refused was not sent
// and leaves nothing behind.
func TestCreatesKeepTheRate(t *testing.T) {
	two := func(_ *Options, s *Settings) {
		p := s.Providers["singpass"]
		p.Rate.Ask = 2
		s.Providers["singpass"] = p
	}
	inBubble(t, two, func(t *testing.T, r *rig) {
		start := time.Now()
		errs := make([]error, 30)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() { _, errs[i] = r.ask(fmt.Sprint("k", i), fmt.Sprint("S", i)) })
		}
		all.Wait()
		if took := time.Since(start); took > askPatience+time.Second/10 {
			t.Errorf("the last was answered after %v", took)
		}
		if n := r.provider.pushes(); n != 3 { // at once, after half a second, after a second
			t.Errorf("%d pushes in a second at two a second", n)
		}
		refused := 0
		for _, err := range errs {
			if err != nil {
				refused++
				if e := refusedAs(t, "create", err, CodeOverloaded); e.RetryAfter < time.Second || e.RetryAfter > 2*time.Second {
					t.Errorf("Retry-After %v", e.RetryAfter)
				}
			}
		}
		time.Sleep(5 * time.Second)
		if page, err := r.List(t.Context(), "bank", Filter{Limit: 100}); err != nil || len(page.StepUps) != 3 || refused != 27 {
			t.Errorf("%d step-ups on record, %d refused: %v", len(page.StepUps), refused, err)
		}
		// The person and the key are free.
		for i, err := range errs {
			if err != nil {
				r.asked(fmt.Sprint("k", i), fmt.Sprint("S", i))
				break
			}
		}
		// What is refused for another reason takes nobody's turn.
		time.Sleep(time.Second)
		for i := range 20 {
			if _, err := r.ask(fmt.Sprint("again", i), "S0"); err == nil {
				t.Error("one person was asked twice")
			} else {
				refusedAs(t, "create", err, CodePersonBusy)
			}
		}
	})
}
