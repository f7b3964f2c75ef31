package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beatEvery  = time.Second
	leaseTime  = 4 * time.Second
	sendWithin = 3 * time.Second // no send later than this after the last beat that was confirmed
)

// lease is this process's sign of life, by Redis's clock. Death is final: a
// lease that lapsed never comes back, the process takes a new id, and all it ran
// counts as a dead owner's.
type lease struct {
	rdb redis.UniversalClient

	mu    sync.Mutex
	id    string
	began time.Time     // when this id's first beat was sent
	beat  time.Time     // when the last confirmed beat was sent
	fresh chan struct{} // closed at the next confirmed beat
}

func newLease(rdb redis.UniversalClient) *lease {
	return &lease{rdb: rdb, fresh: make(chan struct{})}
}

// holder is the id under which this process may send right now; ok is false when
// the last beat is too old, and then ch is closed at the next one. A process
// that slept, or whose clock jumped, is judged by the greater of both times.
func (l *lease) holder() (id string, ok bool, ch <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == "" {
		return "", false, l.fresh
	}
	now := time.Now()
	age := max(now.Sub(l.beat), now.Round(0).Sub(l.beat.Round(0)))
	return l.id, age < sendWithin, l.fresh
}

// steady reports whether beats went through for a whole lease, so that after a
// gap of Redis everybody else had the time to renew before being judged.
func (l *lease) steady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return l.id != "" && now.Sub(l.beat) < 2*beatEvery && now.Sub(l.began) > leaseTime
}

// await waits until this process may send, and tells under which id.
func (l *lease) await(ctx context.Context) (string, error) {
	for {
		id, ok, ch := l.holder()
		if ok {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-ch:
		}
	}
}

// renew beats once. It returns the inbox's messages; lapsed tells that the old
// id is dead and the process goes on under a new one.
func (l *lease) renew(ctx context.Context, read int) (messages []string, lapsed bool, err error) {
	l.mu.Lock()
	id := l.id
	l.mu.Unlock()
	begin := id == ""
	if begin {
		id, read = "w_"+rand.Text()[:16], 0 // every record it owns names it
	}
	sent := time.Now()
	got, err := scriptBeat.Run(ctx, l.rdb, []string{keyWorkers, keyInbox(id)}, id, leaseTime.Milliseconds(), read, flag(begin)).Slice()
	if err != nil {
		return nil, false, fmt.Errorf("renewing the lease: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if renewed, _ := got[0].(int64); renewed == 0 || len(got) < 3 {
		l.id = ""
		return nil, true, nil
	}
	// A gap of beats that did not cost the lease still ends the steadiness.
	if begin || sent.Sub(l.beat) > leaseTime {
		l.began = sent
	}
	l.id, l.beat = id, sent
	close(l.fresh)
	l.fresh = make(chan struct{})
	return strs(got[2]), false, nil
}

func strs(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// goodbye ends the lease at once on a clean stop, so that nobody waits for it to lapse.
func (l *lease) goodbye(ctx context.Context) error {
	l.mu.Lock()
	id := l.id
	l.id = ""
	l.mu.Unlock()
	if id == "" {
		return nil
	}
	// Score 1 is long dead; the sweeper removes the entry when nothing is owned.
	return l.rdb.ZAddXX(ctx, keyWorkers, redis.Z{Score: 1, Member: id}).Err()
}

// obituary is what is known of an owner's death.
type obituary struct {
	dead     bool
	lastBeat time.Time // by this process's clock; zero when nobody knows
}

// judge tells whether an owner is dead. Being asked before the claim is safe,
// because death is final.
func (l *lease) judge(ctx context.Context, owner string) (obituary, error) {
	got, err := scriptLeases.Run(ctx, l.rdb, []string{keyWorkers}, owner).Slice()
	if err != nil || len(got) != 2 {
		return obituary{}, fmt.Errorf("judging an owner: %w", err)
	}
	clock, _ := got[0].(int64)
	score, _ := got[1].(string)
	until, err := strconv.ParseFloat(score, 64)
	now := time.Now()
	if err != nil {
		// Removed after all it owned was taken, or lost with Redis: at least one
		// lease ago, or it would be there.
		return obituary{dead: true, lastBeat: now.Add(-leaseTime)}, nil
	}
	left := time.Duration(int64(until)-clock) * time.Millisecond
	if left >= 0 {
		return obituary{}, nil
	}
	return obituary{dead: true, lastBeat: now.Add(left - leaseTime)}, nil
}

// dead lists the workers whose lease has lapsed.
func (l *lease) dead(ctx context.Context) ([]string, error) {
	got, err := scriptLeases.Run(ctx, l.rdb, []string{keyWorkers}, "").Slice()
	if err != nil || len(got) != 2 {
		return nil, fmt.Errorf("reading the leases: %w", err)
	}
	return strs(got[1]), nil
}

// tell puts a message for a step-up into its owner's inbox; the owner's next
// beat finds it.
func (l *lease) tell(ctx context.Context, owner, verb, id string) error {
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.RPush(ctx, keyInbox(owner), verb+" "+id)
		p.Expire(ctx, keyInbox(owner), time.Minute)
		return nil
	})
	if err != nil {
		return fmt.Errorf("telling the owner: %w", err)
	}
	return nil
}

// keepLease beats until ctx ends, and hands on what the inbox says.
func (w *Worker) keepLease(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	read := 0
	for {
		c, cancel := context.WithTimeout(ctx, beatEvery)
		messages, lapsed, err := w.lease.renew(c, read)
		cancel()
		switch {
		case lapsed:
			w.log.Warn("lease lapsed; going on under a new id", "lease_ms", leaseTime.Milliseconds())
			w.met.lapses.Add(ctx, 1)
			read = 0
			continue
		case err != nil && ctx.Err() == nil:
			w.log.Warn("lease not renewed", "error", err)
		case err == nil:
			read = len(messages)
			for _, m := range messages {
				w.inbox(m)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// inbox acts on one message. A message can come twice: acting on it again does nothing.
func (w *Worker) inbox(message string) {
	verb, id, _ := strings.Cut(message, " ")
	if s := w.running(id); s != nil && verb == "cancel" {
		s.cancel()
	}
}
