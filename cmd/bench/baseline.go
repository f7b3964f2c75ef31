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

// loop is a way to poll without storage, which the service is held against: a goroutine a step-up that waits and asks, and nothing that
// would survive this process. Both wait from the answer: a time.Ticker's polls come early by the provider's clock.
type loop struct {
	name   string
	serial uint64 // of its first step-up
	ask    func(ctx context.Context, a worker.Asked) error
}

// baselineLoop is the least code that could poll, with the service's own client. What the service costs more is the price of its promises.
func (b *bench) baselineLoop() loop {
	return loop{"baseline", baselineSerial, func(ctx context.Context, a worker.Asked) error {
		_, err := b.target.Answer(ctx, a)
		if _, ok := errors.AsType[*ciba.Pending](err); ok {
			return nil
		}
		return fmt.Errorf("polling: %w", err)
	}}
}

// measureLoop measures a loop under the same load as the service.
func (b *bench) measureLoop(ctx context.Context, l loop) (*column, error) {
	debug.FreeOSMemory() // what was measured before has left
	mark, c := *b, &column{name: l.name}
	live, cancel := context.WithCancel(ctx)
	var polling sync.WaitGroup
	stop := func() { cancel(); polling.Wait() }
	defer stop()

	before, err := b.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	b.say("%s, ramp-up: %d step-ups", l.name, b.n)
	err = b.ramp(ctx, b.n, func(i int) error {
		q := worker.Question{Scope: "openid", LoginHint: cibatest.HintFor(nobodyAnswers, 0, l.serial+uint64(i))}
		asked, err := b.target.Ask(ctx, q)
		if err != nil {
			return fmt.Errorf("asking the provider: %w", err)
		}
		asked.Question, asked.Created = q, time.Now()
		polling.Go(func() { l.follow(live, asked, b.interval) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	b.say("%s, warm-up", l.name)
	if err := b.warmUp(ctx); err != nil {
		return nil, err
	}
	b.say("%s, steady: %v", l.name, b.settings.steady)
	if err := b.steady(ctx, c, spent{}); err != nil {
		return nil, fmt.Errorf("measuring the %s: %w", l.name, err)
	}
	after, err := b.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	c.weight = after.weight(before, b.n)
	stop()
	// A poll that was cut off by stop may be on record as one that nobody waited for: after the steady part, and not judged.
	c.close(b, mark)
	return c, nil
}

// follow polls until ctx ends, or until an answer is not pending: the ledger has that.
func (l loop) follow(ctx context.Context, a worker.Asked, interval time.Duration) {
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := l.ask(ctx, a); err != nil && ctx.Err() == nil {
			return
		}
		timer.Reset(interval)
	}
}
