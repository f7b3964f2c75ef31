package worker

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/webhook"
)

// The bank took a webhook and its answer was lost on the way. It gets
// the same id and the same bytes again.
func TestAckLost(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		w := newTown(r)
		x := w.begin(outcome{name: "ack lost", answers: []any{identified, consumed}, state: Approved, hooks: []int{ackLost, ackLost}}, nil)
		x.live()
		w.settles(w.lives)
		x.keeps()
		got := w.desk.of(x.id)
		if len(got) != 3 {
			t.Fatalf("%d webhooks, want 3", len(got))
		}
		for i, want := range []time.Duration{time.Second, 2 * time.Second} {
			if gap := got[i+1].at.Sub(got[i].at); gap < want || gap > want+2*time.Second {
				t.Errorf("again after %v, want %v", gap, want)
			}
		}
		if v, err := r.Show(t.Context(), "bank", x.id); err != nil || v.Deliveries[0].Attempts != 3 {
			t.Errorf("%s, %v", asJSON(t, v), err)
		}
	})
}

// frozen is a way to the bank on which nothing moves until the test ends.
type frozen struct{ begun, over chan struct{} }

func (f frozen) RoundTrip(*http.Request) (*http.Response, error) {
	f.begun <- struct{}{}
	<-f.over
	return nil, errCut
}

// A worker is killed while it sends a webhook. Another one sends it
// again within seconds.
func TestKilledMidDelivery(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		w := newTown(a)
		b := a.another()
		defer b.stop()
		time.Sleep(6 * time.Second)
		// Only a's way to the bank is bad, and only a works at the moment.
		way := frozen{make(chan struct{}, 10), make(chan struct{})}
		set := a.set
		set.Sender = &webhook.Sender{Client: &http.Client{Transport: way}, Timeout: time.Hour}
		a.Reload(set)
		x := w.begin(outcome{name: "killed", answers: []any{identified, consumed}, state: Approved}, nil)
		for a.running(x.id) == nil { // until it is a that has it
			b.cut.off.Store(true)
			time.Sleep(8 * time.Second)
			x.live()
			time.Sleep(time.Second)
		}
		b.cut.off.Store(false)
		<-way.begun
		killed := time.Now()
		a.cut.off.Store(true)
		time.Sleep(20 * time.Second)
		got := w.desk.of(x.id)
		if len(got) == 0 || got[0].at.Sub(killed) > 8*time.Second {
			t.Errorf("%d webhooks; the kill was at %v", len(got), killed)
		} else {
			t.Logf("sent again %v after the kill", got[0].at.Sub(killed))
		}
		// A process that was only frozen comes back: nothing changes.
		close(way.over)
		a.cut.off.Store(false)
		time.Sleep(20 * time.Second)
		x.keeps()
	})
}

// cutAt cuts a worker off from Redis at one script: before it, or after it was
// executed and before its reply.
type cutAt struct {
	lossy
	cut    *cut
	script string
	when   string
	done   atomic.Bool
}

func (c *cutAt) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if labelOf([]redis.Cmder{cmd}) != c.script || c.done.Swap(true) {
			return next(ctx, cmd)
		}
		if c.when == after {
			_ = next(ctx, cmd)
		}
		c.cut.off.Store(true)
		return lost([]redis.Cmder{cmd})
	}
}

// A process is lost between /bc-auth and the answer to the bank, which
// asks another one with the same key. There is one push. If the answer of /bc-auth
// was stored the bank gets the step-up, and if not, nobody can know.
func TestLostBetweenStoreAndAnswer(t *testing.T) {
	for _, when := range []string{before, after} {
		t.Run(when+" asked is stored", func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, a *rig) {
				w := newTown(a)
				warm := w.begin(outcome{name: "warm", answers: []any{identified, consumed}, state: Approved}, nil)
				warm.live() // Redis knows the scripts
				b := a.another()
				defer b.stop()
				time.Sleep(6 * time.Second)
				x := w.begin(outcome{name: "lost", answers: []any{identified, consumed}, state: Approved, expires: 5 * time.Minute}, nil)
				a.rdb.AddHook(&cutAt{cut: a.cut, script: "asked", when: when})
				go func() { _, _ = a.Ask(context.Background(), x.request()) }()
				time.Sleep(2 * time.Second) // the bank gives up on a
				var v StepUp
				v, x.told = x.patiently(func() (StepUp, error) { return b.Ask(context.Background(), x.request()) })
				x.id = v.ID
				if when == before {
					e, ok := errors.AsType[*Error](x.told)
					if !ok || e.Code != CodeInitiationUnknown {
						t.Errorf("the bank was told %v, want %s", x.told, CodeInitiationUnknown)
					} else {
						x.id, x.told = e.ID, nil
					}
					x.state, x.code = Unknown, InitiationUnknown
				}
				w.settles(w.lives)
				x.keeps()
				// A process that was only cut off comes back: nothing changes.
				a.cut.off.Store(false)
				time.Sleep(20 * time.Second)
				x.keeps()
				warm.keeps()
				if _, err := b.ask(x.key, "S9999999A"); !isCode(err, CodeKeyReused) {
					t.Errorf("the same key with another body: %v", err)
				}
			})
		})
	}
}
