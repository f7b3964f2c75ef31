package worker

import (
	"context"
	"errors"
	"time"
)

// changeWithin is how long Cancel waits for the owner, whose next beat brings it
// the message, and Redeliver for a round that is being sent.
const changeWithin = 5 * time.Second

// Cancel stops polling and ends the step-up as cancelled. The prompt on the
// phone stays: CIBA has no message that takes it back. Final: already_final.
func (w *Worker) Cancel(ctx context.Context, caller, id string) (v StepUp, err error) {
	defer func() { w.noteWish(whatCancel, w.by(), caller, id, &v, err) }()
	if !w.enter() {
		return StepUp{}, draining()
	}
	defer w.serving.Done()
	ctx, cancel := context.WithTimeout(ctx, changeWithin)
	defer cancel()
	told, leave := w.final.join(id)
	defer leave()
	sent := false
	for {
		h, err := w.find(ctx, caller, id)
		if err != nil {
			return StepUp{}, err
		}
		switch {
		case h.State.Final():
			v, err := w.show(w.settings.Load(), h)
			if err == nil && v.Status != Cancelled || !sent {
				return v, errors.Join(err, &Error{Code: CodeAlreadyFinal, Detail: "The step-up is " + string(v.Status) + ".", ID: id})
			}
			return v, err
		case h.State == Asking:
			return StepUp{}, &Error{Code: CodeInProgress, Detail: "The provider is still being asked.", RetryAfter: time.Second}
		}
		sent = true
		if err := w.cancelOnce(ctx, h); errors.Is(err, errDrain) {
			return StepUp{}, draining()
		} else if err != nil {
			return StepUp{}, w.storageError(err)
		}
		select {
		case <-told:
		case <-time.After(beatEvery):
		case <-ctx.Done(): // its owner has been told, and is slow
			return StepUp{}, &Error{Code: CodeInProgress, Detail: "The step-up is still being cancelled.", RetryAfter: time.Second, ID: id}
		}
	}
}

// cancelOnce ends a step-up that nobody holds, or tells its owner to.
func (w *Worker) cancelOnce(ctx context.Context, h *held) error {
	if s := w.running(h.ID); s != nil {
		s.cancel()
		return nil
	}
	if h.Owner != "" {
		o, err := w.lease.judge(ctx, h.Owner)
		if err != nil || !o.dead {
			return errors.Join(err, w.lease.tell(ctx, h.Owner, "cancel", h.ID))
		}
	}
	if w.Draining() {
		return errDrain
	}
	// Nothing is asked any more, so it need not be known how.
	s, err := w.own(context.WithoutCancel(ctx), w.settings.Load(), &h.record)
	if errors.Is(err, errFence) || errors.Is(err, errGone) {
		return nil // somebody was faster: look again
	}
	if err != nil {
		return err
	}
	s.cancel()
	w.serving.Go(func() {
		defer w.caught()
		defer w.forget(s)
		ctx := w.met.join(context.WithoutCancel(ctx), s, time.Now())
		err := w.finish(ctx, s, verdict{state: Cancelled, reason: Reason{Code: CancelledCode}}, nil)
		if err == nil {
			err = w.deliver(ctx, s)
		}
		w.leave(ctx, s, err)
	})
	return nil
}
