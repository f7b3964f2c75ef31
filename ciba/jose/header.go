package jose

import (
	"errors"
	"strings"
)

// The reasons of an Invalid that more than one place gives. All others stand where they are given.
const (
	malformedToken  = "malformed token"
	malformedBase64 = "malformed base64url"
	malformedHeader = "malformed header"
	wrongLength     = "wrong length of a JWE part"
)

func refuse(reason string) error { return &Invalid{reason} }

// header is what a protected header may say to us. Members that are not here have no effect.
type header struct {
	alg, enc, kid, typ, cty string // empty: not there
	epk                     map[string]any
	apu, apv                string
}

// forbidden are the header members that change what is verified, name a key from outside the key set, or cost memory or time. Nothing that an
// ID token needs is among them, so a token with one is refused, also where ignoring it would be safe.
var forbidden = []string{
	"crit", "b64", // RFC 7515 §4.1.11, RFC 7797: extensions, we know none
	"zip",                      // RFC 7516 §4.1.3: inflates
	"jku", "jwk", "x5u", "x5c", // RFC 7515 §4.1.2–4.1.6: a key of the sender's choice
	"p2c", "p2s", "iv", "tag", // RFC 7518 §4.7, §4.8: passwords and symmetric wrapping
}

// readHeader reads a protected header strictly. It runs before any key is touched.
func readHeader(part string) (header, error) {
	raw, err := decode(part)
	if err != nil {
		return header{}, refuse(malformedBase64)
	}
	m, err := object(raw)
	if errors.Is(err, errDuplicate) {
		return header{}, refuse("duplicate member in header")
	}
	if err != nil {
		return header{}, refuse(malformedHeader)
	}
	for _, name := range forbidden {
		if _, there := m[name]; there {
			return header{}, refuse("header has " + name)
		}
	}
	var h header
	for name, to := range map[string]*string{
		"alg": &h.alg, "enc": &h.enc, "kid": &h.kid, "typ": &h.typ, "cty": &h.cty, "apu": &h.apu, "apv": &h.apv,
	} {
		v, there := m[name]
		s, ok := v.(string)
		if there && (!ok || s == "") {
			return header{}, refuse(malformedHeader)
		}
		*to = s
	}
	if v, there := m["epk"]; there {
		epk, ok := v.(map[string]any)
		if !ok {
			return header{}, refuse(malformedHeader)
		}
		h.epk = epk
	}
	// RFC 8725 §3.11: a token that says it is something else is not taken for an ID token.
	if !isJWT(h.typ) || !isJWT(h.cty) {
		return header{}, refuse("not typed as a JWT")
	}
	return h, nil
}

// isJWT is true for no type and for JWT, in any case and with or without application/ (RFC 7515 §4.1.9).
func isJWT(typ string) bool {
	if typ == "" {
		return true
	}
	return strings.TrimPrefix(strings.ToLower(typ), "application/") == "jwt"
}
