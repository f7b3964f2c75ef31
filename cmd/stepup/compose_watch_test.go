package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// jaeger stands where the stack sends traces.
type jaeger struct{ sent atomic.Int64 }

func (j *jaeger) listen(t *testing.T) (addr string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/v1/traces" {
			j.sent.Add(1)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func (s *stack) traced(t *testing.T) {
	t.Helper()
	eventually(t, "traces come where Jaeger would be", func() bool { return s.sent.Load() > 0 })
}

// documentedUser is the Redis user that deploy/REDIS.md lets stepup be: its name and what it may.
func documentedUser(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/REDIS.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^    user (stepup on >password .+)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("deploy/REDIS.md names no user")
	}
	return strings.Fields(string(line[1]))
}

// refusedNothing: Redis writes down whatever a user was not allowed to do.
func (s *stack) refusedNothing(t *testing.T) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.ports["redis:6379"]})
	defer rdb.Close()
	refused, err := rdb.ACLLog(t.Context(), 10).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range refused {
		t.Errorf("the documented user of Redis may not %s, and tried", entry.Object)
	}
}

func hasPrometheus() bool {
	_, err := exec.LookPath("prometheus")
	return err == nil
}

var (
	byName   = regexp.MustCompile(`(?m)^    dns_sd_configs:\n.*$`)
	aQuarter = regexp.MustCompile(`_interval: 15s`)
	awhile   = regexp.MustCompile(`(?m)^ +for: \w+\n`)
)

// hasten changes Prometheus's files so that a test need not wait: it asks every second, and alerts fire at once. The
// processes' names are known to Docker alone.
func (s *stack) hasten(text string) string {
	text = byName.ReplaceAllString(text, `    static_configs: [{targets: ["api:8081", "worker:8081", "worker-2:8081"]}]`)
	return awhile.ReplaceAllString(aQuarter.ReplaceAllString(text, "_interval: 1s"), "")
}

// watched asks Prometheus while all is well.
func (s *stack) watched(t *testing.T) {
	t.Helper()
	eventually(t, "Prometheus has asked all three processes", func() bool { return slices.Equal(s.query(t, `sum(up{job="stepup"})`), []string{"3"}) })
	for _, query := range []string{
		`sum(stepup_created_total{provider="singpass"}) == 1`,
		`sum(stepup_final_total{provider="singpass",status="approved"}) == 1`,
		`sum(stepup_provider_answers_total{provider="singpass",endpoint="bc_auth",code="200",error=""}) == 1`,
		`sum(stepup_provider_answers_total{provider="singpass",endpoint="token",code="200"}) == 1`,
		`sum(stepup_webhook_attempts_total{outcome="delivered"}) == 1`,
		`sum(stepup_polls_total{provider="singpass"}) > 0`,
		`sum(stepup_poll_lateness_seconds_bucket{provider="singpass",le="+Inf"}) > 0`,
		`sum(stepup_webhook_delay_seconds_bucket{le="+Inf"}) == 1`,
		`sum(http_server_request_duration_seconds_bucket{http_route=~".*/v1/step-ups",http_request_method="POST",le="+Inf"}) > 0`,
		`sum(http_server_request_duration_seconds_count{http_route=~".*/v1/.*",http_response_status_code="201"}) == 1`,
		`sum(http_client_request_duration_seconds_bucket{le="+Inf",server_address!=""}) > 0`,
		`sum(stepup_in_flight) == 0`, `max(stepup_open) == 0`, `max(stepup_open_oldest_seconds) == 0`, `max(stepup_unowned) == 0`,
		`max(stepup_failing) == 0`, `max(stepup_workers) == 2`, `max(stepup_redis_memory_used_bytes) > 0`, `max(stepup_redis_memory_max_bytes) == 0`,
		`min(stepup_ready{check!=""}) == 1`, `count(stepup_clock_skew_seconds{peer="redis"}) == 3`, `count(stepup_clock_skew_seconds{peer="singpass"}) > 0`,
	} {
		eventually(t, "Prometheus has "+query, func() bool { return len(s.query(t, query)) > 0 })
	}
	eventually(t, "no alert fires while all is well", func() bool { return len(s.firing(t)) == 0 })
}

// alerted breaks one thing after the other, and Prometheus tells of each.
func (s *stack) alerted(t *testing.T, key, body string) {
	t.Helper()
	s.kill(t, "receiver")
	s.ask(t, key, body, "second")
	s.approve(t)
	s.fires(t, "StepupWebhooksFailing", "")
	s.kill(t, "worker-2")
	s.fires(t, "StepupDown", s.ports["worker-2:8081"])
	s.fires(t, "StepupOneWorker", "")
	s.explained(t)
	s.kill(t, "worker")
	s.fires(t, "StepupNoWorker", "")
	s.kill(t, "redis")
	s.fires(t, "StepupNotReady", s.ports["api:8081"])
	s.kill(t, "api")
	s.fires(t, "StepupNoAPI", "")
}

func (s *stack) fires(t *testing.T, alert, instance string) {
	t.Helper()
	eventually(t, "the alert "+alert+" fires", func() bool { return slices.Contains(s.firing(t), alert+" "+instance) })
}

// explained follows the links of what fires, as an operator does. What stands before the path is the stack's own address.
func (s *stack) explained(t *testing.T) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.root, "etc/stepup/secrets/admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range s.alerts(t) {
		link, err := url.Parse(a.Annotations["runbook_url"])
		if err != nil || link.Host != "127.0.0.1:8081" {
			t.Fatalf("%s has the link %q", a.Labels["alertname"], a.Annotations["runbook_url"])
		}
		req, err := http.NewRequest(http.MethodGet, "http://"+s.ports["api:8081"]+link.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+string(token))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if page, err := io.ReadAll(res.Body); err != nil || link.Fragment == "" || !strings.Contains(string(page), `id="`+link.Fragment+`"`) {
			t.Errorf("%s: nothing on it behind %s: %d, %v", a.Labels["alertname"], link, res.StatusCode, err)
		}
	}
}

func (s *stack) kill(t *testing.T, name string) {
	t.Helper()
	if err := s.procs[name].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = s.procs[name].Wait() // says that it was killed
}

// query has the values of an instant query.
func (s *stack) query(t *testing.T, promql string) (values []string) {
	t.Helper()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	s.prometheus(t, "/api/v1/query?query="+url.QueryEscape(promql), &answer)
	for _, r := range answer.Data.Result {
		values = append(values, r.Value[1].(string))
	}
	return values
}

// machineIsBusy are alerts that may be right where other tests take the CPU.
var machineIsBusy = []string{"StepupLeaseLapsed", "StepupPollsLate", "StepupWebhooksLate", "StepupAPISlow"}

type firingAlert struct {
	Labels, Annotations map[string]string
	State               string
}

// alerts are those that fire.
func (s *stack) alerts(t *testing.T) []firingAlert {
	t.Helper()
	var answer struct {
		Data struct{ Alerts []firingAlert }
	}
	s.prometheus(t, "/api/v1/alerts", &answer)
	return slices.DeleteFunc(answer.Data.Alerts, func(a firingAlert) bool { return a.State != "firing" })
}

// firing are the names of alerts that fire, with the instance that each is about.
func (s *stack) firing(t *testing.T) (names []string) {
	t.Helper()
	for _, a := range s.alerts(t) {
		if name := a.Labels["alertname"]; !slices.Contains(machineIsBusy, name) {
			names = append(names, name+" "+a.Labels["instance"])
		}
	}
	return names
}

func (s *stack) prometheus(t *testing.T, path string, into any) {
	t.Helper()
	res, err := http.Get("http://" + s.ports["prometheus:9090"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
