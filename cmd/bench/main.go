// Command bench measures what one polling process of stepup costs. It keeps a number of step-ups in flight against the simulated
// provider, which runs in a process of its own, and prints one table: the costs of a poll in this process and in Redis, how late
// polls were, how long an approval takes to become a webhook, and what a step-up in flight weighs. With -baseline the same
// provider is then polled by the least code that could do it, one goroutine a step-up and no storage, and the table has the ratio.
//
// What is measured is wired as `stepup serve` wires it. Everything is on loopback and ends by itself.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage: go run ./cmd/bench [flags]

Keeps step-ups in flight against a simulated provider and prints what polling them costs. A run has these parts:

  idle      the service with nothing to do: its cost is taken off what follows
  ramp-up   creates -n step-ups, spread over one interval where they come fast enough
  warm-up   until each has been polled
  steady    -for: polls, CPU, lateness, Redis commands. Nobody approves
  approvals some step-ups more, 5 % of -n, that are approved while the others go on: approval to webhook
  drain     the service stops and lets go of everything
  baseline  with -baseline: ramp-up, warm-up and steady once more with a goroutine a step-up, the same client and no storage

Lateness is taken at the provider, the same way for both: arrival - (previous answer + interval), in that process's clock.
An approval counts from the moment the provider answers with tokens. CPU is user + system time. Commands that Redis runs
inside scripts are mostly asynq's heartbeat: every 5 s it writes a line for each task it runs. Numbers of a busy machine are
noisy: compare the columns of one run, not two runs, and look at how busy the machine was with other programs.

Exit code: 0; 1 when polls overlapped or came early, a webhook did not come, or the run failed; 2 for wrong flags.

Examples:
  go run ./cmd/bench -n 10000 -interval 5s -for 60s -baseline
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
	cpuprofile string
	memprofile string
}

func main() {
	if os.Getenv(simulatorEnv) != "" {
		os.Exit(simulate(os.Stdin, os.Stdout, os.Stderr))
	}
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
	ctx, cancel := context.WithTimeout(ctx, s.bound())
	defer cancel()
	if err := run(ctx, s, out, progress); err != nil {
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
	if s.baseline {
		phases = 2
	}
	return phases*(s.steady+4*s.interval+time.Duration(s.n)*10*time.Millisecond) + 3*time.Minute
}

// run is one run of the benchmark.
func run(ctx context.Context, s settings, out, progress io.Writer) error {
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
	b := &bench{settings: s, store: store, target: t, say: say}
	service, err := b.service(ctx)
	if err != nil {
		return err
	}
	columns := []*column{service}
	if s.baseline {
		plain, err := b.plain(ctx)
		if err != nil {
			return err
		}
		columns = append(columns, plain)
	}
	if err := printTable(out, s, columns); err != nil {
		return fmt.Errorf("printing the table: %w", err)
	}
	return b.verdict(columns)
}
