package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"time"

	"stepup/ciba/cibatest"
)

const (
	restarts   = 50
	rollingGap = 100 * time.Millisecond // between two creates
	longest    = 60                     // seconds until a person approves, at most
)

// refusals that a caller may meet while a process drains: nothing was sent, another process takes the request.
var refusals = []string{"draining", "no answer"}

// load creates step-ups until it is told to stop; people approve 1 to 60 s later.
type load struct {
	mu   sync.Mutex
	list []asked
	errs []error
}

func (l *load) run(ctx context.Context, s *site, stop <-chan struct{}) {
	var creates sync.WaitGroup
	defer creates.Wait()
	tick := time.NewTicker(rollingGap)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		creates.Go(func() {
			hint := cibatest.HintFor(approvesAfter, uint16(1+rand.IntN(longest)), uint64(i))
			told, err := s.bank.ask(ctx, i, question{key: "key-" + hint, hint: hint, reference: "rolling"})
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				l.errs = append(l.errs, err)
				return
			}
			l.list = append(l.list, asked{hint, told})
		})
	}
}

// rollingPart restarts the processes in turns, by SIGTERM, under load.
func rollingPart(ctx context.Context, k *kit, _ settings, progress io.Writer) (func(origin) string, bool, error) {
	s, err := openStorm(ctx, k, "rolling", holding, holdSetting)
	if err != nil {
		return nil, false, err
	}
	defer s.close()
	var l load
	var loading sync.WaitGroup
	stop := make(chan struct{})
	loading.Go(func() { l.run(ctx, s, stop) })
	pause(ctx, longest/2*time.Second) // until as many end as begin
	drains, err := s.roll(ctx, progress)
	close(stop)
	loading.Wait()
	if err != nil {
		return nil, false, err
	}
	if err := s.settle(ctx, l.list, (longest+pollEvery)*time.Second+holding+20*time.Second); err != nil {
		return nil, false, err
	}
	found, err := s.judgeAll(ctx, l.list, s.crew[0])
	if err != nil {
		return nil, false, err
	}
	figures, more := l.figures(s, drains)
	found = append(found, more...)
	text := fmt.Sprintf("Two processes, SIGTERM to one and then the other, %d times, each started again. Ten creates a second; people approve 1 to %d s later; the provider holds each poll for %v. The pause counts from the answer to the last poll of the process that drained to the next poll, by another.",
		restarts, longest, holding)
	return func(o origin) string { return stormSection(o, "Rolling restarts under load", text, figures, found) }, len(found) == 0, nil
}

// roll does the restarts and returns how long the drains took.
func (s *site) roll(ctx context.Context, progress io.Writer) (drains spread, err error) {
	for n := range restarts {
		p := s.crew[n%len(s.crew)]
		began := time.Now()
		p.signal(syscall.SIGTERM)
		if err := p.drained(ctx); err != nil {
			return nil, err
		}
		drains = append(drains, time.Since(began))
		fmt.Fprintf(progress, "rolling: restart %d/%d, drained in %.1f s\n", n+1, restarts, time.Since(began).Seconds())
		if err := s.startAll(ctx, p); err != nil {
			return nil, err
		}
	}
	return drains, nil
}

// figures are the rolling restarts in numbers, and what of them should not be.
func (l *load) figures(s *site, drains spread) (list []figure, found []violation) {
	no := func(promise int, bad bool, format string, args ...any) {
		if bad {
			found = append(found, violation{promise, fmt.Sprintf(format, args...)})
		}
	}
	refused := map[string]int{}
	for _, a := range l.list {
		for code, n := range a.told.tries {
			refused[code] += n
			no(5, !slices.Contains(refusals, code), "%s: a create was refused with %s", a.told.id, code)
		}
	}
	for _, err := range l.errs {
		no(5, true, "%v", err)
	}
	notZero := s.crew[0].notZero + s.crew[1].notZero
	no(0, notZero > 0, "%d processes did not exit with 0", notZero)
	ledger := s.op.Ledger()
	lost := ledger.Tokens - approvals(s)
	no(3, lost > 0, "%d approvals were lost", lost)
	pauses := handOvers(s.op.sent(), ledger.Requests)
	aim := pollEvery*time.Second + pickup
	no(2, pauses.max() > aim, "a pause of %v between polls, want at most %v", pauses.max(), aim)
	return []figure{
		{"restarts, exit codes that were not 0", fmt.Sprintf("%d, %d", restarts, notZero)},
		{"a drain took p50 / p99 / max", drains},
		{"step-ups, at most in flight at once", fmt.Sprintf("%d, %d", len(l.list), peak(ledger.Requests))},
		{"tokens handed out, approved with a webhook, lost", fmt.Sprintf("%d, %d, %d", ledger.Tokens, approvals(s), lost)},
		{"polls, overlapping, early", fmt.Sprintf("%d, %d, %d", ledger.Polls, ledger.Overlaps, ledger.Early)},
		{"changes of hands; pause of polls p50 / p99 / max", fmt.Sprintf("%d; %v", len(pauses), pauses)},
		{"creates that met a draining process, or none", fmt.Sprintf("%d, %d", refused["draining"], refused["no answer"])},
	}, found
}

// peak is how many were waiting for their answer at once.
func peak(requests []cibatest.Request) (most int) {
	type change struct {
		at time.Time
		by int
	}
	var list []change
	for _, r := range requests {
		if len(r.Tokens) > 0 {
			list = append(list, change{r.Pushed, 1}, change{r.Tokens[0], -1})
		}
	}
	slices.SortFunc(list, func(a, b change) int { return a.at.Compare(b.at) })
	now := 0
	for _, c := range list {
		now += c.by
		most = max(most, now)
	}
	return most
}

// handOvers is how long polls paused where another process went on.
func handOvers(sent map[string][]send, requests []cibatest.Request) (pauses spread) {
	for _, r := range requests {
		who := sent[r.AuthReqID]
		for i := 1; i < min(len(who), len(r.Polls)); i++ {
			if who[i].kid != who[i-1].kid {
				pauses = append(pauses, r.Polls[i].Arrived.Sub(r.Polls[i-1].Answered))
			}
		}
	}
	return pauses
}
