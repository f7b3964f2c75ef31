// Command crash proves the promises of stepup on real processes. Each cell of its matrix has a redis-server, a simulated
// provider, a webhook receiver and two processes of the service of its own. A process is stopped at a named place on a
// step-up's way, a fault is done to it, and what everybody then saw is held against the promises.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: go run ./cmd/crash [flags]

Builds stepup with its failpoints and does its worst to it, part by part; all of them unless -parts names some:

  matrix      places on a step-up's way × what the provider answers × faults, eight cells at a time
  deliveries  kill -9 in the middle of a webhook: before it is answered, as it is, and before the answer is stored
  takeover    kill -9 with 1000 step-ups in flight: how long until the other process polls them
  frozen      the same with SIGSTOP past the lease, while the provider holds answers
  rolling     50 restarts by SIGTERM under load, while the provider holds answers: ten minutes
  failover    the masters of Sentinel and Cluster die under load, with and without wait_replicas: fifteen minutes

Everything is on loopback, in a temporary folder, and ends by itself. The folders of cells with violations are kept and
named. Needs Go and redis-server.

Exit code: 0; 1 when a promise was broken or something could not be judged; 2 for wrong flags.

Examples:
  go run ./cmd/crash -report deploy/RELIABILITY.md
  go run ./cmd/crash -quick
  go run ./cmd/crash -only 'final.* / approve / kill'
  go run ./cmd/crash -parts deliveries -deliveries 50

Flags:
`

// settings of a run.
type settings struct {
	quick      bool
	parts      []string
	only       *regexp.Regexp
	atOnce     int
	deliveries int
	program    string
	report     string
	command    string
}

// part is one section of the report. It returns the section and whether all promises were kept.
type part struct {
	name string
	run  func(context.Context, *kit, settings, io.Writer) (section func(origin) string, kept bool, err error)
}

var parts = []part{
	{"matrix", matrixPart},
	{"deliveries", deliveriesPart},
	{"takeover", takeoverPart},
	{"frozen", frozenPart},
	{"rolling", rollingPart},
	{"failover", failoverPart},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main with its surroundings given.
func command(ctx context.Context, args []string, out, progress io.Writer) int {
	s, err := parse(args, progress)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if err := run(ctx, s, out, progress); err != nil {
		fmt.Fprintln(progress, "crash:", err)
		return 1
	}
	return 0
}

func parse(args []string, errs io.Writer) (settings, error) {
	s := settings{command: strings.Join(append([]string{"go run ./cmd/crash"}, args...), " ")}
	var names, pattern string
	f := flag.NewFlagSet("crash", flag.ContinueOnError)
	f.SetOutput(errs)
	f.BoolVar(&s.quick, "quick", false, "one cell of each row of the matrix and a few deliveries, and no other part: at most two minutes")
	f.StringVar(&names, "parts", "", "only these parts, separated by commas")
	f.StringVar(&pattern, "only", "", "only cells of the matrix and failovers whose name matches this `pattern`")
	f.IntVar(&s.atOnce, "at-once", 8, "cells of the matrix, and deliveries, at a time, 1 to 64")
	f.IntVar(&s.deliveries, "deliveries", 50, "how many deliveries are killed, 1 to 1000; with -quick at most six")
	f.StringVar(&s.program, "program", "", "a stepup built with -tags failpoints (default: builds one)")
	f.StringVar(&s.report, "report", "", "write the sections into this `file` (default: only print them)")
	f.Usage = func() {
		fmt.Fprint(errs, usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	err := s.check(names, pattern, f.Args())
	if err != nil {
		fmt.Fprintln(errs, "crash:", err)
	}
	return s, err
}

func (s *settings) check(names, pattern string, rest []string) error {
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, errors.New("there are only flags; -h shows them"))
	}
	if s.atOnce < 1 || s.atOnce > 64 {
		errs = append(errs, errors.New("-at-once must be 1 to 64"))
	}
	if s.deliveries < 1 || s.deliveries > 1000 {
		errs = append(errs, errors.New("-deliveries must be 1 to 1000"))
	}
	var err error
	if s.only, err = regexp.Compile(pattern); err != nil {
		errs = append(errs, fmt.Errorf("-only: %w", err))
	}
	for _, p := range parts {
		s.parts = append(s.parts, p.name)
	}
	if s.quick {
		s.parts = []string{"matrix", "deliveries"}
		s.deliveries = min(s.deliveries, 6)
	}
	if names != "" {
		s.parts = strings.Split(names, ",")
	}
	for _, name := range s.parts {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			errs = append(errs, fmt.Errorf("-parts: there is no part %q", name))
		}
	}
	return errors.Join(errs...)
}

// run runs the parts one after the other. What a broken promise left behind stays in the folder.
func run(ctx context.Context, s settings, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "stepup-crash-")
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "everything is in", dir)
	k, err := newKit(ctx, dir, s.program)
	if err != nil {
		return err
	}
	broken := false
	for _, p := range parts {
		if !slices.Contains(s.parts, p.name) {
			continue
		}
		began := time.Now()
		section, kept, err := p.run(ctx, k, s, progress)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		broken = broken || !kept
		text := section(origin{version: version(ctx), command: s.command, took: time.Since(began)})
		fmt.Fprintf(out, "\n%s\n", text)
		if s.report != "" {
			if err := writeSection(s.report, p.name, text); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if broken {
		return fmt.Errorf("promises were broken; logs are in %s", dir)
	}
	return os.RemoveAll(dir)
}

// version is the commit of the tree, with a plus when files differ from it.
func version(ctx context.Context) string {
	commit, err := output(ctx, "git", "rev-parse", "--short", "HEAD")
	if err != nil {
		return "unknown"
	}
	if changed, err := output(ctx, "git", "status", "--porcelain", "--", "*.go", "*.lua"); err != nil || changed != "" {
		return strings.TrimSpace(commit) + "+"
	}
	return strings.TrimSpace(commit)
}
