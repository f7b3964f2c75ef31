package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sweepEvery = time.Second
	sweepMost  = 500 // wake-ups a shard and round
	compareIn  = 5   // sweeps between two comparisons of owned with run
)

// sweep wakes what nobody holds: what dead workers owned, and what is past its
// wake-by time. It does not depend on asynq keeping its tasks.
func (w *Worker) sweep(ctx context.Context) {
	suspects, faults := map[string]suspect{}, 0
	for n := 1; ; n++ {
		// Jittered, so that several workers do not sweep in step.
		pause := time.NewTimer(sweepEvery*3/4 + rand.N(sweepEvery/2))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		if f := w.lease.faltered(); f != faults {
			n, faults = compareIn, f
		}
		err := w.count(ctx)
		if w.opts.Role != RoleAPI && !w.Draining() && w.lease.steady() {
			err = errors.Join(err, w.sweepOnce(ctx))
		}
		if n >= compareIn && err == nil && !w.Draining() { // in every role: a cancel claims, too
			n = 0
			suspects, err = w.compare(ctx, suspects)
		}
		if err != nil {
			if n = compareIn; ctx.Err() == nil { // after a fault at once
				w.log.Warn("sweep cut short; the next one goes on", "error", err)
			}
			continue
		}
		w.swept.Store(time.Now().UnixMilli())
	}
}

// count sums what is in flight over all workers: what has work left and is not
// final. A set of its own would say the same for a hundred bytes a step-up.
func (w *Worker) count(ctx context.Context) error {
	type cards struct{ open, due *redis.IntCmd }
	of := make([]cards, w.opts.Shards)
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range of {
			of[n] = cards{p.ZCard(ctx, keyOpen(n)), p.SCard(ctx, keyDue(n))}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting what is in flight: %w", err)
	}
	var sum int64
	for _, c := range of {
		sum += c.open.Val() - c.due.Val()
	}
	w.inFlight.Store(sum)
	return nil
}

func (w *Worker) sweepOnce(ctx context.Context) error {
	// The owners before the living: whoever is born in between is not taken for dead.
	owners := make([]*redis.StringSliceCmd, w.opts.Shards)
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range owners {
			owners[n] = p.SMembers(ctx, keyOwners(n))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading who owns step-ups: %w", err)
	}
	alive, err := w.lease.living(ctx)
	if err != nil {
		return err
	}
	for n := range w.opts.Shards {
		if err := errors.Join(w.bury(ctx, n, owners[n].Val(), alive), w.overdue(ctx, n)); err != nil {
			return err
		}
	}
	return nil
}

// bury wakes what dead workers owned in a shard, and forgets those of whom nothing
// is left. The shard itself knows who owned something in it, so this holds even
// when the leases are lost.
func (w *Worker) bury(ctx context.Context, shard int, owners []string, alive map[string]bool) error {
	for _, owner := range owners {
		if alive[owner] {
			continue
		}
		ids, err := w.opts.Store.SRandMemberN(ctx, keyOwned(shard, owner), sweepMost).Result()
		if err != nil {
			return fmt.Errorf("reading what a dead worker owned: %w", err)
		}
		for _, id := range ids {
			if err := w.wake(ctx, id, owner); err != nil {
				return err
			}
		}
		if len(ids) > 0 {
			continue
		}
		// The dead claim nothing any more, so the set stays empty.
		if err := w.opts.Store.SRem(ctx, keyOwners(shard), owner).Err(); err != nil {
			return fmt.Errorf("forgetting a dead worker: %w", err)
		}
	}
	return nil
}

// overdue wakes what is past its wake-by time.
func (w *Worker) overdue(ctx context.Context, shard int) error {
	ids, err := scriptOverdue.Run(ctx, w.opts.Store, []string{keyOpen(shard)}, sweepMost).StringSlice()
	if err != nil {
		return fmt.Errorf("reading what is overdue: %w", err)
	}
	for _, id := range ids {
		if err := w.wake(ctx, id, ""); err != nil {
			return err
		}
	}
	return nil
}

// wakesInVain is after how many wake-ups in a row that led to nothing asynq is
// passed by.
const wakesInVain = 3

// wake wakes one step-up, if no other sweeper was faster. The way is an asynq
// task; what is long past its expiry, or was queued in vain, is taken here and now.
func (w *Worker) wake(ctx context.Context, id, deadOwner string) error {
	v, err := w.store.wake(ctx, id, deadOwner)
	if err != nil {
		return err
	}
	if v.gone && deadOwner != "" { // somebody has it already, or its time is over
		shard, _ := shardOf(id)
		return w.opts.Store.SRem(ctx, keyOwned(shard, deadOwner), id).Err()
	}
	if v.number == "0" {
		return nil
	}
	failpoint("wake.counted")
	switch {
	case v.late, v.row >= wakesInVain && w.InFlight() < w.opts.MaxInFlight:
		go w.work(context.WithoutCancel(ctx), id) // it catches its own panics
		return nil
	case v.row >= wakesInVain:
		return nil // there is no room: its tasks wait in the queue, and no more are piled on them
	}
	return w.queue.wake(ctx, id, v.number, v.state, time.Time{})
}

// suspect is when a step-up was first seen owned and not run, and under which gen.
type suspect struct {
	gen int64
	at  time.Time
}

// claimTime is longer than a claim can take that is under way.
const claimTime = 4 * time.Second

// compare looks for what this process runs but does not own, because Redis lost the
// claim, and stops it; and for what it owns but does not run, because a claim's
// reply was lost or a handler panicked, and lets it go. There, being seen for long
// under the same gen rules out a claim that is just under way.
func (w *Worker) compare(ctx context.Context, before map[string]suspect) (map[string]suspect, error) {
	me, ok, _ := w.lease.holder()
	if !ok {
		return before, nil
	}
	odd, err := w.differing(ctx, me)
	if err != nil {
		return before, err
	}
	suspects := map[string]suspect{}
	for _, id := range odd {
		r, err := w.store.read(ctx, id)
		if err != nil && !errors.Is(err, errGone) {
			return before, err
		}
		if err != nil {
			r = &record{ID: id, Gen: -1}
		}
		first, seen := before[id]
		if !seen || first.gen != r.Gen {
			first = suspect{r.Gen, time.Now()}
		}
		if w.running(id) == nil && time.Since(first.at) < claimTime {
			suspects[id] = first
			continue
		}
		w.settleDifference(ctx, me, r)
	}
	return suspects, nil
}

// differing lists what this process owns but does not run, or runs but does not own.
func (w *Worker) differing(ctx context.Context, me string) ([]string, error) {
	w.mu.Lock()
	running := make([]string, 0, len(w.sessions))
	for id, s := range w.sessions { // before the sets are read: these are all in them
		if s.under == me { // else it is claimed again, or let go, by its own goroutine
			running = append(running, id)
		}
	}
	w.mu.Unlock()
	owned := map[string]bool{}
	for n := range w.opts.Shards {
		ids, err := w.opts.Store.SMembers(ctx, keyOwned(n, me)).Result()
		if err != nil {
			return nil, fmt.Errorf("reading what this worker owns: %w", err)
		}
		for _, id := range ids {
			owned[id] = true
		}
	}
	var odd []string
	for _, id := range running {
		if !owned[id] {
			odd = append(odd, id)
		}
		delete(owned, id)
	}
	for id := range owned {
		if w.running(id) == nil {
			odd = append(odd, id)
		}
	}
	return odd, nil
}

// settleDifference acts on what r, read last, shows.
func (w *Worker) settleDifference(ctx context.Context, me string, r *record) {
	s := w.running(r.ID)
	switch {
	case s == nil && r.Owner == me:
		w.letGo(ctx, r)
	case s == nil: // only the set's entry is left over
		w.mended(r, w.opts.Store.SRem(ctx, keyOwned(r.shard(), me), r.ID).Err())
	case r.State.Final(): // it ends this very moment
	case r.Owner != me:
		w.log.Error("Redis lost a claim of this worker; the step-up is not polled here any more", "alarm", true, "id", r.ID)
		s.stop()
	default: // only the set's entry is missing; whoever buries us must find it
		w.mended(r, w.opts.Store.SAdd(ctx, keyOwned(r.shard(), me), r.ID).Err())
	}
}

func (w *Worker) mended(r *record, err error) {
	if err != nil {
		w.log.Warn("owned set not mended; tried again", "id", r.ID, "error", err)
	}
}

// letGo releases a step-up that is on our name and that nobody here runs. What
// was sent for it is unknown, so it is ambiguous and waits as after a death.
func (w *Worker) letGo(ctx context.Context, r *record) {
	set := w.settings.Load()
	if !r.State.Final() {
		r.Ambiguous, r.PendingAt = true, time.Time{}
		after := time.Now().Add(max(r.Interval, set.Providers[r.Provider].Hold))
		if r.NotBefore.Before(after) {
			r.NotBefore = after
		}
	}
	if _, err := w.store.release(ctx, r, opID()); err != nil {
		w.log.Warn("orphan not released; tried again", "id", r.ID, "error", err)
	}
}
