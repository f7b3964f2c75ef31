package worker

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// troubles says once that polls of a provider begin to fail, and once that they
// succeed again: thousands of step-ups meet the same outage.
type troubles struct {
	any   atomic.Bool // the healthy way takes no lock
	mu    sync.Mutex
	since map[string]time.Time
}

// note takes one poll's outcome.
func (t *troubles) note(log *slog.Logger, provider string, failing bool, err error) {
	if !failing && !t.any.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	began, known := t.since[provider]
	switch {
	case failing && !known:
		if t.since == nil {
			t.since = map[string]time.Time{}
		}
		t.since[provider] = time.Now()
		log.Warn("polls of the provider fail", "provider", provider, "error", err)
	case !failing && known:
		delete(t.since, provider)
		log.Info("polls of the provider succeed again", "provider", provider, "after_ms", time.Since(began).Milliseconds())
	}
	t.any.Store(len(t.since) > 0)
}
