package main

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"stepup/ciba"
	"stepup/ciba/jose"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

// metricRow is one metric as deploy/METRICS.md has it.
type metricRow struct {
	otel, kind string
	labels     []string
}

// describedMetrics are the rows of its tables, by Prometheus's name.
func describedMetrics(t *testing.T) map[string]metricRow {
	t.Helper()
	text, err := os.ReadFile("../../deploy/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metricRow{}
	quoted := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 7 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		d := metricRow{otel: strings.Trim(cells[2], " `"), kind: strings.TrimSpace(cells[3])}
		for _, label := range quoted.FindAllStringSubmatch(cells[4], -1) {
			d.labels = append(d.labels, label[1])
		}
		all[strings.Trim(cells[1], " `")] = d
	}
	return all
}

// The document and the program name the same metrics, of the same kind and unit.
func TestMetricsAreDescribed(t *testing.T) {
	rows, made, seen := describedMetrics(t), instrumentsMade(t), map[string]bool{}
	for name, d := range rows {
		seen[d.otel] = true
		kind, unit, ok := strings.Cut(made[d.otel], " ")
		if !ok || kind != d.kind {
			t.Errorf("%s is described as a %s, and is a %q", d.otel, d.kind, made[d.otel])
			continue
		}
		want := strings.ReplaceAll(d.otel, ".", "_") + map[string]string{"s": "_seconds", "By": "_bytes"}[unit]
		if kind == "counter" {
			want += "_total"
		}
		if name != want {
			t.Errorf("%s is called %s for Prometheus, not %s", d.otel, want, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if !seen[name] {
			t.Errorf("deploy/METRICS.md does not describe %s", name)
		}
	}
}

// instrumentsMade are the kind and unit of every instrument that any part of the program makes, by name.
func instrumentsMade(t *testing.T) map[string]string {
	t.Helper()
	l := listing{made: map[string]string{}}
	otel.SetMeterProvider(l)
	defer otel.SetMeterProvider(noop.NewMeterProvider())
	log := slog.New(slog.DiscardHandler)
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer rdb.Close()
	if _, err := worker.New(worker.Options{Store: rdb, Queue: rdb, Lease: rdb, Shards: 1, WaitReplicas: 1, MaxInFlight: 1, Role: worker.RoleAll, Log: log}, worker.Settings{}); err != nil {
		t.Fatal(err)
	}
	api.New(api.Options{Log: log}).Handler(true)
	if _, err := countAlarms(log); err != nil {
		t.Fatal(err)
	}
	// An exchange makes the others, whatever comes of it.
	private, err := jose.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ciba.New(ciba.Config{Issuer: "http://127.0.0.1:1", AllowHTTP: true, ClientID: "bank", Profile: ciba.Singpass, Keys: keys, HTTP: http.DefaultClient,
		Algs: jose.Algs{Signing: []string{"ES256"}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Ready(t.Context())
	secrets, err := webhook.ParseSecrets([]byte(webhook.NewSecret()))
	if err != nil {
		t.Fatal(err)
	}
	sender := &webhook.Sender{Client: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})}
	sender.Send(t.Context(), webhook.Endpoint{URL: "http://127.0.0.1:1/", Secrets: secrets}, webhook.Message{ID: "evt_1", Body: []byte("{}")})
	return l.made
}

// listing notes what instruments are made. Of a kind that it does not know none may be made: it would have to be described.
type listing struct {
	noop.MeterProvider
	made map[string]string
}

func (l listing) Meter(string, ...metric.MeterOption) metric.Meter {
	return listingMeter{made: l.made}
}

type listingMeter struct {
	metric.Meter // none: whoever calls another method panics
	made         map[string]string
}

func (m listingMeter) Int64Counter(name string, opts ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	m.made[name] = "counter " + metric.NewInt64CounterConfig(opts...).Unit()
	return noop.Int64Counter{}, nil
}

func (m listingMeter) Float64Histogram(name string, opts ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	m.made[name] = "histogram " + metric.NewFloat64HistogramConfig(opts...).Unit()
	return noop.Float64Histogram{}, nil
}

func (m listingMeter) Int64ObservableGauge(name string, opts ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	m.made[name] = "gauge " + metric.NewInt64ObservableGaugeConfig(opts...).Unit()
	return noop.Int64ObservableGauge{}, nil
}

func (m listingMeter) Float64ObservableGauge(name string, opts ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	m.made[name] = "gauge " + metric.NewFloat64ObservableGaugeConfig(opts...).Unit()
	return noop.Float64ObservableGauge{}, nil
}

// metricsPage is what Prometheus would get.
func (w *world) metricsPage(t *testing.T) string {
	t.Helper()
	res, err := http.Get(w.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %d, %v", res.StatusCode, err)
	}
	return string(page)
}

var (
	sample = regexp.MustCompile(`^(\w+?)(_bucket|_sum|_count)?(?:\{(.*)\})? \S+$`)
	label  = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
)

// What a service tells after a step-up has exactly the labels of the document, and the figures that are known.
func TestMetricsPage(t *testing.T) {
	w := begin(t, asItIs)
	asked, err := w.bank.ask(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.op.Approve(w.op.Prompts()[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.bank.result(t.Context(), asked.ID); err != nil {
		t.Fatal(err)
	}
	<-w.came
	page := ""
	eventually(t, "the delivery is counted", func() bool {
		page = w.metricsPage(t)
		return strings.Contains(page, `stepup_webhook_attempts_total{outcome="delivered"} 1`)
	})
	known := describedMetrics(t)
	for line := range strings.Lines(page) {
		m := sample.FindStringSubmatch(strings.TrimSpace(line))
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "go_") || strings.HasPrefix(line, "process_") || strings.HasPrefix(line, "target_info") {
			continue
		}
		if m == nil {
			t.Errorf("cannot be read: %s", line)
			continue
		}
		d, ok := known[m[1]]
		if !ok {
			t.Errorf("deploy/METRICS.md does not describe %s", m[1])
		}
		for _, l := range label.FindAllStringSubmatch(m[3], -1) {
			if !slices.Contains(d.labels, l[1]) && l[1] != "le" {
				t.Errorf("%s has a label %s", m[1], l[1])
			}
		}
	}
	for _, want := range []string{
		`stepup_created_total{provider="singpass"} 1`, `stepup_final_total{provider="singpass",status="approved"} 1`, `stepup_final_total{provider="singpass",status="unknown"} 0`,
		`stepup_provider_answers_total{code="200",endpoint="bc_auth",error="",provider="singpass"} 1`,
		`stepup_provider_answers_total{code="200",endpoint="token",error="",provider="singpass"} 1`,
		`stepup_webhook_delay_seconds_count 1`, `stepup_lease_lapses_total 0`, `stepup_alarms_total 0`, `stepup_alarms_total{provider="singpass"} 0`, `stepup_workers 1`, `stepup_failing 0`, `stepup_unowned 0`, `stepup_open_oldest_seconds 0`,
		`stepup_ready{check="redis"} 1`, `stepup_ready{check="drain"} 1`, `stepup_clock_skew_seconds{peer="redis"}`, `stepup_clock_skew_seconds{peer="singpass"}`,
		`stepup_redis_memory_used_bytes `, `stepup_redis_memory_max_bytes 0`, `stepup_poll_lateness_seconds_count{provider="singpass"}`,
		`http_server_request_duration_seconds_count{http_request_method="POST",http_response_status_code="201",http_route="/v1/step-ups",url_scheme="http"} 1`,
		`http_client_request_duration_seconds_count{http_request_method="POST",http_response_status_code="200",server_address="127.0.0.1",server_port=`,
		`service_name="stepup"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	w.drain(t)
}
