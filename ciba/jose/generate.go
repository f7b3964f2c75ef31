package jose

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
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

// Rotate gives the private JWKS with one more key of that use, sig or enc, of the first one's algorithm and on its curve, or as long.
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
		next, err := keys.nextEnc(now)
		if err != nil {
			return nil, err
		}
		return pretty(append([]json.RawMessage{next}, raw...))
	}
	return nil, errors.New("rotating keys: use must be sig or enc")
}

// nextEnc makes an enc key like the first one.
func (k *Keys) nextEnc(now time.Time) (json.RawMessage, error) {
	if len(k.enc) == 0 {
		return newKey("enc", "ECDH-ES+A256KW", elliptic.P256(), now)
	}
	if first := k.enc[0]; first.rsa == nil {
		return newKey("enc", first.jwk.Alg, first.ec.Curve, now)
	}
	return newRSA(k.enc[0].rsa.N.BitLen(), now)
}

// newKid: the date is for people, the random part keeps two rotations of one day apart.
func newKid(use string, now time.Time) string {
	return fmt.Sprintf("%s-%s-%s", use, now.UTC().Format(time.DateOnly), strings.ToLower(rand.Text()[:8]))
}

// newRSA writes every member that RFC 7518 §6.3.2 asks producers for, also those that ReadKeys computes by itself.
func newRSA(bits int, now time.Time) (json.RawMessage, error) {
	private, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making enc key: %w", err)
	}
	k, pre := textRSA(private, newKid("enc", now)), private.Precomputed
	size := (bits + 15) / 16 // bytes of a prime
	k.D = encode(private.D.FillBytes(make([]byte, private.Size())))
	k.P, k.Q = encode(private.Primes[0].FillBytes(make([]byte, size))), encode(private.Primes[1].FillBytes(make([]byte, size)))
	k.Dp, k.Dq = encode(pre.Dp.FillBytes(make([]byte, size))), encode(pre.Dq.FillBytes(make([]byte, size)))
	k.Qi = encode(pre.Qinv.FillBytes(make([]byte, size)))
	return json.Marshal(k)
}

func newKey(use, alg string, curve elliptic.Curve, now time.Time) (json.RawMessage, error) {
	private, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making %s key: %w", use, err)
	}
	k := text(private, use, alg, newKid(use, now))
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
