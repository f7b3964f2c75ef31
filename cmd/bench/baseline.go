package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/worker"
)

// plain measures the least code that could poll: a goroutine a step-up, a timer, the same client, and nothing that would
// survive this process.
func (b *bench) plain(ctx context.Context) (*column, error) {
	debug.FreeOSMemory() // what the service left
	mark, c := *b, &column{name: "baseline"}
	live, cancel := context.WithCancel(ctx)
	var polling sync.WaitGroup
	stop := func() { cancel(); polling.Wait() }
	defer stop()

	b.say("baseline, ramp-up: %d step-ups", b.n)
	_, err := b.ramp(ctx, b.n, func(i int) error {
		q := worker.Question{Scope: "openid", LoginHint: cibatest.HintFor(nobodyAnswers, 0, plainSerial+uint64(i))}
		asked, err := b.target.Ask(ctx, q)
		if err != nil {
			return fmt.Errorf("asking the provider: %w", err)
		}
		asked.Question, asked.Created = q, time.Now()
		polling.Go(func() { follow(live, b.target, asked, b.interval) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.say("baseline, warm-up")
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	b.say("baseline, steady: %v", b.settings.steady)
	if err := b.steady(ctx, c, spent{}); err != nil {
		return nil, fmt.Errorf("measuring the baseline: %w", err)
	}
	stop()
	// A poll that was cut off by stop may be on record as one that nobody waited for: after the steady part, and not judged.
	c.close(b, mark)
	return c, nil
}

// follow polls until ctx ends.
func follow(ctx context.Context, p worker.Provider, a worker.Asked, interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if _, err := p.Answer(ctx, a); ctx.Err() == nil {
			if _, ok := errors.AsType[*ciba.Pending](err); !ok {
				return // the ledger has it
			}
		}
		timer.Reset(interval)
	}
}
