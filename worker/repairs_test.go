package worker

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
)

// A process of the API claims a step-up to cancel it, and the reply is lost: it
// owns what it does not run. It lets it go by itself, and the caller can cancel.
func TestClaimLostByTheAPI(t *testing.T) {
	for _, when := range []string{before, after} {
		t.Run(when, func(t *testing.T) {
			inTown(t, func(t *testing.T, w *town) {
				w.begin(outcome{answers: []any{&ciba.Pending{}}, state: Cancelled, code: CancelledCode, cancel: "here"}, nil).live() // the scripts are known
				x := w.begin(outcome{answers: []any{&ciba.Pending{}}, state: Cancelled, code: CancelledCode, expires: 5 * time.Minute}, nil)
				x.live()
				w.withEdge()
				defer w.edge.stop()
				time.Sleep(4 * time.Second)
				w.stop() // nobody polls any more; the API is alone
				l := &loss{class: records, when: when, at: 1, names: []string{x.id}}
				hook := &onlyScript{lossy: lossy{class: records, losses: []*loss{l}}, script: "claim"}
				w.edge.rdb.AddHook(hook)
				start := time.Now()
				x.told = cancelErr(w.edge, x.id)
				for x.told != nil && !isCode(x.told, CodeAlreadyFinal) && time.Since(start) < time.Minute {
					time.Sleep(time.Second)
					x.told = cancelErr(w.edge, x.id)
				}
				if l.what() != "claim" {
					t.Fatalf("lost %q, want the claim", l.what())
				}
				if took := time.Since(start); took > 30*time.Second {
					t.Errorf("cancelled after %v", took)
				}
				x.told = nil
				w.settles(w.lives)
				x.keeps()
			})
		})
	}
}

func cancelErr(r *rig, id string) error {
	_, err := r.Cancel(context.Background(), "bank", id)
	return err
}

// onlyScript loses nothing but runs of one script.
type onlyScript struct {
	lossy
	script string
}

func (h *onlyScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	lossy := h.lossy.ProcessHook(next)
	return func(ctx context.Context, cmd redis.Cmder) error {
		if labelOf([]redis.Cmder{cmd}) == h.script {
			return lossy(ctx, cmd)
		}
		return next(ctx, cmd)
	}
}

func (h *onlyScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// An endpoint that hangs has all its turns taken. What waits for a turn asks for
// it less and less often, and loses no attempt by it.
func TestPausesGrowAtAFullEndpoint(t *testing.T) {
	inBigBubble(t, calm, func(t *testing.T, w *town) {
		way := frozen{make(chan struct{}, 100), make(chan struct{})}
		set := w.set
		set.Sender = &webhook.Sender{Client: &http.Client{Transport: way}, Timeout: time.Hour}
		w.Reload(set)
		yes := outcome{name: "yes", answers: []any{identified, consumed}, state: Approved}
		for range endpointSends {
			w.begin(yes, nil).live()
		}
		for range endpointSends {
			<-way.begun
		}
		late := w.begin(yes, nil)
		late.live()
		time.Sleep(lifeInterval)
		var seen []time.Time
		for range 600 {
			time.Sleep(200 * time.Millisecond)
			v, err := w.onlooker.Show(t.Context(), "bank", late.id)
			if err != nil || len(v.Deliveries) != 1 {
				t.Fatalf("%s, %v", asJSON(t, v), err)
			}
			d := v.Deliveries[0]
			if d.Attempts != 0 {
				t.Fatalf("sent without a turn: %s", asJSON(t, d))
			}
			if at := d.NextAttemptAt; at != nil && (len(seen) == 0 || at.After(seen[len(seen)-1])) {
				seen = append(seen, at.Time)
			}
		}
		// 1, 2, 4, 8, 15, 15 … seconds, and half as much by chance: seven or so in two minutes.
		if n := len(seen); n < 6 || n > 12 {
			t.Errorf("asked for a turn %d times in two minutes: %v", n, seen)
		}
		if last := seen[len(seen)-1].Sub(seen[len(seen)-2]); last < 14*time.Second || last > 26*time.Second {
			t.Errorf("the last pause is %v", last)
		}
		w.Reload(w.set) // the way is free
		close(way.over)
		w.settles(w.lives)
		for _, x := range w.lives {
			x.keeps()
		}
	})
}

// A process lacks the key under which another one sealed, as in a rotation that is
// half done. It leaves the step-up and its webhook alone; the one with the key ends both.
func TestSealKeyOfAnotherProcess(t *testing.T) {
	old := mustParse(t, sealLine("k1", 1)+indexLine)
	both := mustParse(t, sealLine("k2", 2)+sealLine("k1", 1)+indexLine)
	for _, o := range []outcome{
		{name: "claim", answers: []any{&ciba.Pending{}, &ciba.Pending{}, identified, consumed}, state: Approved, expires: 10 * time.Minute},
		{name: "delivery", answers: []any{identified, consumed}, state: Approved, hooks: []int{500, 500}, expires: 10 * time.Minute},
	} {
		t.Run(o.name, func(t *testing.T) {
			log := &logBook{}
			keyed := func(opts *Options, s *Settings) { opts.Log, s.Sealer = log.logger(), both }
			inBubble(t, keyed, func(t *testing.T, r *rig) {
				w := newTown(r)
				x := w.begin(o, nil)
				x.live()
				time.Sleep(3 * time.Second) // polled once; or delivered once, in vain
				r.stop()
				polls, hooks := x.person.polled(), len(w.desk.of(x.id))
				r.set.Sealer = old
				lacking := r.another()
				time.Sleep(2 * time.Minute)
				lacking.stop()
				if x.person.polled() != polls || len(w.desk.of(x.id)) != hooks {
					t.Errorf("%d polls and %d webhooks by a process without the key", x.person.polled()-polls, len(w.desk.of(x.id))-hooks)
				}
				if n := log.alarms(""); n != 0 {
					t.Errorf("operators were called %d times", n)
				}
				r.set.Sealer = both
				next := r.another()
				defer next.stop()
				time.Sleep(90 * time.Second)
				w.settles(w.lives)
				x.keeps()
			})
		})
	}
}

// Redis's clock is an hour ahead of ours, or behind. What is kept is kept as long
// as it should be, and a person is free when the provider's expires_in is over.
func TestRedisClockApart(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := miniredis.NewMiniRedis()
				t.Cleanup(m.Close)
				m.SetTime(time.Now().Add(ahead))
				stop := make(chan struct{})
				go func() {
					tick := time.NewTicker(100 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-tick.C:
							m.SetTime(time.Now().Add(ahead))
						case <-stop:
							return
						}
					}
				}()
				o := redis.Options{Addr: "bubble", Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }}
				w := newTown(newRig(t, o, nil))
				time.Sleep(6 * time.Second)
				clocksApart(t, w, ahead)
				w.stop()
				close(stop)
			})
		})
	}
}

func clocksApart(t *testing.T, w *town, ahead time.Duration) {
	o := outcome{name: "cancel", answers: []any{&ciba.Pending{}}, state: Cancelled, code: CancelledCode, cancel: "here", expires: 90 * time.Second}
	x := w.begin(o, nil)
	x.live()
	ttl := func(key string, want time.Duration) {
		t.Helper()
		if got := w.onlooker.opts.Store.PTTL(t.Context(), key).Val(); got < want-20*time.Second || got > want+20*time.Second {
			t.Errorf("%s is kept for %v, want %v", key, got, want)
		}
	}
	q := x.request()
	c := w.newCreate(w.settings.Load(), &q)
	ttl(keyRecord(x.id), keepRecord)
	ttl(keyPersonal(x.id), w.settings.Load().ResultTTL)
	ttl(keyEvents(x.id), keepEvents)
	ttl(keyIdem(c.rec.shard(), c.idem), keepIdem)
	if left := time.Until(x.busyUntil()) - ahead; left > 90*time.Second || left < 80*time.Second {
		t.Errorf("the person is busy for another %v, want what is left of 90 s", left)
	}
	time.Sleep(time.Second) // the webhook
	x.keeps()
	e := refusedAs(t, "the same person", askErr(w.rig, x.hint), CodePersonBusy)
	time.Sleep(e.RetryAfter + 200*time.Millisecond) // Redis's clock ticks ten times a second here
	if err := askErr(w.rig, x.hint); err != nil || e.RetryAfter > 91*time.Second {
		t.Errorf("after %v: %v", e.RetryAfter, err)
	}
	yes := w.begin(outcome{name: "yes", answers: []any{identified, consumed}, state: Approved, hooks: []int{500}}, nil)
	yes.live()
	w.settles([]*life{yes})
	yes.keeps()
}

func askErr(r *rig, hint string) error {
	_, err := r.ask("again", hint)
	return err
}

// A drain that took too long leaves a request open at the provider. The lease is
// then not ended by a goodbye: whoever comes next waits as after a death.
func TestNoGoodbyeAfterALateDrain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		w := newTown(a)
		a.set.Providers = map[string]ProviderSettings{"singpass": {Provider: w.crowd, Interval: lifeInterval, Hold: 4 * time.Minute}}
		a.Reload(a.set)
		x := w.begin(outcome{name: "held", answers: []any{&ciba.Pending{}, identified, consumed}, state: Approved, expires: 10 * time.Minute}, nil)
		x.person.holds = 4 * time.Minute
		x.live()
		time.Sleep(4 * time.Second) // the first poll is open
		me, _, _ := a.lease.holder()
		a.stop()
		if until, err := w.onlooker.opts.Store.ZScore(t.Context(), keyWorkers, me).Result(); err != nil || time.Since(time.UnixMilli(int64(until))) > time.Minute {
			t.Errorf("the lease ends at %v, %v: it was ended by hand", time.UnixMilli(int64(until)), err)
		}
		if n := x.person.polled(); n != 1 {
			t.Fatalf("%d polls before the end", n)
		}
		b := a.another()
		defer b.stop()
		time.Sleep(12 * time.Minute)
		if n := x.person.overlaps(); n != 0 {
			t.Errorf("%d polls while one was open", n)
		}
		w.settles(w.lives)
		x.keeps()
	})
}
