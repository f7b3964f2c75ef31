package jose

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
)

type otherCurve struct{ elliptic.Curve }

func (otherCurve) Params() *elliptic.CurveParams { return &elliptic.CurveParams{Name: "P-192"} }

func mustGenerate(t testing.TB) []byte {
	t.Helper()
	b, err := Generate(time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// jwks is a document of keys, each a map to change.
func jwks(t testing.TB, raw []byte) []map[string]any {
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func TestReadKeysRefuses(t *testing.T) {
	raw := mustGenerate(t)
	p384 := loadWorld(t).keys.enc[2].jwk
	for _, c := range []struct {
		name, want string
		change     func(sig, enc map[string]any)
	}{
		{"no d", "key 1: it has no private part d; this looks like a public key", func(s, _ map[string]any) { delete(s, "d") }},
		{"d of another key", "key 1: its values are not one key on that curve", func(s, e map[string]any) { s["d"] = e["d"] }},
		{"d zero", "key 1: its values are not one key on that curve", func(s, _ map[string]any) { s["d"] = encode(make([]byte, 32)) }},
		{"point off the curve", "key 1: its values are not one key on that curve", func(s, _ map[string]any) { s["y"] = s["x"] }},
		{"other curve's point", "key 1: its values are not one key on that curve", func(s, _ map[string]any) { s["x"], s["y"] = p384.X, p384.Y }},
		{"x not base64", "key 1: its values are not one key on that curve", func(s, _ map[string]any) { s["x"] = "!" }},
		{"secp256k1", "key 1: kty must be EC", func(s, _ map[string]any) { s["crv"] = "secp256k1" }},
		{"oct", "key 2: kty must be EC", func(_, e map[string]any) { e["kty"] = "oct" }},
		{"RSA", "key 1: kty must be EC", func(s, _ map[string]any) { s["kty"] = "RSA" }},
		{"no kid", "key 1: kid must be", func(s, _ map[string]any) { delete(s, "kid") }},
		{"kid a number", "key 1: kid must be", func(s, _ map[string]any) { s["kid"] = 1 }},
		{"same kid", "key 2: has the kid of key 1", func(s, e map[string]any) { e["kid"] = s["kid"] }},
		{"no use", "key 1: use must be sig or enc", func(s, _ map[string]any) { delete(s, "use") }},
		{"sig with another curve's alg", "key 1: alg of a sig key on P-256 must be ES256", func(s, _ map[string]any) { s["alg"] = "ES384" }},
		{"alg a number", "key 1: alg must be a string", func(s, _ map[string]any) { s["alg"] = 256 }},
		{"enc without alg", "key 2: alg of an EC enc key must be", func(_, e map[string]any) { delete(e, "alg") }},
		{"enc with dir", "key 2: alg of an EC enc key must be", func(_, e map[string]any) { e["alg"] = "dir" }},
		{"enc with ECDH-ES", "key 2: alg of an EC enc key must be", func(_, e map[string]any) { e["alg"] = "ECDH-ES" }},
		{"no sig key", "no key with use sig", func(s, _ map[string]any) { s["use"], s["alg"] = "enc", "ECDH-ES+A256KW" }},
	} {
		keys := jwks(t, raw)
		c.change(keys[0], keys[1])
		b, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		k, err := ReadKeys(b)
		if err == nil || k != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		for _, key := range jwks(t, raw) {
			if strings.Contains(err.Error(), key["d"].(string)) {
				t.Errorf("%s: the error holds a private key", c.name)
			}
		}
	}
	many := `{"keys":[` + strings.Repeat(`{},`, maxKeys) + `{}]}`
	for text, want := range map[string]string{
		"":                                 "malformed JSON",
		"[]":                               "malformed JSON",
		"{}":                               "no member keys",
		`{"keys":null}`:                    "no member keys",
		`{"keys":{}}`:                      "malformed JSON",
		`{"keys":[]}`:                      "no key with use sig",
		`{"keys":[7]}`:                     "key 1: malformed JSON",
		`{"keys":[],"keys":[]}`:            "duplicate member",
		`{"keys":[{"kid":"a","kid":"b"}]}`: "key 1: duplicate member",
		string(raw) + "{}":                 "malformed JSON",
		many:                               "more than 100 keys",
		`{"keys":[{"kid":"a","kty":"EC"},{"kid":"b","kty":"EC"}]}`: "no key has its private part d", // one mistake, told once
		string(raw) + strings.Repeat(" ", maxJWKS):                 "larger than 256 KiB",
	} {
		if _, err := ReadKeys([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// Every mistake is told at once.
func TestReadKeysAllMistakes(t *testing.T) {
	_, err := ReadKeys([]byte(`{"keys":[{"kid":"a","kty":"oct"},{"kty":"EC"},{"kid":"c","kty":"EC","crv":"P-256"}]}`))
	for _, want := range []string{"key 1: kty", "key 2: kid", "key 3: it has no private part d"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPublic(t *testing.T) {
	w := loadWorld(t)
	more, err := Rotate(w.Ours, "sig", w.Now)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ReadKeys(more)
	if err != nil {
		t.Fatal(err)
	}
	public := k.Public()
	if strings.Contains(string(public), `"d"`) {
		t.Fatal("a private part is published")
	}
	got := jwks(t, public)
	if len(got) != 3 || got[0]["kid"] != "our-sig" || got[1]["use"] != "sig" || got[2]["kid"] != "our-enc-2" || got[2]["alg"] != "ECDH-ES+A256KW" || got[2]["use"] != "enc" {
		t.Fatalf("published: %v", got)
	}
	set, err := jwk.Parse(public)
	if err != nil || set.Len() != 3 {
		t.Fatalf("jwx reads %v: %v", set, err)
	}
	public[0] = 'x'
	if k.Public()[0] == 'x' {
		t.Error("the caller can change what is published")
	}
}

func TestRotate(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	first := mustGenerate(t)
	before := jwks(t, first)
	if before[0]["use"] != "sig" || before[0]["alg"] != "ES256" || before[1]["use"] != "enc" || before[1]["alg"] != "ECDH-ES+A256KW" || len(before) != 2 {
		t.Fatal("Generate made other keys than one sig and one enc")
	}
	sig, err := Rotate(first, "sig", now)
	if err != nil {
		t.Fatal(err)
	}
	after := jwks(t, sig)
	if len(after) != 3 || after[2]["use"] != "sig" || fmt.Sprint(after[0], after[1]) != fmt.Sprint(before[0], before[1]) {
		t.Error("the next sig key must come last and the others stay")
	}
	a, err := ReadKeys(sig)
	if err != nil {
		t.Fatal(err)
	}
	if a.sig[0].jwk.Kid != before[0]["kid"] {
		t.Error("the new key signs before it can be known")
	}
	enc, err := Rotate(first, "enc", now)
	if err != nil {
		t.Fatal(err)
	}
	after = jwks(t, enc)
	if len(after) != 3 || after[0]["use"] != "enc" || fmt.Sprint(after[1], after[2]) != fmt.Sprint(before[0], before[1]) {
		t.Error("the next enc key must come first and the others stay")
	}
	b, err := ReadKeys(enc)
	if err != nil || !strings.Contains(string(b.Public()), after[0]["kid"].(string)) || strings.Contains(string(b.Public()), before[1]["kid"].(string)) {
		t.Errorf("the new enc key must be published in place of the old: %v", err)
	}
	if _, err := Rotate(first, "other", now); err == nil {
		t.Error("rotated an unknown use")
	}
	if _, err := Rotate([]byte("{}"), "sig", now); err == nil {
		t.Error("rotated no keys")
	}
	// The next key is of the kind that is in use.
	wide := loadWorld(t)
	wide.Ours, err = json.Marshal(map[string]any{"keys": append(jwks(t, wide.Ours)[3:4], jwks(t, wide.Ours)[0])})
	if err != nil {
		t.Fatal(err)
	}
	if enc, err = Rotate(wide.Ours, "enc", now); err != nil || jwks(t, enc)[0]["crv"] != "P-384" || jwks(t, enc)[0]["alg"] != "ECDH-ES+A192KW" {
		t.Errorf("rotated to another curve: %v", err)
	}
	if !a.CanDecrypt() || (*Keys)(nil).CanDecrypt() || (&Keys{}).CanDecrypt() {
		t.Error("CanDecrypt is wrong")
	}
}

// jwx, which had no part in making it, verifies the assertion with the published key.
func TestAssertion(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 3, 4, 999, time.UTC)
	for curve, alg := range map[elliptic.Curve]jwa.SignatureAlgorithm{elliptic.P256(): jwa.ES256, elliptic.P384(): jwa.ES384, elliptic.P521(): jwa.ES512} {
		raw, err := newKey("sig", string(alg), curve, now)
		if err != nil {
			t.Fatal(err)
		}
		k, err := ReadKeys([]byte(`{"keys":[` + string(raw) + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		set, err := jwk.Parse(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		key, _ := set.Key(0)
		asserter, err := k.Asserter(`client "1"`, "https://id.example/a?b=1&c=2")
		if err != nil {
			t.Fatal(err)
		}
		jtis := map[string]bool{}
		for range 50 { // R and S with leading zeros come up
			raw, err := asserter.Append([]byte("client_assertion="), now)
			if err != nil {
				t.Fatal(err)
			}
			token, ok := strings.CutPrefix(string(raw), "client_assertion=")
			if !ok {
				t.Fatal("what was there before the assertion is gone")
			}
			payload, err := jws.Verify([]byte(token), jws.WithKey(alg, key))
			if err != nil {
				t.Fatalf("%s: %v", alg, err)
			}
			parsed, err := jwt.Parse(payload, jwt.WithVerify(false), jwt.WithValidate(false))
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Issuer() != `client "1"` || parsed.Subject() != parsed.Issuer() || len(parsed.Audience()) != 1 || parsed.Audience()[0] != "https://id.example/a?b=1&c=2" {
				t.Fatalf("wrong parties: %s", payload)
			}
			if parsed.IssuedAt().Unix() != now.Unix() || parsed.Expiration().Sub(parsed.IssuedAt()) != 120*time.Second {
				t.Fatalf("wrong times: %s", payload)
			}
			if !strings.Contains(string(payload), `"aud":"`) {
				t.Fatalf("the audience is not one string: %s", payload)
			}
			jtis[parsed.JwtID()] = true
			header, _, _ := strings.Cut(token, ".")
			if got, want := mustDecode(header), fmt.Sprintf(`{"typ":"JWT","alg":"%s","kid":"%s"}`, alg, key.KeyID()); got != want {
				t.Fatalf("header %s, want %s", got, want)
			}
		}
		if len(jtis) != 50 || jtis[""] {
			t.Errorf("%d different jti in 50 assertions", len(jtis))
		}
		for _, c := range [][2]string{{"", "x"}, {"x", ""}} {
			if _, err := k.Asserter(c[0], c[1]); err == nil {
				t.Errorf("assertions of %q for %q", c[0], c[1])
			}
		}
	}
}

// Keys, tokens and subjects print nothing, whichever way they are printed and wherever they are held.
func TestRedacted(t *testing.T) {
	w := loadWorld(t)
	token, err := w.open(w.opener(t, "singpass"), w.jwe(w.jws()))
	if err != nil {
		t.Fatal(err)
	}
	subject, _ := ParseSubject(person)
	canaries := []string{person, "S1234567D", "178478de", "swk", token.Signed}
	for _, k := range jwks(t, w.Ours) {
		canaries = append(canaries, k["d"].(string))
	}
	for _, k := range append(w.keys.enc, &decrypter{ec: w.keys.sig[0].private}) {
		var d []byte
		if k.rsa != nil {
			d = k.rsa.D.Bytes()
			for _, v := range []*big.Int{k.rsa.D, k.rsa.Primes[0], k.rsa.Precomputed.Dp} {
				canaries = append(canaries, v.String(), v.Text(16), encode(v.Bytes()))
			}
		} else if d, err = k.ec.Bytes(); err != nil {
			t.Fatal(err)
		}
		canaries = append(canaries, string(d), fmt.Sprintf("%x", d), fmt.Sprintf("%X", d), fmt.Sprint(d), strings.Trim(fmt.Sprint(d), "[]"))
	}
	opener := w.opener(t, "singpass")
	asserter, err := w.keys.Asserter(w.ClientID, w.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	type hidden struct {
		k *Keys
		v Keys
	}
	for name, v := range map[string]any{
		"keys": w.keys, "keys by value": *w.keys, "in a slice": []*Keys{w.keys}, "in a map": map[string]any{"k": *w.keys}, "opener": opener, "opener by value": *opener,
		"asserter": asserter, "asserter by value": *asserter,
		"unexported": hidden{w.keys, *w.keys}, "token": token, "token pointer": &token, "tokens": []Token{token}, "subject": subject, "subjects": map[string]Subject{"x": subject},
		"in an error": fmt.Errorf("x: %v %v", w.keys, token),
	} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		b, _ := json.Marshal(v)
		out.Write(b)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "v", v, slog.Group("g", "v", v))
		}
		for _, c := range canaries {
			if strings.Contains(out.String(), c) {
				t.Errorf("%s: printed", name)
			}
		}
	}
	for _, v := range []any{w.keys, *w.keys, token, subject} { // for handlers that walk a value themselves
		if got := slog.AnyValue(v).Resolve(); got.Kind() != slog.KindString || got.String() != redacted {
			t.Errorf("%T: a log handler sees it", v)
		}
	}
	if got := fmt.Sprint(w.keys, *w.keys, token, subject); strings.Count(got, redacted) != 4 {
		t.Errorf("redaction is not said: %q", got)
	}
	if bytes.Contains(w.keys.Public(), []byte(`"d"`)) {
		t.Error("published d")
	}
}
