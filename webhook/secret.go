package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const (
	secretPrefix  = "whsec_" // symmetric, v1: both sides have it
	privatePrefix = "whsk_"  // asymmetric, v1a: the sender's half
	publicPrefix  = "whpk_"  // the receivers' half
	redacted      = "[redacted]"
)

// maxKeys bounds a file, and with it the webhook-signature header: to 1.5 KB, where servers
// read 8 KB of headers and more. Our own rule.
const maxKeys = 16

// hidden bytes print as "[redacted]" in every way that fmt, slog and the encoders have.
type hidden struct {
	// A closure, because fmt prints the unexported fields of an enclosing struct without
	// asking any method; of a function it knows only the address.
	key func() []byte
}

// Format implements fmt.Formatter for every verb.
func (hidden) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (hidden) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler; encoding/json and YAML use it too.
func (hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Secret is what a sender signs with: a `whsec_` secret that its receivers have too (v1), or
// a `whsk_` key that nobody else has (v1a). It prints as "[redacted]". The zero value signs
// nothing.
type Secret struct {
	hidden            // v1a: the private key, 64 bytes
	asymmetric bool   // v1a
	id         string // see KeyID
}

// Key is what a receiver verifies with: the sender's `whsec_` secret (v1) or its `whpk_`
// public key (v1a). It prints as "[redacted]". The zero value verifies nothing.
type Key struct {
	hidden          // v1a: the public key, 32 bytes
	asymmetric bool // v1a
}

// NewSecret returns a new random `whsec_` secret of 32 bytes as a line for a secrets file.
func NewSecret() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails: crypto/rand ends the process instead
	return encode(secretPrefix, key)
}

// NewKeyPair returns a new ed25519 key: its `whsk_` line for a secrets file, which is the
// seed, and the `whpk_` line for the receivers.
func NewKeyPair() (private, public string) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return encode(privatePrefix, seed), encode(publicPrefix, publicHalf(ed25519.NewKeyFromSeed(seed)))
}

// PublicKey is the `whpk_` line that belongs to a `whsk_` key; empty for a `whsec_` secret,
// which has no part that may be told.
func (s Secret) PublicKey() string {
	if s.key == nil || !s.asymmetric {
		return ""
	}
	return encode(publicPrefix, publicHalf(s.key()))
}

// KeyID names the key where nobody may see it, in logs: a `whsk_` key by the kid that KeySet
// gives it, a `whsec_` secret by 8 hexadecimal digits of a hash. Empty for the zero value.
func (s Secret) KeyID() string { return s.id }

// keyID is what KeyID says of a key.
func (l line) keyID() string {
	if l.prefix == privatePrefix {
		return toJWK(publicHalf(l.key)).Kid
	}
	sum := sha256.Sum256(append([]byte("stepup webhook key id\x00"), l.key...))
	return hex.EncodeToString(sum[:4])
}

// Keys are what verifies the signatures of secrets, for a receiver that has the sender's file.
func Keys(secrets []Secret) []Key {
	var all []Key
	for _, s := range secrets {
		switch {
		case s.key == nil:
		case s.asymmetric:
			public := publicHalf(s.key())
			all = append(all, Key{hidden{func() []byte { return public }}, true})
		default:
			all = append(all, Key{s.hidden, false})
		}
	}
	return all
}

// ParseSecrets reads a sender's secrets file: a `whsec_<base64>` of 24 to 64 bytes or a
// `whsk_<base64>` a line, empty lines and # comments between them. Both forms of `whsk_` that
// are in use are read: the 32-byte seed and the 64-byte private key. The error joins every
// mistake; each names its line and never shows it.
func ParseSecrets(file []byte) ([]Secret, error) {
	lines, err := parse(file, secretPrefix, privatePrefix)
	if err != nil {
		return nil, err
	}
	var all []Secret
	for _, l := range lines {
		all = append(all, Secret{hidden{func() []byte { return l.key }}, l.prefix == privatePrefix, l.keyID()})
	}
	return all, nil
}

// ParseKeys reads a receiver's keys: lines as for ParseSecrets, but with `whpk_<base64>` in
// place of `whsk_`.
func ParseKeys(file []byte) ([]Key, error) {
	lines, err := parse(file, secretPrefix, publicPrefix)
	if err != nil {
		return nil, err
	}
	var all []Key
	for _, l := range lines {
		all = append(all, Key{hidden{func() []byte { return l.key }}, l.prefix == publicPrefix})
	}
	return all, nil
}

// line is a key as it stands in a file, a seed completed to its private key.
type line struct {
	prefix string
	key    []byte
}

// parse reads the lines of a file that may have two kinds of them.
func parse(file []byte, symmetric, asymmetric string) ([]line, error) {
	var (
		all   []line
		wrong []error
		seen  = map[string]int{} // key -> line
		n     int
	)
	for raw := range bytes.Lines(file) {
		n++
		text := strings.TrimSpace(string(raw))
		if text == "" || text[0] == '#' {
			continue
		}
		l, err := parseLine(text, symmetric, asymmetric)
		for _, form := range l.forms() {
			if first := seen[form]; first != 0 && first != n {
				err = fmt.Errorf("the same key as line %d; remove one of them", first)
				break
			}
			seen[form] = n
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		all = append(all, l)
	}
	switch {
	case len(wrong) > 0:
		return nil, errors.Join(wrong...)
	case len(all) == 0:
		return nil, fmt.Errorf("no key in it; add at least one line `%s<base64>` or `%s<base64>`, as `stepup keygen --webhook FILE` makes them",
			symmetric, asymmetric)
	case len(all) > maxKeys:
		return nil, fmt.Errorf("%d keys in it, and at most %d are used side by side; remove the old ones", len(all), maxKeys)
	}
	return all, nil
}

// forms are the bytes that must not come twice: a key in its other length, or a public key or
// a seed that also serves as a shared secret, would let a receiver sign in the sender's name.
func (l line) forms() []string {
	switch {
	case l.key == nil:
		return nil
	case l.prefix == privatePrefix:
		return []string{string(l.key), string(l.key[:ed25519.SeedSize]), string(publicHalf(l.key))}
	}
	return []string{string(l.key)}
}

func parseLine(text, symmetric, asymmetric string) (line, error) {
	prefix := symmetric
	if strings.HasPrefix(text, asymmetric) {
		prefix = asymmetric
	}
	encoded, ok := strings.CutPrefix(text, prefix)
	switch {
	case !ok && strings.HasPrefix(text, publicPrefix):
		return line{}, errors.New("whpk_ is the receivers' half of a key; here its whsk_ must stand, which `stepup keygen` wrote")
	case !ok && strings.HasPrefix(text, privatePrefix):
		return line{}, errors.New("whsk_ is the sender's half of a key, nobody else's; here its whpk_ must stand, which `stepup keygen` printed")
	case !ok:
		return line{}, fmt.Errorf("a key must begin with %s or %s; `stepup keygen --webhook FILE` makes one", symmetric, asymmetric)
	}
	// The decoder skips line breaks, and a lone CR is one.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsRune(encoded, '\r') {
		return line{}, fmt.Errorf("what follows %s must be standard base64 with padding; copy it whole", prefix) // err would tell where
	}
	if key, err = complete(prefix, key); err != nil {
		return line{}, err
	}
	return line{prefix, key}, nil
}

// complete checks a key's length, and brings a private key into one form.
func complete(prefix string, key []byte) ([]byte, error) {
	switch prefix {
	case privatePrefix:
		if len(key) != ed25519.SeedSize && len(key) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("a whsk_ key must have 32 bytes (the seed) or 64 (seed and public key), this one has %d; "+
				"`stepup keygen --webhook FILE --kind ed25519` makes one", len(key))
		}
		private := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
		if len(key) == ed25519.PrivateKeySize && !bytes.Equal(private, key) {
			return nil, errors.New("the second half of this whsk_ key is not the public key of its first half; copy it whole")
		}
		return private, nil
	case publicPrefix:
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("a whpk_ key must have 32 bytes, this one has %d; copy it whole", len(key))
		}
		return key, nil
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("a secret must have 24 to 64 bytes, this one has %d; `stepup keygen --webhook FILE` writes one", len(key))
	}
	return key, nil
}

// publicHalf is the second half of a private key of 64 bytes (RFC 8032 has the seed alone;
// crypto/ed25519 keeps both).
func publicHalf(private []byte) []byte { return private[ed25519.SeedSize:] }

func encode(prefix string, key []byte) string {
	return prefix + base64.StdEncoding.EncodeToString(key)
}
