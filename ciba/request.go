package ciba

import (
	"fmt"
	"log/slog"
	"time"
)

// Request is one question to one person (CIBA §7.1). It is personal data and prints as nothing; only json.Marshal tells it.
type Request struct {
	Scope           string `json:"scope,omitempty"` // space separated; empty means "openid"
	LoginHint       string `json:"login_hint,omitempty"`
	LoginHintToken  string `json:"login_hint_token,omitempty"`
	IDTokenHint     string `json:"id_token_hint,omitempty"`
	BindingMessage  string `json:"binding_message,omitempty"`
	ACRValues       string `json:"acr_values,omitempty"` // space separated, in order of preference
	UserCode        string `json:"user_code,omitempty"`
	RequestedExpiry int    `json:"requested_expiry,omitempty"` // seconds; 0: not asked for
}

// FieldError says what is wrong with one member of a Request and never repeats its content.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Ack is the provider's receipt for a Request (CIBA §7.3). AuthReqID is a secret: whoever has it and our keys can fetch the answer.
type Ack struct {
	AuthReqID string
	ExpiresIn time.Duration // from when the provider received the request; 1 s to 1 h
	Interval  time.Duration // 1 to 60 s; 0: the provider named none, so 5 s holds
}

// What these hold is for json.Marshal on the way into a sealed record; on every other way out it is left out.

func (r Request) Format(f fmt.State, _ rune)  { fmt.Fprint(f, "ciba.Request{…}") }
func (r Request) LogValue() slog.Value        { return slog.StringValue("ciba.Request{…}") }
func (a Ack) Format(f fmt.State, _ rune)      { fmt.Fprint(f, "ciba.Ack{…}") }
func (a Ack) LogValue() slog.Value            { return slog.StringValue("ciba.Ack{…}") }
func (i Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, "ciba.Identity{…}") }
func (i Identity) LogValue() slog.Value       { return slog.StringValue("ciba.Identity{…}") }
