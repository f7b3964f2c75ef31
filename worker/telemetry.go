package worker

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"stepup/ciba"
	"stepup/webhook"
)

// instruments are the worker's metrics. Attributes name providers, states and
// classes of answers, never a person or a step-up.
type instruments struct {
	tracer trace.Tracer

	created, finals, polls, discarded     metric.Int64Counter
	attempts, undelivered, lapses, alarms metric.Int64Counter
}

func newInstruments() (m instruments, err error) {
	m.tracer = otel.Tracer("stepup/worker")
	meter := otel.Meter("stepup/worker")
	counter := func(to *metric.Int64Counter, name, what string) {
		var e error
		*to, e = meter.Int64Counter(name, metric.WithDescription(what))
		err = errors.Join(err, e)
	}
	counter(&m.created, "stepup.created", "Step-ups that a provider took.")
	counter(&m.finals, "stepup.final", "Step-ups that became final, by state.")
	counter(&m.polls, "stepup.polls", "Polls, by what was answered.")
	counter(&m.discarded, "stepup.answers.discarded", "Approvals that arrived after the step-up was final.")
	counter(&m.attempts, "stepup.webhook.attempts", "Webhook attempts, by outcome.")
	counter(&m.undelivered, "stepup.webhook.undelivered", "Events that were given up.")
	counter(&m.lapses, "stepup.lease.lapses", "Leases of this process that lapsed.")
	counter(&m.alarms, "stepup.alarms", "What an operator must look at.")
	return m, err
}

// span begins a span of one step-up. Its name says what is done; it holds the id
// and the provider, and nothing of a person.
func (m *instruments) span(ctx context.Context, name string, r *record) (context.Context, trace.Span) {
	ctx, span := m.tracer.Start(ctx, name)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("stepup.id", r.ID), attribute.String("stepup.provider", r.Provider))
	}
	return ctx, span
}

func ofProvider(name string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("provider", name))
}

func ofState(provider string, s State) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("provider", provider), attribute.String("status", string(s)))
}

func (m *instruments) polled(ctx context.Context, provider string, a answer) {
	class := "approved"
	switch a.err.(type) {
	case nil:
	case *ciba.Pending:
		class = "pending"
	case *ciba.SlowDown:
		class = "slow_down"
	case *ciba.Refusal:
		class = "refused"
	case *ciba.Transient:
		class = "transient"
	case *ciba.Untrusted:
		class = "untrusted"
	case *ciba.Unverified:
		class = "unverified"
	default:
		class = "ambiguous"
	}
	m.polls.Add(ctx, 1, metric.WithAttributes(attribute.String("provider", provider), attribute.String("answer", class)))
}

func (m *instruments) attempted(ctx context.Context, a webhook.Attempt) {
	m.attempts.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", a.Outcome.String())))
}
