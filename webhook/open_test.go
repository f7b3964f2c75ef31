package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
)

// An approval that npm jose encrypted, with the receiver's key.
const (
	joseKey = `{"kty":"EC","use":"enc","alg":"ECDH-ES+A256KW","kid":"receiver-1","crv":"P-256","x":"O5VcrBbuiJM3W8eGVWd7Y5VT0GczIM9UbLJNebn13go",` +
		`"y":"fRWOSNhulVHSxmxrWVZZ0e_bKbwBtNmBUNeB9GSxfCc","d":"42SAEWOvSC30HLVMtTUlLrm0dvYrtHMHCyle5pS_Aa8"}`
	joseToken = "eyJhbGciOiJFQ0RILUVTK0EyNTZLVyIsImVuYyI6IkEyNTZHQ00iLCJraWQiOiJyZWNlaXZlci0xIiwiY3R5IjoianNvbiIsImVwayI6eyJ4IjoiZWlpNl9LQVhx" +
		"RXFUSkZTU29DQS1XQmdOOE50SkN2aF9adFZPQ2ZwOXhNTSIsImNydiI6IlAtMjU2Iiwia3R5IjoiRUMiLCJ5IjoiOVExUjh6bFJQSm5iNGxQYXFzUU05UjZQQUY4ZGdX" +
		"NmhYWWIxZWhCSldOVSJ9fQ.74LIXEJZzGjFaUi8rJ4blzim7O97-h-7YChCJCxlZLHmHGee9jQ89g.jfJQLbOELWvrn0bt.boxsJ-JwTyABVqmM7oC41Gf3LYU--5TGv" +
		"OKj1rEjHY6Ro07WDDg0mvszBUVvtfxHWEMqykyTymD2EYP3Zb6h9D-mPSEidSFuEiBNRas6NNdNrFJFC6hB0WBPHjMWkihERFQiVAydczXWVDndoms4KlhaFf_SJRxXF" +
		"9mTv3bc5dPnlsB460JgNwgmcg.yArZZx49_Xyn8qNvs9x4bQ"
	joseEvent = `{"type":"step_up.approved","timestamp":"2026-11-21T02:03:20.456Z","data":{"id":"su_1","status":"approved","identity":{"nric":"S1234567D"}}}`
)

// bodyAround is a webhook's body with encrypted content.
func bodyAround(token string) []byte {
	return fmt.Appendf(nil, `{"type":"step_up.approved","timestamp":"2026-11-21T02:03:20.456Z","data":{"id":"su_1","status":"approved","identity":null,"encrypted":%q}}`, token)
}

func TestParsePrivateKeys(t *testing.T) {
	key, public := newKey(t, "P-256", "one")
	other, _ := newKey(t, "P-521", "two")
	third, _ := newKey(t, "P-256", "three")
	const signing = `{"kty":"EC","use":"sig","kid":"one","crv":"P-256","x":"AA","y":"AA","d":"AA"}`
	for _, c := range []struct {
		name, file string
		kids       string // empty: refused
		want       string // in the error
	}{
		{"one", string(setOf(key)), "[one]", ""},
		{"two, between others", string(setOf(signing, key, `{"kty":"oct","k":"AA"}`, other, `{"kty":"RSA","use":"enc"}`)), "[one two]", ""},
		{"without use and alg", string(setOf(without(key, "use", "alg"))), "[one]", ""},
		{"not JSON", "hunter2", "", "not one JSON object"},
		{"a key alone", key, "", "no list named keys"},
		{"none", string(setOf(signing)), "", "no key that opens encrypted content"},
		{"the public set", string(setOf(public)), "", "key 1: has no private part d; this looks like the public key set"},
		{"one of them public", string(setOf(key, without(other, "d"))), "", "key 2: has no private part d"},
		{"another's private part", string(setOf(with(key, "d", member(third, "d")))), "", "key 1: d does not belong to x and y"},
		{"zero", string(setOf(with(key, "d", base64url(make([]byte, 32))))), "", "key 1: d does not belong"},
		{"cut short", string(setOf(with(key, "d", member(key, "d")[:40]))), "", "key 1: d must be 32 bytes"},
		{"a point off the curve", string(setOf(with(key, "y", member(third, "y")))), "", "key 1: x and y are not a point on P-256"},
		{"no kid", string(setOf(without(key, "kid"))), "", "key 1: kid must be"},
		{"one kid twice", string(setOf(key, with(third, "kid", "one"))), "", "key 2: has the kid of key 1"},
		{"two mistakes", string(setOf(without(key, "kid"), without(other, "d"))), "", "key 2: has no private part d"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, err := ParsePrivateKeys([]byte(c.file))
			var kids []string
			for _, k := range keys {
				kids = append(kids, k.KeyID())
			}
			if c.kids != "" && (err != nil || fmt.Sprint(kids) != c.kids) {
				t.Fatalf("%v, %v", kids, err)
			}
			if c.kids == "" && (err == nil || keys != nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("%v, error %v, want one with %q", kids, err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), member(key, "d")[:12]) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("a key is repeated: %v", err)
			}
		})
	}
}

// Nothing of a body comes out unless all of it holds.
func TestOpen(t *testing.T) {
	curved, _ := newKey(t, "P-384", "receiver-2")
	keys := append(privateKeysOf(t, curved), privateKeysOf(t, joseKey)...)
	to := recipientOf(t, without(joseKey, "d"))
	parts := strings.Split(joseToken, ".")
	change := func(i int, to string) string {
		p := strings.Split(joseToken, ".")
		p[i] = to
		return strings.Join(p, ".")
	}
	raw, _ := fromBase64url(parts[0])
	header := func(old, new string) string { // one of jose's with something changed
		text := strings.Replace(string(raw), old, new, 1)
		if text == string(raw) {
			t.Fatalf("no %s in the header", old)
		}
		return change(0, base64url([]byte(text)))
	}
	// forged is what opens for whoever does not look: jwx makes it, with the right key.
	forged := func(event string, alg jwa.KeyEncryptionAlgorithm, enc jwa.ContentEncryptionAlgorithm, members map[string]any, more ...jwe.EncryptOption) string {
		h := jwe.NewHeaders()
		for name, v := range map[string]any{"kid": "receiver-1", "cty": "json"} {
			if _, set := members[name]; !set {
				_ = h.Set(name, v)
			}
		}
		for name, v := range members {
			if err := h.Set(name, v); v != nil && err != nil {
				t.Fatal(err)
			}
		}
		token, err := jwe.Encrypt([]byte(event), append(more, jwe.WithKey(alg, to.key), jwe.WithContentEncryption(enc), jwe.WithProtectedHeaders(h))...)
		if err != nil {
			t.Fatal(err)
		}
		return string(token)
	}
	extra := func(name string, v any) string {
		return forged(joseEvent, wrapAlg, contentAlg, map[string]any{name: v})
	}
	otherPoint, _ := newKey(t, "P-256", "x")
	plain := func(body string) []byte { return []byte(body) }
	sealed := func(event string) []byte { return bodyAround(encrypt(t, to, event)) }
	for _, c := range []struct {
		name string
		body []byte
		want string // in the error; empty: opens
	}{
		{"by npm jose", bodyAround(joseToken), ""},
		{"by us", sealed(joseEvent), ""},
		{"forged well", bodyAround(forged(joseEvent, wrapAlg, contentAlg, nil)), ""},

		{"64 KiB and a byte", append(bodyAround(joseToken), bytes.Repeat([]byte(" "), maxMessage)...), "longer than 64 KiB"},
		{"not JSON", plain("hello"), "the body is not one JSON object"},
		{"JSON behind it", append(bodyAround(joseToken), "{}"...), "the body is not one JSON object"},
		{"encrypted twice", plain(strings.Replace(string(bodyAround(joseToken)), `"encrypted"`, `"encrypted":"x","encrypted"`, 1)), "the body has a member twice"},
		{"not text", plain(`{"type":"a","data":{"encrypted":{}}}`), "data.encrypted is not text"},
		{"null", plain(`{"type":"a","data":{"encrypted":null}}`), "data.encrypted is not text"},
		{"empty", bodyAround(""), "not a compact JWE"},
		{"a JWS", bodyAround(strings.Join(parts[:3], ".")), "not a compact JWE"},
		{"six parts", bodyAround(joseToken + ".AA"), "not a compact JWE"},

		{"ECDH-ES without wrapping", bodyAround(forged(joseEvent, jwa.ECDH_ES, contentAlg, nil)), "alg is not ECDH-ES+A256KW"},
		{"A128KW", bodyAround(forged(joseEvent, jwa.ECDH_ES_A128KW, contentAlg, nil)), "alg is not ECDH-ES+A256KW"},
		{"alg dir", bodyAround(header("ECDH-ES+A256KW", "dir")), "alg is not ECDH-ES+A256KW"},
		{"alg a number", bodyAround(header(`"ECDH-ES+A256KW"`, "1")), "alg is not ECDH-ES+A256KW"},
		{"no alg", bodyAround(header(`"alg":"ECDH-ES+A256KW",`, "")), "alg is not ECDH-ES+A256KW"},
		{"alg twice", bodyAround(header(`"alg"`, `"alg":"dir","alg"`)), "malformed header"},
		{"A128GCM", bodyAround(forged(joseEvent, wrapAlg, jwa.A128GCM, nil)), "enc is not A256GCM"},
		{"A256CBC-HS512", bodyAround(forged(joseEvent, wrapAlg, jwa.A256CBC_HS512, nil)), "enc is not A256GCM"},
		{"compressed", bodyAround(forged(joseEvent, wrapAlg, contentAlg, nil, jwe.WithCompress(jwa.Deflate))), "a member beside alg, enc, cty, kid and epk"},
		{"crit", bodyAround(extra("crit", []string{"exp"})), "a member beside"},
		{"jku", bodyAround(extra("jku", "https://evil.example/")), "a member beside"},
		{"apu", bodyAround(header(`"cty"`, `"apu":"AA","cty"`)), "a member beside"},
		{"p2c", bodyAround(extra("p2c", 1<<30)), "a member beside"},
		{"no cty", bodyAround(header(`"cty":"json",`, "")), "cty is not json"},
		{"cty JWT", bodyAround(extra("cty", "JWT")), "cty is not json"},
		{"header not base64url", bodyAround(change(0, "=")), "malformed header"},
		{"header not JSON", bodyAround(change(0, base64url([]byte("hunter2")))), "malformed header"},
		{"header with blanks behind it", bodyAround(change(0, parts[0]+"\n")), "malformed header"},

		{"no kid", bodyAround(header(`"kid":"receiver-1",`, "")), "malformed kid"},
		{"a long kid", bodyAround(header("receiver-1", strings.Repeat("k", 257))), "malformed kid"},
		{"a kid that breaks lines", bodyAround(header("receiver-1", `a\nb`)), "malformed kid"},
		{"an unknown kid", bodyAround(extra("kid", "receiver-3")), `encrypted to key "receiver-3", which is not among the keys given`},
		{"the kid of a key on another curve", bodyAround(extra("kid", "receiver-2")), "the ephemeral key is on another curve"},

		{"no epk", bodyAround(header(`"epk"`, `"cty2"`)), "a member beside"},
		{"epk text", bodyAround(change(0, base64url([]byte(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"receiver-1","cty":"json","epk":"x"}`)))), "malformed ephemeral key"},
		{"epk of no curve", bodyAround(header(`"crv":"P-256"`, `"crv":"P-999"`)), "malformed ephemeral key"},
		{"epk of an empty curve", bodyAround(change(0, base64url([]byte(`{"alg":"ECDH-ES+A256KW","enc":"A256GCM","kid":"receiver-1","cty":"json","epk":{"kty":"EC","crv":"","x":"","y":""}}`)))), "malformed ephemeral key"},
		{"epk OKP", bodyAround(header(`"kty":"EC"`, `"kty":"OKP"`)), "malformed ephemeral key"},
		{"epk off the curve", bodyAround(header("9Q1R8zlRPJnb4lPaqsQM9R6PAF8dgW6hXYb1ehBJWNU", member(otherPoint, "y"))), "malformed ephemeral key"},
		{"epk of zeros", bodyAround(header("9Q1R8zlRPJnb4lPaqsQM9R6PAF8dgW6hXYb1ehBJWNU", base64url(make([]byte, 32)))), "malformed ephemeral key"},
		{"epk cut short", bodyAround(header("9Q1R8zlRPJnb4lPaqsQM9R6PAF8dgW6hXYb1ehBJWNU", "9Q1R")), "malformed ephemeral key"},
		{"epk private", bodyAround(header(`"crv"`, `"d":"AA","crv"`)), "malformed ephemeral key"},
		{"epk another point", bodyAround(header("eii6_KAXqEqTJFSSoCA-WBgN8NtJCvh_ZtVOCfp9xMM\",\"crv\":\"P-256\",\"kty\":\"EC\",\"y\":\"9Q1R8zlRPJnb4lPaqsQM9R6PAF8dgW6hXYb1ehBJWNU",
			member(otherPoint, "x")+`","crv":"P-256","kty":"EC","y":"`+member(otherPoint, "y"))), "decryption failed"},

		{"a longer wrapped key", bodyAround(change(1, base64url(make([]byte, 48)))), "wrong length of a part"},
		{"no wrapped key", bodyAround(change(1, "")), "wrong length of a part"},
		{"a longer IV", bodyAround(change(2, base64url(make([]byte, 16)))), "wrong length of a part"},
		{"no content", bodyAround(change(3, "")), "wrong length of a part"},
		{"a shorter tag", bodyAround(change(4, parts[4][:16])), "wrong length of a part"},
		{"a tag in another spelling", bodyAround(change(4, parts[4][:21]+"R")), "malformed base64url"},
		{"padding", bodyAround(change(4, parts[4]+"==")), "malformed base64url"},
		{"another wrapped key", bodyAround(change(1, base64url(make([]byte, 40)))), "decryption failed"},
		{"another IV", bodyAround(change(2, base64url(make([]byte, 12)))), "decryption failed"},
		{"another tag", bodyAround(change(4, base64url(make([]byte, 16)))), "decryption failed"},
		{"content cut short", bodyAround(change(3, parts[3][:len(parts[3])-4])), "decryption failed"},

		{"another type inside", sealed(strings.Replace(joseEvent, "step_up.approved", "step_up.denied", 1)), "type is not the same inside as outside"},
		{"another step-up inside", sealed(strings.Replace(joseEvent, "su_1", "su_2", 1)), "data.id is not the same"},
		{"another end inside", sealed(strings.Replace(joseEvent, `"approved"`, `"denied"`, 1)), "data.status is not the same"},
		{"no status inside", sealed(strings.Replace(joseEvent, `"status":"approved",`, ``, 1)), "data.status is not the same"},
		{"a status that is no text", sealed(strings.Replace(joseEvent, `"approved"`, `["approved"]`, 1)), "data.status is not the same"},
		{"no text on either side", plain(strings.Replace(string(sealed(strings.Replace(joseEvent, `"su_1"`, `{}`, 1))), `"su_1"`, `{}`, 1)), "data.id is not the same"},
		{"a member twice inside", sealed(strings.Replace(joseEvent, `"status"`, `"status":"denied","status"`, 1)), "what was encrypted has a member twice"},
		{"no event inside", sealed(`{"type":"step_up.approved","data":[]}`), "what was encrypted is not an event"},
		{"no JSON inside", sealed("S1234567D"), "what was encrypted is not one JSON object"},
		{"encrypted again inside", sealed(string(bodyAround(joseToken))), "what was encrypted is not an event"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Open(c.body, keys)
			if c.want == "" {
				if err != nil || string(got) != joseEvent {
					t.Fatalf("%q, %v", got, err)
				}
				return
			}
			if err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%q, error %v, want one with %q", got, err, c.want)
			}
			if strings.Contains(err.Error(), "S1234567D") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the content is repeated: %v", err)
			}
		})
	}
}

// What carries nothing encrypted comes back as it is, with and without keys; a test of an
// endpoint, which is about no step-up, opens too.
func TestOpenOtherEvents(t *testing.T) {
	keys := privateKeysOf(t, joseKey)
	for _, body := range []string{
		`{"type":"step_up.delivery_expired","data":{"id":"su_1","status":"approved"}}`, joseEvent, `{"type":"endpoint.test","data":{"caller":"core"}}`,
		`{"data":[]}`, `{}`,
	} {
		for _, with := range [][]PrivateKey{nil, keys} {
			if got, err := Open([]byte(body), with); err != nil || string(got) != body {
				t.Errorf("%s: %s, %v", body, got, err)
			}
		}
	}
	test := `{"type":"endpoint.test","timestamp":"2026-11-21T02:03:20.456Z","data":{"caller":"core","webhook":"ledger"}}`
	token := encrypt(t, recipientOf(t, without(joseKey, "d")), test)
	body := strings.Replace(test, `"ledger"`, `"ledger","encrypted":"`+token+`"`, 1)
	if got, err := Open([]byte(body), keys); err != nil || string(got) != test {
		t.Errorf("%s, %v", got, err)
	}
	for _, none := range [][]PrivateKey{nil, {{}}} {
		_, err := Open(bodyAround(joseToken), none)
		if missing, ok := errors.AsType[*UnknownKeyError](err); !ok || missing.KeyID != "receiver-1" {
			t.Errorf("without a key: %v", err)
		}
	}
}

// FuzzOpen looks for a body that opens and is not the one that was sealed, and for content that
// opens and says something else than the body around it.
func FuzzOpen(f *testing.F) {
	keys := privateKeysOf(f, joseKey)
	to := recipientOf(f, without(joseKey, "d"))
	f.Add(bodyAround(joseToken), []byte(joseEvent))
	f.Add([]byte(joseEvent), []byte(`{"type":"step_up.approved","data":{"id":"su_1","status":"denied"}}`))
	f.Add([]byte(`{"type":"endpoint.test","data":{"encrypted":"....`+`"}}`), []byte(`{"data":{},"data":{}}`))
	f.Add(bodyAround(strings.Replace(joseToken, ".", ".A", 1)), bodyAround(joseToken))
	f.Fuzz(func(t *testing.T, body, inner []byte) {
		if got, err := Open(body, keys); err == nil {
			var outside struct{ Data any }
			_ = json.Unmarshal(body, &outside)
			data, _ := outside.Data.(map[string]any)
			switch token, sealed := data["encrypted"]; {
			case !sealed && !bytes.Equal(got, body):
				t.Fatal("a body without content came back as another")
			case sealed && (token != joseToken || string(got) != joseEvent):
				t.Fatalf("opened what nobody sealed: %v", token)
			}
		} else if got != nil {
			t.Fatal("something came out in spite of an error")
		}

		if len(inner) == 0 || len(inner) > 4<<10 {
			return
		}
		token, err := to.Encrypt(inner)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Open(bodyAround(token), keys)
		if err != nil {
			return
		}
		if !bytes.Equal(got, inner) || !json.Valid(inner) {
			t.Fatal("something else came out than went in")
		}
		var exact map[string]any
		_ = json.Unmarshal(inner, &exact)
		data, _ := exact["data"].(map[string]any)
		if exact["type"] != "step_up.approved" || data["id"] != "su_1" || data["status"] != "approved" {
			t.Fatalf("opened as another event: %s", inner)
		}
	})
}
