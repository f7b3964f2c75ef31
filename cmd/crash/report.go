package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// reportHead begins a report that does not exist yet. What is outside of sections is nobody's but the reader's.
const reportHead = `# Reliability

What was done to stepup and what came of it. Sections between markers are written by commands; a run replaces its own.
`

// writeSection replaces the section of this name in a report, or adds it at the end. All else stays.
func writeSection(file, name, text string) error {
	old, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte(reportHead), nil
	}
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	if err := os.WriteFile(file, withSection(old, name, text), 0o644); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

func withSection(old []byte, name, text string) []byte {
	begin, end := []byte("<!-- made by cmd/crash: "+name+" -->\n"), []byte("<!-- end of "+name+" -->\n")
	section := slices.Concat(begin, []byte(strings.TrimSpace(text)+"\n"), end)
	before, rest, ok := bytes.Cut(old, begin)
	if ok {
		if _, after, ok := bytes.Cut(rest, end); ok {
			return slices.Concat(before, section, after)
		}
	}
	return slices.Concat(bytes.TrimRight(old, "\n"), []byte("\n\n"), section)
}

// origin says where a section's figures come from.
type origin struct {
	version string // of the tree
	command string
	took    time.Duration
}

func (o origin) String() string {
	return fmt.Sprintf("`%s`, version %s, %v.", o.command, o.version, o.took.Round(time.Second))
}

// matrixSection is the matrix as a table: rows places, columns faults, in each field how many outcomes were without fault.
func matrixSection(results []verdict, o origin) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Crash matrix\n\n%s\n\n", o)
	fmt.Fprintf(&b, "%s\n\n", strings.TrimSpace(matrixText))
	b.WriteString("| place |")
	for _, f := range faults {
		fmt.Fprintf(&b, " %s |", f)
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(faults)) + "|\n")
	for _, r := range rows() {
		fmt.Fprintf(&b, "| `%s` |", r)
		for _, f := range faults {
			fmt.Fprintf(&b, " %s |", field(results, r, f))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n" + totals(results) + "\n")
	b.WriteString(findings(results))
	b.WriteString(limits())
	return b.String()
}

const matrixText = `
Every cell is one step-up, with a Redis (` + "`appendfsync always`" + `), a provider, a receiver and two processes of its own. One process is stopped at the place, the
fault is done, and the provider's ledger, the receiver's ledger, the API, and all that Redis and the processes wrote are held against the six
promises. A field counts the outcomes without violation: approved after a pending answer, denied, expired, two 500s and then approved. "last" is the
pass that brings the final answer. A cell counts only if its place was passed and the fault was done there.

* kill -9 one: the process that stands at the place; the other goes on
* kill -9 all: both processes, which are then started again
* kill -9 Redis: and started again on its files 1.5 s later, while the process goes on
* SIGTERM: the process must drain and exit with 0; it is then started again
* SIGSTOP: the process is frozen for 6 s, its lease lasts 4 s; ` + "`hold`" + ` is 2 s
`

// field is the row's share of one fault.
func field(results []verdict, r row, f fault) string {
	good, reachable, missed := 0, 0, 0
	for _, o := range outcomes {
		if _, no := (cell{r, o, f}).unreachable(); no {
			continue
		}
		reachable++
		i := slices.IndexFunc(results, func(v verdict) bool { return v.row == r && v.outcome == o && v.fault == f })
		switch {
		case i < 0:
			missed++
		case results[i].ok():
			good++
		}
	}
	switch {
	case reachable == 0 || missed == reachable:
		return "–"
	case missed > 0:
		return fmt.Sprintf("%d/%d, %d not run", good, reachable-missed, missed)
	case reachable < len(outcomes):
		return fmt.Sprintf("%d/%d, – %d", good, reachable, len(outcomes)-reachable)
	}
	return fmt.Sprintf("%d/%d", good, reachable)
}

// totals is the matrix in a line.
func totals(results []verdict) string {
	good, bad, unreached, failed, lost := 0, 0, 0, 0, 0
	for _, v := range results {
		switch {
		case v.err != nil:
			failed++
		case !v.reached:
			unreached++
		case len(v.violations) > 0:
			bad++
		default:
			good++
			if v.ended.status == "unknown" {
				lost++
			}
		}
	}
	return fmt.Sprintf("%d cells: %d without violation (%d of them ended as `unknown`, where an answer can be lost), %d with violations, %d whose place was not passed, %d that could not be judged.\n",
		len(results), good, lost, bad, unreached, failed)
}

// findings lists what was not as it should be.
func findings(results []verdict) string {
	var lines []string
	for _, v := range results {
		switch {
		case v.err != nil:
			lines = append(lines, fmt.Sprintf("* %s: not judged: %v", v.cell, v.err))
		case !v.reached:
			lines = append(lines, fmt.Sprintf("* %s: the place was not passed", v.cell))
		}
		for _, b := range v.violations {
			lines = append(lines, fmt.Sprintf("* %s: %s", v.cell, b))
		}
	}
	if len(lines) == 0 {
		return "\nViolations: none.\n"
	}
	slices.Sort(lines)
	return "\nViolations:\n\n" + strings.Join(lines, "\n") + "\n"
}

// limits tells where less is promised.
func limits() string {
	var b strings.Builder
	b.WriteString("\nWhere an answer can be lost, `unknown` is the right end; everywhere else the step-up must end as if nothing had been:\n\n| places | faults | outcomes | reason | why |\n|---|---|---|---|---|\n")
	for _, l := range losses {
		fmt.Fprintf(&b, "| %s | %s | %s | `%s` | %s |\n", strings.Join(l.at, "; "), joined(l.faults, "any"), joined(l.outcomes, "any"), l.reason, l.why)
	}
	fmt.Fprintf(&b, "\nPolls may come early in `%s` × %s × %s alone: %s.\n", hurries.at, joined(hurries.faults, ""), joined(hurries.outcomes, ""), hurries.why)
	b.WriteString("\nNot on the way, by design (–):\n\n")
	for _, u := range unreachable {
		fmt.Fprintf(&b, "* `%s` with %s: %s\n", u.point, joined(u.outcomes, "any outcome"), u.why)
	}
	return b.String()
}

func joined[T ~string](list []T, none string) string {
	if len(list) == 0 {
		return none
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}
