package jose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// maxJWKS is the largest key set that is read, of ours or the provider's, in bytes; maxKeys the most keys in it.
const (
	maxJWKS = 256 << 10
	maxKeys = 100
)

// wraps are the key management algorithms an EC encryption key of ours may name (Singpass asks for one of them; RFC 7518 §4.6), oaep the
// one of an RSA key (§4.3). RSA1_5 and RSA-OAEP, the one with SHA-1, are not among them and open nothing.
var wraps = []string{"ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"}

const oaep = "RSA-OAEP-256"

// minRSA and maxRSA are the sizes of our RSA keys in bits (RFC 7518 §4.3: at least 2048).
const minRSA, maxRSA = 2048, 4096

// Keys are a client's private keys: those that sign its assertions and those that decrypt its ID tokens. They are never printed.
// Keys are not changed after ReadKeys and may be used by many goroutines.
type Keys struct {
	sig    []*signer
	enc    []*decrypter
	public []byte
}

type signer struct {
	private *ecdsa.PrivateKey
	jwk     jwkText
	header  string // of assertions, encoded
}

// decrypter is an encryption key: EC or RSA, the other is nil.
type decrypter struct {
	ec  *ecdsa.PrivateKey
	rsa *rsa.PrivateKey
	jwk jwkText
}

// jwkText is a key as it stands in a file, in the order people read it. From D on it is private and empty in what is published.
type jwkText struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
	D   string `json:"d,omitempty"`
	P   string `json:"p,omitempty"`
	Q   string `json:"q,omitempty"`
	Dp  string `json:"dp,omitempty"`
	Dq  string `json:"dq,omitempty"`
	Qi  string `json:"qi,omitempty"`
}

// ReadKeys reads a private JWKS of at most 256 KiB. Every key must have its private part, a kid of its own and `use`: sig or enc.
// A sig key must be EC on P-256, P-384 or P-521; its alg, if given, must be the curve's. An enc key must be EC on one of these with alg
// ECDH-ES+A128KW, +A192KW or +A256KW, or RSA of 2048 to 4096 bits (n, e, d, p, q) with alg RSA-OAEP-256.
// There must be at least one sig key: the first signs. All wrong keys are named at once, by their position, never by their content.
func ReadKeys(jwks []byte) (*Keys, error) {
	k, _, err := readKeys(jwks)
	return k, err
}

func readKeys(jwks []byte) (*Keys, []json.RawMessage, error) {
	if len(jwks) > maxJWKS {
		return nil, nil, errors.New("larger than 256 KiB; name a private JSON Web Key Set")
	}
	raw, err := document(jwks)
	if err != nil {
		return nil, nil, fmt.Errorf("%w; it must be a private JSON Web Key Set, {\"keys\":[…]}, as `stepup keygen` writes it", err)
	}
	if len(raw) > maxKeys {
		return nil, nil, errors.New("more than 100 keys; remove those that are no longer used")
	}
	k := &Keys{}
	var errs []error
	kids := map[string]int{}
	public := 0
	for i, r := range raw {
		kid, err := k.add(r)
		if err != nil {
			if errs = append(errs, fmt.Errorf("key %d: %w", i+1, err)); err == errPublic {
				public++
			}
			continue
		}
		if first := kids[kid]; first != 0 {
			errs = append(errs, fmt.Errorf("key %d: has the kid of key %d; give each its own", i+1, first))
		}
		kids[kid] = i + 1
	}
	switch {
	case public > 0 && public == len(raw): // one mistake, not one a key
		errs = []error{errors.New("no key has its private part d; this looks like the public key set, so name the private one")}
	case len(k.sig) == 0 && len(errs) == 0:
		errs = append(errs, errors.New("no key with use sig to sign with; make a set with `stepup keygen`"))
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	k.public, err = k.publish()
	return k, raw, err
}

var errPublic = errors.New("it has no private part d; this looks like a public key, so put the private one here")

// add reads one key and gives its kid.
func (k *Keys) add(raw []byte) (string, error) {
	m, err := object(raw)
	if err != nil {
		return "", err
	}
	kid, _ := m["kid"].(string)
	if kid == "" || len(kid) > 255 {
		return "", errors.New("kid must be a string of 1 to 255 bytes; give the key one")
	}
	alg, ok := m["alg"].(string)
	if _, there := m["alg"]; there && !ok {
		return "", errors.New("alg must be a string")
	}
	if m["kty"] == "RSA" && m["use"] == "enc" {
		return kid, k.addRSA(m, alg, kid)
	}
	if _, there := m["d"]; !there && m["kty"] == "EC" {
		return "", errPublic
	}
	private, crv, err := ecPrivate(m)
	if err != nil {
		return "", err
	}
	switch m["use"] {
	case "sig":
		if alg != "" && alg != curves[crv].alg {
			return "", fmt.Errorf("alg of a sig key on %s must be %s", crv, curves[crv].alg)
		}
		s := &signer{private: private, jwk: text(private, "sig", curves[crv].alg, kid)}
		s.header, err = assertionHeader(s.jwk)
		k.sig = append(k.sig, s)
	case "enc":
		if !slices.Contains(wraps, alg) {
			return "", errors.New("alg of an EC enc key must be ECDH-ES+A128KW, ECDH-ES+A192KW or ECDH-ES+A256KW")
		}
		k.enc = append(k.enc, &decrypter{ec: private, jwk: text(private, "enc", alg, kid)})
	default:
		return "", errors.New(`use must be sig or enc; add "use":"sig" to a key that signs, "use":"enc" to one that decrypts`)
	}
	return kid, err
}

func (k *Keys) addRSA(m map[string]any, alg, kid string) error {
	if alg != oaep {
		return errors.New("alg of an RSA enc key must be RSA-OAEP-256")
	}
	private, err := rsaPrivate(m)
	if err != nil {
		return err
	}
	k.enc = append(k.enc, &decrypter{rsa: private, jwk: textRSA(private, kid)})
	return nil
}

// textRSA is the public half of an RSA enc key as JWK (RFC 7518 §6.3.1).
func textRSA(private *rsa.PrivateKey, kid string) jwkText {
	return jwkText{
		Kty: "RSA", Use: "enc", Alg: oaep, Kid: kid,
		N: encode(private.N.Bytes()), E: encode(big.NewInt(int64(private.E)).Bytes()),
	}
}

// text is the public half of an EC key as JWK.
func text(private *ecdsa.PrivateKey, use, alg, kid string) jwkText {
	crv := private.Curve.Params().Name
	point, err := private.PublicKey.Bytes()
	if err != nil {
		panic(err) // the standard library made or parsed this key: its point is on the curve
	}
	size := curves[crv].size
	return jwkText{
		Kty: "EC", Use: use, Alg: alg, Kid: kid, Crv: crv,
		X: encode(point[1 : 1+size]), Y: encode(point[1+size:]), // SEC 1 §2.3.3: 04 ‖ x ‖ y
	}
}

func (k *Keys) publish() ([]byte, error) {
	set := struct {
		Keys []jwkText `json:"keys"`
	}{}
	for _, s := range k.sig {
		set.Keys = append(set.Keys, s.jwk)
	}
	if len(k.enc) > 0 {
		set.Keys = append(set.Keys, k.enc[0].jwk)
	}
	return json.Marshal(set)
}

// Public is the JWKS to publish: every sig key, so that the next one is known before it signs, and the first enc key only, so that the
// provider encrypts to the newest while the older ones still decrypt. No private part is in it.
func (k *Keys) Public() []byte { return bytes.Clone(k.public) }

// CanDecrypt says whether there is a key to decrypt ID tokens with.
func (k *Keys) CanDecrypt() bool { return k != nil && len(k.enc) > 0 }

// maxTries is how many of our keys are tried on a JWE whose kid is not ours.
const maxTries = 4

// decrypters are our keys for a JWE: the one its kid names, else the newest ones of that algorithm. A key is used with the one
// algorithm it was published for (RFC 8725 §3.1).
func (k *Keys) decrypters(alg, kid string) []*decrypter {
	if k == nil {
		return nil
	}
	var fit []*decrypter
	for _, d := range k.enc {
		if d.jwk.Alg != alg {
			continue
		}
		if d.jwk.Kid == kid {
			return []*decrypter{d}
		}
		if len(fit) < maxTries {
			fit = append(fit, d)
		}
	}
	return fit
}
