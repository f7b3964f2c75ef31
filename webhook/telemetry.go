package webhook

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// What is told of an attempt: whom it went to, how it ended and how long it took. Neither the path and the
// query of the URL, which may hold a secret, nor anything that the receiver is free to choose.

// begin begins a span within a trace that is sampled.
func begin(ctx context.Context, m Message) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	// Asked for at each attempt: who runs the program chooses where spans go after this package is there.
	return otel.Tracer("stepup/webhook").Start(ctx, "webhook send", trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("webhook.id", m.ID)))
}

// metrics are made at the first attempt.
type metrics struct {
	once sync.Once
	took metric.Float64Histogram
}

func (met *metrics) make() {
	// An error means a name that is not valid, and then the instrument does nothing.
	met.took, _ = otel.Meter("stepup").Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP client requests."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40))
}

// told tells how an attempt ended, in the words of the semantic conventions for HTTP clients.
func (met *metrics) told(ctx context.Context, span trace.Span, e Endpoint, a Attempt) {
	about := append(make([]attribute.KeyValue, 0, 6), attribute.String("http.request.method", http.MethodPost))
	if to, err := url.Parse(e.URL); err == nil {
		number, _ := strconv.Atoi(port(to)) // net/http has read it too
		about = append(about, attribute.String("server.address", to.Hostname()), attribute.Int("server.port", number))
	}
	if a.Status != 0 {
		about = append(about, attribute.Int("http.response.status_code", a.Status))
	}
	switch {
	case a.Status >= http.StatusBadRequest:
		about = append(about, attribute.String("error.type", strconv.Itoa(a.Status)))
	case a.Outcome != Delivered:
		about = append(about, attribute.String("error.type", a.Reason))
	}
	if a.Reason != ReasonConfiguration { // nothing was sent
		met.once.Do(met.make)
		met.took.Record(ctx, a.Duration.Seconds(), metric.WithAttributes(about...))
	}
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(append(about, attribute.String("webhook.outcome", a.Outcome.String()))...)
	if a.Outcome == Failed {
		span.SetStatus(codes.Error, a.Reason)
	}
}
