package worker

import (
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"stepup/ciba"
)

// calm is a worker that is too busy for its log to be read.
func calm(o *Options, _ *Settings) {
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	o.MaxInFlight, o.MaxInFlightTotal = 1000, 1000
}

// polledEvery makes a town's provider one with this interval and rate.
func (w *town) polledEvery(d time.Duration, limit Rate) {
	w.set.Providers = map[string]ProviderSettings{"singpass": {Provider: w.crowd, Interval: d, Rate: limit}}
	w.Reload(w.set)
}

// beginOver begins n lives, evenly over a time, and returns when all are asked.
func (w *town) beginOver(n int, over time.Duration, o outcome) {
	var all sync.WaitGroup
	for i := range n {
		x := w.begin(o, nil)
		all.Go(func() {
			time.Sleep(over * time.Duration(i) / time.Duration(n))
			x.live()
		})
	}
	all.Wait()
}

// busiest is the most polls of all people in any second from a time on.
func (w *town) busiest(from time.Time) int {
	perSecond := map[int64]int{}
	most := 0
	for _, x := range w.lives {
		for _, at := range x.person.times() {
			if at.After(from) {
				perSecond[at.Unix()]++
				most = max(most, perSecond[at.Unix()])
			}
		}
	}
	return most
}

// A provider that holds every answer for 25 s while 500 step-ups are in
// flight. Nobody waits for somebody else's answer, and who comes late is served too.
func TestHeldAnswersStarveNobody(t *testing.T) {
	t.Parallel()
	inBigBubble(t, calm, func(t *testing.T, w *town) {
		const interval, held = 5 * time.Second, 25 * time.Second
		w.polledEvery(interval, Rate{})
		yes := append(pendings(4), identified, consumed)
		o := outcome{name: "held", answers: yes, state: Approved, expires: 5 * time.Minute}
		hold := func(from int) {
			for _, x := range w.lives[from:] {
				x.person.mu.Lock()
				x.person.holds = held
				x.person.mu.Unlock()
			}
		}
		w.beginOver(500, 4*time.Second, o)
		hold(0)
		time.Sleep(40 * time.Second)
		w.beginOver(10, time.Second, o)
		hold(500)
		time.Sleep(4 * time.Minute)
		for _, x := range w.lives {
			x.keeps()
			last := x.created()
			for i, at := range x.person.times() {
				if gap := at.Sub(last); gap > interval+35*time.Second || gap < interval {
					t.Errorf("%s: poll %d came after %v", x.key, i+1, gap)
				}
				last = at
			}
		}
		w.leavesNoWork()
	})
}

// created is when the bank was told of the step-up.
func (x *life) created() time.Time {
	v, err := x.onlooker.Show(x.t.Context(), "bank", x.id)
	if err != nil {
		x.t.Fatal(err)
	}
	return v.CreatedAt.Time
}

// An outage of a minute in the middle, of the provider or of Redis; then
// everybody approves. All are approved, and what comes back meets no storm.
func TestOutageThenApproval(t *testing.T) {
	t.Parallel()
	const people, rate = 300, 80 // as many in flight, and as many polls a second does the provider allow
	for name, fault := range map[string]error{
		"no connection":     &ciba.Transient{Err: errors.New("no connection")},
		"503":               &ciba.Transient{RetryAfter: 5 * time.Second},
		"cut after sending": &ciba.Ambiguous{Err: errors.New("reset")},
		"Redis":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBigBubble(t, calm, func(t *testing.T, w *town) {
				w.polledEvery(5*time.Second, Rate{Answer: rate})
				w.beginOver(people, 5*time.Second, outcome{name: name, answers: []any{&ciba.Pending{}}, state: Approved, expires: 5 * time.Minute})
				time.Sleep(20 * time.Second)
				steady := w.busiest(time.Now().Add(-10 * time.Second))
				say := func(answers ...any) {
					for _, x := range w.lives {
						x.person.provide(nil, answers...)
					}
				}
				before := time.Now()
				if fault != nil {
					say(fault)
				} else {
					w.cut.off.Store(true)
				}
				time.Sleep(time.Minute)
				silent := w.pollsAfter(before.Add(3 * time.Second))
				back := time.Now()
				say(identified, consumed)
				w.cut.off.Store(false)
				time.Sleep(3 * time.Minute)
				for _, x := range w.lives {
					x.keeps()
				}
				storm := w.busiest(back)
				t.Logf("steady: %d polls in the busiest second; during the outage %d in all; afterwards at most %d in a second", steady, silent, storm)
				if storm > rate*11/10 {
					t.Errorf("%d polls in one second after the outage, want at most %d", storm, rate)
				}
				if fault == nil && silent != 0 {
					t.Errorf("%d polls by a worker without Redis", silent)
				}
				// Backing off: three in the first 20 s, then ever fewer.
				if fault != nil && silent > 5*people {
					t.Errorf("%d polls into an outage of a minute", silent)
				}
				w.leavesNoWork()
			})
		})
	}
}

// pollsAfter counts everybody's polls from a time on.
func (w *town) pollsAfter(from time.Time) (n int) {
	for _, x := range w.lives {
		for _, at := range x.person.times() {
			if at.After(from) {
				n++
			}
		}
	}
	return n
}
