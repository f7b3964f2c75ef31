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

// section is a part of the report: its tables stand between two lines of the file, and the words around them are people's.
type section struct {
	name       string
	begin, end string
	parts      []part
	limits     func() []limit
}

var sections = []section{
	{"polls", "<!-- measured: begin -->", "<!-- measured: end -->", parts, limits},
	{"callers", "<!-- measured, callers: begin -->", "<!-- measured, callers: end -->", callerParts, callerLimits},
	{"webhooks", "<!-- measured, webhooks: begin -->", "<!-- measured, webhooks: end -->", hookParts, hookLimits},
	{"telemetry", "<!-- measured, telemetry: begin -->", "<!-- measured, telemetry: end -->", telemetryParts, telemetryLimits},
}

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

// atService is the number in the first column of a part's row.
func atService(part, row string) func(map[string]table) (float64, bool) {
	return func(found map[string]table) (float64, bool) { return found[part].value(row, 0) }
}

func limits() []limit {
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
		limit{rowRSS + "; " + many, 20, false, atService(many, rowRSS)},
		limit{rowMemory + "; " + many, 2000, false, atService(many, rowMemory)},
		limit{"creates/s, 32 at once", 1000, true, func(f map[string]table) (float64, bool) { return f[creates].value(rowCreates, 2) }},
		limit{rowToldP50 + "; " + few, 5, false, atService(few, rowToldP50)},
		limit{rowToldP99 + "; " + few, 25, false, atService(few, rowToldP99)},
		limit{rowToldP50 + "; " + many, 5, false, atService(many, rowToldP50)},
		limit{rowToldP99 + "; " + many, 25, false, atService(many, rowToldP99)},
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

// report measures every part of the section, or of all, and writes the tables into the file.
func report(ctx context.Context, file, only string, progress io.Writer, measure func(context.Context, []string) (tables, error)) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	text := string(raw)
	var wanted []section
	for _, s := range sections {
		if only != "" && s.name != only {
			continue
		}
		if _, _, _, ok := s.in(text); !ok {
			return fmt.Errorf("reading the report: %s has no lines %q and %q for the tables to stand between", file, s.begin, s.end)
		}
		wanted = append(wanted, s)
	}
	for _, s := range wanted {
		body, err := s.measured(ctx, progress, measure)
		if err != nil {
			return err
		}
		head, _, tail, _ := s.in(text)
		text = head + s.begin + "\n\n" + body + s.end + tail
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// in finds the section's place.
func (s section) in(text string) (head, body, tail string, ok bool) {
	head, rest, begins := strings.Cut(text, s.begin)
	body, tail, ends := strings.Cut(rest, s.end)
	return head, body, tail, begins && ends
}

// measured is what stands between the section's lines.
func (s section) measured(ctx context.Context, progress io.Writer, measure func(context.Context, []string) (tables, error)) (string, error) {
	found := map[string]table{}
	var body bytes.Buffer
	for _, p := range s.parts {
		fmt.Fprintf(progress, "%s: %s\n", p.name, p.args)
		ts, err := measure(ctx, strings.Fields(p.args))
		if err != nil {
			return "", fmt.Errorf("measuring %q: %w", p.name, err)
		}
		if len(ts) == 0 {
			return "", fmt.Errorf("measuring %q: no table", p.name)
		}
		found[p.name] = ts[0]
		fmt.Fprintf(&body, "### %s\n\n`go run ./cmd/bench %s`\n\n", p.name, p.args)
		if p.name != many {
			ts = ts[:1] // what Redis holds is told once
		}
		if err := ts.print(&body, "markdown"); err != nil {
			return "", err
		}
		fmt.Fprintln(&body)
	}
	return judged(s.limits(), found) + "\n" + body.String(), nil
}

// judged holds what was found against the limits.
func judged(limits []limit, found map[string]table) string {
	var b strings.Builder
	fmt.Fprint(&b, "### Against the limits\n\n| | limit | measured | |\n| --- | ---: | ---: | --- |\n")
	for _, l := range limits {
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
