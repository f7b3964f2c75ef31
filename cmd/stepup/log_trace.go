package main

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// traced is a log handler that says in which trace and span a line was written, where it was in one.
type traced struct{ slog.Handler }

// Handle adds both ids, in the words of OpenTelemetry's log formats.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the ids on the lines that follow.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup keeps the ids on a group's lines.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }
