package ciba

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// What is told of exchanges: names from the configuration, statuses and the specifications' words. Nothing of a request, and of an
// answer nothing that the provider is free to choose.

// The endpoints of a provider, as telemetry calls them.
const (
	bcAuthEndpoint    = "bc_auth"
	tokenEndpoint     = "token"
	keysEndpoint      = "jwks"
	discoveryEndpoint = "discovery"
)

// instruments are made at the first exchange: who runs the program has chosen by then where telemetry goes.
type instruments struct {
	tracer  trace.Tracer
	answers metric.Int64Counter
	took    metric.Float64Histogram
}

func newInstruments() *instruments {
	meter := otel.Meter("stepup")
	// An error means a name that is not valid, and then the instrument does nothing.
	answers, _ := meter.Int64Counter("stepup.provider.answers", metric.WithDescription("Exchanges with a provider, by endpoint, HTTP status (0: no answer) and OAuth error."))
	took, _ := meter.Float64Histogram("http.client.request.duration", metric.WithUnit("s"),
		metric.WithDescription("Duration of HTTP client requests."), metric.WithExplicitBucketBoundaries(durations...))
	return &instruments{otel.Tracer("stepup/ciba"), answers, took}
}

// durations are the boundaries that the semantic conventions advise, in seconds, and some for polls that a provider holds.
var durations = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40}

// sent is one request on its way.
type sent struct {
	endpoint string
	method   string
	to       *url.URL
	at       time.Time
}

// told counts an exchange that has ended. status is 0 when nothing was answered.
func (c *Client) told(ctx context.Context, s sent, status int, err error) {
	o := outcomeOf(err)
	key := ending{endpoint: s.endpoint, host: s.to.Host, status: status, spoken: o.spoken}
	if o.failed {
		key.failed = o.word
	}
	found, ok := c.labels.Load(key)
	if !ok {
		found, _ = c.labels.LoadOrStore(key, c.label(s, key))
	}
	l, met := found.(labels), c.met()
	met.answers.Add(ctx, 1, l.answers)
	met.took.Record(ctx, time.Since(s.at).Seconds(), l.took)
}

// ending is how an exchange ended. There are few, and their labels are made once each.
type ending struct {
	endpoint, host string
	status         int
	spoken, failed string
}

type labels struct{ answers, took metric.MeasurementOption }

func (c *Client) label(s sent, e ending) labels {
	host, port := server(s.to)
	about := []attribute.KeyValue{attribute.String("http.request.method", s.method), attribute.String("server.address", host), attribute.Int("server.port", port)}
	if e.status != 0 {
		about = append(about, attribute.Int("http.response.status_code", e.status))
	}
	switch {
	case e.status >= http.StatusBadRequest:
		about = append(about, attribute.String("error.type", strconv.Itoa(e.status)))
	case e.failed != "":
		about = append(about, attribute.String("error.type", e.failed))
	}
	return labels{
		answers: metric.WithAttributeSet(attribute.NewSet(attribute.String("provider", c.cfg.Name), attribute.String("endpoint", e.endpoint),
			attribute.Int("code", e.status), attribute.String("error", e.spoken))),
		took: metric.WithAttributeSet(attribute.NewSet(about...)),
	}
}

// server is where a URL leads.
func server(to *url.URL) (host string, port int) {
	if port, _ = strconv.Atoi(to.Port()); port == 0 {
		if port = 443; to.Scheme == "http" {
			port = 80
		}
	}
	return to.Hostname(), port
}

// begin begins the span of a question, within a trace that is sampled.
func (c *Client) begin(ctx context.Context) (context.Context, trace.Span) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, noop.Span{}
	}
	return c.met().tracer.Start(ctx, "bc-auth", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("http.request.method", http.MethodPost)))
}

// sentTo tells a span where its request goes.
func sentTo(span trace.Span, to *url.URL) {
	if span.IsRecording() {
		host, port := server(to)
		span.SetAttributes(attribute.String("server.address", host), attribute.Int("server.port", port))
	}
}

// describe tells a span the outcome and status of its exchange, no error's text and nothing of the request. Polls are many, and
// most are answered "not yet", of which there is no more to tell.
func describe(span trace.Span, err error) {
	if !span.IsRecording() {
		return
	}
	o := outcomeOf(err)
	about := append(make([]attribute.KeyValue, 0, 4), attribute.String("stepup.outcome", o.word))
	if o.Status != 0 {
		about = append(about, attribute.Int("http.response.status_code", o.Status))
	}
	if _, pending := err.(*Pending); !pending && o.ID+o.TraceID != "" {
		about = append(about, attribute.String("stepup.provider_error_id", o.ID), attribute.String("stepup.provider_trace_id", o.TraceID))
	}
	span.SetAttributes(about...)
	if o.failed {
		span.SetStatus(codes.Error, o.word)
	}
}

// outcome is what is told of how an exchange ended.
type outcome struct {
	Detail
	word   string
	spoken string // the OAuth error, if it is one of the specifications'
	failed bool   // nothing was said that the protocol knows
}

func outcomeOf(err error) outcome {
	switch e := err.(type) {
	case nil:
		return outcome{Detail: Detail{Status: http.StatusOK}, word: "ok"}
	case *Pending:
		return outcome{Detail: e.Detail, word: "pending", spoken: "authorization_pending"}
	case *SlowDown:
		return outcome{Detail: e.Detail, word: "slow_down", spoken: "slow_down"}
	case *Refusal:
		return outcome{Detail: e.Detail, word: "refused: " + e.Code, spoken: e.Code}
	case *Transient:
		return outcome{Detail: e.Detail, word: "transient", failed: true}
	case *Ambiguous:
		return outcome{Detail: e.Detail, word: "ambiguous", failed: true}
	case *Untrusted:
		return outcome{Detail: Detail{Status: http.StatusOK}, word: "untrusted", failed: true}
	}
	return outcome{word: "other", failed: true}
}

// clock is what the provider's answers say of its clock.
type clock struct{ last atomic.Pointer[reading] }

// reading is one Date and when it came.
type reading struct {
	at   time.Time
	skew time.Duration
}

// read takes the Date of an answer to a POST, which no cache has kept, once a second. A Date has whole seconds, so half of one is
// the best guess; an answer that was long on its way makes the provider look late by that time.
func (c *clock) read(h http.Header) {
	now := time.Now()
	if last := c.last.Load(); last != nil && now.Sub(last.at) < time.Second {
		return
	}
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	c.last.Store(&reading{now, theirs.Add(time.Second / 2).Sub(now)})
}

// Skew is how far the provider's clock was ahead of ours, to about a second, when it last answered a question or a poll, and when
// that was. The zero time: it has not answered yet.
func (c *Client) Skew() (ahead time.Duration, at time.Time) {
	last := c.clock.last.Load()
	if last == nil {
		return 0, time.Time{}
	}
	return last.skew, last.at
}
