package jose

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
)

// layers are JWE with the wrong thing inside, and the wrong kind of token.
func (w *world) layers() []forged {
	parts := strings.Split(w.jws(), ".")
	return []forged{
		{"plain-where-encrypted", "a bare JWS where encryption is configured", "not encrypted", "", w.jws()},
		{"encrypted-where-plain", "a JWE where signed only is configured", "encrypted, but configured as signed only", "singpass direct", w.jwe(w.jws())},
		{"bare-claims", "claims encrypted to our public key, nobody signed", "claims without a signature", "", w.jwe(w.claims())},
		{"bare-claims-space", "the same with white space before", "claims without a signature", "", w.jwe(" \n" + w.claims())},
		{"jws-as-json", "a JWS in JSON form inside", "claims without a signature", "", w.jwe(fmt.Sprintf(`{"payload":"%s","protected":"%s","signature":"%s"}`, parts[1], parts[0], parts[2]))},
		{"jwe-in-jwe", "a good token, encrypted twice", "JWE inside a JWE", "", w.jwe(w.jwe(w.jws()))},
		{"text-in-jwe", "text inside", "no JWS inside the JWE", "", w.jwe("hello")},
		{"nothing-in-jwe", "nothing inside", "decryption failed", "", w.jwe("")},
		{"jws-in-jwe-space", "white space behind the inner JWS", malformedBase64, "", w.jwe(w.jws() + " ")},
		{"jws-in-jwe-stranger", "a stranger's JWS, encrypted to us", "unknown key", "", w.jwe(sign(w.provider["stranger"], `{"alg":"ES256","kid":"stranger"}`, w.claims()))},
		{"jws-in-jwe-es384", "an inner algorithm that is not configured", "signature algorithm not allowed", "", w.jwe(sign(w.provider["k384"], `{"alg":"ES384","kid":"k384"}`, w.claims()))},
	}
}

// wrapping are JWE whose header or lengths are wrong.
func (w *world) wrapping() []forged {
	to, jws := w.newest(), w.jws()
	badAlg, badEnc, badLength := "key management algorithm not allowed", "content algorithm not allowed", "wrong length of a JWE part"
	with := func(more string) string { return envelope{to: to, more: more}.seal(jws) }
	alg := func(a, more string) string { return envelope{to: to, alg: a, more: more}.seal(jws) }
	good := strings.Split(w.jwe(jws), ".")
	change := func(i int, f func([]byte) []byte) string {
		p := append([]string{}, good...)
		b, err := decode(p[i])
		check(err)
		p[i] = encode(f(b))
		return strings.Join(p, ".")
	}
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	cut := func(b []byte) []byte { return b[:len(b)-1] }
	none := func([]byte) []byte { return nil }
	text, err := decode(good[3])
	check(err)
	tag, err := decode(good[4])
	check(err)
	moved := strings.Join([]string{good[0], good[1], good[2], encode(text[:len(text)-16]), encode(append(append([]byte{}, text[len(text)-16:]...), tag...))}, ".")
	bomb := envelope{to: to, more: `,"zip":"DEF"`, zip: true}.seal(jws + strings.Repeat("A", 9<<20))
	if len(bomb) > maxToken {
		panic("the zip bomb does not fit under the size limit")
	}
	const pbes2 = `,"p2c":2147483647,"p2s":"c2FsdHNhbHQ"`
	return []forged{
		{"zip-bomb", "9 MiB in less than 16 KiB", "header has zip", "", bomb},
		{"zip-small", "an honest token, compressed", "header has zip", "", envelope{to: to, more: `,"zip":"DEF"`, zip: true}.seal(jws)},
		{"zip-null", "zip is null", "header has zip", "", with(`,"zip":null`)},
		{"key-management-pbes2", "a password, hashed two thousand million times", "header has p2c", "", alg("PBES2-HS256+A128KW", pbes2)},
		{"key-management-pbes2-bare", "a password, its parameters missing", badAlg, "", alg("PBES2-HS256+A128KW", "")},
		{"key-management-pbes2-careless", "a password, and the configuration lists it", badAlg, "careless", alg("PBES2-HS256+A128KW", "")},
		{"p2c-beside-ecdh", "p2c where it has no meaning", "header has p2c", "", with(`,"p2c":2147483647`)},
		{"p2s-beside-ecdh", "p2s where it has no meaning", "header has p2s", "", with(`,"p2s":"c2FsdA"`)},
		{"iv-in-header", "an iv of symmetric key wrapping", "header has iv", "", with(`,"iv":"AAAA"`)},
		{"tag-in-header", "a tag of symmetric key wrapping", "header has tag", "", with(`,"tag":"AAAA"`)},
		{"jwe-crit", "crit in a JWE", "header has crit", "", with(`,"crit":["x"],"x":1`)},
		{"jwe-jwk", "a key in the header of a JWE", "header has jwk", "", with(`,"jwk":` + w.strangersJWK())},
		{"jwe-jku", "an address of keys in the header of a JWE", "header has jku", "", with(`,"jku":"https://evil.example/keys"`)},
		{"key-management-not-listed", "ECDH-ES+A192KW to our key for it, where only ECDH-ES+A256KW is configured", badAlg, "narrow", envelope{to: w.keys.enc[2]}.seal(jws)},
		{"key-management-rsa1_5", "RSA1_5", badAlg, "", alg("RSA1_5", "")},
		{"key-management-rsa1_5-careless", "RSA1_5, and the configuration lists it", badAlg, "careless", alg("RSA1_5", "")},
		{"key-management-dir", "dir, and the configuration lists it", badAlg, "careless", alg("dir", "")},
		{"key-management-ecdh-direct", "ECDH-ES without key wrap, and the configuration lists it", badAlg, "careless", alg("ECDH-ES", "")},
		{"key-management-a256gcmkw", "A256GCMKW, and the configuration lists it", badAlg, "careless", alg("A256GCMKW", "")},
		{"key-management-missing", "no alg", badAlg, "careless", envelope{to: to, header: `{"enc":"A256CBC-HS512","epk":%s}`}.seal(jws)},
		{"key-management-of-no-key", "an algorithm that is configured, but for which we have no key", "no key of ours for this token", "keyless", w.jwe(jws)},
		{"content-not-listed", "A256GCM where A256CBC-HS512 is configured", badEnc, "", envelope{to: to, enc: "A256GCM"}.seal(jws)},
		{"content-unknown", "a content algorithm nobody knows, and the configuration lists it", badEnc, "careless", envelope{to: to, enc: "none"}.seal(jws)},
		{"content-missing", "no enc", badEnc, "careless", envelope{to: to, header: `{"alg":"ECDH-ES+A256KW","epk":%s}`}.seal(jws)},
		{"header-duplicate-alg", "alg twice in a JWE", "duplicate member in header", "", with(`,"alg":"RSA1_5"`)},
		{"header-duplicate-epk", "x twice in epk", "duplicate member in header", "", envelope{to: to, epk: `{"kty":"EC","crv":"P-256","x":"AA","x":"AA","y":"AA"}`}.seal(jws)},
		{"encrypted-key-bit", "one bit of the wrapped key", "decryption failed", "", change(1, flip)},
		{"iv-bit", "one bit of the iv", "decryption failed", "", change(2, flip)},
		{"ciphertext-bit", "one bit of the ciphertext", "decryption failed", "", change(3, flip)},
		{"tag-bit", "one bit of the tag", "decryption failed", "", change(4, flip)},
		{"encrypted-key-empty", "no wrapped key", badLength, "", change(1, none)},
		{"encrypted-key-short", "a wrapped key of one block", badLength, "", change(1, func(b []byte) []byte { return b[:8] })},
		{"iv-short", "an iv of 15 bytes", badLength, "", change(2, cut)},
		{"iv-empty", "no iv", badLength, "", change(2, none)},
		{"ciphertext-empty", "no ciphertext", badLength, "", change(3, none)},
		{"ciphertext-cut", "a ciphertext that is no whole number of blocks", badLength, "", change(3, cut)},
		{"tag-empty", "no tag", badLength, "", change(4, none)},
		{"tag-short", "a tag of 16 bytes", badLength, "", change(4, func(b []byte) []byte { return b[:16] })},
		{"tag-border", "the border between ciphertext and tag moved by a block", badLength, "", moved},
		{"apu-base64", "apu is not base64url", malformedHeader, "", with(`,"apu":"="`)},
		{"protected-changed", "a member added to the header afterwards", "decryption failed", "", encode([]byte(strings.TrimSuffix(mustDecode(good[0]), "}")+`,"a":1}`)) + "." + strings.Join(good[1:], ".")},
	}
}

func mustDecode(s string) string {
	b, err := decode(s)
	check(err)
	return string(b)
}

// ephemerals are JWE whose ephemeral key is wrong.
func (w *world) ephemerals() []forged {
	jws := w.jws()
	epk := func(json string) string { return envelope{to: w.newest(), epk: json}.seal(jws) }
	g := elliptic.P256().Params()
	x, y := encode(g.Gx.Bytes()), encode(g.Gy.Bytes())
	off := g.Gy.Bytes()
	off[31] ^= 1
	zero := encode(make([]byte, 32))
	ec := func(x, y string) string { return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}`, x, y) }
	p384 := elliptic.P384().Params()
	bad, off256 := "malformed ephemeral key", "ephemeral key not on its curve"
	return []forged{
		{"epk-off-curve", "a point beside the curve", off256, "", epk(ec(x, encode(off)))},
		{"epk-zero", "the point 0, 0", off256, "", epk(ec(zero, zero))},
		{"epk-beyond-field", "a coordinate beyond the field", off256, "", epk(ec(encode([]byte(strings.Repeat("\xff", 32))), y))},
		{"epk-other-curve", "a point on another curve than our key", "ephemeral key on another curve", "", epk(fmt.Sprintf(`{"kty":"EC","crv":"P-384","x":"%s","y":"%s"}`, encode(p384.Gx.Bytes()), encode(p384.Gy.Bytes())))},
		{"epk-wrong-curve-name", "P-384 coordinates called P-256", bad, "", epk(ec(encode(p384.Gx.Bytes()), encode(p384.Gy.Bytes())))},
		{"epk-missing", "no ephemeral key", "no ephemeral key", "", epk("-")},
		{"epk-text", "epk is a string", malformedHeader, "", epk(`"key"`)},
		{"epk-x25519", "an X25519 key", bad, "", epk(`{"kty":"OKP","crv":"X25519","x":"` + zero + `"}`)},
		{"epk-private", "epk with its private part", bad, "", epk(fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s","d":"%s"}`, x, y, zero))},
		{"epk-short", "x without its first byte", bad, "", epk(ec(encode(g.Gx.Bytes()[1:]), y))},
		{"epk-no-y", "no y", bad, "", epk(`{"kty":"EC","crv":"P-256","x":"` + x + `"}`)},
		{"epk-generator", "a point that is not the sender's", "decryption failed", "", epk(ec(x, y))},
	}
}

// encodings are tokens that another reader might take for the good one.
func (w *world) encodings() []forged {
	direct, jws, jwe := "singpass direct", w.jws(), w.jwe(w.jws())
	p := strings.Split(jws, ".")
	std := base64.StdEncoding.EncodeToString([]byte(w.claims("note", `"???>>>~~~"`)))
	// The last character of a 64-byte signature has four loose bits.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	loose := jws[:len(jws)-1] + string(alphabet[strings.IndexByte(alphabet, jws[len(jws)-1])|1])
	return []forged{
		{"empty", "nothing", malformedToken, direct, ""},
		{"one-part", "no dots", malformedToken, direct, p[0]},
		{"two-parts", "two parts", malformedToken, direct, p[0] + "." + p[1]},
		{"four-parts", "four parts", malformedToken, direct, jws + ".AAAA"},
		{"six-parts", "six parts", malformedToken, "", jwe + ".AAAA"},
		{"dots", "only dots", malformedHeader, direct, ".."},
		{"dots-encrypted", "only dots", malformedHeader, "", "...."},
		{"trailing-byte", "a byte behind the token", "wrong signature", direct, jws + "A"},
		{"trailing-line-feed", "a line feed behind the token", malformedBase64, direct, jws + "\n"},
		{"trailing-line-feed-encrypted", "a line feed behind the token", malformedBase64, "", jwe + "\n"},
		{"leading-space", "a space before the token", malformedBase64, direct, " " + jws},
		{"line-feed-inside", "a line feed in the payload", malformedBase64, direct, p[0] + "." + p[1][:8] + "\r\n" + p[1][8:] + "." + p[2]},
		{"padding", "padding behind the signature", malformedBase64, direct, jws + "=="},
		{"padding-encrypted", "padding behind the tag", malformedBase64, "", jwe + "="},
		{"standard-base64", "+ and / in the payload", malformedBase64, direct, p[0] + "." + strings.TrimRight(std, "=") + "." + p[2]},
		{"loose-bits", "loose bits at the end of the signature", malformedBase64, direct, loose},
		{"nul", "a NUL behind the header", malformedBase64, direct, p[0] + "\x00." + p[1] + "." + p[2]},
		{"bearer", "a word before the token", malformedBase64, direct, "Bearer " + jws},
		{"quoted", "the token in quotes", malformedBase64, direct, `"` + jws + `"`},
	}
}
