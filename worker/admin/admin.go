// Package admin is the operators' edge: health checks, the overview page, the task dashboard, metrics. It trusts its listener:
// who reaches it may read it, and may have webhooks sent again.
//
// Nothing that it serves is personal: it is given no hints, identities, references or tokens, and a step-up is its id. Pages are
// rendered here, work without a script, and ask for nothing from outside.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
)

// checkTime is how long all checks of one /readyz may take. Kubernetes and load balancers give up after a few seconds.
const checkTime = 2 * time.Second

// Options wires the handler.
type Options struct {
	// Checks are what /readyz asks, by name. A check must return when its context ends; its error's text is shown to
	// operators, so it must not hold secrets or personal data. They run side by side.
	Checks map[string]func(context.Context) error
	Log    *slog.Logger // if nil: slog.Default(); one line for each check that fails

	Service Service               // what the pages show; if nil: there are none
	Redis   redis.UniversalClient // what the task dashboard reads through, in nobody's way; if nil: there is none
	Metrics http.Handler          // /metrics; if nil: there is none
	Runbook string                // /runbook, as Markdown; if empty: there is none
}

// Handler serves the operators' listener.
func Handler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		// No dependencies: a restart heals nothing that is outside this process.
		write(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", o.ready)
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
	if o.Redis != nil {
		mux.Handle("GET "+dashboardPath+"/", newDashboard(o.Redis))
	}
	if o.Service != nil {
		newPages(o).route(mux)
	}
	return guarded(mux)
}

// guarded sets what browsers are told of every answer. A page's own policy replaces the one here, which lets nothing through.
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin") // with less, browsers call a form of ours one without an origin, where there is no TLS
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")
		head.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// verdict is one check as /readyz tells it.
type verdict struct {
	OK     bool    `json:"ok"`
	TookMS float64 `json:"took_ms"`
	Error  string  `json:"error,omitempty"`
}

type readiness struct {
	Status string             `json:"status"` // ok, unavailable
	Checks map[string]verdict `json:"checks"`
}

func (o Options) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTime)
	defer cancel()
	answer, status := readiness{Status: "ok", Checks: map[string]verdict{}}, http.StatusOK
	for name, v := range judge(ctx, o.Checks) {
		answer.Checks[name] = v
		if !v.OK {
			answer.Status, status = "unavailable", http.StatusServiceUnavailable
			o.Log.WarnContext(ctx, "not ready", slog.String("check", name), slog.String("error", v.Error))
		}
	}
	write(w, status, answer)
}

// judge runs the checks side by side and waits for all of them.
func judge(ctx context.Context, checks map[string]func(context.Context) error) map[string]verdict {
	type named struct {
		name string
		verdict
	}
	results := make(chan named, len(checks))
	for name, check := range checks {
		go func() {
			start := time.Now()
			err := check(ctx)
			v := verdict{OK: err == nil, TookMS: float64(time.Since(start).Microseconds()) / 1000}
			if err != nil {
				v.Error = err.Error()
			}
			results <- named{name, v}
		}()
	}
	all := map[string]verdict{}
	for range checks {
		r := <-results
		all[r.name] = r.verdict
	}
	return all
}

func write(w http.ResponseWriter, status int, body any) {
	raw, _ := json.Marshal(body) // strings and numbers: cannot fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(raw)
}
