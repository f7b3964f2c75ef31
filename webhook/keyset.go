package webhook

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
)

// jwk is a public key as RFC 8037 §2 writes it.
type jwk struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
}

// KeySet is the JSON Web Key Set of the public keys that belong to the whsk_ keys among the
// secrets. It holds each key once, in the order of the kids, which tells nobody whose it is.
func KeySet(secrets []Secret) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{[]jwk{}} // an empty set is [], not null
	for _, k := range Keys(secrets) {
		if k.asymmetric {
			set.Keys = append(set.Keys, toJWK(k.key()))
		}
	}
	slices.SortFunc(set.Keys, func(a, b jwk) int { return cmp.Compare(a.Kid, b.Kid) })
	set.Keys = slices.Compact(set.Keys)
	text, _ := json.Marshal(set) // strings only: cannot fail
	return text
}

// toJWK names a key by its thumbprint (RFC 7638 §3: the hash of the members that are required,
// in alphabetical order, without blanks).
func toJWK(public []byte) jwk {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return jwk{Kty: "OKP", Crv: "Ed25519", X: x, Use: "sig", Alg: "EdDSA", Kid: base64.RawURLEncoding.EncodeToString(sum[:])}
}
