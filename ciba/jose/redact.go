package jose

import (
	"fmt"
	"io"
	"log/slog"
)

// Keys, Asserter, Token and Subject never print what they hold, whichever way they are printed: fmt with any verb, slog as text or JSON, encoding/json.
const redacted = "[redacted]"

func (Keys) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Keys) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Keys) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (Asserter) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Asserter) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Asserter) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (Token) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Token) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (Subject) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Subject) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Subject) MarshalText() ([]byte, error) { return []byte(redacted), nil }
