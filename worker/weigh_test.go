package worker

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"stepup/worker/redistest"
)

// What one step-up in flight may weigh in Redis, in bytes: what we keep of it, its
// place in its caller's list included, what asynq keeps of its task, and its place in
// the index by reference while that is nearly empty: the more there are, the less each.
const (
	mostOurs      = 1350
	mostAsynq     = 650
	mostReference = 200
)

func TestAStepUpInFlightIsLight(t *testing.T) {
	t.Parallel()
	const n = 500
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Start(t), MaintNotificationsConfig: noMaintenance()})
	t.Cleanup(func() { rdb.Close() })
	r := newRig(t, *rdb.Options(), func(o *Options, _ *Settings) { o.MaxInFlight, o.MaxInFlightTotal = 2*n, 2*n })
	for i := range n {
		r.asked("order-2026-"+strconv.Itoa(i), fmt.Sprintf("S%07dB", i))
	}
	r.until("all are polled, and asynq's heartbeats have told of them", func() bool {
		told := 0
		for _, key := range rdb.Keys(t.Context(), "asynq:workers:*").Val() {
			told += int(rdb.HLen(t.Context(), key).Val())
		}
		return r.InFlight() == n && told == r.opts.Shards*toldActive
	})
	weights, ours, asynqs, references := map[string]int{}, 0, 0, 0
	for _, key := range rdb.Keys(t.Context(), "*").Val() {
		size := int(rdb.MemoryUsage(t.Context(), key, 0).Val())
		if rdb.PTTL(t.Context(), key).Val() > 0 {
			size += 24 // its entry among the keys that expire
		}
		weights[kindOf(key)] += size
		switch {
		case strings.Contains(key, "list:bank:"):
			references += size
		case strings.HasPrefix(key, prefix):
			ours += size
		default:
			asynqs += size
		}
		if enc := rdb.ObjectEncoding(t.Context(), key).Val(); strings.Contains(key, ":su:") && enc != "listpack" {
			t.Errorf("%s is a %s: %v", key, enc, rdb.HGetAll(t.Context(), key).Val())
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(weights)) {
		t.Logf("%-16s %5.0f bytes a step-up", kind, float64(weights[kind])/n)
	}
	t.Logf("ours %d, asynq's %d, by reference %d", ours/n, asynqs/n, references/n)
	if ours/n > mostOurs || asynqs/n > mostAsynq || references/n > mostReference {
		t.Errorf("a step-up in flight weighs %d, %d and %d bytes, want at most %d of ours, %d of asynq's and %d for its reference",
			ours/n, asynqs/n, references/n, mostOurs, mostAsynq, mostReference)
	}
}

// kindOf is a key's owner and the word that says what it is for.
func kindOf(key string) string {
	owner, rest, _ := strings.Cut(key, ":")
	for _, kind := range []string{"su", "q", "idem", "list", "owned", "open", "singpass", "t", "active", "lease", "workers"} {
		if slices.Contains(strings.Split(rest, ":"), kind) {
			return owner + " " + kind
		}
	}
	return owner + " others"
}

// A record that a later version wrote is read all the same.
func TestUnknownFieldsOfARecordArePassedOver(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	before := s.now()
	s.must("hset", s.rdb.HSet(t.Context(), keyRecord(s.ID), "later", "x").Err())
	if got := s.now(); fmt.Sprint(*got) != fmt.Sprint(*before) {
		t.Errorf("read as %+v, want %+v", got, before)
	}
	s.claimed("w1")
	if v := s.rdb.HGet(t.Context(), keyRecord(s.ID), "later").Val(); v != "x" {
		t.Errorf("the field became %q", v)
	}
}

// What is in flight is counted right after scripts that were repeated, and after a
// record that somebody deleted.
func TestInFlightIsCountedExactly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	inFlight := func(s *stored, want bool, when string) {
		t.Helper()
		open := s.rdb.ZScore(ctx, keyOpen(1), s.ID).Err() == nil
		due := s.rdb.SIsMember(ctx, keyDue(1), s.ID).Val()
		if got := open && !due; got != want || due && !open {
			t.Errorf("%s: open %t, due %t", when, open, due)
		}
	}
	s := pendingRecord(t)
	inFlight(s, true, "pending")
	mine := s.claimed("w1").record
	inFlight(s, true, "claimed")
	mine.Deliveries = []Delivery{{Webhook: "ledger", Event: "evt_1", Status: DeliveryPending, Next: 1, Until: 2}}
	r, e := end(mine, Approved)
	op := opID()
	for range 2 {
		s.must("final", s.final(ctx, r, op, e))
		inFlight(s, false, "final, delivery due")
	}
	r.Deliveries[0].Status = DeliveryDelivered
	op = opID()
	for range 2 {
		_, err := s.round(ctx, r, op, purge{}, nil)
		s.must("round", err)
		inFlight(s, false, "delivered")
	}
	for _, final := range []bool{false, true} {
		g := pendingRecord(t)
		if final {
			mine := g.claimed("w1").record
			mine.Deliveries = []Delivery{{Webhook: "ledger", Event: "evt_1", Status: DeliveryPending, Next: 1, Until: 2}}
			r, e := end(mine, Approved)
			g.must("final", g.final(ctx, r, opID(), e))
		}
		g.must("del", g.rdb.Del(ctx, keyRecord(g.ID)).Err())
		_, err := g.wake(ctx, g.ID, "")
		g.must("wake", err)
		inFlight(g, false, "deleted")
	}
}
