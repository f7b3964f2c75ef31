package worker

import (
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	maxBackOff    = time.Minute
	defaultJitter = 0.2
)

// pace is the time between the polls of one step-up: a backoff.BackOff that
// never goes below the interval, never below what the provider asked for, and
// stops when a poll would come too late to be sent.
type pace struct {
	interval time.Duration
	atLeast  time.Duration // this once: Retry-After and the like
	expires  time.Time
	jitter   float64                     // of waits after failures, 0 to 1
	failures *backoff.ExponentialBackOff // nil while polls succeed: ten thousand healthy step-ups carry none
}

var _ backoff.BackOff = (*pace)(nil)

// Reset ends a row of failures.
func (p *pace) Reset() { p.failures, p.atLeast = nil, 0 }

// fail begins or continues a row of failures.
func (p *pace) fail() {
	if p.failures == nil {
		p.failures = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(p.interval),
			backoff.WithRandomizationFactor(p.jitter),
			backoff.WithMultiplier(2),
			backoff.WithMaxInterval(max(maxBackOff, p.interval)),
			backoff.WithMaxElapsedTime(0), // expires_at ends it, nothing else
		)
	}
}

// NextBackOff is the wait from the answer to the next poll, or backoff.Stop when
// that poll would be due later than lateGrace after expires_at.
func (p *pace) NextBackOff() time.Duration {
	wait := max(p.interval, p.atLeast)
	p.atLeast = 0
	if p.failures != nil {
		wait = max(wait, p.failures.NextBackOff())
	}
	if time.Now().Add(wait).After(p.expires.Add(lateGrace)) {
		return backoff.Stop
	}
	return wait
}
