package api

import (
	"fmt"
	"sync"
	"time"
)

// mostWaits is how many requests of one caller a process holds at once, some 50 KB each: a quarter of the connections
// that the api listener has, so that no caller's patience keeps the others out.
const mostWaits = 2500

// waits counts the requests that are held, by caller.
type waits struct {
	mu   sync.Mutex
	held map[string]int
}

// enter counts one more, unless the caller has as many as it may have; what enters must leave.
func (w *waits) enter(caller string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[caller] == mostWaits {
		return refuse("rate_limited", fmt.Sprintf("%d requests of this caller wait already. Ask without a wait.", mostWaits))
	}
	if w.held == nil {
		w.held = map[string]int{}
	}
	w.held[caller]++
	return nil
}

func (w *waits) leave(caller string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held[caller]--; w.held[caller] == 0 {
		delete(w.held, caller)
	}
}

// hold lets a request wait so long; over must be called when it has.
func (s *Server) hold(c *call[none], wait time.Duration) (over func(), err error) {
	if wait == 0 {
		return func() {}, nil
	}
	if err := s.waits.enter(c.caller); err != nil {
		return nil, err
	}
	c.extend(wait)
	return func() { s.waits.leave(c.caller) }, nil
}
