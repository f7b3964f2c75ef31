package admin

import (
	"bytes"
	"cmp"
	"context"
	"html/template"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"stepup/worker"
)

// board is the overview as it was last rendered. However many look at it, it is read at most once in boardFor.
type board struct {
	read func(context.Context) overview
	log  *slog.Logger

	mu    sync.Mutex
	at    time.Time
	parts []part
}

const (
	boardFor  = time.Second
	boardTime = 3 * time.Second // at most, to read it
)

// part is a section of the page, which is sent again when it changes.
type part struct {
	Name string // of its template and element
	HTML template.HTML
}

// names of the sections, in their order.
var sections = []string{"notice", "state", "rates", "endpoints", "failing", "in-flight", "providers", "processes"}

// sections renders the overview, unless somebody did a moment ago.
func (b *board) sections(ctx context.Context) []part {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parts != nil && time.Since(b.at) < boardFor {
		return b.parts
	}
	// Whoever reads it does so for all others, too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), boardTime)
	defer cancel()
	v := b.read(ctx)
	b.at, b.parts = time.Now(), nil
	for _, name := range sections {
		var out bytes.Buffer
		if err := templates.ExecuteTemplate(&out, name, v); err != nil {
			b.log.Error("a part of the overview does not render", "part", name, "error", err)
			out.Reset()
			out.WriteString(`<p class="none">This part does not render; the log says why.</p>`)
		}
		b.parts = append(b.parts, part{name, template.HTML(out.String())})
	}
	return b.parts
}

// rowsMost is how many rows a table has that grows with the configuration. What is left out is told as a number.
const rowsMost = 20

// overview is what the sections show.
type overview struct {
	worker.Overview
	More     more
	Trouble  string // why Redis does not answer
	Broken   []failed
	Draining bool
	Rates    []plot
	Oldest   time.Time // step-up in flight
}

// more is what the tables leave out.
type more struct{ Held, StepUps, Endpoints int }

// failed is a check of /readyz that does not hold.
type failed struct{ Name, Error string }

func (p *pages) overview(ctx context.Context) overview {
	var v overview
	var side sync.WaitGroup
	side.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		checks := judge(ctx, p.Checks)
		for _, name := range slices.Sorted(maps.Keys(checks)) {
			if c := checks[name]; !c.OK {
				v.Broken = append(v.Broken, failed{name, c.Error})
			}
		}
	})
	o, err := p.Service.Overview(ctx)
	side.Wait()
	if v.Overview = o; err != nil {
		v.Trouble = err.Error()
	}
	v.Draining, v.Rates = p.Service.Draining(), plots(o.Minutes)
	for _, h := range o.Held {
		if v.Oldest.IsZero() || h.Oldest.Before(v.Oldest) {
			v.Oldest = h.Oldest
		}
	}
	v.shorten()
	return v
}

// shorten leaves the callers with the most step-ups, and the endpoints that failed first.
func (v *overview) shorten() {
	if n := len(v.Held) - rowsMost; n > 0 {
		slices.SortStableFunc(v.Held, func(a, b worker.Holding) int { return cmp.Compare(b.Count, a.Count) })
		for _, h := range v.Held[rowsMost:] {
			v.More.StepUps += h.Count
		}
		v.Held, v.More.Held = v.Held[:rowsMost], n
	}
	if n := len(v.Endpoints) - rowsMost; n > 0 {
		v.Endpoints, v.More.Endpoints = v.Endpoints[:rowsMost], n
	}
}

// plots are the pictures of the last hour.
func plots(minutes []worker.Rates) []plot {
	of := func(name string, count func(worker.Rates) int) series {
		s := series{Name: name}
		for _, m := range minutes {
			s.Values = append(s.Values, count(m))
		}
		return s
	}
	if len(minutes) == 0 {
		return nil
	}
	var finals []series
	for _, state := range []worker.State{worker.Approved, worker.Denied, worker.Expired, worker.Cancelled, worker.Failed, worker.Unknown} {
		finals = append(finals, of(string(state), func(m worker.Rates) int { return m.Finals[state] }))
	}
	return []plot{
		newPlot("Created", "step-ups", of("created", func(m worker.Rates) int { return m.Created })),
		newPlot("Final", "step-ups", finals...),
		newPlot("Delivered", "webhooks", of("delivered", func(m worker.Rates) int { return m.Delivered })),
		newPlot("Failed attempts", "webhook attempts", of("failed", func(m worker.Rates) int { return m.Failed })),
	}
}

// Pollers is how many live processes poll and deliver.
func (v overview) Pollers() (n int) {
	for _, p := range v.Workers {
		if p.Left >= 0 && p.Role != worker.RoleAPI {
			n++
		}
	}
	return n
}

// Lapsed is how many leases lapsed in the last hour.
func (v overview) Lapsed() int { return len(v.Workers) - v.alive() }

func (v overview) alive() (n int) {
	for _, p := range v.Workers {
		if p.Left >= 0 {
			n++
		}
	}
	return n
}

// Crowded reports that creates may soon be refused.
func (v overview) Crowded() bool { return v.Whole && v.InFlight*5 >= v.MostInFlight*4 }

// Late reports that work waits longer than the sweepers of healthy workers let it.
func (v overview) Late() bool { return v.Overdue > 5*time.Second }

// Full reports that Redis may soon take nothing more.
func (v overview) Full() bool { return v.RedisMost > 0 && v.RedisUsed*5 >= v.RedisMost*4 }

// Named is of how many step-ups the failing events are.
func (v overview) Named() (n int64) {
	for _, r := range v.Rows() {
		if r.First {
			n++
		}
	}
	return n
}

// row is a failing event, and the button of its step-up.
type row struct {
	worker.Failing
	First, Button bool
}

// Rows are the failing events. The first of a step-up has the button, if anything of it can be sent again.
func (v overview) Rows() []row {
	rows := make([]row, len(v.Failing))
	first := 0
	for i, f := range v.Failing {
		if f.StepUp != v.Failing[first].StepUp {
			first = i
		}
		rows[i] = row{Failing: f, First: i == first}
		rows[first].Button = rows[first].Button || f.Resendable
	}
	return rows
}
