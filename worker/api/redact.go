package api

import (
	"fmt"
	"io"
	"log/slog"
)

// A hash says nothing of its key, but whoever has it can recognise one: it is not for logs either.
const redacted = "[redacted]"

func (KeyHash) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (KeyHash) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (KeyHash) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (Caller) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
func (Caller) LogValue() slog.Value       { return slog.StringValue(redacted) }

func (Callers) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }
func (Callers) LogValue() slog.Value       { return slog.StringValue(redacted) }
