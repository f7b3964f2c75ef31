package worker

import (
	"context"
	"sync"
	"time"
)

// hub tells waiting readers that a step-up became final, or that there is more to pull. It
// is a hint: readers look for themselves every few seconds.
type hub struct {
	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool
}

// join listens for one step-up, or one queueTopic, until leave is called.
func (h *hub) join(id string) (told <-chan struct{}, leave func()) {
	ch := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting == nil {
		h.waiting = map[string]map[chan struct{}]bool{}
	}
	if h.waiting[id] == nil {
		h.waiting[id] = map[chan struct{}]bool{}
	}
	h.waiting[id][ch] = true
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if delete(h.waiting[id], ch); len(h.waiting[id]) == 0 {
			delete(h.waiting, id)
		}
	}
}

func (h *hub) tell(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ch := range h.waiting[id] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// listen keeps the process's one subscription.
func (w *Worker) listen(ctx context.Context) {
	for ctx.Err() == nil {
		w.subscribed(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (w *Worker) subscribed(ctx context.Context) {
	sub := w.opts.Store.Subscribe(ctx, finalTopic)
	defer sub.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-sub.Channel():
			if !ok {
				return
			}
			w.final.tell(m.Payload)
		}
	}
}
