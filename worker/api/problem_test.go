package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stepup/worker"
)

type problem struct {
	Type, Title, Detail, Code, ID string
	Status                        int
	Errors                        []worker.FieldError
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) problem {
	t.Helper()
	var p problem
	if ct := w.Header().Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q, want a problem: %s", ct, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if p.Status != w.Code || p.Title == "" || p.Type != "urn:stepup:problem:"+p.Code {
		t.Errorf("HTTP %d, problem %+v", w.Code, p)
	}
	return p
}

// Every row of the error table.
func TestProblems(t *testing.T) {
	tests := []struct {
		code   string
		path   string // of a step-up; empty: a create
		err    worker.Error
		status int
		after  string
	}{
		{code: "invalid_request", status: 400},
		{code: "unauthorized", status: 401},
		{code: "not_found", path: "/cancel", status: 404},
		{code: "already_final", path: "/cancel", status: 409},
		{code: "result_gone", path: "/redeliver", status: 409},
		{code: "idempotency_in_progress", status: 409, after: "1"},
		{code: "idempotency_in_progress", err: worker.Error{RetryAfter: 9 * time.Second}, status: 409, after: "1"},
		{code: "too_large", status: 413},
		{code: "unsupported_media_type", status: 415},
		{code: "idempotency_key_reused", status: 422},
		{code: "unknown_user", status: 422},
		{code: "not_eligible", status: 422},
		{code: "provider_rejected", status: 422},
		{code: "rate_limited", err: worker.Error{RetryAfter: 20 * time.Millisecond}, status: 429, after: "1"},
		{code: "person_busy", err: worker.Error{RetryAfter: 299*time.Second + 1}, status: 429, after: "300"},
		{code: "person_limited", err: worker.Error{RetryAfter: time.Hour}, status: 429, after: "3600"},
		{code: "person_limited", status: 429, after: "1"},
		{code: "provider_unavailable", status: 503, after: "1"},
		{code: "paused", err: worker.Error{RetryAfter: 30 * time.Second}, status: 503, after: "30"},
		{code: "provider_error", status: 502},
		{code: "initiation_unknown", err: worker.Error{ID: "su_00XAAAAAAAAAAAAAAAAAAA"}, status: 502},
		{code: "provider_unavailable", err: worker.Error{RetryAfter: 1500 * time.Millisecond}, status: 503, after: "2"},
		{code: "storage_unavailable", status: 503, after: "1"},
		{code: "overloaded", status: 503, after: "1"},
		{code: "paused", status: 503, after: "1"},
		{code: "draining", status: 503, after: "1"},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			b := newBank(t)
			tt.err.Code = tt.code
			b.service.err = &tt.err
			r := b.request("POST", "/v1/step-ups", goodBody)
			if tt.path != "" {
				r = b.request("POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA"+tt.path, "")
			}
			w := b.do(r)
			p := problemOf(t, w)
			if w.Code != tt.status || p.Code != tt.code || w.Header().Get("Retry-After") != tt.after || p.ID != tt.err.ID || w.Header().Get("Location") != "" {
				t.Errorf("got %d %v %s, want %d, Retry-After %q", w.Code, w.Header(), w.Body, tt.status, tt.after)
			}
			if (w.Header().Get("WWW-Authenticate") != "") != (tt.status == 401) {
				t.Errorf("WWW-Authenticate %q with %d", w.Header().Get("WWW-Authenticate"), tt.status)
			}
		})
	}
}

// A profile's refusals reach the caller field by field.
func TestRefusedFields(t *testing.T) {
	b := newBank(t)
	b.service.err = &worker.Error{Code: "invalid_request", Detail: "The provider would refuse this.",
		Fields: []worker.FieldError{{Field: "login_hint", Message: "give exactly one hint"}, {Field: "user_code", Message: "is not documented"}}}
	p := problemOf(t, b.do(b.request("POST", "/v1/step-ups", `{"provider":"singpass"}`)))
	if p.Status != 400 || p.Detail != "The provider would refuse this." || len(p.Errors) != 2 ||
		p.Errors[0] != (worker.FieldError{Field: "login_hint", Message: "give exactly one hint"}) {
		t.Errorf("%+v", p)
	}
}

// Any other error is nothing to strangers and whole in the log.
func TestInternalErrors(t *testing.T) {
	for name, err := range map[string]error{
		"plain":        errors.New("reading shard 3: broken pipe 10.0.0.7"),
		"unknown code": fmt.Errorf("broken pipe 10.0.0.7: %w", &worker.Error{Code: "new_code", Detail: "inside"}),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t)
			b.service.err = err
			r := b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", "")
			r.Header.Set("X-Request-Id", "3f2b8c1d-0000-4000-8000-000000000077")
			w := b.do(r)
			if p := problemOf(t, w); w.Code != 500 || p.Code != "internal" || strings.Contains(w.Body.String(), "pipe") || strings.Contains(w.Body.String(), "inside") {
				t.Errorf("told a stranger: %d %s", w.Code, w.Body)
			}
			for _, want := range []string{"broken pipe 10.0.0.7", `"request_id":"3f2b8c1d-0000-4000-8000-000000000077"`, `"level":"ERROR"`} {
				if !strings.Contains(b.log.String(), want) {
					t.Errorf("log lacks %s: %s", want, b.log)
				}
			}
		})
	}
}

// The cause around a refusal is logged, not told.
func TestCauseOfARefusal(t *testing.T) {
	b := newBank(t)
	b.service.err = fmt.Errorf("writing intent: i/o timeout: %w", &worker.Error{Code: "storage_unavailable"})
	w := b.do(b.request("POST", "/v1/step-ups", goodBody))
	if w.Code != 503 || strings.Contains(w.Body.String(), "timeout") || !strings.Contains(b.log.String(), "i/o timeout") {
		t.Errorf("%d %s; log %s", w.Code, w.Body, b.log)
	}
}

type boom struct{ secret string }

func TestPanicIs500(t *testing.T) {
	for name, cause := range map[string]func(){
		"a value":       func() { panic(boom{"S1234567D"}) },
		"runtime error": func() { var v any = "S1234567D"; _ = v.(int) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBank(t)
			b.service.seen = func(context.Context) { cause() }
			w := b.do(b.request("POST", "/v1/step-ups", goodBody))
			if problemOf(t, w).Code != "internal" || !strings.Contains(b.log.String(), "problem_test.go") || strings.Contains(b.log.String(), "S1234567D") {
				t.Errorf("%d %s; log %s", w.Code, w.Body, b.log)
			}
		})
	}
}
