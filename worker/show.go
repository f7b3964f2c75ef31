package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Show is one of the caller's step-ups. Another caller's is not found.
func (w *Worker) Show(ctx context.Context, caller, id string) (StepUp, error) {
	h, err := w.find(ctx, caller, id)
	if err != nil {
		return StepUp{}, err
	}
	return w.show(w.settings.Load(), h)
}

// find loads a caller's step-up with its sealed fields.
func (w *Worker) find(ctx context.Context, caller, id string) (*held, error) {
	notFound := &Error{Code: CodeNotFound}
	if !validID(id, w.opts.Shards) {
		return nil, notFound
	}
	h, err := w.store.load(ctx, id)
	if errors.Is(err, errGone) || err == nil && h.Caller != caller {
		return nil, notFound
	}
	if err != nil {
		return nil, w.storageError(err)
	}
	return h, nil
}

// show opens what a caller may see. A final state is told from what is sealed:
// the result, and when its time is over the tombstone. The plain state, which
// anybody with Redis could edit, is only an index.
func (w *Worker) show(set *Settings, h *held) (StepUp, error) {
	s := &session{held: h, set: set}
	if err := s.unsealFace(); err != nil {
		return StepUp{}, fmt.Errorf("step-up %s: %w", h.ID, err)
	}
	if !h.State.Final() {
		return h.view(s.face, nil), nil
	}
	var res result
	err := set.Sealer.unsealJSON(&h.record, "end", h.Tombstone, &res)
	if err == nil && time.Now().UnixMilli() < res.Until {
		err = s.unseal("result", &res)
	}
	if err != nil {
		return StepUp{}, fmt.Errorf("step-up %s: %w", h.ID, err)
	}
	return h.view(s.face, &res), nil
}

// reread is how often a waiting reader looks by itself, in case a message was lost.
const reread = 5 * time.Second

// Wait is Show, answered as soon as the step-up is final, and at the latest after
// d or when the process drains.
func (w *Worker) Wait(ctx context.Context, caller, id string, d time.Duration) (StepUp, error) {
	end := time.NewTimer(d)
	defer end.Stop()
	told, leave := w.final.join(id)
	defer leave()
	for {
		v, err := w.Show(ctx, caller, id)
		if err != nil || v.Status.Final() {
			return v, err
		}
		again := time.NewTimer(reread)
		select {
		case <-told:
		case <-again.C:
		case <-end.C:
			again.Stop()
			return w.Show(ctx, caller, id)
		case <-w.draining:
			again.Stop()
			return v, nil
		case <-ctx.Done():
			again.Stop()
			return StepUp{}, ctx.Err()
		}
		again.Stop()
	}
}
