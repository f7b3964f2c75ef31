package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// One step-up is one trace: the request that created it, the question, each process's
// claim, each poll, the final state and each webhook. Whoever takes a step-up finds its
// trace in the record, so the trace goes on across processes and their deaths. The record
// keeps it only where the trace is sampled; a step-up without one is not traced.

// traceOf is the trace that ctx is in, as a W3C traceparent; empty when it is not sampled.
func traceOf(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() {
		return ""
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
}

// parseTrace reads what traceOf wrote. What somebody else wrote into the record is no trace.
func parseTrace(s string) (sc trace.SpanContext, ok bool) {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52:] != "-01" {
		return sc, false
	}
	c := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, Remote: true}
	if _, err := hex.Decode(c.TraceID[:], []byte(s[3:35])); err != nil {
		return sc, false
	}
	if _, err := hex.Decode(c.SpanID[:], []byte(s[36:52])); err != nil {
		return sc, false
	}
	sc = trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

// about is what a span tells of its step-up: the id and the provider, and nothing of a person.
func about(r *record) trace.SpanStartEventOption {
	return trace.WithAttributes(attribute.String("stepup.id", r.ID), attribute.String("stepup.provider", r.Provider))
}

// ask begins the span of a create. Where nobody has begun a trace, one begins here.
func (m *instruments) ask(ctx context.Context, r *record) (context.Context, trace.Span) {
	return m.tracer.Start(ctx, "stepup.ask", about(r))
}

// span begins a span of a step-up within its trace.
func (m *instruments) span(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	return m.tracer.Start(ctx, name, opts...)
}

// join puts ctx into the trace of a step-up that was just taken, and out of every other. The
// claim is a span of its own that is over at once, so that it is told even when this process
// dies; what this process does with the step-up stands below it.
func (m *instruments) join(ctx context.Context, s *session, began time.Time) context.Context {
	asked, ok := parseTrace(s.Trace)
	ctx = trace.ContextWithSpanContext(ctx, asked)
	if !ok {
		return ctx
	}
	// Each poll is linked to the question that it asks about.
	s.polling = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithLinks(trace.Link{SpanContext: asked})}
	_, span := m.span(ctx, "stepup.take", trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindConsumer),
		about(&s.record), trace.WithAttributes(attribute.Bool("stepup.taken_over", s.takenOver)))
	span.End()
	return trace.ContextWithSpanContext(ctx, span.SpanContext())
}

// final begins the span in which r's final state is stored. Only a state that was stored is
// told: of two that were reached at once, the later one is nobody's.
func (m *instruments) final(ctx context.Context, r *record) (_ context.Context, stored func(error)) {
	ctx, span := m.span(ctx, "stepup.final", about(r))
	return ctx, func(err error) {
		defer span.End()
		switch {
		case errors.Is(err, errFinal):
			span.SetStatus(codes.Error, "final before")
			return
		case err != nil:
			span.SetStatus(codes.Error, "not stored")
			return
		case r.State == Failed, r.State == Unknown:
			span.SetStatus(codes.Error, r.Reason.Code)
		}
		span.SetAttributes(attribute.String("stepup.status", string(r.State)), attribute.String("stepup.reason", r.Reason.Code))
	}
}
