package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"stepup/ciba/cibatest/peers"
)

// newKey is a receiver's key on a curve: the private JWK, and the public one.
func newKey(t testing.TB, crv, kid string) (private, public string) {
	t.Helper()
	c := curves[crv]
	key, err := ecdsa.GenerateKey(c.curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	k := jwkEC{Kty: "EC", Use: "enc", Alg: "ECDH-ES+A256KW", Kid: kid, Crv: crv, X: base64url(point[1 : 1+c.size]), Y: base64url(point[1+c.size:])}
	text, _ := json.Marshal(k)
	k.D = base64url(d)
	withD, _ := json.Marshal(k)
	return string(withD), string(text)
}

func setOf(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func recipientOf(t testing.TB, keys ...string) *Recipient {
	t.Helper()
	r, err := ParseRecipient(setOf(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func privateKeysOf(t testing.TB, keys ...string) []PrivateKey {
	t.Helper()
	all, err := ParsePrivateKeys(setOf(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func encrypt(t testing.TB, r *Recipient, plain string) string {
	t.Helper()
	token, err := r.Encrypt([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// without drops members of a JWK, with sets one.
func without(key string, names ...string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(key), &m); err != nil {
		panic(err)
	}
	for _, name := range names {
		delete(m, name)
	}
	text, _ := json.Marshal(m)
	return string(text)
}

func with(key, name string, v any) string {
	text, _ := json.Marshal(v)
	return strings.TrimSuffix(without(key, name), "}") + fmt.Sprintf(",%q:%s}", name, text)
}

func member(key, name string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(key), &m); err != nil {
		panic(err)
	}
	return m[name].(string)
}

func TestParseRecipient(t *testing.T) {
	private, key := newKey(t, "P-256", "one")
	_, other := newKey(t, "P-256", "two")
	_, p384 := newKey(t, "P-384", "p384")
	_, p521 := newKey(t, "P-521", "p521")
	const (
		rsa     = `{"kty":"RSA","kid":"rsa","use":"enc","n":"AQAB","e":"AQAB"}`
		x25519  = `{"kty":"OKP","crv":"X25519","kid":"x","use":"enc","x":"AA"}`
		bitcoin = `{"kty":"EC","crv":"secp256k1","kid":"k1","use":"enc","x":"AA","y":"AA"}`
	)
	sig := with(other, "use", "sig")
	for _, c := range []struct {
		name, file string
		kid        string // that is encrypted to; empty: refused
		want       string // in the error
	}{
		{"P-256", string(setOf(key)), "one", ""},
		{"P-384", string(setOf(p384)), "p384", ""},
		{"P-521", string(setOf(p521)), "p521", ""},
		{"without use and alg", string(setOf(without(key, "use", "alg"))), "one", ""},
		{"the first of two", string(setOf(other, key)), "two", ""},
		{"behind keys for other purposes", string(setOf(rsa, x25519, bitcoin, sig, with(other, "alg", "ECDH-ES"), with(other, "alg", "ES256"),
			with(other, "use", 7), with(without(other, "use", "alg"), "key_ops", []string{"verify"}), `{"kty":"AKP"}`, key)), "one", ""},
		{"exported by a browser", string(setOf(with(with(key, "key_ops", []string{}), "ext", true))), "one", ""},
		{"a certificate beside it", string(setOf(with(key, "x5c", []string{"MII"}))), "one", ""},
		{"the kid of a key for another purpose", string(setOf(with(sig, "kid", "one"), key)), "one", ""},
		{"other members of the set", `{"issued":1,"keys":[` + key + `]}`, "one", ""},
		{"a kid of 256 characters", string(setOf(with(key, "kid", strings.Repeat("k", 256)))), strings.Repeat("k", 256), ""},
		{"a kid to be escaped", string(setOf(with(key, "kid", `a"\/<&> b`))), `a"\/<&> b`, ""},

		{"empty", ``, "", "not one JSON object"},
		{"a list", `[` + key + `]`, "", "not one JSON object"},
		{"text behind it", string(setOf(key)) + `{}`, "", "not one JSON object"},
		{"not UTF-8", string(setOf(strings.Replace(key, "one", "\xff", 1))), "", "not one JSON object"},
		{"too deep", `{"keys":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "", "not one JSON object"},
		{"a key alone", key, "", `no list named keys; it must be a JSON Web Key Set, {"keys":[…]}`},
		{"keys that are no list", `{"keys":{}}`, "", "no list named keys"},
		{"a key that is no object", `{"keys":["one"]}`, "", "key 1: is not a JSON object"},
		{"two lists", `{"keys":[],"keys":[` + key + `]}`, "", "has a member twice"},
		{"a member twice", string(setOf(strings.Replace(key, `"kid"`, `"kid":"x","kid"`, 1))), "", "has a member twice"},
		{"64 KiB and a byte", string(setOf(key)) + strings.Repeat(" ", maxKeySet), "", "longer than 64 KiB"},
		{"101 keys", string(setOf(strings.Split(strings.Repeat(`{}|`, 100)+key, "|")...)), "", "101 keys in it, and at most 100"},

		{"no key", `{"keys":[]}`, "", "no key to encrypt to"},
		{"only keys for other purposes", string(setOf(rsa, x25519, bitcoin, sig)), "", "no key to encrypt to"},
		{"no kid", string(setOf(without(key, "kid"), other)), "", "key 1: kid must be"},
		{"an empty kid", string(setOf(with(key, "kid", ""))), "", "key 1: kid must be"},
		{"a kid that is a number", string(setOf(with(key, "kid", 7))), "", "key 1: kid must be"},
		{"a kid of 257 characters", string(setOf(with(key, "kid", strings.Repeat("k", 257)))), "", "key 1: kid must be"},
		{"a line break in a kid", string(setOf(with(key, "kid", "a\nb"))), "", "key 1: kid must be"},
		{"a kid that is not ASCII", string(setOf(with(key, "kid", "schlüssel"))), "", "key 1: kid must be"},
		{"one kid twice", string(setOf(key, with(other, "kid", "one"))), "", "key 2: has the kid of key 1"},

		{"a private key", string(setOf(private)), "", "key 1: has the private member d"},
		{"a private key of another purpose behind it", string(setOf(key, with(rsa, "q", "AQAB"))), "", "key 2: has the private member q"},
		{"a private member that says nothing", string(setOf(with(key, "d", nil))), "", "key 1: has the private member d"},
		{"a shared secret", string(setOf(key, `{"kty":"oct","k":"AAAA"}`)), "", "key 2: has the private member k"},
		{"a shared secret without it", string(setOf(`{"kty":"oct"}`, key)), "", "key 1: is a shared secret"},
		{"two private keys", string(setOf(private, with(private, "kid", "two"))), "", "key 2: has the private member d"},

		{"a point off the curve", string(setOf(with(key, "y", member(other, "y")))), "", "key 1: x and y are not a point on P-256"},
		{"zero", string(setOf(with(with(key, "x", base64url(make([]byte, 32))), "y", base64url(make([]byte, 32))))), "", "not a point on P-256"},
		{"a point of another curve", string(setOf(with(p384, "crv", "P-256"))), "", "key 1: x must be 32 bytes"},
		{"a coordinate cut short", string(setOf(with(key, "x", member(key, "x")[:40]))), "", "key 1: x must be 32 bytes"},
		{"no y", string(setOf(without(key, "y"))), "", "key 1: y must be 32 bytes"},
		{"padding", string(setOf(with(key, "x", member(key, "x")+"="))), "", "key 1: x must be 32 bytes"},
		{"a line break in a coordinate", string(setOf(with(key, "x", member(key, "x")+"\n"))), "", "key 1: x must be 32 bytes"},
		{"a bad key before a good one", string(setOf(without(key, "y"), other)), "", "key 1: y must be 32 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := ParseRecipient([]byte(c.file))
			if c.kid != "" {
				if err != nil || r.KeyID() != c.kid {
					t.Fatalf("%v, %v", r, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			for _, part := range []string{member(private, "d"), member(key, "x"), member(key, "y")} {
				if strings.Contains(err.Error(), part[:12]) {
					t.Errorf("a key is repeated: %v", err)
				}
			}
		})
	}
}

// What is encrypted opens with the subscriber's key alone, and the header tells nothing but
// how.
func TestEncrypt(t *testing.T) {
	plain := `{"type":"step_up.approved","data":{"identity":{"nric":"S1234567D"}}}`
	for crv := range curves {
		private, public := newKey(t, crv, `the "first" <one>`)
		r, keys := recipientOf(t, public), privateKeysOf(t, private)
		seen := map[string]bool{}
		for range 16 { // one in 256 coordinates begins with a zero, on P-521 half of them
			token := encrypt(t, r, plain)
			for i, part := range strings.Split(token, ".") {
				if i != 0 && seen[part] {
					t.Errorf("%s: a part comes twice", crv)
				}
				seen[part] = true
			}
			if got, err := decrypt(token, keys); err != nil || string(got) != plain {
				t.Fatalf("%s: %q, %v", crv, got, err)
			}
		}
		raw, _ := fromBase64url(strings.Split(encrypt(t, r, plain), ".")[0])
		head, err := object(raw)
		if err != nil {
			t.Fatal(err)
		}
		epk, _ := head["epk"].(map[string]any)
		delete(head, "epk")
		if got := fmt.Sprint(head); got != `map[alg:ECDH-ES+A256KW cty:json enc:A256GCM kid:the "first" <one>]` {
			t.Errorf("%s: header %s", crv, got)
		}
		if epk["crv"] != crv || epk["kty"] != "EC" || epk["x"] == nil || epk["y"] == nil || len(epk) != 4 {
			t.Errorf("%s: ephemeral key %v", crv, epk)
		}
	}
	_, public := NewEncryptionKey()
	r, err := ParseRecipient([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	short, long := encrypt(t, r, "{}"), encrypt(t, r, "{"+strings.Repeat(" ", 9000)+"}")
	if len(long)-len(short) != 12000 {
		t.Errorf("9000 blanks add %d characters: something is compressed", len(long)-len(short))
	}
}

// npm jose opens what Recipient encrypts, and says no where Open does.
func TestOpenedByJose(t *testing.T) {
	var private []string
	for _, crv := range []string{"P-256", "P-384", "P-521"} {
		withD, _ := newKey(t, crv, "kid of "+crv)
		private = append(private, withD)
	}
	plain := `{"type":"step_up.approved","data":{"reference":"<a&b> 陈 🙂` + "\u2028" + `"}}`
	for i, crv := range []string{"P-256", "P-384", "P-521"} {
		r := recipientOf(t, without(private[i], "d"))
		token := encrypt(t, r, plain)
		if got, err := peers.Open(t, setOf(private...), token); err != nil || string(got) != plain {
			t.Errorf("%s: %q, %v", crv, got, err)
		}
		if _, err := peers.Open(t, setOf(private[(i+1)%3]), token); err == nil {
			t.Errorf("%s: opened without its key", crv)
		}
		parts := strings.Split(token, ".")
		parts[3] = "A" + strings.Repeat("B", len(parts[3])-2) + "A"
		if _, err := peers.Open(t, setOf(private...), strings.Join(parts, ".")); err == nil {
			t.Errorf("%s: opened with another content", crv)
		}
	}
	ours, public := NewEncryptionKey()
	r, err := ParseRecipient([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := peers.Open(t, ours, encrypt(t, r, plain)); err != nil || string(got) != plain {
		t.Errorf("with a key that keygen made: %q, %v", got, err)
	}
}

// A subscriber changes its key while events are under way: first its receiver has both keys,
// then the sender gets the new one.
func TestEncryptionKeyRotation(t *testing.T) {
	oldPrivate, oldPublic := newKey(t, "P-256", "old")
	newPrivate, newPublic := newKey(t, "P-384", "new")
	before, after := recipientOf(t, oldPublic), recipientOf(t, newPublic, oldPublic)
	event := `{"type":"step_up.approved","data":{"id":"su_1","status":"approved","identity":{}}}`
	body := func(r *Recipient) []byte {
		return []byte(`{"type":"step_up.approved","data":{"id":"su_1","status":"approved","encrypted":"` + encrypt(t, r, event) + `"}}`)
	}
	both := privateKeysOf(t, newPrivate, oldPrivate)
	for _, r := range []*Recipient{before, after} {
		if got, err := Open(body(r), both); err != nil || string(got) != event {
			t.Errorf("encrypted to %s: %q, %v", r.KeyID(), got, err)
		}
	}
	for kid, c := range map[string]struct {
		body []byte
		keys []PrivateKey
	}{"old": {body(before), both[:1]}, "new": {body(after), both[1:]}} {
		got, err := Open(c.body, c.keys)
		if missing, ok := errors.AsType[*UnknownKeyError](err); !ok || missing.KeyID != kid || got != nil {
			t.Errorf("without the key %s: %q, %v", kid, got, err)
		}
	}
}

// A recipient prints as its key id, a private key as nothing.
func TestKeysForContentPrint(t *testing.T) {
	private, public := newKey(t, "P-256", "the-kid")
	r, keys := recipientOf(t, public), privateKeysOf(t, private)
	d, _ := fromBase64url(member(private, "d"))
	type holder struct {
		To  *Recipient
		Own []PrivateKey
	}
	type hiding struct {
		to  *Recipient
		own []PrivateKey
		any any
	}
	for _, v := range []any{r, *r, keys, keys[0], &keys[0], holder{r, keys}, &hiding{r, keys, keys[0]}, Recipient{}, PrivateKey{}, (*Recipient)(nil)} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		text, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		out.Write(text)
		for _, leak := range []string{member(private, "d")[:12], string(d[:8]), fmt.Sprintf("%x", d[:8]), fmt.Sprintf("%X", d[:8]), strings.Trim(fmt.Sprint(d[:6]), "[]")} {
			if strings.Contains(out.String(), leak) {
				t.Errorf("%T tells the private key:\n%s", v, out.String())
			}
		}
	}
	if got := fmt.Sprintf("%v %+v", r, keys); got != "[recipient the-kid] [[redacted]]" {
		t.Error(got)
	}
}

func BenchmarkEncrypt(b *testing.B) {
	// About what an approval is.
	plain := []byte(`{"type":"step_up.approved","data":{"metadata":{"k":"` + strings.Repeat("x", 1150) + `"}}}`)
	for _, crv := range []string{"P-256", "P-384", "P-521"} {
		b.Run(crv, func(b *testing.B) {
			_, public := newKey(b, crv, "kid")
			r := recipientOf(b, public)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Encrypt(plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
