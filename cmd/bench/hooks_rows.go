package main

import (
	"fmt"
	"runtime"
	"time"
)

// Rows of -webhooks that the report looks up.
const (
	rowMissing  = "webhooks that did not come"
	rowDelivers = "deliveries/s"
	rowCalmP50  = "approval to webhook at a steady rate p50, ms"
	rowCalmP99  = "approval to webhook at a steady rate p99, ms"
)

func (b *bench) sendingTable(columns []*sending) table {
	t := table{Title: fmt.Sprintf("%d step-ups polled every %v and approved all at once; then %d a second for %v; beside it a plain sender, %d sends at once for %v, then %d a second for %v; %s",
		b.n, b.interval, calmly, b.settings.steady, atOnce, b.settings.steady/2, calmly, b.settings.steady, machine())}
	for _, c := range columns {
		t.Columns = append(t.Columns, c.name)
	}
	add := func(name string, digits int, of func(*sending) (float64, bool)) {
		t.Rows = append(t.Rows, rowOf(columns, name, digits, of))
	}
	delivers := func(f func(*sending) float64) func(*sending) (float64, bool) {
		return func(c *sending) (float64, bool) { return f(c), !c.none }
	}
	add("bytes of an event", 0, delivers(func(c *sending) float64 { return float64(c.bytes) }))
	add(rowMissing, 0, delivers(func(c *sending) float64 { return float64(c.missing) }))
	add("approvals/s", 0, func(c *sending) (float64, bool) { return c.approvals, true })
	add(rowDelivers, 0, delivers(func(c *sending) float64 { return c.rate }))
	add("deliveries/s, plain sender", 0, delivers(func(c *sending) float64 { return c.plainRate }))
	add("deliveries/s ÷ plain sender", 3, delivers(func(c *sending) float64 { return c.rate / max(1, c.plainRate) }))
	b.costRows(add)
	for _, of := range []struct {
		name         string
		mine, theirs func(*sending) []time.Duration
	}{
		{"approval to webhook, all at once", func(c *sending) []time.Duration { return c.flooded }, nil},
		{"approval to webhook at a steady rate", func(c *sending) []time.Duration { return c.calm }, func(c *sending) []time.Duration { return c.plainCalm }},
	} {
		for _, p := range []int{50, 99} {
			add(fmt.Sprintf("%s p%d, ms", of.name, p), 2, delivers(func(c *sending) float64 { return milliseconds(percentile(of.mine(c), p)) }))
			if of.theirs == nil {
				continue
			}
			add(fmt.Sprintf("due to webhook, plain sender p%d, ms", p), 2, delivers(func(c *sending) float64 { return milliseconds(percentile(of.theirs(c), p)) }))
			add(fmt.Sprintf("%s p%d ÷ plain sender", of.name, p), 2, delivers(func(c *sending) float64 {
				return float64(percentile(of.mine(c), p)) / float64(max(1, percentile(of.theirs(c), p)))
			}))
		}
	}
	return t
}

// costRows tell who used the machine while everybody approved at once.
func (b *bench) costRows(add func(string, int, func(*sending) (float64, bool))) {
	for _, who := range []struct {
		name string
		of   func(spent) time.Duration
	}{
		{"service", func(u spent) time.Duration { return u.service }},
		{"Redis", func(u spent) time.Duration { return u.redis }},
		{"simulated provider", func(u spent) time.Duration { return u.target }},
		{"receiver", func(u spent) time.Duration { return u.self }},
	} {
		add("CPU an approval, "+who.name+", µs", 0, func(c *sending) (float64, bool) {
			return float64(who.of(c.flood).Microseconds()) / float64(b.n), true
		})
	}
	add("CPU a delivery, plain sender, µs", 0, func(c *sending) (float64, bool) {
		return float64(c.plain.CPU.Microseconds()) / float64(max(1, len(c.plain.Due))), !c.none
	})
	add("of the machine in use, %", 0, func(c *sending) (float64, bool) {
		u := c.flood
		return 100 * (u.service + u.redis + u.target + u.self).Seconds() / (u.seconds * float64(runtime.NumCPU())), true
	})
	add("busy with other programs, % of the machine", 1, func(c *sending) (float64, bool) { return 100 * c.flood.others, c.flood.others >= 0 })
}
