// Command bench measures what one polling process of stepup costs. It keeps a number of step-ups in flight against the simulated
// provider, which runs in a process of its own, and prints one table: the costs of a poll in this process and in Redis, how late
// polls were, how long an approval takes to become a webhook, and what a step-up in flight weighs. With -baseline the same
// provider is then polled by the least code that could do it, one goroutine a step-up and no storage, and with -naive by what a first
// reader of the libraries' pages would write; the table has the ratios. With -creates the creates are measured instead of the polls, with
// -callers and -slow the program's HTTP edge, with -records a caller's long list, with -webhooks and -endpoints its deliveries, with
// -telemetry what traces and metrics cost, and -report runs the whole set and writes deploy/PERFORMANCE.md.
//
// What is measured is wired as `stepup serve` wires it, or is that program. Everything is on loopback and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

const usage = `usage: go run ./cmd/bench [flags]

Keeps step-ups in flight against a simulated provider and prints what polling them costs. A run has these parts:

  idle      the service with nothing to do: its cost is taken off what follows
  ramp-up   creates -n step-ups, evenly over one interval, or as many as 1,000 creates a second need
  warm-up   until each has been polled
  steady    -for: polls, CPU, lateness, Redis commands. Nobody approves
  approvals some step-ups more, 5 % of -n, that are approved while the others go on: approval to webhook
  drain     the service stops and lets go of everything
  baseline  with -baseline: ramp-up, warm-up and steady once more with a goroutine a step-up, the same client and no storage
  naive     with -naive: the same with jwx, url.Values, net/http and encoding/json used as their first pages show

With -creates a run is: creates with 1, 8, 32 and 128 callers side by side, each -for; nothing is polled meanwhile.

-callers, -slow, -webhooks, -endpoints and -telemetry build the program and run it in a process of its own, between a load generator with a webhook
receiver (this process), the simulated provider and Redis. For the first two /bc-auth takes 50 ms. Requests are due at moments that were
fixed before, and a time counts from that moment: who waits behind a slow answer has waited. What the provider itself took, by its own
clock, is taken off.

  -callers  500 creates a second for -for beside 200 long-polling readers, over plain HTTP/1.1 and over TLS with HTTP/2; people approve, readers
            and webhooks are told
  -slow     100 creates and 100 gets a second beside 500 connections that send a byte of a header or of a body each second or never read;
            each kind for -for, with as long a time without them before
  -records  -n step-ups of one caller: creates before and after, and pages of its list, each -for; the core without HTTP in front

  -webhooks   -n step-ups approved all at once, then 200 a second for -for: without a webhook, with one signed by v1, by v1 and v1a, and
              encrypted; each beside a sender that keeps nothing, in a process of its own, to the same receiver
  -endpoints  50 callers with a webhook each, without and with three that misbehave, in turns, -for each after half as long to warm up
  -telemetry  two services side by side with -n step-ups in flight each, without traces and metrics and with all of them, -for

Lateness is taken at the provider, the same way for both: arrival - (previous answer + interval), in that process's clock.
An approval counts from the moment the provider answers with tokens. CPU is user + system time. Commands that Redis runs
inside scripts are mostly asynq's heartbeat, every 5 s. Numbers of a busy machine are
noisy: compare the columns of one run, not two runs, and look at how busy the machine was with other programs. In every column a poll's
CPU is all that the process used: garbage collection, timers, scheduling and system calls are in it.

Exit code: 0; 1 when polls overlapped or came early, a webhook did not come, a caller got an error, or the run failed; 2 for wrong flags.

Examples:
  go run ./cmd/bench -n 10000 -interval 5s -for 60s -baseline -naive
  go run ./cmd/bench -creates -for 5s
  go run ./cmd/bench -n 1000 -tls 2 -baseline
  go run ./cmd/bench -callers -for 20s
  go run ./cmd/bench -slow -for 12s
  go run ./cmd/bench -records -n 100000 -for 3s
  go run ./cmd/bench -webhooks -n 10000 -for 15s
  go run ./cmd/bench -endpoints -for 15s
  go run ./cmd/bench -telemetry -n 2500 -for 30s
  go run ./cmd/bench -report deploy/PERFORMANCE.md
  go run ./cmd/bench -report deploy/PERFORMANCE.md -section callers
  go run ./cmd/bench -n 50000 -engine -cpuprofile cpu.pprof
  go run ./cmd/bench -redis redis://127.0.0.1:6379/5

Flags:
`

// settings of a run.
type settings struct {
	n          int
	interval   time.Duration
	steady     time.Duration
	redis      string // URL; empty: a redis-server of our own
	engine     bool
	baseline   bool
	naive      bool
	creates    bool
	callers    bool
	slow       bool
	records    bool
	webhooks   bool
	endpoints  bool
	telemetry  bool
	program    string        // that serves; empty: built from the source
	bcAuth     time.Duration // how long the simulated provider takes at least for it
	tls        string        // HTTP version under TLS; empty: no TLS
	format     string
	report     string
	section    string // of the report; empty: all
	cpuprofile string
	memprofile string
}

func main() {
	if part := child(); part != nil {
		os.Exit(part(os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// child is what this program does where it is another process of a run; nil where it is the run itself.
func child() func(in io.Reader, out, errs io.Writer) int {
	switch {
	case os.Getenv(simulatorEnv) != "":
		return simulate
	case os.Getenv(senderEnv) != "":
		return sendPlainly
	}
	return nil
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
	if s.report != "" {
		err = report(ctx, s.report, s.section, progress, func(ctx context.Context, args []string) (tables, error) { return runSelf(ctx, args, progress) })
	} else {
		err = run(ctx, s, out, progress)
	}
	if err != nil {
		fmt.Fprintln(progress, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string, errs io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	f.IntVar(&s.n, "n", 1000, "step-ups in flight, 1 to 200000")
	f.DurationVar(&s.interval, "interval", 5*time.Second, "between two polls of a step-up: 1s to 60s in whole seconds, with -engine from 10ms")
	f.DurationVar(&s.steady, "for", 30*time.Second, "how long to measure, 1s to 20m; at least two intervals say something")
	f.StringVar(&s.redis, "redis", "", "redis:// or rediss:// or unix:// URL of an empty database, emptied again at the end; other users of the same server are counted\n(default: a redis-server of its own without persistence)")
	f.BoolVar(&s.baseline, "baseline", false, "measure also the least code that could poll, and print the ratio")
	f.BoolVar(&s.naive, "naive", false, "measure also what a first reader of the libraries' pages would write, and print the ratio")
	f.BoolVar(&s.creates, "creates", false, "measure creates instead of polls")
	f.BoolVar(&s.callers, "callers", false, "measure the HTTP edge under many creates and long polls")
	f.BoolVar(&s.slow, "slow", false, "measure what slow connections cost the others")
	f.BoolVar(&s.records, "records", false, "measure creates and lists of a caller that has -n step-ups")
	f.BoolVar(&s.webhooks, "webhooks", false, "measure deliveries, beside a plain sender")
	f.BoolVar(&s.endpoints, "endpoints", false, "measure what bad endpoints cost the others")
	f.BoolVar(&s.telemetry, "telemetry", false, "measure what traces and metrics cost a poll")
	f.StringVar(&s.program, "program", "", "the `file` of the stepup program, where it has a process of its own (default: built from the source)")
	f.StringVar(&s.tls, "tls", "", "speak with the simulated provider by TLS and this version of HTTP: 1.1 or 2 (default: HTTP/1.1 without TLS)")
	f.StringVar(&s.format, "format", "text", "of the tables: text, markdown or json")
	f.StringVar(&s.report, "report", "", "run the set of measurements, about twenty minutes, and write its tables between the markers in this `file`")
	f.StringVar(&s.section, "section", "", "with -report: measure and write this section alone: polls, callers, webhooks or telemetry")
	f.BoolVar(&s.engine, "engine", false, "answer polls in this process, without HTTP, signatures and JSON: the cost of the engine alone")
	f.StringVar(&s.cpuprofile, "cpuprofile", "", "write a CPU profile of the service's steady part to this `file`")
	f.StringVar(&s.memprofile, "memprofile", "", "write a profile of the service's heap with everything in flight to this `file`")
	f.Usage = func() {
		fmt.Fprint(errs, usage)
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if err := s.check(f.Args()); err != nil {
		fmt.Fprintln(errs, "bench:", err)
		return s, err
	}
	return s, nil
}

func (s settings) check(rest []string) error {
	var errs []error
	no := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	no(len(rest) > 0, "there are only flags; -h shows them")
	no(s.engine && (s.naive || s.tls != ""), "-naive and -tls have no meaning with -engine")
	modes := 0
	for _, mode := range []bool{s.creates, s.callers, s.slow, s.records, s.webhooks, s.endpoints, s.telemetry} {
		if mode {
			modes++
		}
	}
	no(modes > 1, "-creates, -callers, -slow, -records, -webhooks, -endpoints and -telemetry are runs of their own")
	no(modes > 0 && (s.baseline || s.naive), "-baseline and -naive compare polls, nothing else")
	apart := s.callers || s.slow || s.webhooks || s.endpoints || s.telemetry
	no(apart && s.engine, "-callers, -slow, -webhooks, -endpoints and -telemetry need a provider to speak with")
	no(apart && s.cpuprofile+s.memprofile != "", "the service has a process of its own with -callers, -slow, -webhooks, -endpoints and -telemetry, which is not profiled")
	no(s.section != "" && !slices.ContainsFunc(sections, func(c section) bool { return c.name == s.section }), "-section must be polls, callers, webhooks or telemetry")
	no(s.tls != "" && s.tls != "1.1" && s.tls != "2", "-tls must be 1.1 or 2")
	no(s.format != "text" && s.format != "markdown" && s.format != "json", "-format must be text, markdown or json")
	no(s.n < 1 || s.n > 200_000, "-n must be 1 to 200000")
	// The protocol's interval is a number of whole seconds (CIBA Core 1.0 §7.3).
	no(!s.engine && (s.interval < time.Second || s.interval%time.Second != 0), "-interval must be whole seconds, at least 1s, unless -engine is given")
	no(s.interval < 10*time.Millisecond || s.interval > time.Minute, "-interval must be 10ms to 60s")
	no(s.steady < time.Second || s.steady > 20*time.Minute, "-for must be 1s to 20m")
	return errors.Join(errs...)
}

// bound ends a run that does not get on: a create takes well under 20 ms, and the life of a request is an hour (expiresIn).
func (s settings) bound() time.Duration {
	phases := time.Duration(1)
	for _, more := range []bool{s.baseline, s.naive} {
		if more {
			phases++
		}
	}
	switch {
	case s.creates:
		phases = time.Duration(len(callers))
	case s.callers:
		phases = 2
	case s.slow:
		phases = 2 * time.Duration(len(slowKinds))
	case s.webhooks:
		phases = 3 * time.Duration(len(sendings()))
	case s.endpoints:
		phases = 4 * time.Duration(s.turns())
	case s.telemetry:
		phases = 3
	case s.records:
		phases = 6
		return phases*s.steady + time.Duration(s.n)*2*time.Millisecond + 3*time.Minute
	}
	return phases*(s.steady+4*s.interval+time.Duration(s.n)*10*time.Millisecond) + 3*time.Minute
}

// run is one run of the benchmark.
func run(ctx context.Context, s settings, out, progress io.Writer) error {
	switch {
	case s.creates:
		s.interval = time.Minute // so that nothing is polled meanwhile
	case s.callers, s.slow:
		s.bcAuth = heldFor
	case s.records:
		s.engine = true
	}
	ctx, cancel := context.WithTimeout(ctx, s.bound())
	defer cancel()
	store, err := openRedis(ctx, s.redis)
	if err != nil {
		return err
	}
	defer store.close()
	t, err := openTarget(ctx, s, progress)
	if err != nil {
		return err
	}
	defer t.close()

	say := func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }
	b := &bench{settings: s, store: store, target: t, say: say, errs: progress}
	for _, mode := range []struct {
		wanted bool
		tables func(context.Context) (tables, error)
	}{{s.creates, b.createTables}, {s.callers, b.callersTables}, {s.slow, b.slowTables}, {s.records, b.recordTables}, {s.webhooks, b.webhookTables}, {s.endpoints, b.endpointTables}, {s.telemetry, b.telemetryTables}} {
		if mode.wanted {
			tables, err := mode.tables(ctx)
			return errors.Join(err, tables.print(out, s.format))
		}
	}
	columns, err := b.columns(ctx)
	if err != nil {
		return err
	}
	if err := b.tables(columns).print(out, s.format); err != nil {
		return fmt.Errorf("printing the tables: %w", err)
	}
	return b.verdict(columns)
}

// columns measures the service and what it is compared with, one after the other.
func (b *bench) columns(ctx context.Context) ([]*column, error) {
	service, err := b.service(ctx)
	if err != nil {
		return nil, err
	}
	columns := []*column{service}
	var loops []loop
	if b.baseline {
		loops = append(loops, b.baselineLoop())
	}
	if b.naive {
		l, err := b.naiveLoop()
		if err != nil {
			return nil, err
		}
		loops = append(loops, l)
	}
	for _, l := range loops {
		c, err := b.measureLoop(ctx, l)
		if err != nil {
			return nil, err
		}
		columns = append(columns, c)
	}
	return columns, nil
}
