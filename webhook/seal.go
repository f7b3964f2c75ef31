package webhook

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
)

// What content is encrypted with, always and only (RFC 7518 §4.6 and §5.3).
const (
	wrapAlg    = jwa.ECDH_ES_A256KW
	contentAlg = jwa.A256GCM
	innerType  = "json" // cty
)

// Recipient is a subscriber's public key, which events are encrypted to. Nothing in it is
// secret; it prints as its key id. It may be used by many goroutines.
type Recipient struct {
	kid string
	key *ecdsa.PublicKey
}

// ParseRecipient reads a subscriber's public JSON Web Key Set of at most 64 KiB. The first key
// that can be encrypted to does it: EC on P-256, P-384 or P-521 with a kid, `use` absent or
// enc, and `alg` absent or ECDH-ES+A256KW. Keys for other purposes are passed over, but a set
// with anything private in it is refused: its owner has given it away. The error joins every
// mistake; each names its key by position and never shows it.
func ParseRecipient(jwks []byte) (*Recipient, error) {
	set, err := readKeySet(jwks)
	if err != nil {
		return nil, err
	}
	if err := set.public(); err != nil {
		return nil, err
	}
	keys, err := set.usable()
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errors.New("no key to encrypt to; it must have an EC key on P-256, P-384 or P-521 with a kid, use enc and " +
			"alg ECDH-ES+A256KW, such as `stepup keygen --webhook FILE --kind encryption` prints for the receiver")
	}
	return &Recipient{keys[0].kid, keys[0].public}, nil
}

// KeyID is the kid of the key that encrypts.
func (r *Recipient) KeyID() string { return r.kid }

// Encrypt is a JWE of plain in compact form, which only the subscriber can open: our side
// keeps nothing that could. The header tells the algorithms, the key id, the ephemeral key
// and that JSON is inside. Nothing is compressed, so the length tells nothing but itself.
func (r *Recipient) Encrypt(plain []byte) (string, error) {
	head := jwe.NewHeaders()
	if err := errors.Join(head.Set(jwe.KeyIDKey, r.kid), head.Set(jwe.ContentTypeKey, innerType)); err != nil {
		return "", fmt.Errorf("encrypting to a subscriber: %w", err)
	}
	token, err := jwe.Encrypt(plain, jwe.WithKey(wrapAlg, r.key), jwe.WithContentEncryption(contentAlg), jwe.WithProtectedHeaders(head))
	if err != nil {
		return "", fmt.Errorf("encrypting to a subscriber: %w", err)
	}
	return string(token), nil
}

func (r Recipient) text() string { return "[recipient " + r.kid + "]" }

// Format implements fmt.Formatter for every verb.
func (r Recipient) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.text()) }

// LogValue implements slog.LogValuer.
func (r Recipient) LogValue() slog.Value { return slog.StringValue(r.text()) }

// MarshalText implements encoding.TextMarshaler.
func (r Recipient) MarshalText() ([]byte, error) { return []byte(r.text()), nil }
