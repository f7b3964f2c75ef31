package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	_ "crypto/sha512" // ES384 and ES512
	"encoding/json"
	"errors"
	"fmt"
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

// Assertion is a client assertion (RFC 7523 §3, as private_key_jwt) signed by the first sig key. Audience is one string. It is good
// for 120 s from now, whole seconds, and for one request: every request takes a fresh one, because providers remember its jti.
func (k *Keys) Assertion(clientID, audience string, now time.Time) (string, error) {
	if clientID == "" || audience == "" {
		return "", errors.New("making assertion: client id and audience must be set")
	}
	iat := now.Unix()
	claims, err := json.Marshal(struct {
		Iss string `json:"iss"`
		Sub string `json:"sub"`
		Aud string `json:"aud"`
		Iat int64  `json:"iat"`
		Exp int64  `json:"exp"`
		Jti string `json:"jti"`
	}{clientID, clientID, audience, iat, iat + lifetime, rand.Text()})
	if err != nil {
		return "", fmt.Errorf("making assertion: %w", err)
	}
	s := k.sig[0]
	size := curves[s.jwk.Crv].size
	out := make([]byte, 0, len(s.header)+base64url.EncodedLen(len(claims))+base64url.EncodedLen(2*size)+2)
	out = append(out, s.header...)
	out = append(out, '.')
	out = base64url.AppendEncode(out, claims)
	h := hashes[s.jwk.Alg].New()
	h.Write(out)
	r, v, err := ecdsa.Sign(rand.Reader, s.private, h.Sum(nil))
	if err != nil {
		return "", fmt.Errorf("signing assertion: %w", err)
	}
	// RFC 7518 §3.4: R ‖ S, each as wide as the curve's order.
	sig := make([]byte, 2*size)
	r.FillBytes(sig[:size])
	v.FillBytes(sig[size:])
	out = append(out, '.')
	return string(base64url.AppendEncode(out, sig)), nil
}
