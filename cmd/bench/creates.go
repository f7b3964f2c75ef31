package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker"
)

// callers is how many creates run side by side, one column each.
var callers = []int{1, 8, 32, 128}

// creating is what one column measured.
type creating struct {
	n     int
	used  spent
	times []time.Duration // sorted
}

// createTables measures creates as a backend sees them, without the HTTP in front: the limits, two writes to Redis, /bc-auth and the task,
// and that the step-up is claimed.
func (b *bench) createTables(ctx context.Context) (tables, error) {
	inbox, err := openInbox("")
	if err != nil {
		return nil, fmt.Errorf("starting the webhook receiver: %w", err)
	}
	defer inbox.close()
	b.n = max(b.n, 100_000) // room for all
	w, stop, err := b.start(ctx, inbox)
	if err != nil {
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	idle, err := b.idle(ctx)
	columns := []creating{}
	first := 0
	for _, side := range callers {
		if err != nil {
			break
		}
		b.say("creates: %d side by side", side)
		var c creating
		c, err = b.createFor(ctx, w, side, first)
		c.used = c.used.beyond(idle)
		first += c.n
		columns = append(columns, c)
	}
	b.say("drain")
	if err = errors.Join(err, stop()); err != nil {
		return nil, fmt.Errorf("measuring creates: %w", err)
	}
	return tables{b.createTable(columns)}, nil
}

// createFor creates step-ups for as long as was asked for; first is the serial of the first.
func (b *bench) createFor(ctx context.Context, w *worker.Worker, side, first int) (c creating, err error) {
	before, err := b.snapshot(ctx)
	if err != nil {
		return c, err
	}
	end := time.Now().Add(b.settings.steady)
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	for range side {
		wg.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				i := first + int(next.Add(1)) - 1
				began := time.Now()
				failed := create(ctx, w, cibatest.HintFor(nobodyAnswers, 0, uint64(i)), strconv.Itoa(i))
				took := time.Since(began)
				mu.Lock()
				c.times, err = append(c.times, took), errors.Join(err, failed)
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	c.n = len(c.times)
	slices.Sort(c.times)
	if err != nil {
		return c, err
	}
	// Who is asked must also be claimed: that is part of the cost, and of the rate.
	err = until(ctx, "all step-ups are claimed", time.Minute, func() (bool, error) { return w.InFlight() >= first+c.n, nil })
	if err != nil {
		return c, err
	}
	after, err := b.snapshot(ctx)
	c.used = after.since(before)
	return c, err
}

func (b *bench) createTable(columns []creating) table {
	t := table{Title: fmt.Sprintf("Creates, %v each; %s", b.settings.steady, machine())}
	for _, side := range callers[:len(columns)] {
		t.Columns = append(t.Columns, fmt.Sprintf("%d at once", side))
	}
	cpu := func(of func(spent) time.Duration) func(creating) float64 {
		return func(c creating) float64 { return float64(of(c.used).Microseconds()) / float64(c.n) }
	}
	for _, m := range []struct {
		name   string
		digits int
		of     func(creating) float64
	}{
		{rowCreates, 0, func(c creating) float64 { return float64(c.n) / c.used.seconds }},
		{"p50, ms", 1, func(c creating) float64 { return milliseconds(percentile(c.times, 50)) }},
		{"p99, ms", 1, func(c creating) float64 { return milliseconds(percentile(c.times, 99)) }},
		{"CPU a create, this process, µs", 0, cpu(func(u spent) time.Duration { return u.self })},
		{"CPU a create, Redis, µs", 0, cpu(func(u spent) time.Duration { return u.redis })},
		{"CPU a create, simulated provider, µs", 0, cpu(func(u spent) time.Duration { return u.target })},
		{"Redis commands sent a create", 1, func(c creating) float64 { return c.used.sent / float64(c.n) }},
		{"busy with other programs, % of the machine", 1, func(c creating) float64 { return 100 * c.used.others }},
	} {
		t.Rows = append(t.Rows, rowOf(columns, m.name, m.digits, func(c creating) (float64, bool) { return m.of(c), true }))
	}
	return t
}
