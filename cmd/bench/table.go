package main

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"text/tabwriter"
	"time"
)

// row is one line of the table. of gives a column's number; ok is false where the column has none.
type row struct {
	name   string
	digits int
	of     func(*column) (value float64, ok bool)
	ratio  bool // the last column compares
}

func always(f func(*column) float64) func(*column) (float64, bool) {
	return func(c *column) (float64, bool) { return f(c), true }
}

// stored is for what only a column with Redis has.
func stored(f func(*column) float64) func(*column) (float64, bool) {
	return func(c *column) (float64, bool) { return f(c), c.stored }
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// each is a duration in microseconds a poll.
func each(c *column, d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(c.polls)
}

func rows() []row {
	return []row{
		{"polls", 0, always(func(c *column) float64 { return float64(c.polls) }), false},
		{"polls/s", 1, always(func(c *column) float64 { return c.rate }), true},
		{"CPU a poll, this process, µs", 1, always(func(c *column) float64 { return each(c, c.used.self) }), true},
		{"CPU a poll, Redis, µs", 1, stored(func(c *column) float64 { return each(c, c.used.redis) }), false},
		{"CPU a poll, simulated provider, µs", 1, func(c *column) (float64, bool) { return each(c, c.used.target), c.used.target > 0 }, true},
		{"Redis commands sent a poll", 3, stored(func(c *column) float64 { return c.used.sent / float64(c.polls) }), false},
		{"run by Redis a poll, in scripts too", 3, stored(func(c *column) float64 { return c.used.run / float64(c.polls) }), false},
		{"late p50, ms", 2, always(func(c *column) float64 { return milliseconds(c.late.P50) }), true},
		{"late p99, ms", 2, always(func(c *column) float64 { return milliseconds(c.late.P99) }), true},
		{"late max, ms", 2, always(func(c *column) float64 { return milliseconds(c.late.Max) }), true},
		{"busy with other programs, % of the machine", 1, func(c *column) (float64, bool) { return 100 * c.used.others, c.used.others >= 0 }, false},
		{"overlaps", 0, always(func(c *column) float64 { return float64(c.overlaps) }), false},
		{"early polls", 0, always(func(c *column) float64 { return float64(c.early) }), false},
		{"other answers", 0, always(func(c *column) float64 { return float64(c.strange) }), false},
		{"approval to webhook p50, ms", 2, stored(func(c *column) float64 { return milliseconds(percentile(c.webhooks, 50)) }), false},
		{"approval to webhook p99, ms", 2, stored(func(c *column) float64 { return milliseconds(percentile(c.webhooks, 99)) }), false},
		{"webhooks", 0, stored(func(c *column) float64 { return float64(len(c.webhooks)) }), false},
		{"creates/s", 0, stored(func(c *column) float64 { return c.creates }), false},
		{"RSS a step-up, KiB", 1, func(c *column) (float64, bool) { return c.weight.rss / 1024, c.stored && c.weight.rss != 0 }, false},
		{"of it goroutine stacks, KiB", 1, stored(func(c *column) float64 { return c.weight.stacks / 1024 }), false},
		{"of it heap, with garbage, KiB", 1, stored(func(c *column) float64 { return c.weight.heap / 1024 }), false},
		{"goroutines a step-up", 1, stored(func(c *column) float64 { return c.weight.goroutines }), false},
		{"Redis memory a step-up, bytes", 0, stored(func(c *column) float64 { return c.weight.redis }), false},
		{"drain, s", 1, stored(func(c *column) float64 { return c.drain.Seconds() }), false},
	}
}

// printTable prints what was measured; with two columns also the first over the second.
func printTable(out io.Writer, s settings, columns []*column) error {
	mode := "simulated provider over HTTP"
	if s.engine {
		mode = "provider in this process"
	}
	fmt.Fprintf(out, "%d step-ups in flight, every %v, %v; %s; %d cores, %s\n\n", s.n, s.interval, s.steady, mode, runtime.NumCPU(), runtime.Version())
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	line := func(cells ...string) {
		for _, c := range cells[1:] {
			fmt.Fprint(w, c, "\t")
		}
		fmt.Fprintf(w, "  %s\n", cells[0])
	}
	head := []string{""}
	for _, c := range columns {
		head = append(head, c.name)
	}
	if len(columns) == 2 {
		head = append(head, "ratio")
	}
	line(head...)
	for _, r := range rows() {
		line(r.cells(columns)...)
	}
	return w.Flush()
}

func (r row) cells(columns []*column) []string {
	cells := []string{r.name}
	var values []float64
	for _, c := range columns {
		v, ok := r.of(c)
		if !ok {
			cells = append(cells, "–")
			continue
		}
		values = append(values, v)
		cells = append(cells, strconv.FormatFloat(v, 'f', r.digits, 64))
	}
	if len(columns) != 2 {
		return cells
	}
	if !r.ratio || len(values) != 2 || values[1] == 0 {
		return append(cells, "")
	}
	return append(cells, strconv.FormatFloat(values[0]/values[1], 'f', 2, 64))
}
