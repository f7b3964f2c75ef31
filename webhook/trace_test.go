package webhook

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

func TestMain(m *testing.M) {
	otel.SetTracerProvider(&recorder)
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	os.Exit(m.Run())
}

// recorder keeps what is put into spans; the API alone has nothing that does.
var recorder provider

type provider struct {
	noop.TracerProvider
	mu    sync.Mutex
	spans []*recorded
}

func (p *provider) Tracer(string, ...trace.TracerOption) trace.Tracer { return recordingTracer{p: p} }

type recordingTracer struct {
	noop.Tracer
	p *provider
}

func (t recordingTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	_, parent := t.Tracer.Start(ctx, name) // carries the parent's context on
	s := &recorded{Span: parent, text: name}
	c := trace.NewSpanStartConfig(opts...)
	s.SetAttributes(c.Attributes()...)
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.p.spans = append(t.p.spans, s)
	return trace.ContextWithSpan(ctx, s), s
}

type recorded struct {
	trace.Span
	text  string
	ended int
}

func (s *recorded) IsRecording() bool { return true }
func (s *recorded) SetAttributes(all ...attribute.KeyValue) {
	for _, a := range all {
		s.text += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
	}
}
func (s *recorded) SetStatus(c codes.Code, d string)              { s.text += fmt.Sprintf(" %v:%s", c, d) }
func (s *recorded) RecordError(err error, _ ...trace.EventOption) { s.text += " " + err.Error() }
func (s *recorded) AddEvent(name string, _ ...trace.EventOption)  { s.text += " " + name }
func (s *recorded) End(...trace.SpanEndOption)                    { s.ended++ }

func TestSpanAndTraceHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen http.Header
		s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			seen = r.Header
			http.Error(w, "canary-answer", http.StatusServiceUnavailable)
		})
		traceID, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
		spanID, _ := trace.SpanIDFromHex("b7ad6b7169203331")
		ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled}))
		member, _ := baggage.NewMember("person", "canary")
		bag, _ := baggage.New(member)
		ctx = baggage.ContextWithBaggage(ctx, bag)

		recorder.spans = nil
		s.Send(ctx, Endpoint{URL: "http://bank.example/canary-path?canary=1", Secrets: secretsOf(t, vectorSecret)},
			Message{"evt_7K3", []byte(`{"nric":"canary"}`)})

		if got := seen.Get("Traceparent"); got != "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" {
			t.Errorf("traceparent %q", got)
		}
		if got := seen.Get("Baggage"); got != "" {
			t.Errorf("baggage %q went to a stranger", got)
		}
		if len(recorder.spans) != 1 || recorder.spans[0].ended != 1 {
			t.Fatalf("%d spans", len(recorder.spans))
		}
		got := recorder.spans[0].text
		for _, want := range []string{"webhook send", "server.address=bank.example", "webhook.id=evt_7K3",
			"http.response.status_code=503", "webhook.outcome=failed", "Error:status"} {
			if !strings.Contains(got, want) {
				t.Errorf("span %q lacks %q", got, want)
			}
		}
		if strings.Contains(got, "canary") {
			t.Errorf("span leaks: %s", got)
		}
		// Outside of a trace, or in one that is not kept, there is nothing to tell.
		for _, ctx := range []context.Context{t.Context(), trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: traceID, SpanID: spanID}))} {
			recorder.spans = nil
			s.Send(ctx, Endpoint{URL: "http://bank.example/", Secrets: secretsOf(t, vectorSecret)}, Message{"evt_7K3", []byte(`{}`)})
			if len(recorder.spans) != 0 {
				t.Errorf("%d spans outside of a trace that is kept", len(recorder.spans))
			}
		}
	})
}
