package admin_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stream is what a browser gets of the events until the request ends.
type stream struct {
	ended  time.Duration
	events []map[string]string
}

func follow(ctx context.Context, s *service) stream {
	began := time.Now()
	w := httptest.NewRecorder()
	pages(s, nil).ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/events", nil))
	got := stream{ended: time.Since(began)}
	for line := range strings.Lines(w.Body.String()) {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var sections map[string]string
			if err := json.Unmarshal([]byte(data), &sections); err != nil {
				panic(err)
			}
			got.events = append(got.events, sections)
		}
	}
	return got
}

// The first event brings all sections, the empty ones too, each later one those that changed.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{overview: quiet()}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, func() { s.change(func(s *service) { s.overview.InFlight = 7 }) })
		time.AfterFunc(7*time.Second, cancel)
		got := follow(ctx, s)
		if got.ended != 7*time.Second || len(got.events) != 4 {
			t.Fatalf("%d events, ended after %v", len(got.events), got.ended)
		}
		for n, want := range []int{8, 0, 1, 0} {
			if len(got.events[n]) != want {
				t.Errorf("event %d brings %d sections, want %d", n, len(got.events[n]), want)
			}
		}
		if names := slices.Collect(maps.Keys(got.events[2])); !slices.Equal(names, []string{"state"}) || !strings.Contains(got.events[2]["state"], "<dd>7</dd>") {
			t.Errorf("after the change: %v", got.events[2])
		}
	})
}

// A stream does not hold up the process that ends, and not whoever may look no more.
func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{overview: quiet()}
		time.AfterFunc(3*time.Second, func() { s.change(func(s *service) { s.draining = true }) })
		if got := follow(t.Context(), s); got.ended != 4*time.Second {
			t.Errorf("ended after %v, want with the next event", got.ended)
		}
		if got := follow(t.Context(), &service{overview: quiet()}); got.ended != 5*time.Minute {
			t.Errorf("ended after %v, want 5 min", got.ended)
		}
	})
}

// However many look, the overview is read once a second.
func TestManyLookAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{overview: quiet()}
		h := pages(s, nil)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { ask(h, "GET", "/") })
		}
		all.Wait()
		if s.reads != 1 {
			t.Errorf("read %d times, want once", s.reads)
		}
		time.Sleep(time.Second)
		if ask(h, "GET", "/"); s.reads != 2 {
			t.Errorf("read %d times, want twice", s.reads)
		}
	})
}
