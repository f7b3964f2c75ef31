package jose

import (
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
)

// rsa are JWE to our RSA keys: RSA-OAEP-256 opens where it is configured, no other RSA algorithm ever does.
func (w *world) rsa() []forged {
	newest, older, jws := w.keys.enc[4], w.keys.enc[5], w.jws()
	badAlg := "key management algorithm not allowed"
	withJWX := func(alg jwa.KeyEncryptionAlgorithm) string {
		h := jwe.NewHeaders()
		check(h.Set(jwe.KeyIDKey, newest.jwk.Kid))
		token, err := jwe.Encrypt([]byte(jws), jwe.WithKey(alg, &newest.rsa.PublicKey), jwe.WithContentEncryption(jwa.A256CBC_HS512), jwe.WithProtectedHeaders(h))
		check(err)
		return string(token)
	}
	good := envelope{to: newest}.seal(jws)
	change := func(f func([]byte) []byte) string {
		p := strings.Split(good, ".")
		b, err := decode(p[1])
		check(err)
		p[1] = encode(f(b))
		return strings.Join(p, ".")
	}
	return []forged{
		{"ok-rsa", "RSA-OAEP-256 by hand", "ok", "standard", good},
		{"ok-rsa-jwx", "RSA-OAEP-256 with jwx", "ok", "standard", withJWX(jwa.RSA_OAEP_256)},
		{"ok-rsa-older", "the RSA key before the newest, named", "ok", "standard", envelope{to: older}.seal(jws)},
		{"ok-rsa-older-no-kid", "the RSA key before the newest, naming none", "ok", "standard", envelope{to: older, kid: "-"}.seal(jws)},
		{"ok-rsa-a256gcm", "RSA-OAEP-256 and A256GCM", "ok", "standard", envelope{to: newest, enc: "A256GCM"}.seal(jws)},
		{"rsa-not-listed", "RSA-OAEP-256 to our key for it, where only ECDH-ES is configured", badAlg, "singpass", good},
		{"rsa-rsa1_5", "RSA1_5 to our RSA key", badAlg, "standard", withJWX(jwa.RSA1_5)},
		{"rsa-rsa1_5-careless", "RSA1_5 to our RSA key, and the configuration lists it", badAlg, "careless", withJWX(jwa.RSA1_5)},
		{"rsa-sha1", "RSA-OAEP with SHA-1 to our RSA key", badAlg, "standard", withJWX(jwa.RSA_OAEP)},
		{"rsa-sha1-careless", "RSA-OAEP with SHA-1 to our RSA key, and the configuration lists it", badAlg, "careless", withJWX(jwa.RSA_OAEP)},
		{"rsa-sha512", "RSA-OAEP-512, and the configuration lists it", badAlg, "careless", withJWX(jwa.RSA_OAEP_512)},
		{"rsa-renamed", "RSA1_5 called RSA-OAEP-256", "decryption failed", "standard", w.renamed(withJWX(jwa.RSA1_5), "RSA1_5")},
		{"rsa-sha1-renamed", "RSA-OAEP with SHA-1 called RSA-OAEP-256", "decryption failed", "standard", w.renamed(withJWX(jwa.RSA_OAEP), "RSA-OAEP")},
		{"rsa-for-ec", "RSA-OAEP-256 under the kid of an EC key, no RSA key here", "no key of ours for this token", "keyless standard", envelope{to: newest, kid: "our-enc-2"}.seal(jws)},
		{"rsa-as-ecdh", "encrypted to our RSA key, called ECDH-ES+A256KW", wrongLength, "standard", envelope{to: newest, alg: "ECDH-ES+A256KW"}.seal(jws)},
		{"rsa-key-empty", "no encrypted key", wrongLength, "standard", change(func([]byte) []byte { return nil })},
		{"rsa-key-short", "an encrypted key of 255 bytes", wrongLength, "standard", change(func(b []byte) []byte { return b[1:] })},
		{"rsa-key-wrap", "an encrypted key as long as AES key wrap makes it", wrongLength, "standard", change(func(b []byte) []byte { return b[:72] })},
		{"rsa-key-long", "an encrypted key with a zero before it", wrongLength, "standard", change(func(b []byte) []byte { return append([]byte{0}, b...) })},
		{"rsa-key-other-size", "an encrypted key as long as an RSA key of 3072 bits, which we do not have", wrongLength, "standard", change(func(b []byte) []byte { return append(make([]byte, 128), b...) })},
		{"rsa-key-huge", "an encrypted key longer than any RSA key of ours", wrongLength, "standard", change(func(b []byte) []byte { return append(make([]byte, 4096), b...) })},
		{"rsa-key-bit", "one bit of the encrypted key", "decryption failed", "standard", change(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		{"rsa-key-beyond", "an encrypted key that is no number below n", "decryption failed", "standard", change(func(b []byte) []byte { return []byte(strings.Repeat("\xff", len(b))) })},
		{"rsa-cek-half", "a content key of half the length: A128CBC-HS256 called A256CBC-HS512", wrongLength, "standard", envelope{to: newest, cek: "A128CBC-HS256"}.seal(jws)},
		{"rsa-cek-gcm", "a content key of A128GCM where the header says A256GCM", "decryption failed", "standard", envelope{to: newest, enc: "A256GCM", cek: "A128GCM"}.seal(jws)},
	}
}

// renamed says another algorithm in the header of a token.
func (w *world) renamed(token, alg string) string {
	header, rest, _ := strings.Cut(token, ".")
	return encode([]byte(strings.Replace(mustDecode(header), `"`+alg+`"`, `"`+oaep+`"`, 1))) + "." + rest
}
