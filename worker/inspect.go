package worker

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Inspection is one step-up as operators see it: its bookkeeping, and nothing of the
// person, the question or the identity.
type Inspection struct {
	ID       string  `json:"id"`
	Caller   string  `json:"caller"`
	Provider string  `json:"provider"`
	Status   State   `json:"status"` // asking, too
	Reason   *Reason `json:"reason"`
	Doubt    string  `json:"doubt,omitempty"` // why status and reason are not to be relied on

	CreatedAt   Time  `json:"created_at"`
	ExpiresAt   *Time `json:"expires_at"`
	CompletedAt *Time `json:"completed_at"`
	PurgedAt    *Time `json:"identity_purged_at"`

	Owner      string `json:"owner,omitempty"` // the lease of the process that has it in hand
	OwnerAlive bool   `json:"owner_alive"`

	// While it is pending.
	IntervalMS   int64 `json:"interval_ms,omitempty"`
	NextPollAt   *Time `json:"next_poll_at,omitempty"`    // not before then
	PendingAt    *Time `json:"last_pending_at,omitempty"` // the provider last said that nobody had answered; a poll that changes nothing is not stored
	Ambiguous    bool  `json:"ambiguous,omitempty"`       // the provider may have used the answer up on a request whose answer was lost
	UnverifiedAt *Time `json:"unverified_at,omitempty"`   // since when an answer waits for the provider's keys

	Deliveries []InspectedDelivery `json:"deliveries"`
	Attempts   []AttemptLog        `json:"attempts"` // oldest first, the last 100
}

// InspectedDelivery is one event at one webhook.
type InspectedDelivery struct {
	DeliveryView
	EventID    string `json:"event_id,omitempty"` // "" until there is an event
	Type       string `json:"type,omitempty"`
	UntilAt    *Time  `json:"until"` // no attempt after
	Pulled     bool   `json:"pulled,omitempty"`
	Failing    bool   `json:"failing"`
	Resendable bool   `json:"resendable"` // its bytes should be there still
}

// Inspect is one step-up as operators see it; not_found when there is none.
func (w *Worker) Inspect(ctx context.Context, id string) (Inspection, error) {
	r, err := w.findAny(ctx, id)
	if err != nil {
		return Inspection{}, err
	}
	v := r.inspection()
	if r.State.Final() {
		v.judge(w.settings.Load(), r)
	}
	if r.Owner == "" {
		return v, nil
	}
	o, err := w.lease.judge(ctx, r.Owner)
	if err != nil {
		return Inspection{}, w.storageError(err)
	}
	v.OwnerAlive = !o.dead
	return v, nil
}

// RedeliverAsOperator is Redeliver in the name of whoever created the step-up.
func (w *Worker) RedeliverAsOperator(ctx context.Context, id string) (caller string, err error) {
	r, err := w.findAny(ctx, id)
	if err != nil {
		return "", err
	}
	_, err = w.redeliver(ctx, byOperator, r.Caller, id)
	return r.Caller, err
}

// findAny reads the record of anybody's step-up.
func (w *Worker) findAny(ctx context.Context, id string) (*record, error) {
	if !validID(id, w.opts.Shards) {
		return nil, &Error{Code: CodeNotFound}
	}
	r, err := w.store.read(ctx, id)
	if errors.Is(err, errGone) {
		return nil, &Error{Code: CodeNotFound}
	}
	if err != nil {
		return nil, w.storageError(err)
	}
	return r, nil
}

// inspection is what a record says.
func (r *record) inspection() Inspection {
	v := Inspection{
		ID: r.ID, Caller: r.Caller, Provider: r.Provider, Status: r.State, Owner: r.Owner,
		CreatedAt: Time{r.Created}, ExpiresAt: stamp(r.Expires), CompletedAt: stamp(r.Completed), PurgedAt: stamp(r.Purged),
		Deliveries: []InspectedDelivery{}, Attempts: r.attempts(),
	}
	if !r.State.Final() {
		v.IntervalMS, v.NextPollAt, v.PendingAt = r.Interval.Milliseconds(), stamp(r.NotBefore), stamp(r.PendingAt)
		v.Ambiguous, v.UnverifiedAt = r.Ambiguous, stamp(r.RawAt)
		for _, name := range r.Hooks {
			v.Deliveries = append(v.Deliveries, InspectedDelivery{DeliveryView: DeliveryView{Webhook: name, Status: DeliveryPending}})
		}
	}
	if r.Reason.Code != "" {
		reason := r.Reason
		reason.Message = reasonText[reason.Code]
		v.Reason = &reason
	}
	now := time.Now()
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		e := InspectedDelivery{
			DeliveryView: d.view(), EventID: d.Event, Type: d.Type, Pulled: d.Pull,
			Failing: d.fails(), Resendable: r.resendable(d, now),
		}
		if d.Until > 0 { // 0: what was to be sent was missing
			e.UntilAt = stamp(time.UnixMilli(d.Until))
		}
		v.Deliveries = append(v.Deliveries, e)
	}
	return v
}

// judge takes status and reason from what is sealed: the record's are only an index, which
// anybody with Redis could edit.
func (v *Inspection) judge(set *Settings, r *record) {
	var end result
	err := set.Sealer.unsealJSON(r, "end", r.Tombstone, &end)
	switch {
	case errors.Is(err, errNoKey):
		v.Doubt = "this process lacks the seal key that the result was sealed with"
	case err != nil:
		v.Doubt = "the sealed result does not open: somebody edited Redis, or the seal keys are others"
	case end.State != v.Status:
		v.Doubt = "the record in Redis says " + string(v.Status) + ": somebody edited it"
		v.Status, v.Reason = end.State, end.Reason
	default:
		v.Reason = end.Reason
	}
}

// attempts are those of all deliveries, oldest first; the last 100.
func (r *record) attempts() []AttemptLog {
	all := []AttemptLog{}
	for i := range r.Deliveries {
		all = append(all, r.Deliveries[i].attempts()...)
	}
	slices.SortStableFunc(all, func(a, b AttemptLog) int { return a.At.Compare(b.At.Time) })
	return all[max(0, len(all)-attemptsMost):]
}
