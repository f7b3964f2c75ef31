package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"stepup/worker/api"
)

// holding are the routes that hold a request.
var holding = []string{own + "?wait=60s", "/v1/events?wait=60s"}

// One caller's waits have an end, whatever it waits for, so that the others still get in; those that it has go on, and it may
// still read without a wait.
func TestWaitsOfOneCallerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		final := make(chan struct{})
		b.service.wait = func(context.Context, time.Duration) error { <-final; return nil }
		plain := b.Server.Handler(true)
		wait := func(h http.Handler, key, target string) int {
			r, _ := http.NewRequest("GET", target, nil)
			r.Header.Set("Authorization", "Bearer "+key)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			return w.Code
		}
		statuses := make([]int, api.MostWaits)
		var all sync.WaitGroup
		for i := range statuses {
			all.Go(func() { statuses[i] = wait(plain, b.ledger, holding[i%len(holding)]) })
		}
		synctest.Wait()
		for _, target := range holding {
			if got := wait(b.h, b.ledger, target); got != http.StatusTooManyRequests {
				t.Errorf("one more waits: %d", got)
			}
			if got := wait(b.h, b.ledger, strings.TrimSuffix(target, "?wait=60s")); got != http.StatusOK {
				t.Errorf("without a wait: %d", got)
			}
		}
		go func() { synctest.Wait(); close(final) }()
		if got := wait(plain, b.cards, "/v1/step-ups/su_00CARDSAAAAAAAAAAAAAAA?wait=60s"); got != http.StatusOK {
			t.Errorf("another caller: %d", got)
		}
		all.Wait()
		for _, got := range statuses {
			if got != http.StatusOK {
				t.Fatalf("a wait that was taken: %d", got)
			}
		}
		for _, target := range holding {
			if got := wait(b.h, b.ledger, target); got != http.StatusOK {
				t.Errorf("when they are over: %d", got)
			}
		}
	})
}
