package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/webhook"
)

// changeAgain is how long to wait between two looks at a step-up that is being sent.
const changeAgain = 200 * time.Millisecond

// Redeliver sends the webhooks of a final step-up again: the same ids, the same
// bytes. What is gone, or was never wanted, cannot be sent: result_gone.
func (w *Worker) Redeliver(ctx context.Context, caller, id string) (StepUp, error) {
	return w.redeliver(ctx, w.by(), caller, id)
}

// redeliver is Redeliver by whoever acts.
func (w *Worker) redeliver(ctx context.Context, by, caller, id string) (v StepUp, err error) {
	defer func() { w.noteWish(whatRedeliver, by, caller, id, &v, err) }()
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	for {
		h, err := w.find(ctx, caller, id)
		if err != nil {
			return StepUp{}, err
		}
		known := StepUp{Provider: h.Provider} // beside a refusal, for the audit log
		if !h.State.Final() {
			return known, &Error{Code: CodeInProgress, Detail: "The step-up is not final yet.", RetryAfter: time.Second, ID: id}
		}
		set := w.settings.Load()
		v, err := w.show(set, h)
		if err != nil {
			return known, err
		}
		err = w.resend(ctx, set, h, func(*Delivery) bool { return true })
		switch {
		case err == nil:
			v.Deliveries = h.view(face{}, nil).Deliveries
			return v, nil
		case errors.Is(err, errNothing):
			return known, &Error{Code: CodeResultGone, Detail: h.nothing(), ID: id}
		case errors.Is(err, errGone):
			return known, &Error{Code: CodeNotFound}
		case !errors.Is(err, errFence):
			return known, w.storageError(err)
		}
		// A round is being sent right now: after it.
		select {
		case <-ctx.Done():
			return known, &Error{Code: CodeInProgress, Detail: "The webhooks are being sent at this moment.", RetryAfter: time.Second}
		case <-time.After(changeAgain):
		}
	}
}

// errNothing: nothing of what was wanted can be sent any more.
var errNothing = errors.New("nothing is left to be sent")

// nothing says to the caller why nothing can be sent.
func (r *record) nothing() string {
	if len(r.Deliveries) == 0 {
		return "No webhook of yours wanted an event of this step-up; there is nothing to send."
	}
	return "What was to be delivered is gone: it was purged or its time is over."
}

// resend makes the deliveries that are wanted due at once. It fails with errNothing,
// with errFence while somebody is sending, and with errGone.
func (w *Worker) resend(ctx context.Context, set *Settings, h *held, wanted func(*Delivery) bool) error {
	var end result
	if err := set.Sealer.unsealJSON(&h.record, "end", h.Tombstone, &end); err != nil {
		return fmt.Errorf("step-up %s: %w", h.ID, err)
	}
	before := h.again(set, time.UnixMilli(end.Until), wanted)
	if before == nil {
		return errNothing
	}
	wakes, err := w.store.redeliver(ctx, &h.record, moved(before, h.Deliveries))
	if err != nil {
		return err
	}
	if _, due := h.nextSend(); !due {
		return nil
	}
	if err := w.queue.wake(ctx, h.ID, wakes, h.State, time.Time{}); err != nil {
		w.log.WarnContext(ctx, "delivery not queued; the sweeper will wake it", "id", h.ID, "error", err)
	}
	return nil
}

// again makes every wanted event whose bytes still exist due at once. Identities exist
// until fetchable. It returns how the deliveries stood, nil when there is nothing to send.
// What is pulled counts as not waiting before, so it comes to the end of its queue, where
// readers find it who have read on past it.
func (r *record) again(set *Settings, fetchable time.Time, wanted func(*Delivery) bool) (before []Delivery) {
	now := time.Now()
	some := false
	before = slices.Clone(r.Deliveries)
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		until := r.Completed.Add(keepEvents)
		if d.Personal {
			until = fetchable
		}
		if d.Event == "" || now.After(until) || d.Personal && !r.Purged.IsZero() || !wanted(d) {
			continue
		}
		d.Again = d.Again || d.Status == DeliveryDelivered
		d.Status, d.Tries, d.Next, d.Until = DeliveryPending, 0, now.UnixMilli(), ms(until)
		hook, known := set.hook(r.Caller, d.Webhook)
		if known {
			d.Pull = hook.Pull
		}
		if d.Pull {
			d.wait()
			before[i].Status = ""
		}
		some = true
	}
	if !some {
		return nil
	}
	return before
}

// Span is a range of time in which step-ups became final, and what to send again of it.
type Span struct {
	From, Until time.Time // Until itself is outside; the zero value is now
	Webhook     string    // empty: every webhook
	Cursor      string    // from the call before
}

// Redelivered is what a call of RedeliverSpan did.
type Redelivered struct {
	StepUps    int    `json:"step_ups"`              // how many are sent again
	Busy       int    `json:"busy"`                  // how many are being sent at this moment anyway
	Gone       int    `json:"gone"`                  // how many have nothing left to send: purged, their time is over, or sealed bytes do not open
	NextCursor string `json:"next_cursor,omitempty"` // there are more: call again with it
}

// spanMost is how many step-ups one call of RedeliverSpan looks at.
const spanMost = 100

// RedeliverSpan sends again what webhooks did not take of the step-ups that became
// final in a range of time: what is undelivered, and at once what still fails. Same
// ids, same bytes. The rest of a long list takes more calls.
func (w *Worker) RedeliverSpan(ctx context.Context, caller string, s Span) (Redelivered, error) {
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	set := w.settings.Load()
	if _, ok := set.hook(caller, s.Webhook); s.Webhook != "" && !ok {
		return Redelivered{}, &Error{Code: CodeNotFound}
	}
	from := mark{at: ms(s.From)}
	if s.Cursor != "" {
		var ok bool
		if from, ok = parseCursor(s.Cursor); !ok {
			return Redelivered{}, wrongField("cursor", "is not a cursor of this list")
		}
	}
	marks, err := w.failing(ctx, caller, from, s.Until)
	if err != nil {
		return Redelivered{}, w.storageError(err)
	}
	var done Redelivered
	wanted := func(d *Delivery) bool { return d.fails() && (s.Webhook == "" || s.Webhook == d.Webhook) }
	for _, m := range marks {
		err := w.resendFailing(ctx, set, caller, m.id, wanted)
		switch {
		case err == nil:
			done.StepUps++
		case errors.Is(err, errFence):
			done.Busy++
		case errors.Is(err, errNothing):
			done.Gone++
		case errors.Is(err, errNoKey), errors.Is(err, errTampered): // it must not hide the others
			w.log.Error("step-up left out of what is sent again: it does not open", "alarm", true, "id", m.id, "error", err)
			done.Gone++
		case !errors.Is(err, errGone):
			return done, w.storageError(err) // what was done stays done; a repeat does it again
		}
	}
	if len(marks) == spanMost {
		done.NextCursor = marks[len(marks)-1].String()
	}
	return done, nil
}

// resendFailing is resend for one of the list. errGone: it is not the caller's, or nothing
// that is wanted of it fails.
func (w *Worker) resendFailing(ctx context.Context, set *Settings, caller, id string, wanted func(*Delivery) bool) error {
	h, err := w.store.load(ctx, id)
	if err != nil {
		return err
	}
	some := func(d Delivery) bool { return wanted(&d) }
	if h.Caller != caller || !h.State.Final() || !slices.ContainsFunc(h.Deliveries, some) {
		return errGone
	}
	err = w.resend(ctx, set, h, wanted)
	if err == nil {
		w.noteWish(whatRedeliver, w.by(), caller, id, &StepUp{Provider: h.Provider}, nil)
	}
	return err
}

// failing are the next step-ups of a caller that a webhook did not take, oldest first,
// of those that became final from a place in the list on and before until.
func (w *Worker) failing(ctx context.Context, caller string, from mark, until time.Time) ([]mark, error) {
	end := "+inf"
	if !until.IsZero() {
		end = "(" + strconv.FormatInt(ms(until), 10)
	}
	all, err := w.marks(ctx, func(p redis.Pipeliner, shard int) *redis.ZSliceCmd {
		return p.ZRangeByScoreWithScores(ctx, keyFailing(shard, caller), &redis.ZRangeBy{
			Min: strconv.FormatInt(from.at, 10), Max: end, Count: spanMost + sameInstant})
	})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m mark) bool { return !from.before(m) })
	slices.SortFunc(all, func(a, b mark) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id)) })
	return all[:min(spanMost, len(all))], nil
}

// AttemptLog is what is known of one attempt.
type AttemptLog struct {
	Webhook    string   `json:"webhook"`
	EventID    string   `json:"event_id"` // webhook-id
	Type       string   `json:"type"`
	At         Time     `json:"at"`
	DurationMS int64    `json:"duration_ms"`
	Outcome    string   `json:"outcome"` // delivered, gone, failed, or acknowledged
	Status     *int     `json:"status"`  // null when nothing answered
	Reason     *string  `json:"reason"`  // one of package webhook's Reason words; null when delivered
	KeyIDs     []string `json:"key_ids"` // of the keys that signed
}

// attemptsMost is how many attempts are shown of a step-up.
const attemptsMost = 100

// Attempts is the log of a step-up's deliveries, oldest first; the last 100.
func (w *Worker) Attempts(ctx context.Context, caller, id string) ([]AttemptLog, error) {
	h, err := w.find(ctx, caller, id)
	if err != nil {
		return nil, err
	}
	return h.attempts(), nil
}

// attempts is the log as callers see it.
func (d *Delivery) attempts() (all []AttemptLog) {
	keys := ""
	for _, a := range d.Log {
		keys = cmp.Or(a.Keys, keys)
		v := AttemptLog{Webhook: d.Webhook, EventID: d.Event, Type: d.Type, At: Time{time.UnixMilli(a.At)}, DurationMS: a.Took,
			Outcome: "failed", Reason: &a.Why, KeyIDs: strings.Fields(keys)}
		if a.Status != 0 {
			v.Status = &a.Status
		}
		switch a.Why {
		case "":
			v.Outcome, v.Reason = "delivered", nil
		case acknowledged:
			v.Outcome, v.Reason, v.KeyIDs = acknowledged, nil, []string{}
		case webhook.ReasonGone:
			v.Outcome = "gone"
		}
		all = append(all, v)
	}
	return all
}
