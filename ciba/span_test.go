package ciba

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// recorder is a tracer that keeps what the last span was told.
type recorder struct {
	noop.Tracer
	name string
	span *recorded
}

type recorded struct {
	noop.Span
	attributes []attribute.KeyValue
	status     codes.Code
	words      string
	ended      bool
}

func (r *recorder) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	r.name, r.span = name, &recorded{}
	return ctx, r.span
}

func (r *recorder) instruments() *instruments {
	met := newInstruments()
	met.tracer = r
	return met
}

// within is a context in a span of the caller's, which ends at once: nobody else ends it.
func (r *recorder) within(t *testing.T) context.Context {
	_, span := r.Start(t.Context(), "poll")
	span.End()
	return trace.ContextWithSpan(sampled(t), span)
}

// sampled is a context within a trace that is kept.
func sampled(t *testing.T) context.Context {
	return trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled}))
}

func (*recorded) IsRecording() bool                       { return true }
func (s *recorded) SetAttributes(a ...attribute.KeyValue) { s.attributes = append(s.attributes, a...) }
func (s *recorded) SetStatus(c codes.Code, words string)  { s.status, s.words = c, words }
func (s *recorded) End(...trace.SpanEndOption)            { s.ended = true }
func (s *recorded) RecordError(error, ...trace.EventOption) {
	s.words += "an error's text was recorded"
}
func (s *recorded) AddEvent(name string, _ ...trace.EventOption) { s.words += name }

// A span tells the outcome and the provider's own ids, and nothing of the person.
func TestSpans(t *testing.T) {
	for _, row := range []struct {
		name    string
		handler http.HandlerFunc
		outcome string
		failed  bool
	}{
		{"success", says(200, nil, `{"auth_req_id":"`+canaryID+`","expires_in":300,"id_token":"`+canaryToken+`"}`), "ok", false},
		{"refusal", says(400, nil, coded("access_denied")), "refused: access_denied", false},
		{"a code of their own", says(400, nil, coded("CANARY")), "refused: other", false},
		{"busy", says(429, nil, coded("x")), "transient", true},
		{"page", says(403, nil, page), "ambiguous", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := provider(t, map[string]http.HandlerFunc{"/bc-auth": row.handler, "/token": row.handler})
			c := newClient(t, singpassConfig(s.URL))
			r := &recorder{}
			c.met = r.instruments
			check := func(name string) {
				t.Helper()
				told := fmt.Sprint(r.span.attributes, r.span.words)
				if r.name != name || !r.span.ended || (r.span.status == codes.Error) != row.failed || !strings.Contains(told, row.outcome) {
					t.Errorf("span %s, ended %v, status %v: %s", r.name, r.span.ended, r.span.status, told)
				}
				for _, canary := range []string{"CANARY", canaryNRIC} {
					if strings.Contains(told, canary) {
						t.Errorf("span gives away %q: %s", canary, told)
					}
				}
			}
			c.Authenticate(sampled(t), Request{LoginHint: canaryNRIC})
			check("bc-auth")
			c.Token(r.within(t), canaryID)
			check("poll")
		})
	}
	s := provider(t, map[string]http.HandlerFunc{"/token": says(400, nil, coded("authorization_pending"))})
	c := newClient(t, singpassConfig(s.URL))
	r := &recorder{}
	c.met = r.instruments
	c.Token(t.Context(), canaryID)
	c.Authenticate(t.Context(), Request{LoginHint: canaryNRIC})
	if r.span != nil {
		t.Error("a span was begun outside of a trace that is sampled")
	}
	c.Token(r.within(t), canaryID)
	if told := fmt.Sprint(r.span.attributes); r.span.status == codes.Error || !strings.Contains(told, "pending") || strings.Contains(told, "t/2") {
		t.Errorf("pending told as %v %s", r.span.status, told)
	}
}
