package main

import (
	"fmt"
	"time"
)

// Rows that the report looks up.
const (
	rowSelf     = "CPU a poll, this process, µs"
	rowRedis    = "CPU a poll, Redis, µs"
	rowLateP99  = "late p99, ms"
	rowToldP50  = "approval to webhook p50, ms"
	rowToldP99  = "approval to webhook p99, ms"
	rowRSS      = "RSS a step-up, KiB"
	rowMemory   = "Redis memory a step-up, bytes"
	rowOverlaps = "overlaps"
	rowEarly    = "early polls"
	rowCreates  = "creates/s"
)

// measured is a row of the main table. of gives a column's number; ok is false where the column has none.
type measured struct {
	name   string
	digits int
	of     func(*column) (value float64, ok bool)
	ratio  bool
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

func measuredRows() []measured {
	return []measured{
		{"polls", 0, always(func(c *column) float64 { return float64(c.polls) }), false},
		{"polls/s", 1, always(func(c *column) float64 { return c.rate }), true},
		{rowSelf, 1, always(func(c *column) float64 { return each(c, c.used.self) }), true},
		{rowRedis, 1, stored(func(c *column) float64 { return each(c, c.used.redis) }), false},
		{"CPU a poll, simulated provider, µs", 1, func(c *column) (float64, bool) { return each(c, c.used.target), c.used.target > 0 }, true},
		{"allocated a poll, KiB", 1, always(func(c *column) float64 { return c.used.allocated / 1024 / float64(c.polls) }), true},
		{"objects a poll", 0, always(func(c *column) float64 { return c.used.objects / float64(c.polls) }), true},
		{"connections opened a 1,000 polls", 2, func(c *column) (float64, bool) {
			return 1000 * c.used.connections / float64(c.polls), c.used.target > 0
		}, false},
		{"Redis commands sent a poll", 3, stored(func(c *column) float64 { return c.used.sent / float64(c.polls) }), false},
		{"run by Redis a poll, in scripts too", 3, stored(func(c *column) float64 { return c.used.run / float64(c.polls) }), false},
		{"late p50, ms", 2, always(func(c *column) float64 { return milliseconds(c.late.P50) }), true},
		{rowLateP99, 2, always(func(c *column) float64 { return milliseconds(c.late.P99) }), true},
		{"late max, ms", 2, always(func(c *column) float64 { return milliseconds(c.late.Max) }), true},
		{"busy with other programs, % of the machine", 1, func(c *column) (float64, bool) { return 100 * c.used.others, c.used.others >= 0 }, false},
		{rowOverlaps, 0, always(func(c *column) float64 { return float64(c.overlaps) }), false},
		{rowEarly, 0, always(func(c *column) float64 { return float64(c.early) }), false},
		{"other answers", 0, always(func(c *column) float64 { return float64(c.strange) }), false},
		{rowToldP50, 2, stored(func(c *column) float64 { return milliseconds(percentile(c.webhooks, 50)) }), false},
		{rowToldP99, 2, stored(func(c *column) float64 { return milliseconds(percentile(c.webhooks, 99)) }), false},
		{"webhooks", 0, stored(func(c *column) float64 { return float64(len(c.webhooks)) }), false},
		{rowRSS, 1, func(c *column) (float64, bool) { return c.weight.rss / 1024, c.stored && c.weight.rss != 0 }, false},
		{"goroutine stacks a step-up, KiB", 1, always(func(c *column) float64 { return c.weight.stacks / 1024 }), false},
		{"heap a step-up, with garbage, KiB", 1, always(func(c *column) float64 { return c.weight.heap / 1024 }), false},
		{"goroutines a step-up", 1, always(func(c *column) float64 { return c.weight.goroutines }), false},
		{rowMemory, 0, stored(func(c *column) float64 { return c.weight.redis }), false},
		{"drain, s", 1, stored(func(c *column) float64 { return c.drain.Seconds() }), false},
	}
}

// tables are what a run prints: the measurements, and what Redis holds.
func (b *bench) tables(columns []*column) tables {
	mode := "simulated provider over HTTP/1.1"
	switch {
	case b.engine:
		mode = "provider in this process"
	case b.tls != "":
		mode = "simulated provider over TLS and HTTP/" + b.tls
	}
	main := table{Title: fmt.Sprintf("%d step-ups in flight, every %v, measured for %v; %s; %s", b.n, b.interval, b.settings.steady, mode, machine())}
	for _, c := range columns {
		main.Columns = append(main.Columns, c.name)
	}
	for _, m := range measuredRows() {
		r := rowOf(columns, m.name, m.digits, m.of)
		r.Ratio = m.ratio
		main.Rows = append(main.Rows, r)
	}
	keys := table{Title: "What Redis holds with everything in flight, by its MEMORY USAGE", Columns: []string{"keys a step-up", "bytes a key", "bytes a step-up"}}
	for _, k := range columns[0].kinds {
		if 2*k.bytes < b.n { // nothing, once it is shared by all
			continue
		}
		r := tableRow{Name: k.name, Values: make([]*float64, 3)}
		r.set(0, float64(k.keys)/float64(b.n))
		r.set(1, float64(k.bytes)/float64(k.keys))
		r.set(2, float64(k.bytes)/float64(b.n))
		keys.Rows = append(keys.Rows, r)
	}
	return tables{main, keys}
}
