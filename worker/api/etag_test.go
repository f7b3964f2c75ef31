package api_test

import (
	"context"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"stepup/worker"
)

const own = "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA"

// final is an approved step-up with everything that one can have.
func final() worker.StepUp {
	v := pending("su_00LEDGERAAAAAAAAAAAAAA")
	at := func(s int) *worker.Time { return &worker.Time{Time: v.CreatedAt.Add(time.Duration(s) * time.Second)} }
	reference, nric, status := "txn-881", "S1234567D", 204
	v.Status, v.Reference, v.Metadata = worker.Approved, &reference, map[string]string{"till": "4"}
	v.ExpiresAt, v.CompletedAt, v.ResultExpiresAt = at(120), at(16), at(916)
	v.Identity = &worker.Identity{Subject: "s=S1234567D", Bound: true, NRIC: &nric, AMR: []string{}, Claims: map[string]any{"sub": "s=S1234567D"}}
	v.Deliveries = []worker.DeliveryView{{Webhook: "ledger", Status: worker.DeliveryPending, Attempts: 1, LastStatus: &status, NextAttemptAt: at(20)}}
	return v
}

func (b *bank) tagOf(v worker.StepUp) string {
	b.service.shown = &v
	return b.do(b.request("GET", own, "")).Header().Get("ETag")
}

// The ETag is strong and another one whenever the answer is; it does not depend on what a person could be guessed by.
func TestETag(t *testing.T) {
	b := newBank(t)
	tag := b.tagOf(final())
	if !regexp.MustCompile(`^"[A-Za-z0-9_-]{22}"$`).MatchString(tag) || b.tagOf(final()) != tag {
		t.Fatalf("ETag %s, then %s", tag, b.tagOf(final()))
	}
	later := &worker.Time{Time: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	for name, change := range map[string]func(*worker.StepUp){
		"status":            func(v *worker.StepUp) { *v = pending(v.ID) },
		"purged":            func(v *worker.StepUp) { v.Identity, v.PurgedAt = nil, later },
		"identity gone":     func(v *worker.StepUp) { v.Identity = nil },
		"reference gone":    func(v *worker.StepUp) { v.Reference = nil },
		"metadata gone":     func(v *worker.StepUp) { v.Metadata = map[string]string{} },
		"expires":           func(v *worker.StepUp) { v.ExpiresAt = later },
		"completed":         func(v *worker.StepUp) { v.CompletedAt = later },
		"result expires":    func(v *worker.StepUp) { v.ResultExpiresAt = later },
		"delivery status":   func(v *worker.StepUp) { v.Deliveries[0].Status = worker.DeliveryDelivered },
		"delivery attempts": func(v *worker.StepUp) { v.Deliveries[0].Attempts = 2 },
		"delivery's answer": func(v *worker.StepUp) { v.Deliveries[0].LastStatus = nil },
		"next attempt":      func(v *worker.StepUp) { v.Deliveries[0].NextAttemptAt = later },
		"another delivery":  func(v *worker.StepUp) { v.Deliveries = append(v.Deliveries, v.Deliveries[0]) },
		"another's step-up": func(v *worker.StepUp) { v.ID = "su_00CARDSAAAAAAAAAAAAAAA" },
		"provider":          func(v *worker.StepUp) { v.Provider = "other" },
		"created":           func(v *worker.StepUp) { v.CreatedAt = *later },
	} {
		v := final()
		change(&v)
		if got := b.tagOf(v); got == tag || got == "" {
			t.Errorf("%s changes, the ETag does not: %s", name, got)
		}
	}
	for name, change := range map[string]func(*worker.StepUp){
		"identity":  func(v *worker.StepUp) { *v.Identity.NRIC = "T0000001E" },
		"claims":    func(v *worker.StepUp) { v.Identity.Claims["sub"] = "another" },
		"reference": func(v *worker.StepUp) { *v.Reference = "txn-1" },
		"metadata":  func(v *worker.StepUp) { v.Metadata["till"] = "5" },
	} {
		v := final()
		change(&v)
		if b.tagOf(v) != tag {
			t.Errorf("the ETag depends on the %s, so that it can be guessed", name)
		}
	}
}

// RFC 9110 §13.1.2.
func TestIfNoneMatch(t *testing.T) {
	b := newBank(t)
	tag := b.tagOf(final())
	for _, tt := range []struct {
		name   string
		lines  []string
		status int
	}{
		{"none", nil, 200},
		{"the tag", []string{tag}, 304},
		{"the tag, weak", []string{"W/" + tag}, 304},
		{"any", []string{" * "}, 304},
		{"a list", []string{`"a", W/"b,c" ,` + tag}, 304},
		{"a list with gaps", []string{`,, ` + tag + `,`}, 304},
		{"a list over two lines", []string{`"a"`, tag}, 304},
		{"another", []string{`"a"`}, 200},
		{"without quotes", []string{tag[1 : len(tag)-1]}, 200},
		{"half of it", []string{tag[:10]}, 200},
		{"part of another", []string{`"a` + tag[1:]}, 200},
		{"inside another", []string{`"a,` + tag[1:len(tag)-1] + `,b"`}, 200},
		{"weak in another case", []string{"w/" + tag}, 200},
		{"nothing in a list", []string{","}, 200},
		{"broken off", []string{`"`}, 200},
		{"any among others", []string{`"a", *`}, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := b.request("GET", own, "")
			for _, line := range tt.lines {
				r.Header.Add("If-None-Match", line)
			}
			w := b.do(r)
			if w.Code != tt.status || w.Header().Get("ETag") != tag || (w.Body.Len() == 0) != (tt.status == 304) {
				t.Errorf("%d %v %s, want %d", w.Code, w.Header(), w.Body, tt.status)
			}
		})
	}
}

// A wait ends with 304 when nothing has changed, and with the step-up when something has.
func TestIfNoneMatchAfterAWait(t *testing.T) {
	b := newBank(t)
	before := pending("su_00LEDGERAAAAAAAAAAAAAA")
	tag := b.tagOf(before)
	waited := false
	b.service.wait = func(context.Context, time.Duration) error { waited = true; return nil }
	ask := func() *httptest.ResponseRecorder {
		r := b.request("GET", own+"?wait=30s", "")
		r.Header.Set("If-None-Match", tag)
		return b.do(r)
	}
	if w := ask(); w.Code != 304 || !waited {
		t.Errorf("nothing changed: %d, waited %t", w.Code, waited)
	}
	after := final()
	b.service.shown = &after
	if w := ask(); w.Code != 200 || w.Header().Get("ETag") == tag {
		t.Errorf("it is final: %d %v", w.Code, w.Header())
	}
}
