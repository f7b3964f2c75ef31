package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	secretPrefix = "whsec_"
	redacted     = "[redacted]"
)

// Secret is a symmetric signing key. It prints as "[redacted]" in every way that fmt, slog
// and the encoders have. The zero value signs nothing and verifies nothing.
type Secret struct {
	// A closure, because fmt prints the unexported fields of an enclosing struct without
	// asking any method; of a function it knows only the address.
	key func() []byte
}

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler; encoding/json and YAML use it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// signature is the v1 signature of Standard Webhooks 1.0.0, "Signature scheme": the base64
// of HMAC-SHA256 over id, timestamp and body with dots between them. timestamp is taken as
// the text of the header, so only its one spelling verifies.
func (s Secret) signature(id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, s.key())
	for _, part := range [][]byte{[]byte(id), []byte("."), []byte(timestamp), []byte("."), body} {
		mac.Write(part)
	}
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Sign returns the webhook-signature header of a message that is sent at the given time: one
// `v1,…` for each secret, with blanks between them, so that receivers can change theirs at
// their own time. It returns "" when there is no secret.
func Sign(secrets []Secret, id string, at time.Time, body []byte) string {
	var all []string
	for _, s := range secrets {
		if s.key != nil {
			all = append(all, "v1,"+s.signature(id, strconv.FormatInt(at.Unix(), 10), body))
		}
	}
	return strings.Join(all, " ")
}

// NewSecret returns a new random secret of 32 bytes as a line for a secrets file.
func NewSecret() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseSecrets reads a secrets file: one `whsec_<base64>` a line, 24 to 64 bytes each as the
// specification advises, empty lines and # comments between them. The error joins every
// mistake; each names its line and never shows it.
func ParseSecrets(file []byte) ([]Secret, error) {
	var (
		secrets []Secret
		wrong   []error
		seen    = map[string]int{} // key -> line
		n       int
	)
	for line := range bytes.Lines(file) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		key, err := parseSecret(text)
		if err == nil && seen[string(key)] != 0 {
			err = fmt.Errorf("the same secret as line %d; remove one of them", seen[string(key)])
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		seen[string(key)] = n
		secrets = append(secrets, Secret{key: func() []byte { return key }})
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	if len(secrets) == 0 {
		return nil, errors.New("no secret in it; add at least one line `whsec_<base64>`, as `stepup keygen --webhook FILE` writes it")
	}
	return secrets, nil
}

func parseSecret(text string) ([]byte, error) {
	if strings.HasPrefix(text, "whsk_") {
		return nil, errors.New("asymmetric keys (whsk_) are not available in this version; use `whsec_<base64>`")
	}
	encoded, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, errors.New("a secret must begin with whsec_; `stepup keygen --webhook FILE` writes one")
	}
	// The decoder skips line breaks, and a lone CR is one.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsRune(encoded, '\r') {
		return nil, errors.New("what follows whsec_ must be standard base64 with padding; copy it whole") // err would tell where
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("a secret must have 24 to 64 bytes, this one has %d; `stepup keygen --webhook FILE` writes one", len(key))
	}
	return key, nil
}
