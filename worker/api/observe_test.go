package api_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"stepup/worker"
)

// Nothing that a stranger sends in a path, query, header or body gets into the log, whatever the answer is.
func TestLogHoldsNoPersonalData(t *testing.T) {
	b := newBank(t)
	canaries := []string{"S1234567D", "c0ffee00", b.ledger, "CANARYKEY", "canary-msg", "CANARYMETHOD"}
	for _, r := range []struct{ method, target, body string }{
		{"POST", "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","reference":"canary-msg","metadata":{"c0ffee00":"canary-msg"}}`},
		{"POST", "/v1/step-ups", `{"provider":"S1234567D","S1234567D":1,"login_hint":7}`},
		{"POST", "/v1/step-ups", `{"login_hint":{"c0ffee00":`},
		{"POST", "/v1/step-ups", `{"login_hint":"` + strings.Repeat("S1234567D", 3000) + `"}`},
		{"POST", "/v1/step-ups?login_hint=S1234567D", goodBody},
		{"GET", "/v1/step-ups/S1234567D", ""},
		{"GET", "/v1/step-ups?reference=canary-msg&status=c0ffee00", ""},
		{"GET", "/v1/events?webhook=canary-msg&after=S1234567D", ""},
		{"GET", "/v1/events?wait=S1234567D", ""},
		{"POST", "/v1/events/acknowledge", `{"ids":["evt_S1234567D"]}`},
		{"POST", "/v1/events/acknowledge", `{"ids":["S1234567D"]}`},
		{"POST", "/v1/redeliveries", `{"from":"2020-11-21T02:03:04Z","webhook":"canary-msg","cursor":"S1234567D"}`},
		{"POST", "/v1/redeliveries", `{"from":"S1234567D"}`},
		{"GET", "/v1/step-ups/S1234567D/attempts", ""},
		{"GET", "/S1234567D", ""},
		{"GET", "/providers/S1234567D/jwks.json", ""},
		{"CANARYMETHOD", "/v1/step-ups", ""},
	} {
		req := b.request(r.method, r.target, r.body)
		req.Header.Set("Idempotency-Key", "CANARYKEY")
		req.Header.Set("X-Request-Id", "S1234567D c0ffee00")
		req.Header.Set("User-Agent", "canary-msg")
		b.do(req)
		req = b.request(r.method, r.target, r.body)
		req.Header.Set("Authorization", "Bearer CANARYKEY")
		b.do(req)
	}
	if len(b.asked) != 1 {
		t.Fatalf("asked %d times, want once", len(b.asked))
	}
	for _, c := range canaries {
		if strings.Contains(b.log.String(), c) {
			t.Errorf("the log holds %s:\n%s", c, b.log)
		}
	}
}

// One line a request, with what an operator looks for.
func TestLogLine(t *testing.T) {
	b := newBank(t)
	line := func() (m map[string]any) {
		t.Helper()
		if err := json.Unmarshal(b.log.Bytes(), &m); err != nil {
			t.Fatalf("want one line: %s", b.log)
		}
		b.log.Reset()
		return m
	}
	r := b.request("POST", "/v1/step-ups", goodBody)
	r.Header.Set("X-Request-Id", "3f2b8c1d-0000-4000-8000-00000000abc1")
	w := b.do(r)
	m := line()
	for k, want := range map[string]any{"request_id": "3f2b8c1d-0000-4000-8000-00000000abc1", "method": "POST", "route": "/v1/step-ups", "status": 201.0,
		"caller": "ledger", "step_up": "su_00NEWAAAAAAAAAAAAAAAAA", "level": "INFO"} {
		if m[k] != want {
			t.Errorf("%s is %v, want %v", k, m[k], want)
		}
	}
	if w.Header().Get("X-Request-Id") != "3f2b8c1d-0000-4000-8000-00000000abc1" {
		t.Errorf("X-Request-Id %q", w.Header().Get("X-Request-Id"))
	}
	b.service.err = &worker.Error{Code: "initiation_unknown", ID: "su_00XAAAAAAAAAAAAAAAAAAA"}
	b.do(b.request("POST", "/v1/step-ups", goodBody))
	if m := line(); m["code"] != "initiation_unknown" || m["step_up"] != "su_00XAAAAAAAAAAAAAAAAAAA" || m["level"] != "WARN" {
		t.Errorf("%v", m)
	}
	b.do(b.request("GET", "/v1/step-ups/su_a/cancel", ""))
	if m := line(); m["route"] != "/v1/step-ups/{id}/cancel" || m["code"] != "method_not_allowed" {
		t.Errorf("%v", m)
	}
}

func TestRequestID(t *testing.T) {
	b := newBank(t)
	for _, bad := range [][]string{nil, {""}, {"a b"}, {"a\nb"}, {"é"}, {strings.Repeat("a", 129)}, {"a", "b"}, {"{}"}} {
		r := b.request("GET", "/x", "")
		r.Header["X-Request-Id"] = bad
		if got := b.do(r).Header().Get("X-Request-Id"); len(got) < 16 || len(bad) > 0 && got == bad[0] {
			t.Errorf("X-Request-Id %q answered with %q, want one of ours", bad, got)
		}
	}
}

// tracing keeps what the server told of one request.
type tracing struct {
	name   string
	kind   trace.SpanKind
	parent trace.SpanContext
	attrs  map[attribute.Key]string
	ended  bool
}

type tracer struct {
	noop.Tracer
	*tracing
}

type span struct {
	noop.Span
	*tracing
}

type tracers struct {
	noop.TracerProvider
	*tracing
}

func (p tracers) Tracer(string, ...trace.TracerOption) trace.Tracer {
	return tracer{tracing: p.tracing}
}

func (p tracer) Start(ctx context.Context, _ string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	c := trace.NewSpanStartConfig(opts...)
	p.kind, p.parent = c.SpanKind(), trace.SpanContextFromContext(ctx)
	return ctx, span{tracing: p.tracing}
}

func (s span) SetName(n string)           { s.name = n }
func (s span) End(...trace.SpanEndOption) { s.ended = true }
func (s span) SetAttributes(kv ...attribute.KeyValue) {
	for _, a := range kv {
		s.attrs[a.Key] = a.Value.String()
	}
}

// The server span carries on the caller's trace and says route and status, nothing else.
func TestSpan(t *testing.T) {
	rec := &tracing{attrs: map[attribute.Key]string{}}
	otel.SetTracerProvider(tracers{tracing: rec})
	defer otel.SetTracerProvider(noop.NewTracerProvider()) // the one before passes everything on to ours from now on
	b := newBank(t)
	var inside trace.SpanContext
	b.service.seen = func(ctx context.Context) { inside = trace.SpanContextFromContext(ctx) }
	r := b.request("POST", "/v1/step-ups", goodBody)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Header.Set("baggage", "nric=S1234567D")
	r.Header.Set("tracestate", "nric=S1234567D")
	b.do(r)
	const id = "0af7651916cd43dd8448eb211c80319c"
	if rec.parent.TraceID().String() != id || inside.TraceID().String() != id {
		t.Errorf("trace %s, inside %s", rec.parent.TraceID(), inside.TraceID())
	}
	if state := rec.parent.TraceState().String() + inside.TraceState().String(); state != "" {
		t.Errorf("a caller's words are in the trace: %s", state)
	}
	if rec.name != "POST /v1/step-ups" || rec.kind != trace.SpanKindServer || !rec.ended || !maps.Equal(rec.attrs, map[attribute.Key]string{
		"http.request.method": "POST", "http.route": "/v1/step-ups", "url.scheme": "http", "http.response.status_code": "201"}) {
		t.Errorf("%+v", rec)
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/step-ups/S1234567D?x=S1234567D", nil))
	if rec.name != "GET /v1/step-ups/{id}" {
		t.Errorf("span name %q", rec.name)
	}
	b.do(b.request("S1234567D", "/v1/step-ups", ""))
	if rec.name != "_OTHER /v1/step-ups" {
		t.Errorf("span name %q", rec.name)
	}
}
