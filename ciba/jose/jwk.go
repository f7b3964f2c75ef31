package jose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// curves are the elliptic curves of this package, by their JWK names, and the one signature algorithm of each (RFC 7518 §3.4).
var curves = map[string]struct {
	curve elliptic.Curve
	size  int // bytes of a coordinate
	alg   string
}{
	"P-256": {elliptic.P256(), 32, "ES256"},
	"P-384": {elliptic.P384(), 48, "ES384"},
	"P-521": {elliptic.P521(), 66, "ES512"},
}

var (
	errKeyType  = errors.New("kty must be EC with crv P-256, P-384 or P-521; make a key with `stepup keygen`")
	errKeyValue = errors.New("its values are not one key on that curve; copy it again, or make one with `stepup keygen`")
	errRSA      = errors.New("RSA keys must have 2048 to 8192 bits")
	errOurRSA   = errors.New("its values are not an RSA key of 2048 to 4096 bits with n, e, d, p and q; make one that is")
)

// material hands jwx only the named members of a JWK, so that nothing else in it (certificates, addresses, operations) is ever looked at.
func material(m map[string]any, raw any, names ...string) error {
	part := make(map[string]string, len(names))
	for _, n := range names {
		s, ok := m[n].(string)
		if !ok {
			return errKeyValue
		}
		part[n] = s
	}
	b, err := json.Marshal(part)
	if err != nil {
		return errKeyValue
	}
	// jwx's own errors may quote the member they stumble over, so they end here.
	k, err := jwk.ParseKey(b)
	if err != nil || k.Raw(raw) != nil {
		return errKeyValue
	}
	return nil
}

// ecPrivate reads the private EC key of a JWK. The public half must be that of d: otherwise we would publish a key we cannot use.
func ecPrivate(m map[string]any) (*ecdsa.PrivateKey, string, error) {
	crv, _ := m["crv"].(string)
	c, ok := curves[crv]
	if !ok || m["kty"] != "EC" {
		return nil, "", errKeyType
	}
	var k ecdsa.PrivateKey
	if err := material(m, &k, "kty", "crv", "x", "y", "d"); err != nil {
		return nil, "", err
	}
	private, err := k.ECDH()
	if err != nil {
		return nil, "", errKeyValue
	}
	public, err := k.PublicKey.ECDH()
	if err != nil || !private.PublicKey().Equal(public) {
		return nil, "", errKeyValue
	}
	// Rebuilt from the checked scalar: the standard library's own form, whatever jwx filled in.
	clean, err := ecdsa.ParseRawPrivateKey(c.curve, private.Bytes())
	if err != nil {
		return nil, "", errKeyValue
	}
	return clean, crv, nil
}

// rsaPrivate reads the private RSA key of a JWK, of 2048 to 4096 bits and two primes (RFC 7518 §6.3.2). What only speeds it up (dp, dq,
// qi) is computed anew: a wrong value there would give the key away with the first answer.
func rsaPrivate(m map[string]any) (*rsa.PrivateKey, error) {
	// Sizes first: jwx cuts a long e, and numbers without bounds cost time without bounds.
	for name, most := range map[string]int{"n": maxRSA / 8, "d": maxRSA / 8, "p": maxRSA / 16, "q": maxRSA / 16, "e": 4} {
		s, _ := m[name].(string)
		if b, err := decode(s); err != nil || len(b) == 0 || len(b) > most {
			return nil, errOurRSA
		}
	}
	var k rsa.PrivateKey
	if _, more := m["oth"]; more || material(m, &k, "kty", "n", "e", "d", "p", "q") != nil {
		return nil, errOurRSA
	}
	if bits := k.N.BitLen(); bits < minRSA || bits > maxRSA {
		return nil, errOurRSA
	}
	clean := &rsa.PrivateKey{PublicKey: k.PublicKey, D: k.D, Primes: k.Primes}
	if clean.Validate() != nil {
		return nil, errOurRSA
	}
	clean.Precompute()
	return clean, nil
}

// publicKey reads a provider's public key: EC on one of our curves, its point checked, or RSA of 2048 to 8192 bits.
func publicKey(m map[string]any) (crypto.PublicKey, error) {
	switch m["kty"] {
	case "EC":
		crv, _ := m["crv"].(string)
		c, ok := curves[crv]
		if !ok {
			return nil, errKeyType
		}
		var k ecdsa.PublicKey
		if err := material(m, &k, "kty", "crv", "x", "y"); err != nil {
			return nil, err
		}
		point, err := k.ECDH()
		if err != nil {
			return nil, errKeyValue
		}
		return ecdsa.ParseUncompressedPublicKey(c.curve, point.Bytes())
	case "RSA":
		var k rsa.PublicKey
		if err := material(m, &k, "kty", "n", "e"); err != nil {
			return nil, err
		}
		if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
			return nil, errRSA
		}
		return &k, nil
	}
	return nil, errKeyType
}

// fits says whether a key may make signatures of an algorithm. An algorithm this package does not know fits no key.
func fits(alg string, key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		c := curves[k.Curve.Params().Name]
		return c.alg != "" && c.alg == alg
	case *rsa.PublicKey:
		return alg == "RS256" || alg == "PS256"
	}
	return false
}

// document reads {"keys":[…]}: a JSON object in which keys stands once.
func document(raw []byte) ([]json.RawMessage, error) {
	// A duplicate inside one key costs that key only, so the whole is read one level deep first.
	d := json.NewDecoder(bytes.NewReader(raw))
	if !json.Valid(raw) {
		return nil, errMalformed
	}
	if tok, err := d.Token(); err != nil || tok != json.Delim('{') {
		return nil, errMalformed
	}
	var keys []json.RawMessage
	var seen []string
	for d.More() {
		tok, err := d.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, errMalformed
		}
		if slices.Contains(seen, name) {
			return nil, errDuplicate
		}
		seen = append(seen, name)
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, errMalformed
		}
		if name == "keys" && json.Unmarshal(v, &keys) != nil {
			return nil, errMalformed
		}
	}
	if keys == nil {
		return nil, errors.New("no member keys")
	}
	return keys, nil
}
