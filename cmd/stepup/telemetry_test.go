package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"stepup/config"
	"stepup/worker"
)

// Every line with an alarm is counted, whoever writes it, and no other line is: the alert sends people to the log.
func TestAlarmsAreCounted(t *testing.T) {
	text := &logText{}
	told, err := startTelemetry(t.Context(), config.Exports{}, worker.RoleAll, newLog(text, "json"))
	if err != nil {
		t.Fatal(err)
	}
	defer told.end()
	log, err := countAlarms(newLog(text, "json"), "singpass")
	if err != nil {
		t.Fatal(err)
	}
	counted := func() (lines []string) {
		w := httptest.NewRecorder()
		told.page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		for line := range strings.Lines(w.Body.String()) {
			if strings.HasPrefix(line, "stepup_alarms_total") {
				lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "stepup_alarms_total")))
			}
		}
		return lines
	}
	if got := fmt.Sprint(counted()); got != `[0 {provider="singpass"} 0]` {
		t.Errorf("at first %s", got)
	}
	log.Error("an error", "provider", "singpass")
	log.Error("no alarm", "alarm", false)
	log.Info("alarm", "text", true)
	log.Error("one", "alarm", true)
	log.With("queue", "x").WithGroup("g").Error("two", "id", "su_1", "alarm", true)
	log.ErrorContext(t.Context(), "three", "alarm", true, "provider", "singpass")
	log.With("provider", "singpass").Error("four", "alarm", true, "keys", 2)
	if got := fmt.Sprint(counted()); got != `[2 {provider="singpass"} 2]` {
		t.Errorf("counted %s", got)
	}
	if n := strings.Count(text.String(), `"alarm":true`); n != 4 {
		t.Errorf("%d alarms are in the log, want 4", n)
	}
}

// The log says why telemetry is not sent, in words of ours: what a collector answers may be anything.
func TestWhyTelemetryIsNotSent(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4318}, Err: errors.New("connection refused")}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&url.Error{Op: "Post", URL: "https://canary", Err: refused}, "dial tcp 127.0.0.1:4318: connection refused"},
		{&url.Error{Op: "Post", URL: "https://canary", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}, "certificate does not verify"},
		{&url.Error{Op: "Post", URL: "https://canary", Err: http.ErrSchemeMismatch}, "does not speak TLS"},
		{fmt.Errorf("%w: canary", context.DeadlineExceeded), "did not answer in time"},
		{&url.Error{Op: "Post", URL: "https://canary", Err: errors.New("processor export timeout")}, "did not answer in time"},
		{errors.New("traces export: failed to send to http://x/v1/traces: 401 Unauthorized (body: canary)"), "HTTP status 401"},
		{errors.New("retry-able request failure: body: canary"), "did not take it"},
	} {
		if got := cause(fmt.Errorf("exporting: %w", tt.err)); !strings.Contains(got, tt.want) || strings.Contains(got, "canary") {
			t.Errorf("%v is told as %q, want %q", tt.err, got, tt.want)
		}
	}
}
