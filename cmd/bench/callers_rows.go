package main

import (
	"fmt"
	"time"
)

// Rows of -callers that the report looks up.
const (
	rowFaults    = "answers that were not what was asked for"
	rowBeyondP50 = "create beyond the provider p50, ms"
	rowBeyondP99 = "create beyond the provider p99, ms"
	rowReadP99   = "approval to the reader's answer p99, ms"
	rowGrown     = "RSS at the end ÷ RSS in the middle"
)

func (b *bench) edgeTable(columns []*edge) table {
	t := table{Title: fmt.Sprintf("%d creates a second for %v, people approve after %d s and are polled every %v, /bc-auth takes %v; %d long-polling readers; %s",
		createRate, b.settings.steady, columns[0].answer, b.interval, heldFor, readers, machine())}
	for _, e := range columns {
		t.Columns = append(t.Columns, e.name)
	}
	add := func(name string, digits int, of func(*edge) (float64, bool)) {
		t.Rows = append(t.Rows, rowOf(columns, name, digits, of))
	}
	number := func(name string, of func(*edge) int) {
		add(name, 0, func(e *edge) (float64, bool) { return float64(of(e)), true })
	}
	durations := func(name string, of func(*edge) []time.Duration, percents ...int) {
		for _, p := range percents {
			title := fmt.Sprintf("%s p%d, ms", name, p)
			if p == 100 {
				title = name + " max, ms"
			}
			add(title, 2, func(e *edge) (float64, bool) { return milliseconds(percentile(of(e), p)), len(of(e)) > 0 })
		}
	}
	number("creates", func(e *edge) int { return len(e.answered) })
	number(rowFaults, func(e *edge) int { return e.backend.found.count() })
	number("warnings of the service", func(e *edge) int { return e.warned.count() })
	durations("/bc-auth at the provider", func(e *edge) []time.Duration { return e.seen.held }, 50, 99)
	durations("create beyond the provider", func(e *edge) []time.Duration { return e.seen.beyond }, 50, 90, 99, 100)
	durations("of that, sent late by the load itself", func(e *edge) []time.Duration { return e.late.sorted() }, 50, 99)
	number("long polls answered", func(e *edge) int { return len(e.seen.readers) })
	durations("approval to the reader's answer", func(e *edge) []time.Duration { return e.seen.readers }, 50, 99)
	number("webhooks", func(e *edge) int { return len(e.seen.webhooks) })
	durations("approval to webhook", func(e *edge) []time.Duration { return e.seen.webhooks }, 50, 99)
	for _, who := range []struct {
		name string
		of   func(spent) time.Duration
	}{
		{"service", func(u spent) time.Duration { return u.service }},
		{"Redis", func(u spent) time.Duration { return u.redis }},
		{"simulated provider", func(u spent) time.Duration { return u.target }},
		{"load and webhook receiver", func(u spent) time.Duration { return u.self }},
	} {
		add("CPU, "+who.name+", % of one core", 0, func(e *edge) (float64, bool) { return 100 * who.of(e.used).Seconds() / e.used.seconds, true })
	}
	add("busy with other programs, % of the machine", 1, func(e *edge) (float64, bool) { return 100 * e.used.others, e.used.others >= 0 })
	b.memoryRows(add)
	return t
}

// memoryRows tell whether memory is level once step-ups end as fast as they begin.
func (b *bench) memoryRows(add func(string, int, func(*edge) (float64, bool))) {
	mib := func(n int64) (float64, bool) { return float64(n) / (1 << 20), n > 0 }
	quarter := func(i int) time.Duration { return b.settings.steady * time.Duration(i) / quarters }
	add("RSS before, MiB", 1, func(e *edge) (float64, bool) { return mib(e.memory[0].rss) })
	for i := 1; i <= quarters; i++ {
		add(fmt.Sprintf("RSS after %v, MiB", quarter(i)), 1, func(e *edge) (float64, bool) { return mib(e.memory[i].rss) })
	}
	add("RSS when all are final, MiB", 1, func(e *edge) (float64, bool) { return mib(e.rest.rss) })
	for i := 1; i <= quarters; i++ {
		add(fmt.Sprintf("heap that is alive after %v, MiB", quarter(i)), 0, func(e *edge) (float64, bool) { return mib(e.memory[i].live) })
	}
	for i := 1; i <= quarters; i++ {
		add(fmt.Sprintf("step-ups in flight after %v", quarter(i)), 0, func(e *edge) (float64, bool) { return float64(e.memory[i].inFlight), true })
	}
	add(rowGrown, 2, func(e *edge) (float64, bool) {
		middle, last := e.memory[quarters/2].rss, e.memory[quarters].rss
		return float64(last) / float64(max(middle, 1)), middle > 0
	})
}
