package config

import "testing"

// The file comes before the standard variables, a signal's own variable before the one for all.
func TestExports(t *testing.T) {
	const file, base, own = "http://file:4318/", "http://base:4318", "http://own:4318/x"
	for _, tt := range []struct {
		name, file string
		environ    []string
		want       Exports
	}{
		{"nothing asks for it", "", []string{"PATH=/bin", "OTEL_SERVICE_NAME=x", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, Exports{}},
		{"the file", file, nil, Exports{Traces: "http://file:4318/v1/traces", Metrics: "http://file:4318/v1/metrics"}},
		{"the variable for all", "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + base}, Exports{Traces: base + "/v1/traces", Metrics: base + "/v1/metrics"}},
		{"a signal's own, as it is", "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + base, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + own},
			Exports{Traces: own, Metrics: base + "/v1/metrics"}},
		{"one signal alone", "", []string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=" + own}, Exports{Metrics: own}},
		{"the file before the variables", file, []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + own},
			Exports{Traces: "http://file:4318/v1/traces", Metrics: "http://file:4318/v1/metrics"}},
		{"no traces", file, []string{"OTEL_TRACES_EXPORTER=none"}, Exports{Metrics: "http://file:4318/v1/metrics"}},
		{"metrics by /metrics alone", file, []string{"OTEL_METRICS_EXPORTER=prometheus"}, Exports{Traces: "http://file:4318/v1/traces"}},
		{"metrics both ways", file, []string{"OTEL_METRICS_EXPORTER=prometheus, otlp"}, Exports{Traces: "http://file:4318/v1/traces", Metrics: "http://file:4318/v1/metrics"}},
		{"the place of the specification", "", []string{"OTEL_TRACES_EXPORTER=otlp"}, Exports{Traces: "http://localhost:4318/v1/traces"}},
		{"another signal's protocol", file, []string{"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf"},
			Exports{Traces: "http://file:4318/v1/traces", Metrics: "http://file:4318/v1/metrics"}},
		{"all off", file, []string{"OTEL_SDK_DISABLED=True", "OTEL_TRACES_EXPORTER=zipkin"}, Exports{Off: true}},
	} {
		if got, err := (Telemetry{OTLPEndpoint: tt.file}).Exports(tt.environ); got != tt.want || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}
