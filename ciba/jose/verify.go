package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"
	"slices"
	"strings"
	"time"
)

// verify gives the payload of a compact JWS that one of the provider's keys signed. The algorithm is compared with the configuration before a
// key is chosen, and a key is used only for the algorithm it fits. The standard library verifies: there is no second reader of the
// header that could see something else in it.
func (o *Opener) verify(token string, received time.Time) ([]byte, error) {
	end := strings.LastIndexByte(token, '.')
	input := token[:end]
	head, body, _ := strings.Cut(input, ".")
	h, err := readHeader(head)
	if err != nil {
		return nil, err
	}
	if _, known := hashes[h.alg]; !known || !slices.Contains(o.Algs.Signing, h.alg) {
		return nil, refuse("signature algorithm not allowed")
	}
	payload, err := decode(body)
	if err != nil {
		return nil, refuse(malformedBase64)
	}
	sig, err := decode(token[end+1:])
	if err != nil {
		return nil, refuse(malformedBase64)
	}
	if len(sig) == 0 {
		return nil, refuse("no signature")
	}
	// One look at the set: a refresh between the choice and the verdict must not turn "try again" into "never".
	set := o.Set.current.Load()
	if set == nil {
		return nil, ErrKeys
	}
	reason := set.verify(h, input, sig)
	switch {
	case reason == "":
		return payload, nil
	case set.at.Before(received):
		return nil, ErrKeys
	}
	return nil, refuse(reason)
}

// verify gives the reason to refuse, or nothing.
func (p *published) verify(h header, input string, sig []byte) string {
	var keys []verifier
	for _, v := range p.keys {
		if v.does(h.alg) && (h.kid == "" || v.kid == h.kid) {
			keys = append(keys, v)
		}
	}
	switch {
	case len(keys) == 0:
		return "unknown key"
	case h.kid == "" && len(keys) > 1:
		return "names no key, and there are several" // OpenID Connect Core §10.1
	}
	hash := hashes[h.alg].New()
	hash.Write([]byte(input))
	digest := hash.Sum(nil)
	for _, v := range keys {
		if holds(h.alg, v.public, digest, sig) {
			return ""
		}
	}
	return "wrong signature"
}

// holds checks one signature with one key that fits the algorithm.
func holds(alg string, key crypto.PublicKey, digest, sig []byte) bool {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		// RFC 7518 §3.4: R ‖ S, each as wide as the curve's order, no ASN.1.
		size := curves[k.Curve.Params().Name].size
		if len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(k, digest, r, s)
	case *rsa.PublicKey:
		if alg == "PS256" {
			// RFC 7518 §3.5: the salt is as long as the hash.
			return rsa.VerifyPSS(k, crypto.SHA256, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, digest, sig) == nil
	}
	return false
}
