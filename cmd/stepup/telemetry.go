package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	exposition "go.opentelemetry.io/otel/exporters/prometheus"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"stepup/config"
	"stepup/worker"
)

// telemetry is the process's OpenTelemetry: metrics on /metrics, and both metrics and traces to a collector where one is
// named. A collector that is slow, down or full costs the service nothing: what cannot be sent is dropped, and a line in the
// log says so.
type telemetry struct {
	page http.Handler // /metrics
	ends []func(context.Context) error
	log  *slog.Logger
}

// flushWithin is how long the end of the process waits for what is not sent yet.
const flushWithin = 5 * time.Second

// startTelemetry makes the process's telemetry what the configuration says, for everything that is made after it.
// watch sees every span, wherever else spans go.
func startTelemetry(ctx context.Context, to config.Exports, role worker.Role, log *slog.Logger, watch ...trace.SpanProcessor) (*telemetry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	t := &telemetry{log: log, page: promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})}

	// Nothing of a caller's but its traceparent goes on: baggage and tracestate may hold anything.
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(&unsent{log: log})
	otel.SetLogger(logr.Discard()) // it would quote variables, and some hold secrets
	otel.SetTracerProvider(noop.NewTracerProvider())
	otel.SetMeterProvider(metricnoop.NewMeterProvider())
	if to.Off {
		return t, nil
	}
	about, err := resourceOf(ctx, role)
	if err != nil {
		return nil, err
	}
	if err := t.measure(ctx, to.Metrics, about, registry); err != nil {
		return nil, err
	}
	return t, t.trace(ctx, to.Traces, about, watch)
}

// resourceOf says who tells all this. What the standard variables say comes before.
func resourceOf(ctx context.Context, role worker.Role) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "stepup"), attribute.String("service.version", buildVersion().version),
			attribute.String("service.instance.id", rand.Text()), attribute.String("stepup.role", string(role))),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return nil, errors.New("telemetry: OTEL_RESOURCE_ATTRIBUTES cannot be read") // err would quote it
	}
	return about, nil
}

// measure begins to count.
func (t *telemetry) measure(ctx context.Context, to string, about *resource.Resource, registry *prometheus.Registry) error {
	page, err := exposition.New(exposition.WithRegisterer(registry), exposition.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	options := []metric.Option{metric.WithResource(about), metric.WithReader(page)}
	if os.Getenv("OTEL_METRICS_EXEMPLAR_FILTER") == "" {
		options = append(options, metric.WithExemplarFilter(exemplar.AlwaysOffFilter)) // a third of what counting costs
	}
	if to != "" {
		exporter, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(to))
		if err != nil {
			return fmt.Errorf("telemetry: %w", err)
		}
		options = append(options, metric.WithReader(metric.NewPeriodicReader(exporter)))
	}
	provider := metric.NewMeterProvider(options...)
	otel.SetMeterProvider(provider)
	t.ends = append(t.ends, func(ctx context.Context) error {
		_ = provider.ForceFlush(ctx) // Shutdown alone cuts off what is just being sent, and calls it a failure
		return provider.Shutdown(ctx)
	})
	return nil
}

// Spans wait in a queue until a batch is full. Four thousand a second, which is what two thousand polls make, fill the SDK's
// own queue in half a second, and a collector that needs longer would cost spans.
const (
	spansQueued = 16384
	spansBatch  = 1024
)

// trace begins to trace, where there is somewhere to send traces to or somebody watches.
func (t *telemetry) trace(ctx context.Context, to string, about *resource.Resource, watch []trace.SpanProcessor) error {
	if to == "" && len(watch) == 0 {
		return nil
	}
	options := []trace.TracerProviderOption{trace.WithResource(about)}
	for _, w := range watch {
		options = append(options, trace.WithSpanProcessor(w), trace.WithSampler(trace.AlwaysSample()))
	}
	if to != "" {
		exporter, err := spanExporter(ctx, to)
		if err != nil {
			return err
		}
		options = append(options, exporter)
	}
	provider := trace.NewTracerProvider(options...)
	otel.SetTracerProvider(provider)
	t.ends = append(t.ends, provider.Shutdown)
	return nil
}

// spanExporter sends spans to a collector.
func spanExporter(ctx context.Context, to string) (trace.TracerProviderOption, error) {
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(to))
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	var batch []trace.BatchSpanProcessorOption
	if os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE") == "" && os.Getenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE") == "" {
		batch = append(batch, trace.WithMaxQueueSize(spansQueued), trace.WithMaxExportBatchSize(spansBatch))
	}
	return trace.WithBatcher(exporter, batch...), nil
}

// end sends what is not sent yet, for a bounded time.
func (t *telemetry) end() {
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	var all sync.WaitGroup
	for _, end := range t.ends {
		all.Go(func() {
			if err := end(ctx); err != nil {
				t.log.Warn("the last of the telemetry was not sent", "error", cause(err))
			}
		})
	}
	all.Wait()
}

// unsentAgain is the time between two lines about telemetry that is not sent.
const unsentAgain = 5 * time.Minute

// unsent is told by the SDK of everything that fails, which may be often.
type unsent struct {
	log *slog.Logger

	mu      sync.Mutex
	at      time.Time
	leftOut int
}

// Handle says so in the log, once in a while.
func (u *unsent) Handle(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.at.IsZero() && time.Since(u.at) < unsentAgain {
		u.leftOut++
		return
	}
	u.log.Warn("telemetry is not sent; the service does not wait for it", "error", cause(err), "left_out", u.leftOut)
	u.at, u.leftOut = time.Now(), 0
}

// cause is why telemetry was not sent. A collector's answer is its own words, and not repeated.
func cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Error()
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the collector's certificate does not verify; OTEL_EXPORTER_OTLP_CERTIFICATE names a file of whom to trust"
	}
	if status := httpStatus.FindStringSubmatch(err.Error()); status != nil {
		return "the collector answered with HTTP status " + status[1]
	}
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the collector does not speak TLS; write http:// in its address"
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(err.Error(), "export timeout"): // the SDK's, which has no other name
		return "the collector did not answer in time"
	}
	return "the collector did not take it; what it has to say is in its own log"
}

// httpStatus is where the exporters' errors have it.
var httpStatus = regexp.MustCompile(`^[^(]*: ([345]\d\d) `)
