package webhook

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a key set that is read. Our own rules.
const (
	maxKeySet   = 64 << 10
	maxSetKeys  = 100
	maxKeyID    = 256
	anyPrivate  = "d p q dp dq qi oth k priv" // RFC 7518 §6, and of the drafts after it
	keySetLooks = `it must be a JSON Web Key Set, {"keys":[…]}`
)

// curves are those that content is encrypted on, by their JWK names, with the bytes of a
// coordinate (RFC 7518 §6.2.1).
var curves = map[string]struct {
	curve elliptic.Curve
	size  int
}{
	"P-256": {elliptic.P256(), 32},
	"P-384": {elliptic.P384(), 48},
	"P-521": {elliptic.P521(), 66},
}

// jwkEC is an EC key for encryption as RFC 7518 §6.2 writes it.
type jwkEC struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y"`
	D   string `json:"d,omitempty"` // private
}

// NewEncryptionKey returns a new key for a receiver of encrypted content, on P-256, as two
// key sets: the private one, which only the receiver may have, and the public one on one line,
// which the sender encrypts to. The kid is the key's thumbprint (RFC 7638 §3).
func NewEncryptionKey() (private []byte, public string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // crypto/rand never fails, and P-256 is known
	}
	point, err := key.PublicKey.Bytes()
	d, err2 := key.Bytes()
	if err := errors.Join(err, err2); err != nil {
		panic(err) // the standard library made this key: it is on its curve
	}
	k := jwkEC{Kty: "EC", Use: "enc", Alg: wrapAlg.String(), Crv: "P-256", X: base64url(point[1:33]), Y: base64url(point[33:])}
	thumb := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`))
	k.Kid = base64url(thumb[:])
	line, _ := json.Marshal(map[string][]jwkEC{"keys": {k}}) // strings only: cannot fail
	k.D = base64url(d)
	private, _ = json.MarshalIndent(map[string][]jwkEC{"keys": {k}}, "", "  ")
	return append(private, '\n'), string(line)
}

// keySet are the members of the keys of a set.
type keySet []map[string]any

// readKeySet reads a set without judging its keys.
func readKeySet(file []byte) (keySet, error) {
	if len(file) > maxKeySet {
		return nil, errors.New("longer than 64 KiB; " + keySetLooks)
	}
	whole, err := object(file)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, keySetLooks)
	}
	list, ok := whole["keys"].([]any)
	if !ok {
		return nil, errors.New("has no list named keys; " + keySetLooks)
	}
	if len(list) > maxSetKeys {
		return nil, fmt.Errorf("%d keys in it, and at most %d are read; remove those that are no longer used", len(list), maxSetKeys)
	}
	var set keySet
	for i, k := range list {
		m, ok := k.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("key %d: is not a JSON object; %s", i+1, keySetLooks)
		}
		set = append(set, m)
	}
	return set, nil
}

// usable is a key that content can be encrypted to.
type usable struct {
	position int // in the set, from 1
	kid      string
	public   *ecdsa.PublicKey
	members  map[string]any
}

// usable are the keys that can be encrypted to. Keys for other purposes are passed over; one
// that means to be such a key and is not stops the set, rather than that the next one is taken
// in its place unnoticed.
func (s keySet) usable() (all []usable, err error) {
	var wrong []error
	seen := map[string]int{} // kid -> position
	for i, m := range s {
		if !encrypts(m) {
			continue
		}
		key, err := usableKey(m)
		if first := seen[key.kid]; err == nil && first != 0 {
			err = fmt.Errorf("has the kid of key %d; each must have its own", first)
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		key.position = i + 1
		seen[key.kid] = key.position
		all = append(all, key)
	}
	return all, errors.Join(wrong...)
}

// public refuses a set in which anything is private.
func (s keySet) public() error {
	var wrong []error
	for i, m := range s {
		if name := privateMember(m); name != "" {
			wrong = append(wrong, fmt.Errorf("key %d: has the private member %s, which nobody but its owner may have; "+
				"put a public key set here, and with a new key, since this one is known now", i+1, name))
		} else if m["kty"] == "oct" {
			wrong = append(wrong, fmt.Errorf("key %d: is a shared secret (kty oct); remove it", i+1))
		}
	}
	return errors.Join(wrong...)
}

// encrypts says whether a key is there to be encrypted to by us (RFC 7517 §4.2 to §4.4).
func encrypts(m map[string]any) bool {
	crv, _ := m["crv"].(string)
	_, known := curves[crv]
	use, hasUse := m["use"]
	alg, hasAlg := m["alg"]
	ops, _ := m["key_ops"].([]any)
	return m["kty"] == "EC" && known && (!hasUse || use == "enc") && (!hasAlg || alg == wrapAlg.String()) &&
		!slices.Contains(ops, any("verify")) && !slices.Contains(ops, any("sign"))
}

func usableKey(m map[string]any) (usable, error) {
	kid, _ := m["kid"].(string)
	if !validKeyID(kid) {
		return usable{}, errors.New("kid must be 1 to 256 printable ASCII characters; give the key one")
	}
	public, err := point(m)
	if err != nil {
		return usable{}, err
	}
	return usable{kid: kid, public: public, members: m}, nil
}

// validKeyID: key ids stand in headers, logs and error texts.
func validKeyID(kid string) bool {
	return kid != "" && len(kid) <= maxKeyID && !strings.ContainsFunc(kid, func(r rune) bool { return r < ' ' || r > '~' })
}

// point reads the public half of an EC key. A point off its curve is refused: what is agreed
// with it could be guessed, and would give away bits of a private key (RFC 8725 §3.4).
func point(m map[string]any) (*ecdsa.PublicKey, error) {
	crv, _ := m["crv"].(string)
	c, known := curves[crv]
	if !known {
		return nil, errors.New("crv must be P-256, P-384 or P-521")
	}
	text := []byte{4} // SEC 1 §2.3.3: uncompressed
	for _, name := range []string{"x", "y"} {
		b, err := coordinate(m, name, c.size)
		if err != nil {
			return nil, err
		}
		text = append(text, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(c.curve, text)
	if err != nil {
		return nil, fmt.Errorf("x and y are not a point on %s; copy the key again", crv)
	}
	return public, nil
}

// coordinate reads x, y or d, which have a fixed length (RFC 7518 §6.2.1.2, §6.2.2.1).
func coordinate(m map[string]any, name string, size int) ([]byte, error) {
	text, _ := m[name].(string)
	b, err := fromBase64url(text)
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%s must be %d bytes in base64url; copy the key again", name, size)
	}
	return b, nil
}

// privateMember names a member that only a key's owner may know; empty: there is none.
func privateMember(m map[string]any) string {
	for name := range strings.FieldsSeq(anyPrivate) {
		if _, there := m[name]; there {
			return name
		}
	}
	return ""
}
