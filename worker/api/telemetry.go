package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are of requests, by the semantic conventions for HTTP servers. The route is the pattern: paths come from strangers.
type metrics struct{ took metric.Float64Histogram }

func newMetrics() metrics {
	// An error means a name that is not valid, and then the instrument does nothing. The boundaries are the conventions' own,
	// and some for long polls.
	took, _ := otel.Meter("stepup").Float64Histogram("http.server.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP server requests."),
		metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 60))
	return metrics{took}
}

func (m metrics) record(ctx context.Context, r *http.Request, x *exchange, took time.Duration) {
	about := append(make([]attribute.KeyValue, 0, 5),
		attribute.String("http.request.method", method(r)), attribute.String("http.route", r.Pattern),
		attribute.String("url.scheme", scheme(r)), attribute.Int("http.response.status_code", x.status))
	if x.status >= http.StatusInternalServerError {
		about = append(about, attribute.String("error.type", strconv.Itoa(x.status)))
	}
	m.took.Record(ctx, took.Seconds(), metric.WithAttributes(about...))
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}
