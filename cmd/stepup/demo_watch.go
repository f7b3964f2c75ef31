package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
)

// watcher tells the stage what the service does, by the spans that the service makes of it. Of polls the provider's ledger
// tells.
type watcher struct{ stage *stage }

// begins and ends are the spans of which that is told, and in what words.
var (
	begins = map[string]string{
		"bc-auth":      "asks the provider: POST /bc-auth with a signed assertion",
		"webhook send": "sends the webhook, signed",
	}
	ends = map[string]string{
		"bc-auth":      "the provider has answered",
		"stepup.take":  "a worker takes the step-up and polls",
		"verify":       "decrypts the ID token, verifies it, compares the person",
		"stepup.final": "stores the final state",
		"webhook send": "the bank has answered",
	}
)

// OnStart implements trace.SpanProcessor.
func (w watcher) OnStart(_ context.Context, s trace.ReadWriteSpan) {
	if text, ok := begins[s.Name()]; ok {
		w.stage.tell(happening{At: s.StartTime(), Who: "stepup", Text: text})
	}
}

// OnEnd implements trace.SpanProcessor.
func (w watcher) OnEnd(s trace.ReadOnlySpan) {
	if text, ok := ends[s.Name()]; ok {
		w.stage.tell(happening{At: s.EndTime(), Who: "stepup", Text: text + how(s)})
	}
}

// how is what came of it, as far as the span says, and how long it took.
func how(s trace.ReadOnlySpan) (text string) {
	for _, a := range s.Attributes() {
		if a.Key == "http.response.status_code" || a.Key == "stepup.status" {
			text = ": " + a.Value.String()
		}
	}
	if status := s.Status(); status.Code == codes.Error {
		text += ": " + status.Description
	}
	if took := s.EndTime().Sub(s.StartTime()); took >= 100*time.Microsecond {
		text += fmt.Sprintf(" (%.1f\u00a0ms)", float64(took)/float64(time.Millisecond))
	}
	return text
}

// Shutdown and ForceFlush implement trace.SpanProcessor.
func (watcher) Shutdown(context.Context) error   { return nil }
func (watcher) ForceFlush(context.Context) error { return nil }
