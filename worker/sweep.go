package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	sweepEvery = time.Second
	sweepMost  = 500 // wake-ups a shard and round
	compareIn  = 5   // sweeps between two comparisons of owned with run
)

// sweep wakes what nobody holds: what dead workers owned, and what is past its
// wake-by time. It decides nothing; what a wake-up leads to is for the poll or
// the delivery it queues. It does not depend on asynq keeping its tasks.
func (w *Worker) sweep(ctx context.Context) {
	suspects := map[string]bool{}
	for n := 1; ; n++ {
		// Jittered, so that several workers do not sweep in step.
		pause := time.NewTimer(sweepEvery*3/4 + rand.N(sweepEvery/2))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		err := w.count(ctx)
		if w.opts.Role != RoleAPI && !w.Draining() && w.lease.steady() {
			err = errors.Join(err, w.sweepOnce(ctx))
		}
		if n%compareIn == 0 && !w.Draining() { // in every role: a cancel claims, too
			suspects, err = w.compare(ctx, suspects, err)
		}
		if err != nil {
			if ctx.Err() == nil {
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
	dead, err := w.lease.dead(ctx)
	if err != nil {
		return err
	}
	for _, owner := range dead {
		if err := w.bury(ctx, owner); err != nil {
			return err
		}
	}
	for n := range w.opts.Shards {
		if err := w.overdue(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// bury wakes what a dead worker owned, and forgets it when nothing is left.
func (w *Worker) bury(ctx context.Context, owner string) error {
	left := 0
	for n := range w.opts.Shards {
		ids, err := w.opts.Store.SRandMemberN(ctx, keyOwned(n, owner), sweepMost).Result()
		if err != nil {
			return fmt.Errorf("reading what a dead worker owned: %w", err)
		}
		left += len(ids)
		for _, id := range ids {
			if err := w.wake(ctx, id, owner); err != nil {
				return err
			}
		}
	}
	if left > 0 {
		return nil
	}
	if err := w.opts.Lease.ZRem(ctx, keyWorkers, owner).Err(); err != nil {
		return fmt.Errorf("removing a dead worker: %w", err)
	}
	return nil
}

// overdue wakes what is past its wake-by time.
func (w *Worker) overdue(ctx context.Context, shard int) error {
	now, err := w.opts.Store.Time(ctx).Result()
	if err != nil {
		return fmt.Errorf("reading Redis's clock: %w", err)
	}
	ids, err := w.opts.Store.ZRangeByScore(ctx, keyOpen(shard), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(now.UnixMilli(), 10), Count: sweepMost}).Result()
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

func (w *Worker) wake(ctx context.Context, id, deadOwner string) error {
	wakes, st, err := w.store.wake(ctx, id, deadOwner)
	if err != nil {
		return err
	}
	if st == "gone" && deadOwner != "" { // somebody has it already, or its time is over
		shard, _ := shardOf(id)
		return w.opts.Store.SRem(ctx, keyOwned(shard, deadOwner), id).Err()
	}
	if wakes == "0" {
		return nil
	}
	failpoint("wake.counted")
	return w.queue.wake(ctx, id, wakes, st, time.Time{})
}

// compare looks for what this process owns but does not run, because a claim's
// reply was lost or a handler panicked, and lets it go. Being seen twice in a row
// rules out a claim that is just under way.
func (w *Worker) compare(ctx context.Context, before map[string]bool, err error) (map[string]bool, error) {
	me, ok, _ := w.lease.holder()
	if !ok || err != nil {
		return before, err
	}
	suspects := map[string]bool{}
	for n := range w.opts.Shards {
		ids, err := w.opts.Store.SMembers(ctx, keyOwned(n, me)).Result()
		if err != nil {
			return before, fmt.Errorf("reading what this worker owns: %w", err)
		}
		for _, id := range ids {
			switch {
			case w.running(id) != nil:
			case !before[id]:
				suspects[id] = true
			default:
				w.letGo(ctx, me, id)
			}
		}
	}
	return suspects, nil
}

// letGo releases a step-up that is on our name and that nobody here runs. What
// was sent for it is unknown, so it is ambiguous and waits as after a death.
func (w *Worker) letGo(ctx context.Context, me, id string) {
	r, err := w.store.read(ctx, id)
	if err != nil || r.Owner != me || w.running(id) != nil {
		return
	}
	set := w.settings.Load()
	if !r.State.Final() {
		r.Ambiguous, r.PendingAt = true, time.Time{}
		r.NotBefore = time.Now().Add(max(r.Interval, set.Providers[r.Provider].Hold))
	}
	if _, err := w.store.release(ctx, r); err != nil {
		w.log.Warn("orphan not released; tried again", "id", id, "error", err)
	}
}
