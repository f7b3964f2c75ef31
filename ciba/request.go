package ciba

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Private keeps the struct that embeds it off every printed line: fmt with any verb, and slog. What is inside is for
// json.Marshal, on the way into a sealed record or to the caller.
type Private struct{}

const private = "[private]"

func (Private) Format(f fmt.State, _ rune) { io.WriteString(f, private) }
func (Private) LogValue() slog.Value       { return slog.StringValue(private) }

// Unsaid is Private for what nobody stores or answers with as it is: encoders of text do not tell it either.
type Unsaid struct{ Private }

func (Unsaid) MarshalText() ([]byte, error) { return []byte(private), nil }

// Request is one question to one person (CIBA §7.1). It is personal data and prints as nothing; only json.Marshal tells it.
type Request struct {
	Private
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
	Unsaid
	AuthReqID string
	ExpiresIn time.Duration // from when the provider received the request; 1 s to 1 h
	Interval  time.Duration // 1 to 60 s; 0: the provider named none, so 5 s holds
}
