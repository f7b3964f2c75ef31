package worker

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
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
	rdb  redis.UniversalClient
	role byte // the first letter of our ids: 'w' polls, 'a' asks, 'b' does both

	mu              sync.Mutex
	id              string
	began           time.Time            // when this id's first beat was sent
	beat            time.Time            // when the last confirmed beat was sent
	fresh           chan struct{}        // closed at the next confirmed beat
	former          map[string]time.Time // last confirmed beats of ids of ours that lapsed
	polling, asking int                  // live processes that do so, as the last beat counted
	faults          int                  // beats that Redis did not confirm
	fault           time.Time            // the last of them
}

func newLease(rdb redis.UniversalClient, role Role) *lease {
	letter := map[Role]byte{RoleWorker: 'w', RoleAPI: 'a'}[role]
	if letter == 0 {
		letter = 'b'
	}
	return &lease{rdb: rdb, role: letter, fresh: make(chan struct{}), former: map[string]time.Time{}}
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
	return l.id, since(l.beat) < sendWithin, l.fresh
}

// since is how long ago t was, by the greater of monotonic and wall time: either
// may stand still while a machine sleeps.
func since(t time.Time) time.Duration {
	now := time.Now()
	return max(now.Sub(t), now.Round(0).Sub(t.Round(0)))
}

// troubled reports that calls may be open which nobody may rely on: this process
// may not send, or an id of ours lapsed not long ago.
func (l *lease) troubled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.beat.IsZero() && (l.id == "" || since(l.beat) >= sendWithin || len(l.former) > 0)
}

// lastBeat is when the last confirmed beat of an id of ours was sent; ok is false
// for an id that is long gone.
func (l *lease) lastBeat(id string) (t time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if id == l.id {
		return l.beat, true
	}
	t, ok = l.former[id]
	return t, ok
}

// alive is how many live processes poll and how many ask, ourselves included.
func (l *lease) alive() (polling, asking int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.polling, 1), max(l.asking, 1)
}

// steady reports whether beats went through for a whole lease, so that after a
// gap of Redis everybody else had the time to renew before being judged.
func (l *lease) steady() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return l.id != "" && now.Sub(l.beat) < 2*beatEvery && now.Sub(l.began) > leaseTime
}

// faltered counts the beats that Redis did not confirm. After one, Redis may be
// another than before, and may have forgotten what it acknowledged.
func (l *lease) faltered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults
}

// doubtful reports that Redis faltered not long ago, so that what it says may be
// older than what it acknowledged before.
func (l *lease) doubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.fault.IsZero() && since(l.fault) < 4*leaseTime
}

// settle waits until the beats are steady.
func (l *lease) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*leaseTime)
	defer cancel()
	for !l.steady() {
		_, _, ch := l.holder()
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for steady beats: %w", ctx.Err())
		case <-ch:
		}
	}
	return nil
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

// renew beats once and tells Redis which messages were read. It returns what is
// in the inbox; lapsed tells that the old id is dead and the process goes on under
// a new one.
func (l *lease) renew(ctx context.Context, read []string) (messages []string, lapsed bool, err error) {
	l.mu.Lock()
	id := l.id
	l.mu.Unlock()
	begin := id == ""
	if begin {
		id, read = string(l.role)+"_"+rand.Text()[:16], nil // every record it owns names it
	}
	args := []any{id, leaseTime.Milliseconds(), flag(begin)}
	for _, m := range read {
		args = append(args, m)
	}
	sent := time.Now()
	got, err := scriptBeat.Run(ctx, l.rdb, []string{keyWorkers, keyInbox(id)}, args...).Slice()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.faults, l.fault = l.faults+1, sent
		return nil, false, fmt.Errorf("renewing the lease: %w", err)
	}
	if len(got) != 4 {
		l.bury()
		return nil, true, nil
	}
	// A gap of beats that did not cost the lease still ends the steadiness: others
	// may have had it too, and a failover may have lost their last beats.
	if begin || sent.Sub(l.beat) > 2*beatEvery {
		l.began = sent
	}
	polling, _ := got[1].(int64)
	asking, _ := got[2].(int64)
	l.id, l.beat, l.polling, l.asking = id, sent, int(polling), int(asking)
	maps.DeleteFunc(l.former, func(_ string, beat time.Time) bool { return since(beat) > remembers })
	close(l.fresh)
	l.fresh = make(chan struct{})
	return strs(got[3]), false, nil
}

// remembers is how long the last beat of an id that lapsed is known: longer than
// any call that was sent under it.
const remembers = 2 * time.Minute

// bury ends our id.
func (l *lease) bury() {
	l.former[l.id] = l.beat
	l.id = ""
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
	l.mu.Unlock()
	if id == "" {
		return nil
	}
	// Score 1 is long dead; the next beat of anybody removes the entry.
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
		// Removed an hour after its death, said goodbye, or lost with Redis: at least
		// one lease ago, or it would be there.
		return obituary{dead: true, lastBeat: now.Add(-leaseTime)}, nil
	}
	left := time.Duration(int64(until)-clock) * time.Millisecond
	if left >= 0 {
		return obituary{}, nil
	}
	return obituary{dead: true, lastBeat: now.Add(left - leaseTime)}, nil
}

// living is who holds a lease now.
func (l *lease) living(ctx context.Context) (map[string]bool, error) {
	got, err := scriptLeases.Run(ctx, l.rdb, []string{keyWorkers}, "").Slice()
	if err != nil || len(got) != 2 {
		return nil, fmt.Errorf("reading the leases: %w", err)
	}
	alive := map[string]bool{}
	for _, id := range strs(got[1]) {
		alive[id] = true
	}
	return alive, nil
}

// tell puts a message for a step-up into its owner's inbox; the owner's next
// beat finds it.
func (l *lease) tell(ctx context.Context, owner, verb, id string) error {
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SAdd(ctx, keyInbox(owner), verb+" "+id)
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
	var read []string
	var gone time.Time // since when Redis does not answer
	for {
		c, cancel := context.WithTimeout(ctx, beatEvery)
		messages, lapsed, err := w.lease.renew(c, read)
		cancel()
		if ctx.Err() != nil {
			return
		}
		gone = w.tellOutage(gone, err)
		if lapsed {
			w.log.Warn("lease lapsed; going on under a new id", "lease_ms", leaseTime.Milliseconds())
			w.met.lapses.Add(ctx, 1)
			read = nil
			continue
		}
		if err == nil {
			read = messages
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

// tellOutage says once that Redis does not answer and once that it does again: the
// beat is the first to know.
func (w *Worker) tellOutage(gone time.Time, err error) time.Time {
	switch {
	case err != nil && gone.IsZero():
		w.log.Error("Redis does not answer: no polls and no creates until it does; answers in flight are kept", "error", err)
		return time.Now()
	case err == nil && !gone.IsZero():
		w.log.Warn("Redis answers again", "after_ms", time.Since(gone).Milliseconds())
		return time.Time{}
	}
	return gone
}

// inbox acts on one message. A message can come twice: acting on it again does nothing.
func (w *Worker) inbox(message string) {
	verb, id, _ := strings.Cut(message, " ")
	if s := w.running(id); s != nil && verb == "cancel" {
		s.cancel()
	}
}
