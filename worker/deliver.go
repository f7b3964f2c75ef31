package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"stepup/webhook"
)

// endpointSends is how many sends to one endpoint run at once in this process; an
// endpoint that is full is left to its task, so that a hung one costs nobody else.
const endpointSends = 16

// endpointSlots counts the sends that run to each endpoint.
type endpointSlots struct {
	mu sync.Mutex
	n  map[string]int
}

func (e *endpointSlots) take(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n == nil {
		e.n = map[string]int{}
	}
	if e.n[name] >= endpointSends {
		return false
	}
	e.n[name]++
	return true
}

func (e *endpointSlots) free(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n[name]--; e.n[name] == 0 {
		delete(e.n, name)
	}
}

// deliverLater takes a final step-up whose webhooks are due again.
func (w *Worker) deliverLater(ctx context.Context, id string) {
	if !w.enter() {
		return
	}
	defer w.serving.Done()
	s, err := w.take(ctx, id)
	if err != nil {
		w.notTaken(ctx, id, err)
		return
	}
	defer w.forget(id)
	if s.State.Final() {
		err = w.deliver(ctx, s)
	}
	w.leave(ctx, s, err)
}

// deliver sends a round: every due webhook of the step-up, side by side. The
// step-up stays owned until the round is stored, so if we die in between, the
// next owner sends the same bytes under the same id again.
func (w *Worker) deliver(ctx context.Context, s *session) error {
	if _, due := s.nextDelivery(); !due {
		return nil // the final script let it go
	}
	// A follower can come due in the round that gave its event up.
	for range 2 {
		w.round(ctx, s)
	}
	p, err := w.purge(s)
	if err != nil {
		return err
	}
	op := opID()
	var wakes string
	err = w.stubborn(ctx, func() error {
		wakes, err = w.store.round(ctx, &s.record, op, p)
		return err
	})
	if err != nil {
		return err
	}
	if at, due := s.nextDelivery(); due {
		if err := w.queue.wake(ctx, s.ID, wakes, s.State, at); err != nil {
			w.log.Warn("delivery not queued; the sweeper will wake it", "id", s.ID, "error", err)
		}
	}
	return nil
}

func (w *Worker) round(ctx context.Context, s *session) {
	now := time.Now()
	var sends sync.WaitGroup
	for i := range s.Deliveries {
		if d := &s.Deliveries[i]; d.due(now) {
			sends.Go(func() { w.attempt(ctx, s, d) })
		}
	}
	sends.Wait()
	now = time.Now()
	for i := range s.Deliveries { // appends are not walked
		if d := &s.Deliveries[i]; d.Status == DeliveryPending && (now.UnixMilli() > d.Until || d.Next > d.Until) {
			w.giveUp(ctx, s, d)
		}
	}
}

// giveUp ends an event that nobody took in time. An identity is followed by an
// event that says so, with nothing personal in it.
func (w *Worker) giveUp(ctx context.Context, s *session, d *Delivery) {
	d.Status = DeliveryUndelivered
	w.met.undelivered.Add(ctx, 1)
	w.log.Error("webhook undelivered", "alarm", true, "id", s.ID, "caller", s.Caller, "webhook", d.Webhook, "event", d.Event, "attempts", d.Attempts)
	if d.Follower == "" {
		return
	}
	follower := Delivery{
		Webhook: d.Webhook, Event: d.Follower, Type: typeExpired, Status: DeliveryPending,
		Next: time.Now().UnixMilli(), Until: ms(s.Completed.Add(keepEvents)),
	}
	d.Follower = ""
	s.Deliveries = append(s.Deliveries, follower)
}

// attempt makes one attempt at one webhook and notes what came of it.
func (w *Worker) attempt(ctx context.Context, s *session, d *Delivery) {
	hook, ok := s.set.hook(s.Caller, d.Webhook)
	if !ok { // not in this process's configuration; perhaps it comes back
		d.Next = time.Now().Add(time.Minute).UnixMilli()
		return
	}
	name := s.Caller + "/" + d.Webhook
	if !w.slots.take(name) { // full: the task comes back to it
		d.Next = time.Now().Add(time.Second).UnixMilli()
		return
	}
	defer w.slots.free(name)
	body, err := w.body(s, d)
	if err != nil {
		w.log.Error("event body missing or unreadable", "alarm", true, "id", s.ID, "event", d.Event, "error", err)
		d.Until = 0 // never sent, given up at the end of the round
		return
	}
	a := s.set.Sender.Send(ctx, hook.Endpoint, webhook.Message{ID: d.Event, Body: body})
	w.noteAttempt(ctx, s, d, a)
}

func (w *Worker) noteAttempt(ctx context.Context, s *session, d *Delivery, a webhook.Attempt) {
	d.Attempts++
	d.Last = a.Status
	w.met.attempted(ctx, a)
	level := w.log.Info
	switch a.Outcome {
	case webhook.Delivered:
		d.Status, d.Next = DeliveryDelivered, 0
	case webhook.Gone:
		d.Status, d.Next = DeliveryStopped, 0
	default:
		d.Tries++
		gap := max(webhook.Gap(d.Tries, rand.Float64()), a.RetryAfter)
		d.Next = time.Now().Add(gap).UnixMilli() + 1 // never early by a rounding
		level = w.log.Warn
	}
	level("webhook attempt", "id", s.ID, "caller", s.Caller, "webhook", d.Webhook, "event", d.Event, "type", d.Type,
		"attempt", d.Attempts, "status", a.Status, "outcome", d.Status, "took", a.Duration, "why", a.Reason)
}

// hook finds a caller's webhook by name.
func (s *Settings) hook(caller, name string) (Webhook, bool) {
	for _, h := range s.Callers[caller].Webhooks {
		if h.Name == name {
			return h, true
		}
	}
	return Webhook{}, false
}

// body opens the stored bytes of an event.
func (w *Worker) body(s *session, d *Delivery) ([]byte, error) {
	blob, ok := s.personal[eventField(d.Event)]
	if !ok {
		blob, ok = s.events[d.Event]
	}
	if !ok {
		return nil, errGone
	}
	return s.set.Sealer.open(&s.record, d.Event, blob)
}

// purge takes the identity away once every webhook that carries it has it, if
// the configuration says so.
func (w *Worker) purge(s *session) (purge, error) {
	if !s.set.PurgeOnDelivery || s.State != Approved || !s.Purged.IsZero() {
		return purge{}, nil
	}
	carried := 0
	var p purge
	for i := range s.Deliveries {
		d := &s.Deliveries[i]
		if !d.Personal {
			continue
		}
		if d.Status != DeliveryDelivered {
			return purge{}, nil
		}
		carried++
		p.fields = append(p.fields, eventField(d.Event))
	}
	if carried == 0 {
		return purge{}, nil
	}
	plain, err := json.Marshal(result{State: s.State, Completed: ms(s.Completed)})
	if err != nil {
		return purge{}, fmt.Errorf("sealing the result: %w", err)
	}
	s.Purged = time.Now().Truncate(time.Millisecond)
	p.result = s.set.Sealer.seal(&s.record, "result", plain)
	return p, nil
}

// wakeDelivery queues the delivery of a step-up that became final without an owner.
func (w *Worker) wakeDelivery(ctx context.Context, r *record) {
	if _, due := r.nextDelivery(); !due {
		return
	}
	if err := w.queue.wake(ctx, r.ID, "f"+opID(), r.State, time.Time{}); err != nil {
		w.log.Warn("delivery not queued; the sweeper will wake it", "id", r.ID, "error", err)
	}
}
