package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
)

// bench is a run on its way.
type bench struct {
	settings
	store   *redisStore
	target  target
	program *program // the service, when it has a process of its own and runs
	environ []string // of that process, beside ours
	say     func(format string, args ...any)
	errs    io.Writer // of other processes of the run

	// Over the whole run, also outside of what is measured.
	overlaps, early, strange int
}

// column is what was measured of one way to poll.
type column struct {
	name string

	// The steady part.
	polls  int
	rate   float64 // polls a second
	used   spent   // beyond idle
	late   cibatest.Lateness
	stored bool // Redis had a part in it

	weight weight
	kinds  []kind // of key

	asked    int             // step-ups that were asked to be approved
	webhooks []time.Duration // from approval to webhook, sorted
	drain    time.Duration   // until everything in flight was let go

	overlaps, early, strange int // from the column's beginning to its end
}

// weight is what one step-up in flight adds.
type weight struct {
	redis, rss, stacks, heap float64 // bytes; rss 0: not known
	goroutines               float64
}

func (s snapshot) weight(earlier snapshot, n int) weight {
	each := func(after, before int64) float64 { return float64(after-before) / float64(n) }
	return weight{
		redis: each(s.memory, earlier.memory), rss: each(s.rss, earlier.rss), stacks: each(s.stacks, earlier.stacks), heap: each(s.heap, earlier.heap),
		goroutines: each(int64(s.goroutines), int64(earlier.goroutines)),
	}
}

// asking is how many creates run side by side, as if from as many connections of backends.
const asking = 32

// rampRate is the most that is asked for in a second of a ramp: less than the service can take, so that all columns have the
// same ramp.
const rampRate = 1000

// ramp calls ask for 0…n−1, one after the other at equal distances over one interval, or as many as rampRate needs. So polls
// are spread evenly in every column: those that fall due together cost less each, and wait for each other.
func (b *bench) ramp(ctx context.Context, n int, ask func(i int) error) error {
	apart := b.rampTime(n) / time.Duration(n)
	began := time.Now()
	return sideBySide(0, n, func(i int) error {
		if err := pause(ctx, time.Until(began.Add(time.Duration(i)*apart))); err != nil {
			return err
		}
		return ask(i)
	})
}

// rampTime is how long a ramp takes.
func (b *bench) rampTime(n int) time.Duration {
	return time.Duration(math.Ceil(float64(n)/rampRate/b.interval.Seconds()) * float64(b.interval))
}

// sideBySide calls f for from…to−1, several at a time, and stops at the first error.
func sideBySide(from, to int, f func(i int) error) error {
	var next atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	for range min(asking, to-from) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= to {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = errors.Join(failed, err)
					next.Store(int64(to))
					return
				}
			}
		})
	}
	wg.Wait()
	return failed
}

// cut takes what the ledger has and keeps what must not be there.
func (b *bench) cut(ctx context.Context) (cibatest.Ledger, error) {
	l, err := b.target.cut(ctx)
	if err != nil {
		return l, err
	}
	b.overlaps += l.Overlaps
	b.early += l.Early
	b.strange += l.Refused
	for answer, n := range l.Answers {
		if answer != cibatest.Pending.String() && answer != cibatest.Approve.String() {
			b.strange += n
		}
	}
	return l, nil
}

// warmUp waits until every step-up has been polled.
func (b *bench) warmUp(ctx context.Context) error {
	// The first poll comes one interval after the create, and a late one needs a moment more.
	if err := pause(ctx, b.interval+max(b.interval/10, 200*time.Millisecond)); err != nil {
		return err
	}
	_, err := b.cut(ctx)
	return err
}

// steady measures for as long as was asked for. Everything in flight has been polled before.
func (b *bench) steady(ctx context.Context, c *column, idle spent) error {
	if _, err := b.cut(ctx); err != nil {
		return err
	}
	before, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.settings.steady); err != nil {
		return err
	}
	after, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	l, err := b.cut(ctx)
	if err != nil {
		return err
	}
	c.polls, c.rate, c.late = l.Polls, l.PollsPerSecond, l.Lateness
	c.used = after.since(before).beyond(idle)
	if c.polls == 0 {
		return errors.New("nothing was polled; -for is shorter than -interval, or something is broken")
	}
	return nil
}

// close notes what must not have happened since the mark.
func (c *column) close(b *bench, mark bench) {
	c.overlaps, c.early, c.strange = b.overlaps-mark.overlaps, b.early-mark.early, b.strange-mark.strange
}

// verdict is what the exit code says.
func (b *bench) verdict(columns []*column) error {
	var errs []error
	if b.overlaps > 0 || b.early > 0 {
		errs = append(errs, fmt.Errorf("%d polls overlapped and %d came early", b.overlaps, b.early))
	}
	if b.strange > 0 {
		errs = append(errs, fmt.Errorf("%d polls were answered otherwise than pending or approved", b.strange))
	}
	for _, c := range columns {
		if missing := c.asked - len(c.webhooks); missing > 0 {
			errs = append(errs, fmt.Errorf("%d of %d webhooks did not come", missing, c.asked))
		}
	}
	return errors.Join(errs...)
}
