package worker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// stubborn repeats a write that must not be lost while Redis is away: for as
// long as its step-up could matter, and at least two minutes, with a pause that
// grows to two seconds. What the script answers is final; only faults are
// repeated, under the same operation id.
func (w *Worker) stubborn(ctx context.Context, r *record, write func() error) error {
	return w.persist(ctx, max(2*time.Minute, time.Until(r.Expires.Add(verifyGrace))), write)
}

// asideInDrain is how long a drain waits for what goes on aside.
const asideInDrain = 2 * time.Second

// aside runs f beside its caller, which does not wait for it; a drain does, for a
// moment, and then ends f's ctx.
func (w *Worker) aside(f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	w.serving.Go(func() {
		defer cancel()
		f(ctx)
	})
	go func() {
		select {
		case <-w.draining:
			late := time.AfterFunc(asideInDrain, cancel)
			defer late.Stop()
			<-ctx.Done()
		case <-ctx.Done():
		}
	}()
}

// persist repeats a write while Redis is away, for at most within.
func (w *Worker) persist(ctx context.Context, within time.Duration, write func() error) error {
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(within))
	return backoff.Retry(func() error {
		err := write()
		if errors.Is(err, errFence) || errors.Is(err, errFinal) || errors.Is(err, errGone) || errors.Is(err, errAcked) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(b, ctx))
}
