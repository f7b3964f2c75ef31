package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// The report's tables stand between these lines of its file; the words around them are people's.
const (
	reportBegin = "<!-- measured: begin -->"
	reportEnd   = "<!-- measured: end -->"
)

// part is one run of the report, in a process of its own, so that no run weighs what an earlier one left.
type part struct {
	name, args string
}

// parts of the report.
const (
	few      = "1,000 in flight, every 5 s"
	many     = "10,000 in flight, every 5 s"
	most     = "50,000 in flight, every 30 s"
	alone    = "The engine alone: 50,000 in flight, every 5 s"
	creates  = "Creates"
	underTLS = "TLS and HTTP/2: 1,000 in flight, every 5 s"
)

var parts = []part{
	{few, "-n 1000 -for 15s -baseline -naive"},
	{many, "-n 10000 -for 15s -baseline -naive"},
	{most, "-n 50000 -interval 30s -for 20s -baseline"},
	{alone, "-n 50000 -for 12s -engine"},
	{creates, "-creates -for 4s"},
	{underTLS, "-n 1000 -for 10s -tls 2 -baseline"},
}

// limit is one figure that the service must keep.
type limit struct {
	what  string
	most  float64
	least bool // the limit is the least that will do
	of    func(found map[string]table) (float64, bool)
}

func limits() []limit {
	cell := func(part, row string) func(map[string]table) (float64, bool) {
		return func(found map[string]table) (float64, bool) { return found[part].value(row, 0) }
	}
	var list []limit
	loads := []string{few, many, most}
	for _, load := range loads {
		list = append(list, limit{"CPU a poll, Go and Redis, ÷ baseline; " + load, 1.2, false, func(f map[string]table) (float64, bool) { return f[load].cpuOver("baseline") }})
	}
	list = append(list,
		limit{"CPU a poll, Go and Redis, largest ÷ smallest of the three loads", 1.2, false, func(f map[string]table) (float64, bool) {
			return spread(f, loads, table.cpu)
		}},
		limit{"the same of the ratios to the baseline, which is not flat itself", 1.2, false, func(f map[string]table) (float64, bool) {
			return spread(f, loads, func(t table) (float64, bool) { return t.cpuOver("baseline") })
		}})
	for _, load := range loads[:2] {
		list = append(list, limit{"CPU a poll, Go and Redis, ÷ naive; " + load, 0.5, false, func(f map[string]table) (float64, bool) { return f[load].cpuOver("naive") }})
	}
	list = append(list, limit{"CPU a poll of the engine alone, Go and Redis, µs", 40, false, func(f map[string]table) (float64, bool) { return f[alone].cpu() }})
	for _, load := range loads {
		list = append(list, limit{"late p99 ÷ baseline; " + load, 1.5, false, func(f map[string]table) (float64, bool) { return f[load].ratio(rowLateP99, "baseline") }})
	}
	return append(list,
		limit{rowRSS + "; " + many, 20, false, cell(many, rowRSS)},
		limit{rowMemory + "; " + many, 2000, false, cell(many, rowMemory)},
		limit{"creates/s, 32 at once", 1000, true, func(f map[string]table) (float64, bool) { return f[creates].value(rowCreates, 2) }},
		limit{rowToldP50 + "; " + few, 5, false, cell(few, rowToldP50)},
		limit{rowToldP99 + "; " + few, 25, false, cell(few, rowToldP99)},
		limit{rowToldP50 + "; " + many, 5, false, cell(many, rowToldP50)},
		limit{rowToldP99 + "; " + many, 25, false, cell(many, rowToldP99)},
	)
}

// spread is the largest over the smallest of a figure at several loads.
func spread(found map[string]table, loads []string, of func(table) (float64, bool)) (float64, bool) {
	var values []float64
	for _, load := range loads {
		v, ok := of(found[load])
		if !ok || v == 0 {
			return 0, false
		}
		values = append(values, v)
	}
	return slices.Max(values) / slices.Min(values), true
}

// value is the table's number in that row and column; ok is false where there is none.
func (t table) value(row string, column int) (float64, bool) {
	r := t.row(row)
	if r == nil || column >= len(r.Values) || r.Values[column] == nil {
		return 0, false
	}
	return *r.Values[column], true
}

// cpu is what the service and Redis use for a poll, in microseconds.
func (t table) cpu() (float64, bool) {
	own, ok := t.value(rowSelf, 0)
	redis, too := t.value(rowRedis, 0)
	return own + redis, ok && too
}

// cpuOver is that over what another column's process uses, which has no Redis.
func (t table) cpuOver(column string) (float64, bool) {
	all, ok := t.cpu()
	own, has := t.value(rowSelf, 0)
	over, compared := t.ratio(rowSelf, column)
	if !ok || !has || !compared || own == 0 {
		return 0, false
	}
	return over * all / own, true
}

// report measures every part and writes the tables into the file.
func report(ctx context.Context, file string, progress io.Writer, measure func(context.Context, []string) (tables, error)) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	head, rest, ok := strings.Cut(string(text), reportBegin)
	_, tail, ends := strings.Cut(rest, reportEnd)
	if !ok || !ends {
		return fmt.Errorf("reading the report: %s has no lines %q and %q for the tables to stand between", file, reportBegin, reportEnd)
	}
	found := map[string]table{}
	var body bytes.Buffer
	for _, p := range parts {
		fmt.Fprintf(progress, "%s: %s\n", p.name, p.args)
		ts, err := measure(ctx, strings.Fields(p.args))
		if err != nil {
			return fmt.Errorf("measuring %q: %w", p.name, err)
		}
		if len(ts) == 0 {
			return fmt.Errorf("measuring %q: no table", p.name)
		}
		found[p.name] = ts[0]
		fmt.Fprintf(&body, "### %s\n\n`go run ./cmd/bench %s`\n\n", p.name, p.args)
		if p.name != many {
			ts = ts[:1] // what Redis holds is told once
		}
		if err := ts.print(&body, "markdown"); err != nil {
			return err
		}
		fmt.Fprintln(&body)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s%s\n\n%s\n%s%s%s", head, reportBegin, judged(found), &body, reportEnd, tail)
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// judged holds what was found against the limits.
func judged(found map[string]table) string {
	var b strings.Builder
	fmt.Fprint(&b, "### Against the limits\n\n| | limit | measured | |\n| --- | ---: | ---: | --- |\n")
	for _, l := range limits() {
		sign, verdict, measured := "≤", "not measured", "–"
		if l.least {
			sign = "≥"
		}
		if v, ok := l.of(found); ok {
			measured, verdict = fmt.Sprintf("%.2f", v), "kept"
			if v > l.most != l.least {
				verdict = "**missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s %v | %s | %s |\n", l.what, sign, l.most, measured, verdict)
	}
	return b.String()
}

// runSelf is one run in a process of its own. A run that found a rule broken still has its tables: the report says what was found.
func runSelf(ctx context.Context, args []string, progress io.Writer) (tables, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self, append(args, "-format", "json")...)
	cmd.Stdout, cmd.Stderr = &out, progress
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) }, 30*time.Second // its Redis goes with it
	failed := cmd.Run()
	var ts tables
	if err := json.Unmarshal(out.Bytes(), &ts); err != nil {
		return nil, errors.Join(failed, fmt.Errorf("reading its tables: %w", err))
	}
	return ts, ctx.Err()
}
