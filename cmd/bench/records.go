package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker"
)

// sampled is how many creates are measured at the beginning and at the end of a filling.
const sampled = 2000

// askedFor is one kind of request on its way through the core: one column of -records.
type askedFor struct {
	name  string
	found int // step-ups on a page
	times []time.Duration
	used  spent
}

// recordTables measures a caller that has many step-ups: creates before and after, and pages of its list. Nothing polls them: they wait in
// their queue, as they would for a process that works.
func (b *bench) recordTables(ctx context.Context) (tables, error) {
	inbox, err := openInbox("")
	if err != nil {
		return nil, fmt.Errorf("starting the webhook receiver: %w", err)
	}
	defer inbox.close()
	w, stop, err := b.start(ctx, inbox)
	if err != nil {
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	columns, err := b.measureRecords(ctx, w)
	if err = errors.Join(err, stop()); err != nil {
		return nil, fmt.Errorf("measuring many step-ups of one caller: %w", err)
	}
	return tables{b.recordTable(columns)}, nil
}

func (b *bench) measureRecords(ctx context.Context, w *worker.Worker) ([]*askedFor, error) {
	few := min(sampled, b.n/2)
	first, err := b.fill(ctx, w, "create, none before", 0, few)
	if err != nil {
		return nil, err
	}
	b.say("filling: %d step-ups of one caller", b.n)
	if _, err := b.fill(ctx, w, "", few, b.n-few); err != nil {
		return nil, err
	}
	last, err := b.fill(ctx, w, fmt.Sprintf("create, %d before", b.n-few), b.n-few, b.n)
	if err != nil {
		return nil, err
	}
	columns := []*askedFor{first, last}
	middle, err := b.middle(ctx, w)
	if err != nil {
		return nil, err
	}
	for _, l := range []struct {
		name string
		f    worker.Filter
	}{
		{"first page", worker.Filter{Limit: 100}},
		{"a page further on", worker.Filter{Limit: 100, Cursor: middle}},
		{"status=pending, all are", worker.Filter{Limit: 100, Status: "pending"}},
		{"status=approved, none is", worker.Filter{Limit: 100, Status: "approved"}},
		{"reference, the oldest has it", worker.Filter{Limit: 100, Reference: "0"}},
		{"reference, none has it", worker.Filter{Limit: 100, Reference: "nobody's"}},
	} {
		b.say("list, %s: %v", l.name, b.settings.steady)
		c, err := b.list(ctx, w, l.name, l.f)
		if err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	return columns, nil
}

// fill creates step-ups from…to−1.
func (b *bench) fill(ctx context.Context, w *worker.Worker, name string, from, to int) (*askedFor, error) {
	var times samples
	return b.using(ctx, name, &times, func() (int, error) {
		return 1, sideBySide(from, to, func(i int) error {
			began := time.Now()
			err := create(ctx, w, cibatest.HintFor(nobodyAnswers, 0, uint64(i)), strconv.Itoa(i))
			times.add(time.Since(began))
			return err
		})
	})
}

// middle is a cursor ten pages into the list.
func (b *bench) middle(ctx context.Context, w *worker.Worker) (cursor string, err error) {
	for range 10 {
		page, err := w.List(ctx, "bench", worker.Filter{Limit: 100, Cursor: cursor})
		if err != nil {
			return "", fmt.Errorf("listing: %w", err)
		}
		if page.NextCursor == "" {
			break
		}
		cursor = page.NextCursor
	}
	return cursor, nil
}

// list asks for the same page again and again.
func (b *bench) list(ctx context.Context, w *worker.Worker, name string, f worker.Filter) (*askedFor, error) {
	var times samples
	return b.using(ctx, name, &times, func() (found int, err error) {
		for end := time.Now().Add(b.settings.steady); time.Now().Before(end); {
			began := time.Now()
			page, err := w.List(ctx, "bench", f)
			if err != nil {
				return 0, fmt.Errorf("listing: %w", err)
			}
			times.add(time.Since(began))
			found = len(page.StepUps)
		}
		return found, nil
	})
}

// using measures what was used meanwhile.
func (b *bench) using(ctx context.Context, name string, times *samples, do func() (found int, err error)) (*askedFor, error) {
	before, err := b.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	found, err := do()
	if err != nil {
		return nil, err
	}
	after, err := b.snapshot(ctx)
	return &askedFor{name: name, found: found, times: times.sorted(), used: after.since(before)}, err
}

// Rows of -records that the report looks up.
const (
	rowPageP99   = "p99, ms"
	rowPageRedis = "CPU each, Redis, µs"
)

func (b *bench) recordTable(columns []*askedFor) table {
	t := table{Title: fmt.Sprintf("%d step-ups of one caller; creates %d side by side, pages of 100 one after the other; the core without HTTP in front, a provider in this process; %s", b.n, asking, machine())}
	for _, c := range columns {
		t.Columns = append(t.Columns, c.name)
	}
	each := func(c *askedFor, v float64) float64 { return v / float64(max(1, len(c.times))) }
	for _, m := range []struct {
		name   string
		digits int
		of     func(*askedFor) float64
	}{
		{"asked", 0, func(c *askedFor) float64 { return float64(len(c.times)) }},
		{"step-ups in the answer", 0, func(c *askedFor) float64 { return float64(c.found) }},
		{"p50, ms", 2, func(c *askedFor) float64 { return milliseconds(percentile(c.times, 50)) }},
		{rowPageP99, 2, func(c *askedFor) float64 { return milliseconds(percentile(c.times, 99)) }},
		{"CPU each, this process, µs", 0, func(c *askedFor) float64 { return each(c, float64(c.used.self.Microseconds())) }},
		{rowPageRedis, 0, func(c *askedFor) float64 { return each(c, float64(c.used.redis.Microseconds())) }},
		{"Redis commands sent each", 1, func(c *askedFor) float64 { return each(c, c.used.sent) }},
		{"busy with other programs, % of the machine", 1, func(c *askedFor) float64 { return 100 * c.used.others }},
	} {
		t.Rows = append(t.Rows, rowOf(columns, m.name, m.digits, func(c *askedFor) (float64, bool) { return m.of(c), true }))
	}
	return t
}
