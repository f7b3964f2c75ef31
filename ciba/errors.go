package ciba

import (
	"fmt"
	"log/slog"
	"time"
)

// Detail is what may be logged of a provider's answer. No error of this package holds or prints more of it: never a hint, an auth_req_id,
// a token, a body or an error_description.
type Detail struct {
	Status  int    // HTTP status; 0: there was no answer
	ID      string // the provider's error "id", at most 128 characters of [A-Za-z0-9._:/-], else empty
	TraceID string // its "trace_id", under the same rule
}

// Pending: the person has not answered yet (authorization_pending).
type Pending struct {
	Detail
	// Held is how long the answer took once there was a connection to ask on: neither discovery nor a slow dial is in it. A provider may
	// hold a request (CIBA §10.1).
	Held time.Duration
}

// SlowDown: as Pending, and this and every later poll waits 5 s longer (CIBA §11).
type SlowDown struct{ Detail }

// Refusal is the provider's "no" in words: an error code in a 400, 401 or 403 with a JSON body.
//
// Code is the OAuth or CIBA code, or "other" for one that neither specification names. With Status 0 the refusal is ours (see
// Client.Check) and nothing was sent.
type Refusal struct {
	Detail
	Code string
}

// Transient: nothing was consumed, the same request may be sent again after RetryAfter (0: the provider named no time; at most 1 h).
type Transient struct {
	Detail
	RetryAfter time.Duration
	Err        error
}

// Ambiguous: a request was sent and nobody knows what became of it: it may have pushed to a phone, or used up the auth_req_id. Alarm says
// that somebody should look: the answer was complete and not the protocol's (a redirect, a page, a 403 without JSON).
type Ambiguous struct {
	Detail
	RetryAfter time.Duration
	Alarm      bool
	Err        error
}

// Unverified: there is an ID token and the keys in hand cannot judge it. Keep it, RefreshKeys, Open again: the provider gives it once.
// It prints without the token.
type Unverified struct {
	IDToken string
	Err     error
}

// Untrusted: there is an answer and it must not be believed. Mismatch says that the token is good but answers another question
// (another person, another acr). Reason is one of this package's fixed phrases.
type Untrusted struct {
	Mismatch bool
	Reason   string
}

func (e *Pending) Error() string   { return "authorization pending" }
func (e *SlowDown) Error() string  { return "asked to slow down" }
func (e *Refusal) Error() string   { return fmt.Sprintf("refused with status %d: %s", e.Status, e.Code) }
func (e *Transient) Error() string { return e.Detail.text("not processed", e.Err) }
func (e *Ambiguous) Error() string { return e.Detail.text("outcome not known", e.Err) }
func (e *Untrusted) Error() string { return "answer not trusted: " + e.Reason }

func (e *Unverified) Error() string { return fmt.Sprintf("ID token not verified yet: %v", e.Err) }

func (e *Transient) Unwrap() error  { return e.Err }
func (e *Ambiguous) Unwrap() error  { return e.Err }
func (e *Unverified) Unwrap() error { return e.Err }

// Format, MarshalText and LogValue have value receivers, so that a copy does not print the token either.

func (e Unverified) Format(f fmt.State, _ rune)   { fmt.Fprint(f, e.Error()) }
func (e Unverified) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }
func (e Unverified) LogValue() slog.Value         { return slog.StringValue(e.Error()) }

func (d Detail) text(what string, cause error) string {
	switch {
	case d.Status == 0:
		return fmt.Sprintf("%s: %v", what, cause)
	case cause == nil:
		return fmt.Sprintf("%s: status %d", what, d.Status)
	}
	return fmt.Sprintf("%s: status %d: %v", what, d.Status, cause)
}
