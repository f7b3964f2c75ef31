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

// LastAnswer is what came of the last attempt at a webhook: its HTTP status, or why there was none.
func (v inspected) LastAnswer(d worker.InspectedDelivery) string {
	status, reason := 0, ""
	if d.LastStatus != nil {
		status = *d.LastStatus
	}
	for _, a := range v.Attempts { // oldest first
		if a.EventID != d.EventID || a.Webhook != d.Webhook {
			continue
		}
		if reason = ""; a.Reason != nil {
			reason = *a.Reason
		}
	}
	return statusOf(status, reason)
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
