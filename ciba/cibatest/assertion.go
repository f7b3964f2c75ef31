package cibatest

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash/maphash"
	"math/big"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLife = 120.0 // seconds from iat to exp, at most
	clockLeeway   = 60.0  // seconds that iat may lie ahead; this package's own
)

// assertionHead is the protected header of a client assertion.
type assertionHead struct {
	Typ  string `json:"typ"`
	Alg  string `json:"alg"`
	Kid  string `json:"kid"`
	Crit []any  `json:"crit"`
}

// assertionClaims: pointers tell missing from zero, any tells a string from a list.
type assertionClaims struct {
	Iss string   `json:"iss"`
	Sub string   `json:"sub"`
	Aud any      `json:"aud"`
	Jti string   `json:"jti"`
	Iat *float64 `json:"iat"`
	Exp *float64 `json:"exp"`
	Nbf *float64 `json:"nbf"`
}

// authenticate judges the client assertion of a request and returns the client_id (Singpass, "Client Assertion JWT"; RFC 7523 §3).
// Its errors go into error_description and say what is wrong, never what was sent.
func (s *Server) authenticate(ctx context.Context, form url.Values) (string, error) {
	if form.Get("client_assertion_type") != assertionType {
		return "", errors.New("client_assertion_type must be " + assertionType)
	}
	parts := strings.Split(form.Get("client_assertion"), ".")
	if len(parts) != 3 {
		return "", errors.New("client_assertion is not a compact JWS")
	}
	var head assertionHead
	var claims assertionClaims
	if decodeSegment(parts[0], &head) != nil || decodeSegment(parts[1], &claims) != nil {
		return "", errors.New("client_assertion cannot be decoded")
	}
	switch {
	case head.Typ != "JWT":
		return "", errors.New("typ must be JWT")
	case head.Crit != nil:
		return "", errors.New("crit is not understood")
	case head.Alg != "ES256" && head.Alg != "ES384" && head.Alg != "ES512":
		return "", errors.New("alg must be ES256, ES384 or ES512")
	}
	if s.clients.known() {
		key, err := s.clients.signing(ctx, head.Kid)
		if err != nil {
			return "", err
		}
		if key.alg != head.Alg {
			return "", errors.New("alg does not fit the key")
		}
		if !s.cfg.TrustAssertions && !key.verifies(parts) {
			return "", errors.New("the signature does not verify")
		}
	}
	if err := s.judgeClaims(&claims); err != nil {
		return "", err
	}
	if id := form.Get("client_id"); id != "" && id != claims.Sub {
		return "", errors.New("client_id is not the assertion's")
	}
	// Last, so that an assertion refused for another reason does not use its jti up.
	if !s.seen.first(claims.Sub, claims.Jti, time.Unix(int64(*claims.Exp)+1, 0).Add(-s.cfg.Skew)) {
		return "", errors.New("jti was used before")
	}
	return claims.Sub, nil
}

func (s *Server) judgeClaims(c *assertionClaims) error {
	t := s.now()
	now := float64(t.Unix()) + float64(t.Nanosecond())/1e9
	audience, one := c.Aud.(string)
	switch {
	case c.Iss == "" || c.Iss != c.Sub:
		return errors.New("iss and sub must both be the client_id")
	case c.Sub != s.cfg.ClientID && !s.cfg.AllowAnyClient:
		return errors.New("the client is not registered")
	case !one || audience != s.cfg.Audience:
		return errors.New("aud must be the issuer, as one string")
	case c.Jti == "":
		return errors.New("jti is missing")
	case c.Iat == nil || c.Exp == nil:
		return errors.New("iat or exp is missing")
	case *c.Exp <= now:
		return errors.New("exp has passed")
	case *c.Exp > *c.Iat+assertionLife:
		return errors.New("exp is more than 120 s after iat")
	case *c.Iat > now+clockLeeway:
		return errors.New("iat is in the future")
	case c.Nbf != nil && *c.Nbf > now+clockLeeway:
		return errors.New("nbf is in the future")
	}
	return nil
}

func decodeSegment(segment string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// verifies checks a compact JWS; its signature is R||S, each as wide as the curve (RFC 7518 §3.4).
func (k *signKey) verifies(parts []string) bool {
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	width := (k.public.Curve.Params().BitSize + 7) / 8
	if err != nil || len(signature) != 2*width {
		return false
	}
	signed := []byte(parts[0] + "." + parts[1])
	var digest []byte
	switch k.alg {
	case "ES256":
		d := sha256.Sum256(signed)
		digest = d[:]
	case "ES384":
		d := sha512.Sum384(signed)
		digest = d[:]
	default:
		d := sha512.Sum512(signed)
		digest = d[:]
	}
	return ecdsa.Verify(k.public, digest, new(big.Int).SetBytes(signature[:width]), new(big.Int).SetBytes(signature[width:]))
}

// seen remembers each jti until the assertion's exp. It keeps hashes of 64 bits in buckets of 16 s of exp: at 10,000 requests a
// second a fresh jti is taken for a used one about once in half a year.
type seen struct {
	shards [16]struct {
		mu      sync.Mutex
		buckets map[int64]map[uint64]struct{}
	}
}

// first reports whether this is the first use.
func (s *seen) first(client, jti string, until time.Time) bool {
	h := maphash.Comparable(idSeed, [2]string{client, jti})
	sh := &s.shards[h%uint64(len(s.shards))]
	slot, now := until.Unix()/16, time.Now().Unix()/16
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.buckets == nil {
		sh.buckets = map[int64]map[uint64]struct{}{}
	}
	for at, bucket := range sh.buckets { // at most 12: exp is not later than now + 60 + 120 s
		if at < now {
			delete(sh.buckets, at)
			continue
		}
		if _, used := bucket[h]; used {
			return false
		}
	}
	if sh.buckets[slot] == nil {
		sh.buckets[slot] = map[uint64]struct{}{}
	}
	sh.buckets[slot][h] = struct{}{}
	return true
}
