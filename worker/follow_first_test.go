package worker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// What happens in the first seconds is told, also where the process is behind Redis's clock that it happens in.
func TestFollowWithClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{4 * time.Second, -4 * time.Second} {
		t.Run(fmt.Sprint("Redis ahead ", ahead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := miniredis.NewMiniRedis()
				t.Cleanup(m.Close)
				m.SetTime(time.Now().Add(ahead))
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					for ctx.Err() == nil {
						time.Sleep(100 * time.Millisecond)
						m.SetTime(time.Now().Add(ahead))
					}
				}()
				t.Cleanup(func() { stop(); <-done })
				o := redis.Options{Addr: "bubble", Dialer: func(context.Context, string, string) (net.Conn, error) { return buffered(m.Dial()) }}
				r := newRig(t, o, nil)
				defer r.stop()
				time.Sleep(6 * time.Second)
				open := r.asked("open", "S1234567D")
				time.Sleep(20 * time.Second)
				h := r.following(t, "")
				quick := r.asked("quick", "S7654321F")
				for _, id := range []string{open.ID, quick.ID} {
					if _, err := r.Cancel(t.Context(), "bank", id); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(20 * time.Second)
				if got := h.of(open.ID); got != "cancelled delivered(ledger 200 1)" {
					t.Errorf("what was open before: %q", got)
				}
				if got := h.of(quick.ID); got != "created cancelled delivered(ledger 200 1)" {
					t.Errorf("what was created at once: %q", got)
				}
			})
		})
	}
}

// One that is being asked when following begins is told as created when it is.
func TestFollowAmidAnAsk(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		slow := slowAsk{r.provider, make(chan struct{}), make(chan struct{})}
		set := r.set
		set.Providers = map[string]ProviderSettings{"singpass": {Provider: slow, Interval: 5 * time.Second}}
		r.Reload(set)
		var h *heard
		ready := make(chan struct{})
		go func() {
			defer close(ready)
			<-slow.begun
			h = r.following(t, "")
			close(slow.goOn)
		}()
		v := r.asked("slow", "S1234567D")
		<-ready
		time.Sleep(3 * time.Second)
		if got := h.of(v.ID); got != NewsCreated {
			t.Errorf("%q", got)
		}
	})
}

// An event that was given up is told once, by when it was: not again when something else of
// its step-up is sent, and not at all to those who began to follow after it.
func TestFollowGivenUp(t *testing.T) {
	for name, taken := range map[string]bool{"its follower waits": false, "its follower was taken": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, r *rig) {
				refuse := func(status ...int) {
					r.receiver.mu.Lock()
					defer r.receiver.mu.Unlock()
					r.receiver.status = status
				}
				early := r.following(t, "")
				refuse(slices.Repeat([]int{http.StatusServiceUnavailable}, 1000)...)
				r.provider.provide(nil, someone())
				v := r.asked("k", "S1234567D")
				for !strings.Contains(early.of(v.ID), "undelivered") {
					time.Sleep(time.Second)
				}
				if taken {
					refuse()
				}
				time.Sleep(90 * time.Second)
				late := r.following(t, "")
				refuse()
				if _, err := r.Redeliver(t.Context(), "bank", v.ID); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Second)
				if got := early.of(v.ID); strings.Count(got, "undelivered") != 1 || !strings.HasPrefix(got, "created approved failing") {
					t.Errorf("who followed before heard %q", got)
				}
				if got := late.of(v.ID); !strings.Contains(got, "delivered(ledger 200 ") || strings.Contains(got, "undelivered") {
					t.Errorf("who followed after heard %q", got)
				}
			})
		})
	}
}

// What was given up late was so since the look before. Of a step-up that is met only now, its end
// says whether that is news.
func TestGivenUpWhen(t *testing.T) {
	last := time.UnixMilli(1_000_000_000)
	at := func(d time.Duration) int64 { return last.Add(d).UnixMilli() }
	failed := []attempt{{At: at(-time.Minute)}}
	for _, c := range []struct {
		name      string
		completed time.Duration
		d         Delivery
		known     bool
		want      int64 // 0: not told
	}{
		{"at its end", -time.Hour, Delivery{Until: at(time.Second), Log: failed}, true, at(time.Second)},
		{"late", -time.Hour, Delivery{Until: at(-time.Minute), Log: failed}, true, at(0)},
		{"long after its end", -time.Hour, Delivery{Until: at(-time.Hour), Log: failed}, true, at(0)},
		{"its bytes were missing", -time.Hour, Delivery{Log: failed}, true, at(0)},
		{"met: given up now", -time.Hour, Delivery{Until: at(time.Second), Log: failed}, false, at(time.Second)},
		{"met: given up before", -time.Hour, Delivery{Until: at(-time.Second), Log: failed}, false, 0},
		{"met: its bytes were missing", time.Second, Delivery{}, false, at(time.Second)},
		{"met: its bytes were missing before", -time.Hour, Delivery{}, false, 0},
		{"met: its bytes were missing after an attempt", -time.Hour, Delivery{Log: failed}, false, 0},
	} {
		c.d.Status, c.d.Event = DeliveryUndelivered, "evt"
		f := follower{known: map[string]*followed{}, after: last}
		r := &record{ID: "su", State: Denied, Completed: last.Add(c.completed), Deliveries: []Delivery{c.d}}
		if c.known {
			f.known[r.ID] = &followed{created: true, final: true}
		}
		var got int64
		for _, n := range append(f.take(r, nil), f.take(r, nil)...) {
			if n.What == string(DeliveryUndelivered) {
				got += ms(n.At)
			}
		}
		if got != c.want {
			t.Errorf("%s: told at %d, want %d", c.name, got, c.want)
		}
	}
}

// unread is a connection to Redis on which lists are read, but no records once some were.
type unread struct {
	faults
	left atomic.Int64
}

func (u *unread) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "hgetall" || u.left.Add(-1) >= 0 {
			return next(ctx, cmds)
		}
		for _, c := range cmds {
			c.SetErr(errCut)
		}
		return errCut
	}
}

// Where the first look fails midway there is no batch without an error yet: what happens until
// there is one is not told, and everything after it is.
func TestFollowFromAnOutageOn(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{})
		r.provider.expires = time.Hour
		w := r.beside(RoleAPI)
		defer w.stop()
		u := &unread{}
		u.left.Store(1)
		w.rdb.AddHook(u)
		ids := make([]string, lookBatch+1) // two round trips
		f := follower{w: w.Worker, known: map[string]*followed{}}
		for i := range ids {
			ids[i] = newID(i % 2)
			rec := record{ID: ids[i], Caller: "other", Provider: "singpass", State: Pending, Created: time.Now()}
			for _, err := range []error{r.rdb.HSet(t.Context(), keyRecord(ids[i]), rec.fields()...).Err(),
				r.rdb.ZAdd(t.Context(), keyOpen(i%2), redis.Z{Score: float64(ms(time.Now().Add(time.Hour))), Member: ids[i]}).Err()} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if news, err := f.look(t.Context()); err == nil || len(news) != 0 || !f.after.IsZero() || len(f.known) != lookBatch {
			t.Fatalf("the first: %d news, %v, %d known", len(news), err, len(f.known))
		}
		end := func() string {
			var id string
			for open, k := range f.known {
				if !k.final {
					id = open
				}
			}
			if err := r.rdb.HSet(t.Context(), keyRecord(id), "st", string(Denied), "com", ms(time.Now().Add(-time.Minute))).Err(); err != nil {
				t.Fatal(err)
			}
			shard, _ := shardOf(id)
			if err := r.rdb.ZRem(t.Context(), keyOpen(shard), id).Err(); err != nil {
				t.Fatal(err)
			}
			return id
		}
		end()
		u.left.Store(1 << 30)
		if news, err := f.look(t.Context()); err != nil || len(news) != 0 || f.after.IsZero() || len(f.known) != len(ids) {
			t.Fatalf("the next: %v, %v, %d known", news, err, len(f.known))
		}
		ended := end()
		if news, err := f.look(t.Context()); err != nil || len(news) != 1 || news[0].ID != ended || news[0].What != string(Denied) {
			t.Errorf("after it: %v, %v", news, err)
		}
	})
}
