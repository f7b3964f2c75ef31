package jose

import (
	"crypto"
	"crypto/rand"
	_ "crypto/sha512" // ES384 and ES512
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// lifetime of a client assertion, in seconds: the most Singpass allows.
const lifetime = 120

// hashes of the signature algorithms (RFC 7518 §3.1).
var hashes = map[string]crypto.Hash{
	"ES256": crypto.SHA256, "ES384": crypto.SHA384, "ES512": crypto.SHA512,
	"PS256": crypto.SHA256, "RS256": crypto.SHA256,
}

func assertionHeader(k jwkText) (string, error) {
	h, err := json.Marshal(struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{"JWT", k.Alg, k.Kid})
	return encode(h), err
}

// Asserter makes the client assertions of one client for one audience (RFC 7523 §3, as private_key_jwt), signed by the first sig key.
// Every request to the provider takes one, so what all of them have in common is rendered once. Many goroutines may use it.
type Asserter struct {
	*signer
	size   int    // bytes of R and of S
	common []byte // the claims up to the time
}

// Asserter is for the client's id and one audience, told as one string.
func (k *Keys) Asserter(clientID, audience string) (*Asserter, error) {
	if clientID == "" || audience == "" {
		return nil, errors.New("making assertions: client id and audience must be set")
	}
	parties, err := json.Marshal(struct {
		Iss string `json:"iss"`
		Sub string `json:"sub"`
		Aud string `json:"aud"`
	}{clientID, clientID, audience})
	if err != nil {
		return nil, fmt.Errorf("making assertions: %w", err)
	}
	s := k.sig[0]
	return &Asserter{signer: s, size: curves[s.jwk.Crv].size, common: append(parties[:len(parties)-1], `,"iat":`...)}, nil
}

// Append appends a fresh assertion to dst. It is good for 120 s from now, whole seconds, and for one request: providers remember its jti.
func (a *Asserter) Append(dst []byte, now time.Time) ([]byte, error) {
	iat := now.Unix()
	claims := make([]byte, 0, len(a.common)+80)
	claims = append(claims, a.common...)
	claims = strconv.AppendInt(claims, iat, 10)
	claims = append(claims, `,"exp":`...)
	claims = strconv.AppendInt(claims, iat+lifetime, 10)
	claims = append(claims, `,"jti":"`...)
	claims = append(claims, rand.Text()...) // letters and digits: nothing to escape
	claims = append(claims, `"}`...)

	start := len(dst)
	dst = append(dst, a.header...)
	dst = append(dst, '.')
	dst = base64url.AppendEncode(dst, claims)
	hash := hashes[a.jwk.Alg]
	h := hash.New()
	h.Write(dst[start:])
	// The nonce comes from key and digest (RFC 6979, FIPS 186-5 §A.3.3): no source of randomness can give the key away, and with a fresh
	// jti no digest comes twice.
	der, err := a.private.Sign(nil, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("signing assertion: %w", err)
	}
	var room [2 * 66]byte // of P-521
	sig := room[:2*a.size]
	if !unwrap(sig, der) {
		return nil, errors.New("signing assertion: the signature has an unknown form")
	}
	return base64url.AppendEncode(append(dst, '.'), sig), nil
}

// unwrap writes a signature as JOSE wants it, R ‖ S, each as wide as the curve's order (RFC 7518 §3.4). What it reads is the standard
// library's: a DER SEQUENCE of two INTEGERs that are not negative (RFC 3279 §2.2.3).
func unwrap(sig, der []byte) bool {
	inner, rest, ok := derValue(der, 0x30)
	if !ok || len(rest) != 0 {
		return false
	}
	half := len(sig) / 2
	for _, to := range [][]byte{sig[:half], sig[half:]} {
		var n []byte
		if n, inner, ok = derValue(inner, 0x02); !ok || len(n) == 0 || n[0] >= 0x80 {
			return false
		}
		if len(n) > 1 && n[0] == 0 { // keeps a number positive whose first bit is set
			if n = n[1:]; n[0] < 0x80 {
				return false
			}
		}
		if len(n) > half {
			return false
		}
		copy(to[half-len(n):], n)
	}
	return len(inner) == 0
}

// derValue cuts the first value off; lengths are below 256.
func derValue(der []byte, tag byte) (value, rest []byte, ok bool) {
	if len(der) < 2 || der[0] != tag {
		return nil, nil, false
	}
	n, der := int(der[1]), der[2:]
	if n == 0x81 && len(der) > 0 && der[0] >= 0x80 {
		n, der = int(der[0]), der[1:]
	} else if n >= 0x80 {
		return nil, nil, false
	}
	if n > len(der) {
		return nil, nil, false
	}
	return der[:n], der[n:], true
}
