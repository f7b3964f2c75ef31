package worker

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// inBubble runs a test with a worker whose world is fake: time, Redis, provider
// and receiver.
func inBubble(t *testing.T, change func(*Options, *Settings), test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		t.Cleanup(m.Close)
		o := redis.Options{Addr: "bubble", Dialer: func(context.Context, string, string) (net.Conn, error) { return buffered(m.Dial()) }}
		r := newRig(t, o, change)
		time.Sleep(6 * time.Second) // the lease is steady
		test(t, r)
		r.stop()
	})
}

// buffer is a pipe that takes what is written at once, as a socket does: a pipeline is
// written whole before its first answer is read.
type buffer struct {
	net.Conn
	full chan []byte
	gone chan struct{}
	once sync.Once
}

func buffered(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	b := &buffer{Conn: c, full: make(chan []byte, 64), gone: make(chan struct{})}
	go b.carry()
	return b, nil
}

func (b *buffer) carry() {
	for {
		select {
		case p := <-b.full:
			if _, err := b.Conn.Write(p); err != nil {
				return
			}
		case <-b.gone:
			return
		}
	}
}

func (b *buffer) Write(p []byte) (int, error) {
	select {
	case b.full <- bytes.Clone(p):
		return len(p), nil
	case <-b.gone:
		return 0, net.ErrClosed
	}
}

func (b *buffer) Close() error {
	b.once.Do(func() { close(b.gone) })
	return b.Conn.Close()
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if d := got - want; d < -time.Millisecond || d > time.Millisecond {
		t.Errorf("%s at %v, want %v", what, got, want)
	}
}

// A step-up of five minutes: an outage, a slow_down, Retry-After, an approval near
// the end, and a receiver that is down at first.
func TestFiveMinutes(t *testing.T) {
	regular := func(o *Options, _ *Settings) { o.regular = true }
	inBubble(t, regular, func(t *testing.T, r *rig) {
		down := &ciba.Transient{Err: errors.New("no connection")}
		r.provider.answers = []any{
			&ciba.Pending{},  // 5
			&ciba.SlowDown{}, // 10: every 10 s from here
			&ciba.Transient{RetryAfter: 25 * time.Second}, // 20
			&ciba.Pending{},  // 45
			down, down, down, // 55, then backing off
			&ciba.Pending{}, &ciba.Pending{}, someone(),
		}
		r.receiver.status = []int{500, 503, 429, 500}
		r.receiver.header = map[string][]string{"Retry-After": {"7"}}
		start := time.Now()
		v := r.asked("k", "S1234567D")
		time.Sleep(5 * time.Minute)

		polls := r.provider.times()
		if len(polls) != 10 {
			t.Fatalf("%d polls, want 10", len(polls))
		}
		// After the third failure in a row the wait is 40 s: exponential from the interval of 10 s.
		for i, want := range []time.Duration{5, 10, 20, 45, 55, 65, 85, 125, 135, 145} {
			near(t, "poll", polls[i].Sub(start), want*time.Second)
		}
		if r.provider.overlaps() != 0 {
			t.Errorf("%d overlapping polls", r.provider.overlaps())
		}

		hooks := r.receiver.all()
		if len(hooks) != 5 {
			t.Fatalf("%d webhooks, want 5", len(hooks))
		}
		near(t, "first delivery", hooks[0].at.Sub(polls[9]), 0)
		for i, gap := range []time.Duration{1, 7, 7, 10} { // Retry-After counts with 429 and 503
			late := hooks[i+1].at.Sub(hooks[i].at) - gap*time.Second
			if late < 0 || late > 2*time.Second {
				t.Errorf("delivery %d came %v after it was due", i+1, late)
			}
			if hooks[i+1].id != hooks[i].id || string(hooks[i+1].body) != string(hooks[i].body) {
				t.Errorf("delivery %d has another id or other bytes", i+1)
			}
		}
		got, err := r.Show(t.Context(), "bank", v.ID)
		if err != nil || got.Status != Approved || got.Deliveries[0].Status != DeliveryDelivered || got.Deliveries[0].Attempts != 5 {
			t.Errorf("step-up %+v, %v", got, err)
		}
	})
}
