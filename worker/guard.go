package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// call is a poll that the provider has in hand.
type call struct {
	owner  string             // the id under which it was sent
	within time.Duration      // the longer of interval and hold
	cut    context.CancelFunc // ends it
}

const (
	guardEvery = 250 * time.Millisecond
	// readFirst is how long a process that has just woken reads its sockets before it
	// cuts calls: the answers may be lying there.
	readFirst = 500 * time.Millisecond
	// cutBefore is how long before anybody else may poll a call is cut.
	cutBefore = time.Second
)

// guard cuts polls that outlived our lease, before whoever takes the step-up over
// may send the next one. While beats go through, a call runs for as long as its own
// time-out lets it.
func (w *Worker) guard(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	looked, from := time.Now(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if since(looked) > 4*guardEvery { // this process slept
			from = time.Now().Add(readFirst)
		}
		looked = time.Now()
		if !looked.Before(from) && w.lease.troubled() {
			w.cutCalls()
		}
	}
}

// cutCalls cuts what nobody may rely on any more: calls sent under an id that is
// dead, or may be, and whose time is over.
func (w *Worker) cutCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sessions {
		c := s.call.Load()
		if c == nil {
			continue
		}
		beat, known := w.lease.lastBeat(c.owner)
		if !known || since(beat) > sendWithin+c.within-cutBefore {
			c.cut()
		}
	}
}

// hold makes sure, directly before a send, that this process may send: its lease
// is fresh and the step-up is its own. Without a lease it waits for the lease,
// not on a timer. After a lapse it may go on under its new id if nobody touched
// the step-up meanwhile, and then nothing is ambiguous.
func (w *Worker) hold(ctx context.Context, s *session) (cancelled bool, err error) {
	for {
		id, ok, fresh := w.lease.holder()
		switch {
		case ok && id == s.Owner:
			return false, nil
		case ok:
			if err := w.holdAgain(ctx, s, id); err != nil {
				return false, err
			}
		default:
			select {
			case <-w.draining:
				return false, errDrain
			case <-s.signal.told:
				return s.ended()
			case <-fresh:
			}
		}
	}
}

// holdAgain claims what this process held under an id that lapsed.
func (w *Worker) holdAgain(ctx context.Context, s *session, id string) error {
	op := opID()
	var h *held
	err := w.stubborn(ctx, &s.record, func() error {
		var err error
		h, err = w.store.claim(ctx, op, &s.record, id, takeover{})
		return err
	})
	if errors.Is(err, errFence) {
		return errLost
	}
	if err != nil {
		return err
	}
	s.Owner, s.Gen = h.Owner, h.Gen
	w.holds(s, id)
	return nil
}

// forgotten tells of a step-up whose record went while this process held it: Redis came
// back without it, and what the person decided can be told to nobody.
func (w *Worker) forgotten(ctx context.Context, s *session) {
	w.alarm(ctx, "Redis forgot a step-up of this worker", s)
}

// signal is how others reach the goroutine that holds a step-up: once, and for good.
type signal struct {
	told chan struct{} // closed with the first word
	word atomic.Int32
}

const (
	wordCancel = iota + 1 // end it as cancelled
	wordTaken             // it is another worker's now
)

func newSignal() *signal { return &signal{told: make(chan struct{})} }

func (s *signal) say(word int32) {
	if s.word.CompareAndSwap(0, word) {
		close(s.told)
	}
}

// cancelled reports what the word was, after told was closed.
func (s *signal) cancelled() bool { return s.word.Load() == wordCancel }
