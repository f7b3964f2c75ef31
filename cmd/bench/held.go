package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"
)

// holder is the simulated provider's own time for /bc-auth: a fixed one, and a record of what it came to.
type holder struct {
	http.Handler
	least time.Duration

	mu   sync.Mutex
	held map[string]time.Duration // by login hint, since they were last asked for
}

// ServeHTTP implements http.Handler.
func (h *holder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.least == 0 || r.URL.Path != "/bc-auth" {
		h.Handler.ServeHTTP(w, r)
		return
	}
	arrived := time.Now()
	form, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(form))
	time.Sleep(h.least)
	h.Handler.ServeHTTP(w, r)
	took := time.Since(arrived)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[hintOf(form)] = took
}

// hintOf finds a UUID hint, which no form has to escape.
func hintOf(form []byte) string {
	_, rest, _ := bytes.Cut(form, []byte("login_hint="))
	hint, _, _ := bytes.Cut(rest, []byte("&"))
	return string(hint)
}

// tell answers with the times and begins anew.
func (h *holder) tell(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	held := h.held
	h.held = map[string]time.Duration{}
	h.mu.Unlock()
	_ = json.NewEncoder(w).Encode(held)
}
