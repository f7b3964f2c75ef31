package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"stepup/ciba"
	"stepup/webhook"
)

// instruments are the worker's metrics. Attributes name providers, states and
// classes of answers, never a person or a step-up. deploy/METRICS.md says what each
// means.
type instruments struct {
	tracer trace.Tracer
	meter  metric.Meter

	created, finals, polls, discarded metric.Int64Counter
	attempts, undelivered, lapses     metric.Int64Counter
	lateness, delay                   metric.Float64Histogram
	gauges                            gauges
}

func newInstruments() (m instruments, err error) {
	m.tracer = otel.Tracer("stepup/worker")
	m.meter = otel.Meter("stepup")
	counter := func(to *metric.Int64Counter, name, what string) {
		var e error
		*to, e = m.meter.Int64Counter(name, metric.WithDescription(what))
		err = errors.Join(err, e)
	}
	counter(&m.created, "stepup.created", "Step-ups that a provider took.")
	counter(&m.finals, "stepup.final", "Step-ups that became final, by state.")
	counter(&m.polls, "stepup.polls", "Polls, by what was answered.")
	counter(&m.discarded, "stepup.answers.discarded", "Approvals that arrived after the step-up was final or forgotten.")
	counter(&m.attempts, "stepup.webhook.attempts", "Webhook attempts, by outcome.")
	counter(&m.undelivered, "stepup.webhook.undelivered", "Events that were given up.")
	counter(&m.lapses, "stepup.lease.lapses", "Leases of this process that lapsed.")
	seconds := func(to *metric.Float64Histogram, name, what string, bounds ...float64) {
		var e error
		*to, e = m.meter.Float64Histogram(name, metric.WithDescription(what), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(bounds...))
		err = errors.Join(err, e)
	}
	seconds(&m.lateness, "stepup.poll.lateness", "From when a poll was due until it was sent.",
		0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
	seconds(&m.delay, "stepup.webhook.delay", "From a final state until a webhook took it for the first time.",
		0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400)
	return m, errors.Join(err, m.gauges.make(m.meter))
}

// begin lets counters of which one event matters begin at zero, so that the first one is seen
// as an increase.
func (m *instruments) begin(ctx context.Context, set *Settings) {
	m.undelivered.Add(ctx, 0)
	m.lapses.Add(ctx, 0)
	for name := range set.Providers {
		m.created.Add(ctx, 0, ofProvider(name))
		m.discarded.Add(ctx, 0, ofProvider(name))
		for _, s := range []State{Approved, Denied, Expired, Cancelled, Failed, Unknown} {
			m.finals.Add(ctx, 0, ofState(name, s))
		}
	}
}

// labelled are the labels of measurements, made once for each of the few that there are.
var labelled sync.Map // metric.MeasurementOption, by names and values

func labels(pairs [4]string) metric.MeasurementOption {
	if found, ok := labelled.Load(pairs); ok {
		return found.(metric.MeasurementOption)
	}
	about := []attribute.KeyValue{attribute.String(pairs[0], pairs[1])}
	if pairs[2] != "" {
		about = append(about, attribute.String(pairs[2], pairs[3]))
	}
	found, _ := labelled.LoadOrStore(pairs, metric.WithAttributeSet(attribute.NewSet(about...)))
	return found.(metric.MeasurementOption)
}

func ofProvider(name string) metric.MeasurementOption {
	return labels([4]string{"provider", name})
}

func ofState(provider string, s State) metric.MeasurementOption {
	return labels([4]string{"provider", provider, "status", string(s)})
}

func (m *instruments) polled(ctx context.Context, provider string, a answer) {
	class := classOf(a.err)
	if a.err == nil {
		class = "approved"
	}
	m.polls.Add(ctx, 1, labels([4]string{"provider", provider, "answer", class}))
}

// classOf is what a provider answered in one word: `taken` when it took what it was sent.
func classOf(err error) string {
	switch err.(type) {
	case nil:
		return "taken"
	case *ciba.Pending:
		return "pending"
	case *ciba.SlowDown:
		return "slow_down"
	case *ciba.Refusal:
		return "refused"
	case *ciba.Transient:
		return "transient"
	case *ciba.Untrusted:
		return "untrusted"
	case *ciba.Unverified:
		return "unverified"
	}
	return "ambiguous"
}

// late notes how long after it was due a poll was sent.
func (m *instruments) late(ctx context.Context, provider string, d time.Duration) {
	m.lateness.Record(ctx, max(0, d).Seconds(), ofProvider(provider))
}

// attempted counts an attempt at d, before it is in d's log.
func (m *instruments) attempted(ctx context.Context, r *record, d *Delivery, a webhook.Attempt) {
	if a.Outcome == webhook.Delivered && !d.tookBefore() {
		m.delay.Record(ctx, max(0, time.Since(r.Completed)).Seconds())
	}
	m.attempts.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", a.Outcome.String())))
}
