package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unique"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/trace"
)

// session is one step-up in the hands of this process. Only the goroutine that
// claimed it touches its record; others may only cancel it.
type session struct {
	Private
	*held
	set       *Settings
	asked     Asked
	face      face
	pace      pace
	takenOver bool // the former owner died: another answer may still be on its way
	lost      bool // what is needed to ask cannot be opened
	// owed is a slow_down that the dead owner may not have stored: it is made good
	// with the first one we get.
	owed time.Duration

	place  unique.Handle[place] // where it belongs, while it is not final; for others, under the worker's mutex
	since  int64                // when it was created, ms; as place
	under  string               // the id it is held under, "" while it is let go; for others, under the worker's mutex
	timer  *time.Timer          // of the one goroutine that waits
	signal *signal

	polling []trace.SpanStartOption // of each poll's span; nil: it is not traced
	call    atomic.Pointer[call]    // while the provider has a poll of ours
}

// cancel asks the owner to end the step-up as cancelled.
func (s *session) cancel() { s.signal.say(wordCancel) }

// stop tells the owner that it is the owner no more.
func (s *session) stop() { s.signal.say(wordTaken) }

var (
	errDrain = errors.New("draining")
	errLost  = errors.New("the step-up is another worker's now")

	errNotSent = errors.New("the lease ran out before the poll was sent")
)

// work is what every task comes to: it takes a step-up and stays with it until it
// is final and a round of webhooks is out, or until the process drains. If we die
// anywhere in here, the sweeper of another process finds the step-up among what we
// owned.
func (w *Worker) work(ctx context.Context, id string) {
	if !w.enter() {
		return
	}
	defer w.serving.Done()
	defer w.caught()
	began := time.Now()
	s := w.taken(ctx, id)
	if s == nil {
		return
	}
	ctx = w.met.join(ctx, s, began)
	var err error
	defer w.forget(s)
	if !s.State.Final() {
		err = w.follow(ctx, s)
	}
	if err == nil {
		err = w.deliver(ctx, s)
	}
	w.leave(ctx, s, err)
}

// caught ends a panic: one malformed record must not end the process, and asynq
// would write the panic's text into Redis. The step-up is still on our name; the
// comparison of owned with run lets it go.
func (w *Worker) caught() {
	p := recover()
	if p == nil {
		return
	}
	stack := debug.Stack()
	if c, ok := p.(*panicked); ok {
		p, stack = c.value, c.stack
	}
	w.log.Error("a step-up's work panicked", "alarm", true, "type", fmt.Sprintf("%T", p), "stack", string(stack))
}

// taken is a step-up that this process may take, nil when there is none.
func (w *Worker) taken(ctx context.Context, id string) (s *session) {
	w.crew.run(func() {
		var err error
		if s, err = w.take(ctx, id); err != nil {
			w.notTaken(ctx, id, err)
		}
	})
	return s
}

// notTaken ends a wake-up that found nothing to do, or nothing it may do.
func (w *Worker) notTaken(ctx context.Context, id string, err error) {
	switch {
	case errors.Is(err, errGone), errors.Is(err, errFence), errors.Is(err, errDrain), ctx.Err() != nil:
	case errors.Is(err, errNoProvider), errors.Is(err, errNoKey):
		w.log.WarnContext(ctx, "step-up left to another process", "id", id, "error", err)
	default:
		w.log.ErrorContext(ctx, "step-up not taken; it will be woken again", "id", id, "error", err)
	}
}

// leave lets go of what deliver has not let go of.
func (w *Worker) leave(ctx context.Context, s *session, err error) {
	switch {
	case err == nil, errors.Is(err, errLost), errors.Is(err, errFence):
		return
	case errors.Is(err, errGone):
		w.forgotten(ctx, s)
		return
	case errors.Is(err, errDrain):
	default:
		// What the provider said may be in this process alone: whoever comes next
		// must not take its silence for an answer.
		s.Ambiguous, s.PendingAt = true, time.Time{}
		w.log.ErrorContext(ctx, "step-up let go; it will be woken again", "id", s.ID, "error", err)
	}
	w.holds(s, "")
	failpoint("release.store")
	op := opID()
	var wakes string
	err = w.persist(ctx, releaseWithin, func() error {
		var err error
		wakes, err = w.store.release(ctx, &s.record, op)
		return err
	})
	failpoint("release.stored")
	switch {
	case errors.Is(err, errFence):
		return // somebody has it already
	case errors.Is(err, errGone):
		w.forgotten(ctx, s)
		return
	case err != nil:
		// Still on our name: the comparison of owned with run lets it go, or our
		// death does, at its true time.
		w.kept.Store(true)
		w.log.ErrorContext(ctx, "step-up not released", "id", s.ID, "error", err)
		return
	}
	if err := w.queue.wake(ctx, s.ID, wakes, s.State, time.Time{}); err != nil {
		w.log.WarnContext(ctx, "step-up not queued; the sweeper will wake it", "id", s.ID, "error", err)
	}
}

// releaseWithin is how long letting go is tried while Redis is away.
const releaseWithin = 10 * time.Second

// follow polls until the step-up is final.
func (w *Worker) follow(ctx context.Context, s *session) error {
	if s.lost {
		return w.finish(ctx, s, unknown(""), nil)
	}
	for {
		a, err := w.next(ctx, s)
		if err != nil {
			return err
		}
		if a == nil { // cancelled
			return w.finish(ctx, s, verdict{state: Cancelled, reason: Reason{Code: CancelledCode}}, nil)
		}
		if errors.Is(a.err, errNotSent) {
			continue
		}
		v := settle(&s.record, *a, time.Now(), s.hold())
		if v.alarm != "" {
			w.alarm(ctx, v.alarm, s)
		}
		w.troubles.note(w.log, s.Provider, v.failing, a.err)
		if v.state != Pending {
			return w.finish(ctx, s, v, a.identity)
		}
		if err := w.goOn(ctx, s, v); err != nil {
			return err
		}
	}
}

// renew takes the settings of now into use for the next step, after a Reload. A
// provider that is no longer configured is asked to the end as it was.
func (w *Worker) renew(s *session) {
	set := w.settings.Load()
	if _, ok := set.Providers[s.Provider]; ok || s.State.Final() {
		s.set = set
	}
}

// next waits until a poll is due, sends it and returns its answer. The zero
// answer says that no poll will be sent any more, nil that the step-up was cancelled.
func (w *Worker) next(ctx context.Context, s *session) (*answer, error) {
	failpoint("poll.wait")
	if s.NotBefore.After(s.Expires.Add(lateGrace)) && s.asked.Raw == "" {
		if cancelled, err := w.sleep(s, s.Expires); err != nil || cancelled {
			return nil, err
		}
		return &answer{}, nil
	}
	if cancelled, err := w.turn(ctx, s); err != nil || cancelled {
		return nil, err
	}
	if cancelled, err := w.hold(ctx, s); err != nil || cancelled {
		return nil, err
	}
	if s.tooLate() { // the lease or the turn was long in coming
		return &answer{}, nil
	}
	failpoint("poll.send")
	w.renew(s)
	return w.send(ctx, s)
}

// tooLate reports that no poll is sent any more.
func (s *session) tooLate() bool {
	return s.asked.Raw == "" && time.Now().After(s.Expires.Add(lateGrace))
}

// sleep waits until due. The drain comes first: a poll that is due at once must
// not beat it.
func (w *Worker) sleep(s *session, due time.Time) (cancelled bool, err error) {
	if w.Draining() {
		return false, errDrain
	}
	if s.timer == nil {
		s.timer = time.NewTimer(time.Until(due))
	} else {
		s.timer.Reset(time.Until(due))
	}
	defer s.timer.Stop()
	select {
	case <-w.draining:
		return false, errDrain
	case <-s.signal.told:
		return s.ended()
	case <-s.timer.C:
		return false, nil
	}
}

// ended is what the word to a session means.
func (s *session) ended() (cancelled bool, err error) {
	if s.signal.cancelled() {
		return true, nil
	}
	return false, errLost
}

// send makes one poll, or judges the success answer in hand once more. The drain
// does not cut it: an answer in flight is awaited and stored. A cancel does not
// wait for it: the answer is discarded and counted.
func (w *Worker) send(ctx context.Context, s *session) (*answer, error) {
	provider, name := s.set.Providers[s.Provider].Provider, s.Provider
	sent := time.Now()
	got := make(chan answer, 1)
	ctx, cut := context.WithCancel(ctx)
	s.call.Store(&call{s.Owner, max(s.Interval, s.hold()), cut})
	owner, inHand, late, polling := s.Owner, s.asked.Raw != "", sent.Sub(s.NotBefore), s.polling
	w.crew.do(func() { // telemetry too: it needs a deep stack
		defer cut()
		a := answer{err: errNotSent}
		// Once more, as the last thing before it goes out: this process may have
		// frozen since it looked.
		if id, ok, _ := w.lease.holder(); ok && id == owner && inHand {
			a = answerOf(ctx, provider, &s.asked) // nothing is sent: this is no poll
		} else if ok && id == owner {
			ctx, span := w.met.span(ctx, "stepup.poll", polling...)
			a = answerOf(ctx, provider, &s.asked)
			span.End()
			w.met.polled(ctx, name, a)
			w.met.late(ctx, name, late)
			w.pulse.answered(name, wayPoll, time.Since(sent), a.err)
		}
		s.call.Store(nil)
		got <- a
	})
	failpoint("poll.open")
	select {
	case a := <-got:
		failpoint("poll.answered")
		return &a, nil
	case <-s.signal.told:
	}
	if !s.signal.cancelled() {
		a := <-got // an approval or a denial passes the fence
		return &a, nil
	}
	w.crew.do(func() {
		if a := <-got; a.identity != nil {
			w.met.discarded.Add(ctx, 1, ofProvider(name))
		}
	})
	return nil, nil
}

// answerOf is what the provider answered. A panic on the way is an answer that
// nobody knows: one malformed token must not end the process.
func answerOf(ctx context.Context, p Provider, asked *Asked) (a answer) {
	defer func() {
		if v := recover(); v != nil {
			a = answer{err: fmt.Errorf("the provider's code panicked: %T", v)}
		}
	}()
	identity, err := p.Answer(ctx, *asked)
	if err != nil {
		return answer{err: err}
	}
	return answer{identity: &identity}
}

// goOn notes what a verdict that is not final changes, and when the next poll is due.
func (w *Worker) goOn(ctx context.Context, s *session, v verdict) error {
	now := time.Now()
	before := s.Interval
	s.Ambiguous = v.ambiguous
	s.PendingAt = time.Time{}
	if v.pending {
		s.PendingAt, s.owed = now, 0
	}
	if v.slowDown {
		s.Interval += slowDownStep + s.owed
		s.owed = 0
		s.pace.interval = s.Interval
	}
	if v.failing {
		s.pace.fail()
		s.pace.atLeast = v.wait
	} else {
		s.pace.Reset()
	}
	wait := s.pace.NextBackOff()
	if v.held >= s.Interval+heldAtLeast && wait != backoff.Stop {
		// The provider held the request for longer than the interval: poll at once
		// (CIBA Core 1.0 §10.1). After a faster answer the interval counts from the
		// answer, as a provider would count it; so it does in doubt, because a busy
		// machine looks much the same.
		wait = 0
	}
	if s.NotBefore = now.Add(wait); wait == backoff.Stop {
		s.NotBefore = s.Expires.Add(lateGrace + time.Second) // never sent: the deadline settles it
	}
	fresh := v.raw != "" && s.asked.Raw == ""
	if fresh {
		// The answer cannot be had again: it is stored before anything else is tried.
		s.asked.Raw, s.asked.RawAt, s.RawAt = v.raw, now, now
		s.NotBefore = now
	}
	if v.raw != "" && !fresh {
		again := min(max(wait, time.Second), 10*time.Second)
		s.NotBefore = now.Add(min(again, max(0, s.Expires.Add(verifyGrace).Sub(now))))
	}
	// No Redis command for a poll that was answered pending: the pace is unchanged.
	if s.Interval == before && wait <= s.Interval && !fresh {
		return nil
	}
	return w.noted(ctx, s, fresh)
}

// heldAtLeast is by how much an answer must outlast the interval to have been held.
const heldAtLeast = 2 * time.Second

// noted stores the pace, and the success answer in hand when it is new.
func (w *Worker) noted(ctx context.Context, s *session, raw bool) error {
	sealed := ""
	if raw {
		sealed = s.set.Sealer.sealJSON(&s.record, fieldPrompt, prompt{s.face, s.asked.Question, s.asked.ID, s.asked.Raw})
	}
	op := opID()
	failpoint("note.store")
	defer failpoint("note.stored")
	return w.stubborn(ctx, &s.record, func() error { return w.store.note(ctx, &s.record, op, sealed) })
}

// hold is how long this step-up's provider may hold a request.
func (s *session) hold() time.Duration { return s.set.Providers[s.Provider].Hold }

// unseal opens one of a step-up's sealed fields; a field that is not there does
// not open.
func (s *session) unseal(field string, v any) error {
	return s.set.Sealer.unsealJSON(&s.record, field, s.personal[field], v)
}

func (w *Worker) alarm(ctx context.Context, what string, s *session) {
	w.log.ErrorContext(ctx, what, "alarm", true, "id", s.ID, slog.String("provider", s.Provider))
}
