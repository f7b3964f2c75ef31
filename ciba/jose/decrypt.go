package jose

import (
	"crypto/ecdsa"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
)

// sizes are the lengths, in bytes, that a content algorithm fixes (RFC 7518 §5). jwx leaves them to its caller: another length of tag lets
// bytes move between tag and ciphertext, another length of IV or wrapped key panics in it.
type sizes struct {
	cek, iv, tag int
	block        int // of which the ciphertext is a multiple, and at least one
}

var contents = map[string]sizes{
	"A128CBC-HS256": {32, 16, 16, 16},
	"A192CBC-HS384": {48, 16, 24, 16},
	"A256CBC-HS512": {64, 16, 32, 16},
	"A128GCM":       {16, 12, 16, 1},
	"A192GCM":       {24, 12, 16, 1},
	"A256GCM":       {32, 12, 16, 1},
}

// decrypt gives the compact JWS inside a compact JWE. The algorithms are compared with the configuration before a key is chosen.
func (o *Opener) decrypt(token string) (string, error) {
	parts := strings.Split(token, ".")
	h, err := readHeader(parts[0])
	if err != nil {
		return "", err
	}
	if h.alg != oaep && !slices.Contains(wraps, h.alg) || !slices.Contains(o.Algs.KeyManagement, h.alg) {
		return "", refuse("key management algorithm not allowed")
	}
	size, known := contents[h.enc]
	if !known || !slices.Contains(o.Algs.Content, h.enc) {
		return "", refuse("content algorithm not allowed")
	}
	wrapped, err := size.check(h.alg, parts[1:])
	if err != nil {
		return "", err
	}
	if err := checkParties(h); err != nil {
		return "", err
	}
	keys := o.Keys.decrypters(h.alg, h.kid)
	if len(keys) == 0 {
		return "", refuse("no key of ours for this token")
	}
	if h.alg == oaep {
		keys, err = sized(keys, wrapped)
	} else {
		keys, err = agreeing(keys, h)
	}
	if err != nil {
		return "", err
	}
	for _, d := range keys {
		// Alg and key are ours; jwx compares that alg with the header's again. There is no zip here, see forbidden.
		plain, err := jwe.Decrypt([]byte(token), jwe.WithKey(jwa.KeyEncryptionAlgorithm(h.alg), d.key()))
		if err == nil {
			return nested(string(plain))
		}
	}
	return "", refuse("decryption failed")
}

// check reads encrypted key, IV, ciphertext and tag, compares their lengths, and gives that of the encrypted key.
func (z sizes) check(alg string, parts []string) (wrapped int, err error) {
	var n [4]int
	for i, p := range parts {
		b, err := decode(p)
		if err != nil {
			return 0, refuse(malformedBase64)
		}
		n[i] = len(b)
	}
	least, most := z.cek+8, z.cek+8 // AES key wrap adds 8 bytes (RFC 3394 §2.2.1)
	if alg == oaep {
		least, most = minRSA/8, maxRSA/8 // as long as a key of ours; which one, see sized
	}
	if n[0] < least || n[0] > most || n[1] != z.iv || n[2] == 0 || n[2]%z.block != 0 || n[3] != z.tag {
		return 0, refuse(wrongLength)
	}
	return n[0], nil
}

// agreeing are the EC keys that can agree with the ephemeral key of a token.
func agreeing(keys []*decrypter, h header) ([]*decrypter, error) {
	epk, err := ephemeral(h.epk)
	if err != nil {
		return nil, err
	}
	keys = slices.DeleteFunc(slices.Clone(keys), func(d *decrypter) bool { return d.ec.Curve != epk.Curve })
	if len(keys) == 0 {
		return nil, refuse("ephemeral key on another curve")
	}
	return keys, nil
}

// sized are the RSA keys as long as what was encrypted to one (RFC 8017 §7.1.2, step 1b).
func sized(keys []*decrypter, wrapped int) ([]*decrypter, error) {
	keys = slices.DeleteFunc(slices.Clone(keys), func(d *decrypter) bool { return d.rsa.Size() != wrapped })
	if len(keys) == 0 {
		return nil, refuse(wrongLength)
	}
	return keys, nil
}

// key is what jwx decrypts with. It refuses a content key of another length than the header's content algorithm has, which the sender of
// an RSA-OAEP-256 token chooses (vector rsa-cek-gcm).
func (d *decrypter) key() any {
	if d.rsa != nil {
		return d.rsa
	}
	return d.ec
}

// checkParties reads apu and apv, which go into the key derivation (RFC 7518 §4.6.1.2).
func checkParties(h header) error {
	for _, p := range []string{h.apu, h.apv} {
		if _, err := decode(p); err != nil {
			return refuse(malformedHeader)
		}
	}
	return nil
}

// ephemeral reads epk. A point off its curve would give away bits of our private key with every answer (RFC 8725 §3.4).
func ephemeral(m map[string]any) (*ecdsa.PublicKey, error) {
	if m == nil {
		return nil, refuse("no ephemeral key")
	}
	crv, _ := m["crv"].(string)
	c, ok := curves[crv]
	if _, private := m["d"]; private || !ok || m["kty"] != "EC" {
		return nil, refuse("malformed ephemeral key")
	}
	point := []byte{4} // SEC 1 §2.3.3: uncompressed
	for _, name := range []string{"x", "y"} {
		s, _ := m[name].(string)
		b, err := decode(s)
		if err != nil || len(b) != c.size {
			return nil, refuse("malformed ephemeral key")
		}
		point = append(point, b...)
	}
	epk, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
	if err != nil {
		return nil, refuse("ephemeral key not on its curve")
	}
	return epk, nil
}

// nested demands that what was encrypted is signed: anybody can encrypt to our public key.
func nested(plain string) (string, error) {
	switch {
	case strings.HasPrefix(strings.TrimLeft(plain, " \t\r\n"), "{"):
		return "", refuse("claims without a signature")
	case strings.Count(plain, ".") == 4:
		return "", refuse("JWE inside a JWE")
	case strings.Count(plain, ".") != 2:
		return "", refuse("no JWS inside the JWE")
	}
	return plain, nil
}
