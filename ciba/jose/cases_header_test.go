package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
)

func (w *world) strangersJWK() string {
	k := w.provider["stranger"].(*ecdsa.PrivateKey)
	t := text(k, "sig", "ES256", "stranger")
	return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}`, t.X, t.Y)
}

// headers are JWS whose header asks for something.
func (w *world) headers() []forged {
	liar, direct := w.provider["stranger"], "singpass direct"
	signedBy := func(k crypto.Signer, header string) string { return sign(k, header, w.claims()) }
	with := func(more string) string {
		return signedBy(w.es256(), `{"alg":"ES256","kid":"ndi/2026/11",`+more+`}`)
	}
	unsigned := func(header string) string { return encode([]byte(header)) + "." + encode([]byte(w.claims())) + "." }
	der, err := x509.MarshalPKIXPublicKey(w.es256().Public())
	check(err)
	mac := hmac.New(sha256.New, der)
	hs := encode([]byte(`{"alg":"HS256","kid":"ndi/2026/11"}`)) + "." + encode([]byte(w.claims()))
	mac.Write([]byte(hs))
	hs += "." + encode(mac.Sum(nil))
	badAlg, wrongType, badHeader := "signature algorithm not allowed", "not typed as a JWT", malformedHeader
	cases := []forged{
		{"alg-none", "alg none, no signature", badAlg, direct, unsigned(`{"alg":"none"}`)},
		{"alg-none-careless", "alg none, and the configuration lists it", badAlg, "careless signed", unsigned(`{"alg":"none"}`)},
		{"alg-none-case", "alg None, and the configuration lists it", badAlg, "careless signed", unsigned(`{"alg":"None"}`)},
		{"alg-none-signed", "alg none with a good signature behind it", badAlg, direct, signedBy(w.es256(), `{"alg":"none","kid":"ndi/2026/11"}`)},
		{"alg-none-in-jwe", "alg none inside a JWE", badAlg, "", w.jwe(unsigned(`{"alg":"none"}`))},
		{"alg-hs256-public-key", "HMAC with the public key as the secret", badAlg, direct, hs},
		{"alg-hs256-careless", "HMAC with the public key, and the configuration lists HS256", badAlg, "careless signed", hs},
		{"alg-eddsa-careless", "EdDSA, and the configuration lists it", badAlg, "careless signed", signedBy(w.es256(), `{"alg":"EdDSA","kid":"ndi/2026/11"}`)},
		{"alg-es384-not-listed", "ES384 with a published P-384 key where ES256 is configured", badAlg, direct, signedBy(w.provider["k384"], `{"alg":"ES384","kid":"k384"}`)},
		{"alg-rs256-not-listed", "RS256 with a published RSA key where ES256 is configured", badAlg, direct, signedBy(w.provider["rsa"], `{"alg":"RS256","kid":"rsa"}`)},
		{"alg-es384-for-p256", "ES384 in the header, kid of the P-256 key", "unknown key", "standard signed", signedBy(w.es256(), `{"alg":"ES384","kid":"ndi/2026/11"}`)},
		{"alg-es256-for-p384", "ES256 in the header, kid and signature of the P-384 key", "unknown key", direct, signedBy(w.provider["k384"], `{"alg":"ES256","kid":"k384"}`)},
		{"alg-es256-for-rsa", "ES256 in the header, kid of the RSA key", "unknown key", direct, signedBy(w.es256(), `{"alg":"ES256","kid":"rsa"}`)},
		{"alg-rs256-for-ec", "RS256 in the header, kid of the P-256 key", "unknown key", "standard signed", signedBy(w.provider["rsa"], `{"alg":"RS256","kid":"ndi/2026/11"}`)},
		{"alg-missing", "no alg", badAlg, direct, signedBy(w.es256(), `{"kid":"ndi/2026/11"}`)},
		{"alg-missing-careless", "no alg, and the configuration lists the empty one", badAlg, "careless signed", signedBy(w.es256(), `{"kid":"ndi/2026/11"}`)},
		{"alg-list", "alg is a list", badHeader, direct, signedBy(w.es256(), `{"alg":["ES256"],"kid":"ndi/2026/11"}`)},
		{"alg-lower-case", "alg es256", badAlg, direct, signedBy(w.es256(), `{"alg":"es256","kid":"ndi/2026/11"}`)},
		{"alg-twice", "alg twice", "duplicate member in header", direct, with(`"alg":"ES256"`)},
		{"alg-twice-escaped", "alg twice, once written with an escape", "duplicate member in header", direct, with(`"\u0061lg":"none"`)},
		{"kid-twice", "kid twice", "duplicate member in header", direct, with(`"kid":"k384"`)},
		{"nested-twice", "a duplicate deep in the header", "duplicate member in header", direct, with(`"note":[{"a":1,"a":2}]`)},
		{"kid-number", "kid is a number", badHeader, direct, signedBy(w.es256(), `{"alg":"ES256","kid":7}`)},
		{"kid-empty", "kid is empty", badHeader, direct, signedBy(w.provider["k384"], `{"alg":"ES384","kid":""}`)},
		{"kid-null", "kid is null", badHeader, direct, signedBy(w.es256(), `{"alg":"ES256","kid":null}`)},
		{"kid-17k", "a kid of 17 kB", "larger than 16 KiB", direct, signedBy(w.es256(), `{"alg":"ES256","kid":"`+strings.Repeat("k", 17000)+`"}`)},
		{"typ-access-token", "an access token of the same provider", wrongType, direct, with(`"typ":"at+jwt"`)},
		{"typ-logout-token", "a logout token of the same provider", wrongType, direct, with(`"typ":"logout+jwt"`)},
		{"cty-other", "cty says it is something else", wrongType, direct, with(`"cty":"text/plain"`)},
		{"header-list", "the header is a list", badHeader, direct, signedBy(w.es256(), `["alg","ES256"]`)},
		{"header-two-objects", "two objects in the header", badHeader, direct, signedBy(w.es256(), plainHeader+`{}`)},
		{"header-deep", "a header nested too deep", badHeader, direct, with(`"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40))},
		{"header-utf8", "the header is not UTF-8", badHeader, direct, with("\"a\":\"\xff\"")},
		{"jwk-embedded", "the sender's own key in the header", "header has jwk", direct, signedBy(liar, `{"alg":"ES256","jwk":`+w.strangersJWK()+`}`)},
		{"jwk-embedded-known-kid", "the sender's own key under a published kid", "header has jwk", direct, signedBy(liar, `{"alg":"ES256","kid":"ndi/2026/11","jwk":`+w.strangersJWK()+`}`)},
		{"jku", "an address of the sender's keys", "header has jku", direct, signedBy(liar, `{"alg":"ES256","kid":"stranger","jku":"https://evil.example/keys"}`)},
		{"x5u", "an address of the sender's certificate", "header has x5u", direct, signedBy(liar, `{"alg":"ES256","x5u":"https://evil.example/cert"}`)},
		{"x5c", "a certificate in the header", "header has x5c", direct, signedBy(liar, `{"alg":"ES256","x5c":["MIIB"]}`)},
		{"crit-unknown", "an extension that must be understood", "header has crit", direct, with(`"crit":["exp2"],"exp2":1`)},
		{"crit-empty", "an empty crit", "header has crit", direct, with(`"crit":[]`)},
		{"crit-b64", "crit names b64", "header has crit", direct, with(`"crit":["b64"],"b64":false`)},
		{"b64", "b64 false without crit", "header has b64", direct, with(`"b64":false`)},
		{"zip-in-jws", "zip in a JWS", "header has zip", direct, with(`"zip":"DEF"`)},
	}
	return cases
}

// signatures are JWS whose signature does not hold.
func (w *world) signatures() []forged {
	direct, wrong := "singpass direct", "wrong signature"
	good := w.jws()
	end := strings.LastIndexByte(good, '.')
	raw, err := decode(good[end+1:])
	check(err)
	as := func(sig []byte) string { return good[:end+1] + encode(sig) }
	flipped := append([]byte{}, raw...)
	flipped[40] ^= 1
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	check(err)
	swapped := append(append([]byte{}, raw[32:]...), raw[:32]...)
	n := w.es256().(*ecdsa.PrivateKey).Params().N
	other := strings.Split(w.jws("jti", `"other"`), ".")
	parts := strings.Split(good, ".")
	ps := encode([]byte(`{"alg":"PS256","kid":"rsa"}`)) + "." + parts[1]
	salted, err := rsa.SignPSS(rand.Reader, w.provider["rsa"].(*rsa.PrivateKey), crypto.SHA256, sum(crypto.SHA256, ps), &rsa.PSSOptions{SaltLength: 20})
	check(err)
	return []forged{
		{"sig-bit", "one bit of the signature", wrong, direct, as(flipped)},
		{"sig-der", "the signature as ASN.1", wrong, direct, as(der)},
		{"sig-short", "the signature one byte short", wrong, direct, as(raw[:63])},
		{"sig-long", "a byte behind the signature", wrong, direct, as(append(append([]byte{}, raw...), 0))},
		{"sig-zero-between", "a zero byte between R and S", wrong, direct, as(append(append(append([]byte{}, raw[:32]...), 0), raw[32:]...))},
		{"sig-swapped", "R and S the other way round", wrong, direct, as(swapped)},
		{"sig-zero", "R and S are 0", wrong, direct, as(make([]byte, 64))},
		{"sig-order", "R and S are the order of the curve", wrong, direct, as(append(n.Bytes(), n.Bytes()...))},
		{"sig-missing", "no signature", "no signature", direct, good[:end+1]},
		{"sig-of-another", "the signature of another token", wrong, direct, parts[0] + "." + parts[1] + "." + other[2]},
		{"sig-claims-changed", "other claims under a good signature", wrong, direct, parts[0] + "." + encode([]byte(w.claims("sub", `"s=T0000001E"`))) + "." + parts[2]},
		{"sig-stranger-known-kid", "a stranger's signature under a published kid", wrong, direct, sign(w.provider["stranger"], plainHeader, w.claims())},
		{"sig-stranger", "a stranger's signature under its own kid", "unknown key", direct, sign(w.provider["stranger"], `{"alg":"ES256","kid":"stranger"}`, w.claims())},
		{"sig-no-kid-several", "no kid, and several keys would do", "names no key, and there are several", direct, sign(w.es256(), `{"alg":"ES256"}`, w.claims())},
		{"sig-our-own-key", "signed with the client's own key", "unknown key", direct, sign(w.keys.sig[0].private, `{"alg":"ES256","kid":"our-sig"}`, w.claims())},
		{"sig-ps256-short-salt", "PS256 with a salt of 20 bytes", wrong, "standard signed", ps + "." + encode(salted)},
		{"sig-ps256-by-rs256", "an RS256 signature under PS256", wrong, "standard signed", sign(w.provider["rsa"], `{"kid":"rsa","alg":"PS2\u00356"}`, w.claims())},
	}
}
