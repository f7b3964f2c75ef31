package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const (
	bankTrace = "0af7651916cd43dd8448eb211c80319c"
	bankSpan  = "b7ad6b7169203331"
)

// child is a `stepup serve` of its own, which can be killed.
type child struct {
	cmd   *exec.Cmd
	log   *logText
	admin string
}

// serveApart starts one with the world's configuration and waits until it is ready.
func (w *world) serveApart(t *testing.T, role string, variables ...string) *child {
	t.Helper()
	c := &child{cmd: exec.CommandContext(t.Context(), "stepup", "serve", "--config", configFile, "--role", role), log: &logText{}, admin: w.admin}
	c.cmd.Dir, c.cmd.Stderr = w.dir, c.log
	if role == "worker" {
		c.admin = fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1))
		variables = append(variables, "STEPUP_LISTEN_ADMIN="+strings.TrimPrefix(c.admin, "http://"))
	}
	// What is told must be out before the process is killed.
	c.cmd.Env = append(os.Environ(), append(variables, "OTEL_BSP_SCHEDULE_DELAY=100", "OTEL_METRIC_EXPORT_INTERVAL=1000")...)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", role, c.log)
		}
	})
	eventually(t, role+" is ready", func() bool {
		res, err := http.Get(c.admin + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return c
}

// attributesTold are all that a span may have: names from the configuration, ids of our own, statuses and the specifications'
// words.
var attributesTold = []string{
	"http.request.method", "http.route", "http.response.status_code", "url.scheme", "server.address", "server.port", "error.type",
	"stepup.id", "stepup.provider", "stepup.taken_over", "stepup.status", "stepup.reason", "stepup.outcome", "stepup.provider_error_id", "stepup.provider_trace_id",
	"webhook.id", "webhook.outcome",
}

// One step-up is one trace: from the bank's request through the question, the polls of a process that is killed, those of the
// one that takes over, and the webhook, which carries it on.
func TestOneStepUpIsOneTrace(t *testing.T) {
	c := startCollector(t)
	w := prepare(t, func(yaml string) string { return yaml + "telemetry: {otlp_endpoint: \"" + c.url + "\"}\n" })
	first := w.serveApart(t, "all")
	h := w.bank.send(t, http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"`+person(1)+`"}`, "Content-Type", "application/json",
		"Idempotency-Key", "one", "Traceparent", "00-"+bankTrace+"-"+bankSpan+"-01", "Tracestate", "nric="+person(1), "Baggage", "nric="+person(1))
	id := h.text("id")
	if h.status != http.StatusCreated {
		t.Fatalf("%d %s", h.status, h.body)
	}
	second := w.serveApart(t, "worker")
	eventually(t, "two polls are told", func() bool { return len(c.in(bankTrace, "stepup.poll")) >= 2 })
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one has taken over", func() bool { return len(c.in(bankTrace, "stepup.take")) == 2 })
	if err := w.op.Approve(w.op.Prompts()[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	came := <-w.came
	if err := second.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := second.cmd.Wait(); err != nil {
		t.Errorf("the drain: %v", err)
	}
	if second.log.has("telemetry") {
		t.Error("something of the telemetry was not sent")
	}

	asksOnce(t, c)
	pollsGoOn(t, c)
	tells(t, c, came)
	if traces := c.mentions(id); !slices.Equal(traces, []string{bankTrace}) {
		t.Errorf("the step-up is in the traces %v", traces)
	}
	namesNobody(t, c)
	linesOf(t, first.log, "step-up asked", one(t, c, bankTrace, "stepup.ask"))
	linesOf(t, second.log, "step-up final", one(t, c, bankTrace, "stepup.final"))
	linesOf(t, second.log, "webhook attempt", one(t, c, bankTrace, "stepup.deliver"))
	if !c.measured("stepup.created") || !c.measured("stepup.workers") || !c.measured("http.client.request.duration") {
		t.Errorf("measured: %v", c.metrics)
	}
}

// asksOnce: the request stands below the bank's span, and the question below the request.
func asksOnce(t *testing.T, c *collector) {
	t.Helper()
	post, ask, bcAuth := one(t, c, bankTrace, "POST /v1/step-ups"), one(t, c, bankTrace, "stepup.ask"), one(t, c, bankTrace, "bc-auth")
	if hex.EncodeToString(post.ParentSpanId) != bankSpan || post.Kind != tracepb.Span_SPAN_KIND_SERVER || post.about["http.response.status_code"] != "201" {
		t.Errorf("the request is %v", post)
	}
	if !ask.below(post) || !bcAuth.below(ask) || bcAuth.Kind != tracepb.Span_SPAN_KIND_CLIENT {
		t.Errorf("ask is %v, bc-auth %v", ask, bcAuth)
	}
}

// claims are those of the process that was killed and of the one that took over.
func claims(t *testing.T, c *collector) (before, after spanned) {
	t.Helper()
	takes := c.in(bankTrace, "stepup.take")
	if len(takes) != 2 {
		t.Fatalf("%d claims", len(takes))
	}
	return takes[0], takes[1]
}

// pollsGoOn: both processes poll below their claims, each poll is linked to the question, and what the last one brought is verified.
func pollsGoOn(t *testing.T, c *collector) {
	t.Helper()
	ask := one(t, c, bankTrace, "stepup.ask")
	before, after := claims(t, c)
	if !before.below(ask) || !after.below(ask) || before.by != ask.by || after.by == ask.by || before.about["stepup.taken_over"] != "false" || after.about["stepup.taken_over"] != "true" {
		t.Errorf("the claims are %v and %v", before, after)
	}
	by := map[string]int{}
	var last spanned
	for _, p := range c.in(bankTrace, "stepup.poll") {
		if len(p.Links) != 1 || string(p.Links[0].SpanId) != string(ask.SpanId) || string(p.Links[0].TraceId) != string(ask.TraceId) {
			t.Errorf("a poll is linked to %v, want the question", p.Links)
		}
		if !(p.by == before.by && p.below(before) || p.by == after.by && p.below(after)) {
			t.Errorf("a poll stands below %x", p.ParentSpanId)
		}
		if p.Kind != tracepb.Span_SPAN_KIND_CLIENT || p.about["http.response.status_code"] == "" || p.about["stepup.outcome"] == "" {
			t.Errorf("a poll is %v", p)
		}
		by[p.by]++
		last = p
	}
	if by[before.by] < 2 || by[after.by] < 1 || len(by) != 2 || last.about["stepup.outcome"] != "ok" {
		t.Errorf("polls by process: %v; the last one is %v", by, last)
	}
	if verify := one(t, c, bankTrace, "verify"); !verify.below(last) {
		t.Errorf("verify is %v", verify)
	}
	if final := one(t, c, bankTrace, "stepup.final"); !final.below(after) || final.about["stepup.status"] != "approved" {
		t.Errorf("the final state is %v", final)
	}
}

// tells: the webhook is sent below the claim, and carries the trace on.
func tells(t *testing.T, c *collector, came news) {
	t.Helper()
	_, after := claims(t, c)
	deliver, send := one(t, c, bankTrace, "stepup.deliver"), one(t, c, bankTrace, "webhook send")
	if !deliver.below(after) || !send.below(deliver) || send.about["webhook.id"] != came.id || send.Kind != tracepb.Span_SPAN_KIND_CLIENT {
		t.Errorf("the delivery is %v, %v", deliver, send)
	}
	if got, want := came.header.Get("Traceparent"), "00-"+bankTrace+"-"+hex.EncodeToString(send.SpanId)+"-01"; got != want || came.header.Get("Baggage")+came.header.Get("Tracestate") != "" {
		t.Errorf("the webhook carries %q, want %q", got, want)
	}
}

// namesNobody: there are no attributes but those that are known to be harmless.
func namesNobody(t *testing.T, c *collector) {
	t.Helper()
	for _, s := range c.in(bankTrace, "") {
		for _, key := range slices.Sorted(maps.Keys(s.about)) {
			if !slices.Contains(attributesTold, key) {
				t.Errorf("%s has an attribute %s=%s", s.Name, key, s.about[key])
			}
		}
		if len(s.Events) > 0 || s.TraceState != "" {
			t.Errorf("%s has events or a trace state: %v", s.Name, s)
		}
	}
	if c.traced.has(person(1)) || c.counted.has(person(1)) {
		t.Error("the person is in what was exported")
	}
}

// linesOf wants a line of the log to name its span.
func linesOf(t *testing.T, log *logText, msg string, in spanned) {
	t.Helper()
	for text := range strings.Lines(log.String()) {
		var line struct {
			Msg     string
			TraceID string `json:"trace_id"`
			SpanID  string `json:"span_id"`
		}
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == msg {
			if line.TraceID != hex.EncodeToString(in.TraceId) || line.SpanID != hex.EncodeToString(in.SpanId) {
				t.Errorf("%q was written in %s/%s, want %x/%x", msg, line.TraceID, line.SpanID, in.TraceId, in.SpanId)
			}
			return
		}
	}
	t.Errorf("the log has no line %q", msg)
}

// A caller whose trace is not sampled is not traced, and its webhook carries no trace.
func TestNoTraceWhereNoneIsWanted(t *testing.T) {
	c := startCollector(t)
	w := begin(t, func(yaml string) string { return yaml + "telemetry: {otlp_endpoint: \"" + c.url + "\"}\n" })
	h := w.bank.send(t, http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"`+person(1)+`"}`, "Content-Type", "application/json",
		"Idempotency-Key", "one", "Traceparent", "00-"+bankTrace+"-"+bankSpan+"-00")
	if h.status != http.StatusCreated {
		t.Fatalf("%d %s", h.status, h.body)
	}
	if err := w.op.Approve(w.op.Prompts()[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	if came := <-w.came; came.header.Get("Traceparent") != "" {
		t.Errorf("the webhook carries %q", came.header.Get("Traceparent"))
	}
	w.drain(t)
	if traces := c.mentions(h.text("id")); len(traces) != 0 || len(c.in(bankTrace, "")) != 0 {
		t.Errorf("it is in %v", traces)
	}
}

// A collector that is down, or takes connections and says nothing, costs a line in the log, and the drain no more than a few seconds.
func TestCollectorIsDown(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the system takes what connects
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for why, addr := range map[string]string{"connection refused": "127.0.0.1:1", "did not answer in time": silent.Addr().String()} {
		t.Run(why, func(t *testing.T) {
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
			t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "300")
			w := begin(t, func(yaml string) string { return yaml + "telemetry: {otlp_endpoint: \"http://" + addr + "\"}\n" })
			if _, err := w.bank.ask(t.Context(), person(1)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the log says so", func() bool { return w.log.has(why) })
			if err := w.op.Approve(w.op.Prompts()[0].AuthReqID); err != nil {
				t.Fatal(err)
			}
			if came := <-w.came; came.err != nil {
				t.Error(came.err)
			}
			began := time.Now()
			w.drain(t)
			if took := time.Since(began); took > flushWithin+5*time.Second {
				t.Errorf("the drain took %v", took)
			}
			if n := strings.Count(w.log.String(), "telemetry is not sent"); n != 1 {
				t.Errorf("%d lines say that telemetry is not sent", n)
			}
		})
	}
}
