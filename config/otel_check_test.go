package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// A variable that cannot be obeyed is told, by its name and without its value, wherever it would have an effect.
func TestExportsTellsWhatCannotBeObeyed(t *testing.T) {
	dir := t.TempDir()
	cert, key, junk := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "junk")
	write(t, cert, tlsPair().cert, 0o600)
	write(t, key, tlsPair().key, 0o600)
	write(t, junk, "canary", 0o600)
	const plain, safe = "OTEL_EXPORTER_OTLP_ENDPOINT=http://base:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=https://base:4318"
	const tracesOnly, metricsOnly = "OTEL_METRICS_EXPORTER=none", "OTEL_TRACES_EXPORTER=none"
	const all = "OTEL_EXPORTER_OTLP_"
	for _, tt := range []struct {
		environ []string
		want    string // the variable that is wrong, "" where all is well
	}{
		{[]string{plain, all + "TIMEOUT=5s"}, all + "TIMEOUT"},
		{[]string{plain, all + "TIMEOUT=0"}, all + "TIMEOUT"},
		{[]string{plain, all + "TIMEOUT=canary", all + "TRACES_TIMEOUT=100", all + "METRICS_TIMEOUT=100"}, ""},
		{[]string{plain, all + "TRACES_TIMEOUT=-1"}, all + "TRACES_TIMEOUT"},
		{[]string{all + "TIMEOUT=canary", "OTEL_BSP_SCHEDULE_DELAY=canary"}, ""}, // nothing is sent
		{[]string{plain, all + "COMPRESSION=zstd"}, all + "COMPRESSION"},
		{[]string{plain, all + "COMPRESSION=none", all + "METRICS_COMPRESSION=gzip"}, ""},
		{[]string{plain, all + "HEADERS=api-key=canary%2C=x, b=,"}, ""},
		{[]string{plain, all + "HEADERS=api-key:canary"}, all + "HEADERS"},
		{[]string{plain, all + "HEADERS=api key=canary"}, all + "HEADERS"},
		{[]string{plain, all + "HEADERS=api-key=canary%"}, all + "HEADERS"},
		{[]string{plain, all + "METRICS_HEADERS=api-key=canary%0D%0AHost: x"}, all + "METRICS_HEADERS"},
		{[]string{plain, "OTEL_BSP_SCHEDULE_DELAY=0"}, "OTEL_BSP_SCHEDULE_DELAY"}, // would export without a pause
		{[]string{plain, "OTEL_BSP_MAX_QUEUE_SIZE=-5"}, "OTEL_BSP_MAX_QUEUE_SIZE"},
		{[]string{plain, "OTEL_BSP_MAX_QUEUE_SIZE=1000000000000"}, "OTEL_BSP_MAX_QUEUE_SIZE"},
		{[]string{plain, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1e3"}, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"},
		{[]string{plain, metricsOnly, "OTEL_BSP_EXPORT_TIMEOUT=0"}, ""},
		{[]string{plain, "OTEL_METRIC_EXPORT_INTERVAL=1m"}, "OTEL_METRIC_EXPORT_INTERVAL"},
		{[]string{plain, tracesOnly, "OTEL_METRIC_EXPORT_TIMEOUT=1m"}, ""},
		{[]string{plain, all + "METRICS_TEMPORALITY_PREFERENCE=sometimes"}, all + "METRICS_TEMPORALITY_PREFERENCE"},
		{[]string{plain, "OTEL_METRICS_EXEMPLAR_FILTER=canary"}, "OTEL_METRICS_EXEMPLAR_FILTER"},
		{[]string{plain, "OTEL_TRACES_SAMPLER=traceidratio", "OTEL_TRACES_SAMPLER_ARG=NaN"}, "OTEL_TRACES_SAMPLER_ARG"},
		{[]string{"OTEL_SDK_DISABLED=1"}, "OTEL_SDK_DISABLED"},
		{[]string{"OTEL_SDK_DISABLED=False"}, ""},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=a=b,canary"}, "OTEL_RESOURCE_ATTRIBUTES"},
		{[]string{"OTEL_RESOURCE_ATTRIBUTES=a=b%2Cc,d="}, ""},
		{[]string{safe, all + "CERTIFICATE=" + cert, all + "CLIENT_CERTIFICATE=" + cert, all + "CLIENT_KEY=" + key}, ""},
		{[]string{safe, all + "CERTIFICATE=" + junk + "-not"}, all + "CERTIFICATE"},
		{[]string{safe, all + "TRACES_CERTIFICATE=" + junk}, all + "TRACES_CERTIFICATE"},
		{[]string{plain, all + "CERTIFICATE=" + cert}, all + "CERTIFICATE"}, // it would be sent in the clear
		{[]string{safe, all + "CLIENT_CERTIFICATE=" + cert}, all + "CLIENT_CERTIFICATE"},
		{[]string{safe, all + "CLIENT_KEY=" + key}, all + "CLIENT_KEY"},
		{[]string{safe, all + "CLIENT_CERTIFICATE=" + cert, all + "CLIENT_KEY=" + junk}, all + "CLIENT_CERTIFICATE"},
	} {
		_, err := Telemetry{}.Exports(tt.environ)
		problems, _ := errors.AsType[Problems](err)
		for _, p := range problems {
			if p.Key != tt.want || p.File != environment || strings.Contains(p.Text, "canary") {
				t.Errorf("%v: %v, want %q", tt.environ, p, tt.want)
			}
		}
		if (len(problems) > 0) != (tt.want != "") {
			t.Errorf("%v: %v, want %q", tt.environ, err, tt.want)
		}
	}
}
