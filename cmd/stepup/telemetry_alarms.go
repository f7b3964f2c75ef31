package main

import (
	"context"
	"fmt"
	"log/slog"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// alarms is a log handler that counts the lines an operator is called for. It stands before all others, so that no line with an
// alarm is left out of the metric, whoever writes it.
type alarms struct {
	slog.Handler
	count    metric.Int64Counter
	provider string // whom the lines are about, "" where about none
}

// countAlarms is log with its alarms counted from now on, and none until now.
func countAlarms(log *slog.Logger, providers ...string) (*slog.Logger, error) {
	count, err := otel.Meter("stepup").Int64Counter("stepup.alarms", metric.WithDescription("What an operator must look at."))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	h := alarms{Handler: log.Handler(), count: count}
	h.add(context.Background(), 0)
	for _, h.provider = range providers {
		h.add(context.Background(), 0)
	}
	h.provider = ""
	return slog.New(h), nil
}

func (h alarms) add(ctx context.Context, n int64) {
	if h.provider == "" {
		h.count.Add(ctx, n)
		return
	}
	h.count.Add(ctx, n, metric.WithAttributes(attribute.String("provider", h.provider)))
}

// Handle counts the record where it is an alarm, which is always an error.
func (h alarms) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError {
		alarm := false
		about := h
		r.Attrs(func(a slog.Attr) bool {
			alarm = alarm || a.Key == "alarm" && a.Value.Kind() == slog.KindBool && a.Value.Bool()
			about.hear(a)
			return true
		})
		if alarm {
			about.add(ctx, 1)
		}
	}
	return h.Handler.Handle(ctx, r)
}

// hear takes in whom a line is about.
func (h *alarms) hear(a slog.Attr) {
	if a.Key == "provider" {
		h.provider = a.Value.String()
	}
}

// WithAttrs remembers whom the lines are about.
func (h alarms) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		h.hear(a)
	}
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// WithGroup keeps counting a group's lines.
func (h alarms) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}
