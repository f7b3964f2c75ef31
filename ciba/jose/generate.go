package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Generate makes a new private JWKS: one sig key (P-256, ES256) and one enc key (P-256, ECDH-ES+A256KW), their kids from the date.
// It is secret: write it with mode 0600.
func Generate(now time.Time) ([]byte, error) {
	sig, err := newKey("sig", "ES256", elliptic.P256(), now)
	if err != nil {
		return nil, err
	}
	enc, err := newKey("enc", "ECDH-ES+A256KW", elliptic.P256(), now)
	if err != nil {
		return nil, err
	}
	return pretty([]json.RawMessage{sig, enc})
}

// Rotate gives the private JWKS with one more key of that use, sig or enc, on the curve and with the algorithm of the first one there.
// A sig key comes last: it is published at once and signs only when it is moved before the others, after the provider has read the
// set again (Singpass: an hour). An enc key comes first: it is published in place of the old one, which still decrypts.
// The other keys stay as they are.
func Rotate(private []byte, use string, now time.Time) ([]byte, error) {
	keys, raw, err := readKeys(private)
	if err != nil {
		return nil, err
	}
	switch use {
	case "sig":
		first := keys.sig[0]
		next, err := newKey("sig", first.jwk.Alg, first.private.Curve, now)
		if err != nil {
			return nil, err
		}
		return pretty(append(raw, next))
	case "enc":
		alg, curve := "ECDH-ES+A256KW", elliptic.P256()
		if len(keys.enc) > 0 {
			alg, curve = keys.enc[0].jwk.Alg, keys.enc[0].private.Curve
		}
		next, err := newKey("enc", alg, curve, now)
		if err != nil {
			return nil, err
		}
		return pretty(append([]json.RawMessage{next}, raw...))
	}
	return nil, errors.New("rotating keys: use must be sig or enc")
}

func newKey(use, alg string, curve elliptic.Curve, now time.Time) (json.RawMessage, error) {
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making %s key: %w", use, err)
	}
	// The date is for people, the random part keeps two rotations of one day apart.
	kid := fmt.Sprintf("%s-%s-%s", use, now.UTC().Format(time.DateOnly), strings.ToLower(rand.Text()[:8]))
	k := text(private, use, alg, kid)
	d, err := private.Bytes()
	if err != nil {
		return nil, fmt.Errorf("making %s key: %w", use, err)
	}
	k.D = encode(d)
	return json.Marshal(k)
}

func pretty(keys []json.RawMessage) ([]byte, error) {
	b, err := json.MarshalIndent(struct {
		Keys []json.RawMessage `json:"keys"`
	}{keys}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing keys: %w", err)
	}
	return append(b, '\n'), nil
}
