package admin

import (
	"time"

	"stepup/worker"
)

// inspected is the page of one step-up.
type inspected struct {
	worker.Inspection
	Now time.Time
}

// Sendable reports whether there is something to send again.
func (v inspected) Sendable() bool {
	for _, d := range v.Deliveries {
		if d.Resendable {
			return true
		}
	}
	return false
}

// Took is how long it took to its final state.
func (v inspected) Took() time.Duration {
	if v.CompletedAt == nil {
		return 0
	}
	return v.CompletedAt.Sub(v.CreatedAt.Time)
}

// Left is how long the person has, while it is pending.
func (v inspected) Left() time.Duration {
	if v.ExpiresAt == nil || v.Status.Final() {
		return 0
	}
	return max(0, v.ExpiresAt.Sub(v.Now))
}
