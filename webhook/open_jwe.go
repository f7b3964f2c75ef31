package webhook

import (
	"crypto/ecdsa"
	"errors"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwe"
)

// Lengths in bytes that the algorithms fix. jwx leaves them to its caller: another length of
// tag lets bytes move between tag and ciphertext, another length of IV panics in it.
const (
	wrappedSize = 32 + 8 // the content key; AES key wrap adds 8 (RFC 3394 §2.2.1)
	ivSize      = 12     // RFC 7518 §5.3
	tagSize     = 16
)

func refuse(why string) error { return errors.New("opening webhook: " + why) }

// decrypt opens a compact JWE. All that stands in it in the clear is judged before a private
// key is touched.
func decrypt(token string, keys []PrivateKey) ([]byte, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 5 {
		return nil, refuse("data.encrypted is not a compact JWE")
	}
	h, err := readHeader(parts[0])
	if err != nil {
		return nil, err
	}
	if err := checkSizes(parts[1:]); err != nil {
		return nil, err
	}
	private, err := h.choose(keys)
	if err != nil {
		return nil, err
	}
	// alg and key are ours; jwx compares that alg with the header's again. There is no zip here.
	plain, err := jwe.Decrypt([]byte(token), jwe.WithKey(wrapAlg, private))
	if err != nil { // whose text is about the content: not repeated
		return nil, refuse("decryption failed")
	}
	return plain, nil
}

// jweHeader is what a protected header says to us.
type jweHeader struct {
	kid string
	epk *ecdsa.PublicKey
}

// readHeader reads a protected header strictly. It may hold what Encrypt writes and nothing
// else: no zip, which inflates, no crit, and no key of the sender's choice.
func readHeader(part string) (jweHeader, error) {
	raw, err := fromBase64url(part)
	if err != nil {
		return jweHeader{}, refuse("malformed header")
	}
	m, err := object(raw)
	if err != nil {
		return jweHeader{}, refuse("malformed header")
	}
	for name := range m {
		switch name {
		case "alg", "enc", "cty", "kid", "epk":
		default:
			return jweHeader{}, refuse("the header has a member beside alg, enc, cty, kid and epk")
		}
	}
	kid, _ := m["kid"].(string)
	switch {
	case m["alg"] != wrapAlg.String():
		return jweHeader{}, refuse("alg is not ECDH-ES+A256KW")
	case m["enc"] != contentAlg.String():
		return jweHeader{}, refuse("enc is not A256GCM")
	case m["cty"] != innerType:
		return jweHeader{}, refuse("cty is not json")
	case !validKeyID(kid):
		return jweHeader{}, refuse("malformed kid")
	}
	epk, _ := m["epk"].(map[string]any)
	if epk["kty"] != "EC" || len(epk) != 4 { // kty, crv, x, y
		return jweHeader{}, refuse("malformed ephemeral key")
	}
	public, err := point(epk)
	if err != nil {
		return jweHeader{}, refuse("malformed ephemeral key")
	}
	return jweHeader{kid, public}, nil
}

// checkSizes reads encrypted key, IV, ciphertext and tag, and compares their lengths.
func checkSizes(parts []string) error {
	var n [4]int
	for i, p := range parts {
		b, err := fromBase64url(p)
		if err != nil {
			return refuse("malformed base64url")
		}
		n[i] = len(b)
	}
	if n[0] != wrappedSize || n[1] != ivSize || n[2] == 0 || n[3] != tagSize {
		return refuse("wrong length of a part")
	}
	return nil
}

// choose is the private key that the header names.
func (h jweHeader) choose(keys []PrivateKey) (*ecdsa.PrivateKey, error) {
	for _, k := range keys {
		if k.key == nil || k.kid != h.kid {
			continue
		}
		if curves[k.crv].curve != h.epk.Curve {
			return nil, refuse("the ephemeral key is on another curve")
		}
		private, err := ecdsa.ParseRawPrivateKey(curves[k.crv].curve, k.key())
		if err != nil {
			return nil, refuse("the private key is malformed") // not out of ParsePrivateKeys
		}
		return private, nil
	}
	return nil, &UnknownKeyError{h.kid}
}
