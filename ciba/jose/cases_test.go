package jose

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// forged is a case that -update writes as a vector.
type forged struct {
	file, name, expect, opener, token string
}

const person = "s=S1234567D,u=178478de-fed7-4c03-a75e-e68c44d0d5f0"

func (w *world) writeCases(t *testing.T) {
	dir := filepath.Join("testdata", "tokens")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	for _, cases := range [][]forged{w.good(), w.headers(), w.signatures(), w.layers(), w.wrapping(), w.rsa(), w.ephemerals(), w.encodings(), w.parties(), w.times()} {
		for _, c := range cases {
			if written[c.file] {
				t.Fatalf("two cases are named %s", c.file)
			}
			written[c.file] = true
			head := fmt.Sprintf("name: %s\nexpect: %s\nopener: %s\n", c.name, c.expect, or(c.opener, "singpass"))
			if c.expect == "ok" {
				head += "sub: " + person + "\n"
			}
			path := filepath.Join(dir, c.file+".txt")
			if old, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(old), head+"\n") {
				continue // every signature is random: a file that still says the same stays as it is
			}
			if err := os.WriteFile(path, []byte(head+"\n"+c.token+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// claims are good ones with changes: pairs of a name and its JSON, "" to leave it out. A name that is not among the good ones is added.
func (w *world) claims(changes ...string) string {
	now := w.Now.Unix()
	members := [][2]string{
		{"iss", fmt.Sprintf("%q", w.Issuer)}, {"aud", fmt.Sprintf("%q", w.ClientID)}, {"sub", fmt.Sprintf("%q", person)},
		{"iat", fmt.Sprint(now - 5)}, {"exp", fmt.Sprint(now + 595)}, {"amr", `["pwd","swk"]`},
	}
	for i := 0; i < len(changes); i += 2 {
		found := false
		for j := range members {
			if members[j][0] == changes[i] && !found {
				members[j][1], found = changes[i+1], true
			}
		}
		if !found {
			members = append(members, [2]string{changes[i], changes[i+1]})
		}
	}
	var out []string
	for _, m := range members {
		if m[1] != "" {
			out = append(out, fmt.Sprintf("%q:%s", m[0], m[1]))
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

const plainHeader = `{"alg":"ES256","typ":"JWT","kid":"ndi/2026/11"}`

func (w *world) es256() crypto.Signer { return w.provider["ndi/2026/11"] }

// jws signs good claims, with changes, as the provider would.
func (w *world) jws(changes ...string) string {
	return sign(w.es256(), plainHeader, w.claims(changes...))
}

func (w *world) newest() *decrypter { return w.keys.enc[0] }

// jwe encrypts to our newest key as the provider would.
func (w *world) jwe(plain string) string {
	return envelope{to: w.newest(), more: `,"cty":"JWT"`}.seal(plain)
}

// good are tokens that must open: the rules must not refuse what a provider may send.
func (w *world) good() []forged {
	hdr := jws.NewHeaders()
	check(hdr.Set(jws.KeyIDKey, "ndi/2026/11"))
	check(hdr.Set(jws.TypeKey, "JWT"))
	signed, err := jws.Sign([]byte(w.claims()), jws.WithKey(jwa.ES256, w.es256(), jws.WithProtectedHeaders(hdr)))
	check(err)
	outer := jwe.NewHeaders()
	check(outer.Set(jwe.KeyIDKey, "our-enc-2"))
	check(outer.Set(jwe.ContentTypeKey, "JWT"))
	sealed, err := jwe.Encrypt(signed, jwe.WithKey(jwa.ECDH_ES_A256KW, &w.newest().ec.PublicKey),
		jwe.WithContentEncryption(jwa.A256CBC_HS512), jwe.WithProtectedHeaders(outer))
	check(err)
	enc := w.keys.enc
	signAs := func(kid, header string) string { return sign(w.provider[kid], header, w.claims()) }
	return []forged{
		{"ok-jwx", "JWS in JWE, both made with jwx", "ok", "", string(sealed)},
		{"ok-by-hand", "JWS in JWE, both made by hand", "ok", "", w.jwe(w.jws())},
		{"ok-old-enc-key", "encrypted to the key before the newest", "ok", "", envelope{to: enc[1]}.seal(w.jws())},
		{"ok-old-enc-key-no-kid", "encrypted to the key before the newest, naming none", "ok", "", envelope{to: enc[1], kid: "-"}.seal(w.jws())},
		{"ok-enc-kid-not-ours", "encrypted under a kid of the provider's making", "ok", "", envelope{to: enc[0], kid: "thumbprint"}.seal(w.jws())},
		{"ok-p384", "our P-384 key, ECDH-ES+A192KW", "ok", "", envelope{to: enc[2]}.seal(w.jws())},
		{"ok-p521", "our P-521 key, ECDH-ES+A128KW", "ok", "", envelope{to: enc[3]}.seal(w.jws())},
		{"ok-apu-apv", "apu and apv go into the key derivation", "ok", "", envelope{to: enc[0], apu: "Alice", apv: "Bob"}.seal(w.jws())},
		{"ok-a256gcm", "A256GCM", "ok", "standard", envelope{to: enc[0], enc: "A256GCM"}.seal(w.jws())},
		{"ok-a128gcm", "A128GCM", "ok", "standard", envelope{to: enc[0], enc: "A128GCM"}.seal(w.jws())},
		{"ok-a128cbc", "A128CBC-HS256", "ok", "standard", envelope{to: enc[0], enc: "A128CBC-HS256"}.seal(w.jws())},
		{"ok-a192cbc", "A192CBC-HS384", "ok", "standard", envelope{to: enc[0], enc: "A192CBC-HS384"}.seal(w.jws())},
		{"ok-signed", "a bare JWS where that is configured", "ok", "singpass direct", w.jws()},
		{"ok-no-typ", "no typ", "ok", "singpass direct", signAs("ndi/2026/11", `{"alg":"ES256","kid":"ndi/2026/11"}`)},
		{"ok-es384-no-kid", "no kid, and one key for that algorithm", "ok", "standard signed", signAs("k384", `{"alg":"ES384"}`)},
		{"ok-es512", "ES512", "ok", "standard signed", signAs("k521", `{"alg":"ES512","kid":"k521"}`)},
		{"ok-ps256", "PS256", "ok", "standard signed", signAs("rsa", `{"alg":"PS256","kid":"rsa"}`)},
		{"ok-rs256", "RS256 where it is listed", "ok", "standard signed", signAs("rsa", `{"alg":"RS256","kid":"rsa"}`)},
		{"ok-second-of-two-kids", "two keys have this kid; the second signed", "ok", "singpass direct", signAs("twin+", `{"alg":"ES256","kid":"twin"}`)},
		{"ok-first-of-two-kids", "two keys have this kid; the first signed", "ok", "singpass direct", signAs("twin", `{"alg":"ES256","kid":"twin"}`)},
		{"ok-unknown-header", "a header member nobody knows", "ok", "singpass direct", signAs("ndi/2026/11", `{"alg":"ES256","kid":"ndi/2026/11","x-note":{"a":1}}`)},
		{"ok-aud-list", "aud is a list of one", "ok", "singpass direct", w.jws("aud", `["bank-1"]`)},
		{"ok-aud-twice-azp", "two audiences, both us, with azp", "ok", "singpass direct", w.jws("aud", `["bank-1","bank-1"]`, "azp", `"bank-1"`)},
		{"ok-expired-59s", "expired 59 s ago: clocks differ", "ok", "singpass direct", w.jws("exp", w.at(-59))},
		{"ok-iat-60s-ahead", "issued 60 s from now: clocks differ", "ok", "singpass direct", w.jws("iat", w.at(60))},
		{"ok-iat-earliest", "issued in the first whole second after notBefore", "ok", "singpass direct", w.jws("iat", fmt.Sprint(w.NotBefore.Unix()+1))},
		{"ok-fraction", "times with fractions", "ok", "singpass direct", w.jws("iat", w.at(-5)+".25", "nbf", w.at(-5)+".5", "auth_time", w.at(-9))},
		{"ok-null-optional", "acr and amr are null", "ok", "singpass direct", w.jws("acr", "null", "amr", "null")},
		{"ok-more-claims", "claims nobody knows, nested", "ok", "singpass direct", w.jws("acr", `"urn:x"`, "nonce", `"n"`, "extra", `{"a":[1,{"b":null}]}`)},
	}
}

// at is a NumericDate some seconds from now.
func (w *world) at(seconds int64) string { return fmt.Sprint(w.Now.Unix() + seconds) }
