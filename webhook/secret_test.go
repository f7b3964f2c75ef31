package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestParseSecrets(t *testing.T) {
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xA7}, n)) }
	private := func(n int) string { return strings.Replace(of(n), "whsec_", "whsk_", 1) }
	for _, c := range []struct {
		name, file string
		n          int
		wants      []string // in the error
	}{
		{"one", of(24), 1, nil},
		{"longest", of(64) + "\n", 1, nil},
		{"comments, blank lines, CRLF, blanks around", "# ledger\r\n\r\n  " + of(32) + "  \r\n# next\n" + of(40) + "\r\n", 2, nil},
		{"published", vectorSecret, 1, nil},
		{"empty", "", 0, []string{"no key"}},
		{"comments only", "# a\n#b\n", 0, []string{"no key"}},
		{"too short", "\n\n" + of(23), 0, []string{"line 3", "24 to 64 bytes", "23"}},
		{"too long", of(65), 0, []string{"line 1", "65"}},
		{"no prefix", strings.TrimPrefix(of(32), "whsec_"), 0, []string{"line 1", "whsec_"}},
		{"seed", private(32), 1, nil},
		{"64 bytes", vectorPrivate, 1, nil},
		{"side by side", of(32) + "\n" + vectorPrivate + "\n# and\n" + of(40) + "\n" + vectorSeed, 4, nil},
		{"seed too short", private(31), 0, []string{"line 1", "32 bytes", "31"}},
		{"neither seed nor whole", private(48), 0, []string{"line 1", "or 64", "48"}},
		{"halves of two keys", private(64), 0, []string{"line 1", "second half"}},
		{"half of it changed", vectorPrivate[:len(vectorPrivate)-4] + "Kg==", 0, []string{"line 1", "second half"}},
		{"private without padding", strings.TrimRight(vectorPrivate, "="), 0, []string{"line 1", "whsk_", "base64"}},
		{"public key", vectorPublic, 0, []string{"line 1", "receivers' half"}},
		{"private twice", vectorPrivate + "\n\n" + vectorPrivate, 0, []string{"line 3", "line 1"}},
		{"private in both lengths", vectorPrivate + "\n" + vectorPrivate[:len("whsk_")+42] + "c=", 0, []string{"line 2", "line 1"}},
		{"seed as a shared secret", private(32) + "\n" + of(32), 0, []string{"line 2", "line 1"}},
		{"shared secret as a seed", of(32) + "\n" + private(32), 0, []string{"line 2", "line 1"}},
		{"public key as a shared secret", vectorPrivate + "\n" + strings.Replace(vectorPublic, "whpk_", "whsec_", 1), 0, []string{"line 2", "line 1"}},
		{"comment after a secret", of(32) + " # mine", 0, []string{"line 1", "base64"}},
		{"no padding", strings.TrimRight(of(32), "="), 0, []string{"line 1", "base64"}},
		{"URL alphabet", "whsec_" + strings.Repeat("_-", 22), 0, []string{"line 1", "base64"}},
		{"trailing bits", "whsec_" + strings.Repeat("A", 42) + "B=", 0, []string{"line 1", "base64"}},
		{"carriage return inside", of(24)[:12] + "\r" + of(24)[12:], 0, []string{"line 1", "base64"}},
		{"twice", of(24) + "\n" + of(24), 0, []string{"line 2", "line 1"}},
		{"every mistake", "nonsense\n" + of(32) + "\n" + of(3), 0, []string{"line 1", "line 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseSecrets([]byte(c.file))
			if len(s) != c.n || (err == nil) != (c.wants == nil) {
				t.Fatalf("%d secrets, error %v", len(s), err)
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			for _, part := range []string{"p6en", "AAAA", vectorPrivate[9:20], vectorPublic[9:20]} {
				if err != nil && strings.Contains(err.Error(), part) {
					t.Errorf("error shows the secret: %q", err)
				}
			}
		})
	}
}

func TestNewSecret(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	if a == b {
		t.Error("two new secrets are equal")
	}
	if key := secretsOf(t, a)[0].key(); len(key) != 32 {
		t.Errorf("%d bytes", len(key))
	}
}

// A receiver has its own file: public keys in place of private ones.
func TestParseKeys(t *testing.T) {
	for _, c := range []struct {
		name, file string
		n          int
		wants      []string // in the error
	}{
		{"public key", vectorPublic + "\n", 1, nil},
		{"both", "# stepup\n" + vectorSecret + "\n\n" + vectorPublic, 2, nil},
		{"empty", "# none\n", 0, []string{"no key", "whpk_"}},
		{"private key", "\n" + vectorPrivate, 0, []string{"line 2", "sender's half"}},
		{"too long", "whpk_" + vectorPrivate[len("whsk_"):], 0, []string{"line 1", "32 bytes", "64"}},
		{"no padding", strings.TrimRight(vectorPublic, "="), 0, []string{"line 1", "whpk_", "base64"}},
		{"twice", vectorPublic + "\n" + vectorPublic, 0, []string{"line 2", "line 1"}},
		{"JSON", `{"kty":"OKP"}`, 0, []string{"line 1", "whsec_ or whpk_"}},
	} {
		k, err := ParseKeys([]byte(c.file))
		if len(k) != c.n || (err == nil) != (c.wants == nil) {
			t.Errorf("%s: %d keys, error %v", c.name, len(k), err)
			continue
		}
		for _, want := range c.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q lacks %q", c.name, err, want)
			}
		}
	}
}

func TestNewKeyPair(t *testing.T) {
	private, public := NewKeyPair()
	if again, _ := NewKeyPair(); again == private {
		t.Error("two new keys are equal")
	}
	s := secretsOf(t, private)
	if got := s[0].PublicKey(); got != public {
		t.Errorf("the private key's public key is %s, told was %s", got, public)
	}
	now, body := time.Now(), []byte(`{}`)
	if err := Verify(signed(s, "evt_1", now, body), body, keysOf(t, public), now); err != nil {
		t.Error(err)
	}
}

// The key of RFC 8037, appendix A, with the thumbprint that stands there.
func TestKeySet(t *testing.T) {
	const private = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
	const key = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig","alg":"EdDSA",` +
		`"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}`
	if got := string(KeySet(secretsOf(t, vectorSecret, private))); got != `{"keys":[`+key+`]}` {
		t.Error(got)
	}
	if got := string(KeySet(secretsOf(t, vectorSecret))); got != `{"keys":[]}` {
		t.Errorf("no private key: %s", got)
	}
	one, two := secretsOf(t, private, vectorPrivate), secretsOf(t, vectorPrivate, vectorSeed)
	a, b := string(KeySet(append(one, two...))), string(KeySet(append(two, one...)))
	if a != b || strings.Count(a, "kid") != 3 {
		t.Errorf("the order or number of files shows:\n%s\n%s", a, b)
	}
}

// A secret prints as nothing, however it is printed.
func TestSecretIsRedacted(t *testing.T) {
	raw := []byte("canary-canary-canary-canary-0042")
	encoded := base64.StdEncoding.EncodeToString(raw)
	secret, asymmetric := secretsOf(t, "whsec_"+encoded)[0], secretsOf(t, "whsk_"+encoded)[0]
	keys := Keys([]Secret{secret, asymmetric})
	headers, err := ParseHeaders([]byte("Authorization: " + string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	endpoint := Endpoint{URL: "https://bank.example/", Secrets: []Secret{secret, asymmetric}, Headers: headers}
	type public struct {
		Secret  Secret
		Pointer *Secret
		Many    map[string][]Secret
	}
	type private struct {
		secret  Secret
		pointer *Secret
		many    []Secret
		end     *Endpoint
		ends    []Endpoint
		any     any
	}
	values := map[string]any{
		"secret": secret, "pointer": &secret, "slice": []Secret{secret}, "array": [1]Secret{secret},
		"endpoint": endpoint, "endpoint pointer": &endpoint, "endpoints": []Endpoint{endpoint},
		"public":             public{secret, &secret, map[string][]Secret{"a": {secret}}},
		"private":            private{secret, &secret, []Secret{secret}, &endpoint, []Endpoint{endpoint}, secret},
		"pointer to private": &private{secret, &secret, []Secret{secret}, &endpoint, []Endpoint{endpoint}, &secret},
		"zero":               Secret{},
		"private key":        asymmetric, "private keys": []Secret{asymmetric}, "private key in a struct": struct{ a, b any }{asymmetric, &asymmetric},
		"header": headers[0], "headers": headers, "header in a struct": struct{ a, b any }{headers[0], &headers[0]},
		"key": keys[0], "keys": keys, "keys in a struct": struct {
			a []Key
			b Key
		}{keys, keys[0]},
	}
	leaks := []string{
		"canary", encoded[:12], hex.EncodeToString(raw)[:12], strings.ToUpper(hex.EncodeToString(raw)[:12]),
		"99 97 110 97", "99, 97, 110, 97", "0x63, 0x61", "63 61 6e",
		base64.StdEncoding.EncodeToString([]byte(encoded))[:12],
	}
	for name, v := range values {
		outputs := map[string]string{}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% X", "%d", "%o", "%t", "%20v", "%T"} {
			outputs[verb] = fmt.Sprintf(verb, v)
		}
		outputs["Sprint"] = fmt.Sprint(v)
		outputs["Errorf"] = fmt.Errorf("doing: %v", v).Error()
		text, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: json.Marshal: %v", name, err)
		}
		outputs["json"] = string(text)
		var asText, asJSON bytes.Buffer
		slog.New(slog.NewTextHandler(&asText, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&asJSON, nil)).Info("m", "v", v)
		outputs["slog text"], outputs["slog JSON"] = asText.String(), asJSON.String()
		for way, out := range outputs {
			for _, leak := range leaks {
				if strings.Contains(out, leak) {
					t.Errorf("%s by %s leaks: %s", name, way, out)
				}
			}
			if (name == "secret" || name == "private key" || name == "key" || name == "zero") && way != "%T" && !strings.Contains(out, "[redacted]") {
				t.Errorf("%s by %s: %s", name, way, out)
			}
		}
	}
}
