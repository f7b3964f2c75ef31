package worker

import (
	"context"
	"errors"
	mrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stepup/webhook"
)

const (
	// endpointSends is how many sends to one endpoint run at once in this process.
	endpointSends = 16
	// endpointWait is how long a send waits for its turn while none is given back. An
	// endpoint that is still full is left to the task, so that a hung one costs nobody
	// else; one that answers is only busy, and is waited for up to busyWait.
	endpointWait = 250 * time.Millisecond
	busyWait     = 5 * time.Second
)

// endpointSlots are the turns to send, by endpoint.
type endpointSlots struct {
	mu sync.Mutex
	of map[string]*slots
}

// slots are one endpoint's.
type slots struct {
	turns chan struct{}
	freed atomic.Int64 // when a turn was last given back, Unix ms
}

func (e *endpointSlots) named(name string) *slots {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.of[name]
	if s == nil {
		if e.of == nil {
			e.of = map[string]*slots{}
		}
		s = &slots{turns: make(chan struct{}, endpointSends)}
		e.of[name] = s
	}
	return s
}

func (s *slots) free() {
	s.freed.Store(time.Now().UnixMilli())
	<-s.turns
}

// take waits for a turn; ok is false when none came in time, or the drain began.
// free gives it back.
func (e *endpointSlots) take(name string, wait time.Duration, draining <-chan struct{}) (free func(), ok bool) {
	s := e.named(name)
	select {
	case s.turns <- struct{}{}:
		return s.free, true
	default:
	}
	if wait == 0 {
		return nil, false
	}
	began := time.Now()
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		select {
		case s.turns <- struct{}{}:
			return s.free, true
		case <-draining:
			return nil, false
		case <-late.C:
		}
		if time.Since(time.UnixMilli(s.freed.Load())) >= wait || time.Since(began) >= busyWait {
			return nil, false
		}
		late.Reset(wait)
	}
}

// deliver sends a round: every due webhook of the step-up, side by side. The
// step-up stays owned until the round is stored, so if we die in between, the
// next owner sends the same bytes under the same id again.
func (w *Worker) deliver(ctx context.Context, s *session) error {
	w.ended(s)
	if _, due := s.nextDelivery(); !due && s.Acked == "" {
		return nil // the final script let it go
	}
	w.renew(s)
	ctx, span := w.met.span(ctx, "stepup.deliver", about(&s.record))
	defer span.End()
	failpoint("round.send")
	before := slices.Clone(s.Deliveries)
	// A follower can come due in the round that gave its event up.
	for range 2 {
		w.round(ctx, s)
	}
	failpoint("round.sent")
	wakes, err := w.storeRound(ctx, s, before)
	if err != nil {
		return err
	}
	failpoint("round.stored")
	w.noteRound(ctx, &s.record, before)
	if at, due := s.nextSend(); due {
		if err := w.queue.wake(ctx, s.ID, wakes, s.State, at); err != nil {
			w.log.WarnContext(ctx, "delivery not queued; the sweeper will wake it", "id", s.ID, "error", err)
		}
	}
	return nil
}

// storeRound stores what a round brought. What the caller acknowledged in the
// meantime goes with it, and may be the last that the purge waits for.
func (w *Worker) storeRound(ctx context.Context, s *session, before []Delivery) (wakes string, err error) {
	op := opID()
	for {
		p, m := w.purge(s.set, &s.record), moved(before, s.Deliveries)
		err = w.stubborn(ctx, &s.record, func() error {
			wakes, err = w.store.round(ctx, &s.record, op, p, m)
			return err
		})
		if !errors.Is(err, errAcked) {
			return wakes, err
		}
		s.acknowledge(wakes)
		if p.result != "" {
			s.Purged = time.Time{} // nothing was stored
		}
	}
}

func (w *Worker) round(ctx context.Context, s *session) {
	now := time.Now()
	w.route(s)
	var sends sync.WaitGroup
	for i := range s.Deliveries {
		if d := &s.Deliveries[i]; d.due(now) {
			sends.Go(func() { w.attempt(ctx, s, d) })
		}
	}
	sends.Wait()
	now = time.Now()
	for i := range s.Deliveries { // appends are not walked
		d := &s.Deliveries[i]
		switch {
		case d.Status != DeliveryPending:
		case now.UnixMilli() > d.Until:
			s.giveUp(d)
		case d.Pull:
		case d.Next > d.Until: // no further attempt fits in: the end comes at its time
			d.Next = d.Until + 1
		}
	}
}

// giveUp ends an event that nobody took in time. An identity is followed by an
// event that says so, with nothing personal in it.
func (s *session) giveUp(d *Delivery) {
	if d.Again { // nobody is to be told that it did not arrive
		d.Status, d.Next = DeliveryDelivered, 0
		return
	}
	d.Status = DeliveryUndelivered
	if d.Follower == "" {
		return
	}
	follower := Delivery{
		Webhook: d.Webhook, Event: d.Follower, Type: typeExpired, Status: DeliveryPending,
		Next: time.Now().UnixMilli(), Until: ms(s.Completed.Add(keepEvents)),
	}
	d.Follower = ""
	if d.Pull {
		follower.wait()
	}
	s.Deliveries = append(s.Deliveries, follower)
}

// route leaves to be pulled what was to be sent to a webhook that is pulled from now on. The
// other way round it sends, but only in a round that comes for something else or too late:
// nothing comes by itself for what waits to be pulled.
func (w *Worker) route(s *session) {
	for i := range s.Deliveries {
		d := &s.Deliveries[i]
		hook, ok := s.set.hook(s.Caller, d.Webhook)
		switch {
		case !ok || hook.Pull == d.Pull || d.Status != DeliveryPending:
		case hook.Pull:
			d.wait()
		default:
			d.Pull, d.Next = false, time.Now().UnixMilli()
		}
	}
}

// attempt makes one attempt at one webhook and notes what came of it.
func (w *Worker) attempt(ctx context.Context, s *session, d *Delivery) {
	hook, ok := s.set.hook(s.Caller, d.Webhook)
	if !ok { // not in this process's configuration; perhaps it comes back
		d.Next = time.Now().Add(time.Minute).UnixMilli()
		return
	}
	// Only a first attempt waits for its turn: whoever comes as a task again must not
	// keep other endpoints' tasks waiting.
	wait := endpointWait
	if d.Attempts > 0 || d.Full > 0 {
		wait = 0
	}
	free, ok := w.slots.take(s.Caller+"/"+d.Webhook, wait, w.draining)
	if !ok { // the task comes back to it, later and later
		d.Full++
		again := min(time.Second<<min(d.Full-1, 4), 15*time.Second)
		d.Next = time.Now().Add(again + mrand.N(again/2)).UnixMilli()
		return
	}
	defer free()
	d.Full = 0
	body, err := w.body(s, d)
	if errors.Is(err, errNoKey) { // another process has the key
		d.Next = time.Now().Add(30 * time.Second).UnixMilli()
		return
	}
	if err != nil {
		w.log.ErrorContext(ctx, "event body missing or unreadable", "alarm", true, "id", s.ID, "event", d.Event, "error", err)
		d.Until = 0 // never sent, given up at the end of the round
		return
	}
	a := s.set.Sender.Send(ctx, hook.Endpoint, webhook.Message{ID: d.Event, Body: body})
	w.noteAttempt(ctx, s, d, a)
}

func (w *Worker) noteAttempt(ctx context.Context, s *session, d *Delivery, a webhook.Attempt) {
	w.met.attempted(ctx, &s.record, d, a)
	d.Attempts++
	d.Last = a.Status
	keys := strings.Join(a.KeyIDs, " ")
	d.log(attempt{At: time.Now().Add(-a.Duration).UnixMilli(), Took: a.Duration.Milliseconds(), Status: a.Status, Why: a.Reason, Keys: keys})
	w.pulse.attempted(s.Caller, d.Webhook, a)
	level := w.log.InfoContext
	switch a.Outcome {
	case webhook.Delivered:
		d.Status, d.Next = DeliveryDelivered, 0
	case webhook.Gone:
		d.Status, d.Next = DeliveryStopped, 0
	default:
		d.Tries++
		gap := max(webhook.Gap(d.Tries, mrand.Float64()), a.RetryAfter)
		d.Next = time.Now().Add(gap).UnixMilli() + 1 // never early by a rounding
		level = w.log.WarnContext
	}
	level(ctx, "webhook attempt", "id", s.ID, "caller", s.Caller, "webhook", d.Webhook, "event", d.Event, "type", d.Type,
		"attempt", d.Attempts, "status", a.Status, "outcome", d.Status, "took_ms", a.Duration.Milliseconds(), "why", a.Reason, "keys", keys)
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
func (w *Worker) purge(set *Settings, r *record) purge {
	if !set.PurgeOnDelivery || r.State != Approved || !r.Purged.IsZero() {
		return purge{}
	}
	carried := 0
	var p purge
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		if !d.Personal {
			continue
		}
		if d.Status != DeliveryDelivered {
			return purge{}
		}
		carried++
		p.fields = append(p.fields, eventField(d.Event))
	}
	if carried == 0 {
		return purge{}
	}
	r.Purged = time.Now().Truncate(time.Millisecond)
	p.result = set.Sealer.sealJSON(r, "result", result{State: r.State, Completed: ms(r.Completed), Until: ms(r.Completed.Add(set.ResultTTL))})
	return p
}

// wakeDelivery queues the delivery of a step-up that became final without an owner.
func (w *Worker) wakeDelivery(ctx context.Context, r *record) {
	if _, due := r.nextDelivery(); !due {
		return
	}
	if err := w.queue.wake(ctx, r.ID, "f"+opID(), r.State, time.Time{}); err != nil {
		w.log.WarnContext(ctx, "delivery not queued; the sweeper will wake it", "id", r.ID, "error", err)
	}
}
