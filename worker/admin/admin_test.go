package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"stepup/worker/admin"
)

func ok(context.Context) error { return nil }

func handler(checks map[string]func(context.Context) error) http.Handler {
	return admin.Handler(admin.Options{Checks: checks, Log: slog.New(slog.DiscardHandler)})
}

func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestLiveAsksNobody(t *testing.T) {
	h := handler(map[string]func(context.Context) error{"redis": func(context.Context) error {
		t.Error("/livez ran a check")
		return errors.New("down")
	}})
	if w := ask(h, "GET", "/livez"); w.Code != 200 || w.Body.String() != `{"status":"ok"}` {
		t.Errorf("GET /livez: %d %s", w.Code, w.Body)
	}
}

func TestReadyTellsEachCheck(t *testing.T) {
	down := func(context.Context) error { return errors.New("reading: connection refused") }
	tests := []struct {
		name   string
		checks map[string]func(context.Context) error
		status int
		word   string
	}{
		{"all well", map[string]func(context.Context) error{"redis": ok, "keys": ok}, 200, "ok"},
		{"one down", map[string]func(context.Context) error{"redis": down, "keys": ok}, 503, "unavailable"},
		{"none", nil, 200, "ok"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(handler(tt.checks), "GET", "/readyz")
			var got struct {
				Status string
				Checks map[string]struct {
					OK    bool
					Error string
				}
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.status || got.Status != tt.word || len(got.Checks) != len(tt.checks) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			for name, check := range tt.checks {
				err := check(t.Context())
				if v := got.Checks[name]; v.OK != (err == nil) || err != nil && v.Error != err.Error() {
					t.Errorf("check %s: %+v", name, v)
				}
			}
		})
	}
}

func TestReadyDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		w := ask(handler(map[string]func(context.Context) error{"redis": hang, "clock": hang, "keys": ok}), "GET", "/readyz")
		if took := time.Since(start); w.Code != 503 || took > 2*time.Second {
			t.Errorf("%d after %s, want 503 within 2s", w.Code, took)
		}
	})
}

func TestNothingElse(t *testing.T) {
	h := handler(nil)
	for path, want := range map[string]int{"/": 404, "/metrics": 404, "/v1/step-ups": 404} {
		if w := ask(h, "GET", path); w.Code != want {
			t.Errorf("GET %s: %d, want %d", path, w.Code, want)
		}
	}
	if w := ask(h, "POST", "/readyz"); w.Code != 405 {
		t.Errorf("POST /readyz: %d, want 405", w.Code)
	}
}
