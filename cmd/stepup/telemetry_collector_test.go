package main

import (
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes OTLP over HTTP, as an OpenTelemetry collector does, and keeps what came.
type collector struct {
	url string

	traced, counted logText // every byte

	mu      sync.Mutex
	spans   []spanned
	metrics map[string]bool // names
}

// spanned is a span as it was exported.
type spanned struct {
	*tracepb.Span
	by    string // the process
	about map[string]string
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{metrics: map[string]bool{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return // its sender was killed
		}
		if err == nil {
			err = c.take(r.URL.Path, body)
		}
		if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			t.Errorf("%s: %v", r.URL.Path, err)
			http.Error(w, "not OTLP", http.StatusBadRequest)
		}
	}))
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *collector) take(path string, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path == "/v1/metrics" {
		c.counted.Write(body)
		var m metricspb.MetricsData // the same on the wire as the request
		if err := proto.Unmarshal(body, &m); err != nil {
			return err
		}
		for _, r := range m.ResourceMetrics {
			for _, s := range r.ScopeMetrics {
				for _, one := range s.Metrics {
					c.metrics[one.Name] = true
				}
			}
		}
		return nil
	}
	c.traced.Write(body)
	var d tracepb.TracesData
	if err := proto.Unmarshal(body, &d); err != nil {
		return err
	}
	for _, r := range d.ResourceSpans {
		by := textsOf(r.Resource.Attributes)["service.instance.id"]
		for _, s := range r.ScopeSpans {
			for _, span := range s.Spans {
				c.spans = append(c.spans, spanned{span, by, textsOf(span.Attributes)})
			}
		}
	}
	return nil
}

// textsOf are attributes as text.
func textsOf(list []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range list {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[a.Key] = strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			m[a.Key] = strconv.FormatBool(v.BoolValue)
		default:
			m[a.Key] = a.Value.String()
		}
	}
	return m
}

// in are the spans of a trace that have the name, or all of its spans where the name is empty; oldest first.
func (c *collector) in(trace, name string) (all []spanned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace && (name == "" || s.Name == name) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b spanned) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return all
}

// mentions are the traces with a span about the step-up.
func (c *collector) mentions(id string) (traces []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if trace := hex.EncodeToString(s.TraceId); s.about["stepup.id"] == id && !slices.Contains(traces, trace) {
			traces = append(traces, trace)
		}
	}
	return traces
}

func (c *collector) measured(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.metrics[name]
}

// below says that a span stands directly below another.
func (s spanned) below(parent spanned) bool {
	return string(s.ParentSpanId) == string(parent.SpanId) && string(s.TraceId) == string(parent.TraceId)
}

// one is the only span of its kind.
func one(t *testing.T, c *collector, trace, name string) spanned {
	t.Helper()
	all := c.in(trace, name)
	if len(all) != 1 {
		t.Fatalf("%d spans %s, want one; the trace has %s", len(all), name, strings.Join(names(c.in(trace, "")), ", "))
	}
	return all[0]
}

func names(spans []spanned) (all []string) {
	for _, s := range spans {
		all = append(all, s.Name)
	}
	return all
}
