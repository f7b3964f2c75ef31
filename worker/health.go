package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// clockSkew is how far this machine's clock may be from Redis's. Expiries are kept
// by the one and leases by the other.
const clockSkew = 5 * time.Second

// Checks are what must hold for this process to get requests, by name. Each says
// in its error what is wrong.
func (w *Worker) Checks() map[string]func(context.Context) error {
	checks := map[string]func(context.Context) error{
		"redis": w.checkRedis, "clock": w.checkClock, "lease": w.checkLease, "sweeper": w.checkSweeper, "drain": w.checkDrain,
	}
	if w.opts.Role != RoleWorker { // which goes on without: what it holds must end
		checks["audit"] = w.checkAudit
	}
	return checks
}

// Ready is nil when every check holds.
func (w *Worker) Ready(ctx context.Context) error {
	for name, check := range w.Checks() {
		if err := check(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (w *Worker) checkRedis(ctx context.Context) error {
	if err := w.opts.Store.Set(ctx, keyReady, "1", time.Minute).Err(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if err := w.opts.Store.Get(ctx, keyReady).Err(); err != nil {
		return fmt.Errorf("reading: %w", err)
	}
	return nil
}

func (w *Worker) checkClock(ctx context.Context) error {
	d, err := w.redisAhead(ctx)
	if err != nil {
		return err
	}
	if d.Abs() > clockSkew {
		return fmt.Errorf("this machine and Redis differ by %v; set both by NTP", d.Abs().Round(time.Second))
	}
	return nil
}

func (w *Worker) checkLease(context.Context) error {
	if _, ok, _ := w.lease.holder(); !ok {
		return errors.New("no beat was confirmed by Redis lately")
	}
	return nil
}

func (w *Worker) checkSweeper(context.Context) error {
	if time.Since(time.UnixMilli(w.swept.Load())) > 30*time.Second {
		return errors.New("has not got through lately")
	}
	return nil
}

func (w *Worker) checkDrain(context.Context) error {
	if w.Draining() {
		return errors.New("this process is stopping")
	}
	return nil
}
