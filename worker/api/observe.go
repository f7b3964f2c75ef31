package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// statusGone is logged, never sent, when the client went away before its answer.
const statusGone = 499

// exchange is one request as the log will tell it; every handler below observe gets one as its ResponseWriter.
type exchange struct {
	http.ResponseWriter
	status int
	caller string // configured name, empty before authentication
	stepUp string // id of the path
	code   string // of the problem
	err    error  // what strangers are not told
}

type handler func(*exchange, *http.Request)

func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// gone records that nobody is left to answer.
func (x *exchange) gone(err error) { x.status, x.err = statusGone, err }

// observe stands around all routes: request id, fixed headers, span, one log line, and a panic made a 500.
func (s *Server) observe(mux *http.ServeMux) http.Handler {
	tracer, met := otel.Tracer("stepup/api"), newMetrics()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.(*exchange).fail(refuse("not_found", ""))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := requestID(r.Header)
		h := w.Header()
		h.Set("X-Request-Id", id)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		if len(r.TransferEncoding) > 0 {
			// There may have been a Content-Length too, by which a proxy found another end of this request: net/http does
			// not tell. Nothing more is read from the connection, so nothing of it is taken for a request (RFC 9112 §6.1).
			h.Set("Connection", "close")
		}

		// Only traceparent is taken: whatever a caller writes into baggage or tracestate would go on into every span.
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.MapCarrier{"traceparent": r.Header.Get("Traceparent")})
		ctx, span := tracer.Start(ctx, "http", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		r = r.WithContext(ctx)
		x := &exchange{ResponseWriter: w}
		writeWithin(x, strangerTime)
		defer func() {
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				x.panicked(p)
			}
			describe(span, r, x)
			met.record(ctx, r, x, time.Since(start))
			s.record(ctx, r, x, id, time.Since(start))
			if p == http.ErrAbortHandler {
				panic(p)
			}
		}()
		if p := r.URL.Path; p != path.Clean(p) || p[0] != '/' { // the mux would redirect it, or answer * itself
			r.Pattern = "/"
			x.fail(refuse("not_found", ""))
			return
		}
		mux.ServeHTTP(x, r)
	})
}

// panicked answers 500 if there is still time. A panic's value may be anything, so only a run-time error's text is kept.
func (x *exchange) panicked(p any) {
	text := fmt.Sprintf("panic: %T", p)
	if e, ok := p.(runtime.Error); ok {
		text = "panic: " + e.Error()
	}
	err := fmt.Errorf("%s\n%s", text, debug.Stack())
	if x.status == 0 {
		x.fail(err)
	}
	x.err = err
}

func describe(span trace.Span, r *http.Request, x *exchange) {
	span.SetName(method(r) + " " + r.Pattern)
	span.SetAttributes(attribute.String("http.request.method", method(r)), attribute.String("http.route", r.Pattern),
		attribute.String("url.scheme", scheme(r)), attribute.Int("http.response.status_code", x.status))
	if x.status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, x.code)
	}
}

// record writes the request's line. The route is the pattern: paths and queries come from strangers.
func (s *Server) record(ctx context.Context, r *http.Request, x *exchange, id string, took time.Duration) {
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("request_id", id),
		slog.String("method", method(r)),
		slog.String("route", r.Pattern),
		slog.Int("status", x.status),
		slog.Int64("took_ms", took.Milliseconds()),
	}
	for _, a := range []slog.Attr{slog.String("caller", x.caller), slog.String("step_up", x.stepUp), slog.String("code", x.code)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	switch {
	case x.code == "internal":
		level = slog.LevelError
	case x.status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	s.Log.LogAttrs(ctx, level, "request", attrs...)
}

// method is the request's method if it is a usual one: any token may be sent as a method. The other word is the semantic
// conventions'.
func method(r *http.Request) string {
	switch r.Method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return r.Method
	}
	return "_OTHER"
}

// requestIDShape is a UUID or random hex: anything freer could carry a person's data into the log.
var requestIDShape = regexp.MustCompile(`^[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$`)

// requestID takes the caller's X-Request-Id if it is harmless, else makes one.
func requestID(h http.Header) string {
	if v := h.Values("X-Request-Id"); len(v) == 1 && requestIDShape.MatchString(v[0]) {
		return v[0]
	}
	return rand.Text()
}
