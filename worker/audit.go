package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// decision is one line of the audit log; deploy/AUDIT.md tells auditors what stands
// where. It holds nothing personal and nothing that a caller could have written freely.
type decision struct {
	Time     Time   `json:"time"`
	What     string `json:"what"`
	Caller   string `json:"caller,omitempty"`
	Provider string `json:"provider,omitempty"`
	StepUp   string `json:"step_up,omitempty"`
	Person   string `json:"person,omitempty"`  // the keyed hash that names the person's limit, too
	Webhook  string `json:"webhook,omitempty"` // its name, with whatDeliver
	Event    string `json:"event,omitempty"`   // its type, with whatDeliver
	Outcome  string `json:"outcome,omitempty"` // a state, a delivery's status or a problem code
	Reason   string `json:"reason_code,omitempty"`
	By       string `json:"by,omitempty"`         // operator: not the caller itself
	Lost     int    `json:"lines_lost,omitempty"` // with whatResumed
}

// What is decided.
const (
	whatAsk       = "ask"       // a person is about to be asked
	whatSent      = "sent"      // the provider took the question
	whatRefuse    = "refuse"    // a create is refused
	whatFinal     = "final"     // a step-up has its final state
	whatCancel    = "cancel"    // a caller wants a step-up cancelled
	whatDeliver   = "deliver"   // a webhook has its event, or will not have it
	whatRedeliver = "redeliver" // a caller or an operator wants the webhooks sent again
	whatResumed   = "resumed"   // the log is written again after a fault; how many lines found no room meanwhile
)

func (d decision) line() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		panic("worker: an audit line does not marshal: " + err.Error()) // plain data only
	}
	return append(b, '\n')
}

// decision is one about a step-up.
func (r *record) decision(what string) decision {
	return decision{Time: Time{time.Now()}, What: what, Caller: r.Caller, Provider: r.Provider, StepUp: r.ID}
}

// decision is one about a create. A provider that is not configured is whatever the
// caller wrote, so it is not repeated; an id that is not on record names nothing.
func (c *create) decision(what string) decision {
	d := c.rec.decision(what)
	d.Person = c.who
	if !c.begun {
		d.StepUp = ""
	}
	if !c.known {
		d.Provider, d.Person = "", ""
	}
	return d
}

// auditDown is what a caller is told while the audit log cannot be written.
func auditDown() *Error {
	return &Error{Code: CodeStorageUnavailable, Detail: "The audit log cannot be written. Nothing was sent; try again.", RetryAfter: 5 * time.Second}
}

// refused notes why a create was refused, and returns it.
func (w *Worker) refused(c *create, err error) error {
	d := c.decision(whatRefuse)
	d.Outcome = inAWord(err)
	w.audit.note(d)
	return err
}

// noteFinal notes a final state. It is called once, by the process that stored it. If
// we die in between, the line is missing: the record is the truth.
func (w *Worker) noteFinal(s *session) {
	d := s.decision(whatFinal)
	d.Outcome, d.Reason = string(s.State), s.Reason.Code
	if s.asked.Question != (Question{}) { // else it could not be opened
		d.Person = s.set.person(s.Provider, &s.asked.Question)
	}
	w.audit.note(d)
}

// noteRound notes what a stored round brought to its end, and calls for help where an
// event was given up. Before is how the deliveries stood before it.
func (w *Worker) noteRound(ctx context.Context, r *record, before []Delivery) {
	for i := range r.Deliveries {
		now := &r.Deliveries[i]
		if now.Status == DeliveryPending || i < len(before) && before[i].Status != DeliveryPending {
			continue
		}
		if now.Status == DeliveryUndelivered {
			w.met.undelivered.Add(ctx, 1)
			w.pulse.gaveUp()
			w.log.ErrorContext(ctx, "webhook undelivered", "alarm", true, "id", r.ID, "caller", r.Caller, "webhook", now.Webhook, "event", now.Event, "attempts", now.Attempts)
		}
		d := r.decision(whatDeliver)
		d.Webhook, d.Event, d.Outcome = now.Webhook, now.Type, string(now.Status)
		w.audit.note(d)
	}
}

// byOperator marks what is done in a caller's name by an operator: with a command, or on the
// operators' page.
const byOperator = "operator"

// by is who acts in callers' names in this process: "" where they do so themselves.
func (w *Worker) by() string {
	if w.opts.Operator {
		return byOperator
	}
	return ""
}

// noteWish notes what a caller, or an operator in its name, wanted done with a step-up, and
// what it was answered. An id that is none of ours could be anything, so it is not repeated.
func (w *Worker) noteWish(what, by, caller, id string, v *StepUp, err error) {
	d := decision{Time: Time{time.Now()}, What: what, Caller: caller, Provider: v.Provider, By: by, Outcome: inAWord(err)}
	if validID(id, w.opts.Shards) {
		d.StepUp = id
	}
	if err == nil {
		d.Outcome = "accepted"
	}
	w.audit.note(d)
}

// inAWord is an error in one word.
func inAWord(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if errors.Is(err, context.Canceled) {
		return "caller_gone"
	}
	return "internal"
}

// checkAudit is the readiness of the audit log.
func (w *Worker) checkAudit(context.Context) error {
	if err := w.audit.fault(); err != nil {
		return fmt.Errorf("cannot be written: %w", err)
	}
	return nil
}
