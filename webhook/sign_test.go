package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// secretsOf parses lines that a test made itself.
func secretsOf(t testing.TB, lines ...string) []Secret {
	t.Helper()
	s, err := ParseSecrets([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func signed(secrets []Secret, id string, at time.Time, body []byte) http.Header {
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("webhook-signature", Sign(secrets, id, at, body))
	return h
}

// The vector that all libraries of Standard Webhooks test against.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorTime      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignPublishedVector(t *testing.T) {
	got := Sign(secretsOf(t, vectorSecret), vectorID, time.Unix(vectorTime, 999), []byte(vectorBody))
	if got != vectorSignature {
		t.Errorf("Sign = %s, want %s", got, vectorSignature)
	}
}

func TestInteroperates(t *testing.T) {
	line, id, body, now := NewSecret(), "evt_1", []byte(`{"type":"step_up.approved"}`), time.Now()
	theirs, err := standardwebhooks.NewWebhook(line)
	if err != nil {
		t.Fatal(err)
	}
	ours := secretsOf(t, line)

	if err := theirs.Verify(body, signed(ours, id, now, body)); err != nil {
		t.Errorf("their library refuses our signature: %v", err)
	}
	two := append(secretsOf(t, NewSecret()), ours...)
	if err := theirs.Verify(body, signed(two, id, now, body)); err != nil {
		t.Errorf("their library refuses ours as the second of two: %v", err)
	}
	signature, err := theirs.Sign(id, now, body)
	if err != nil {
		t.Fatal(err)
	}
	h := signed(nil, id, now, body)
	h.Set("webhook-signature", signature)
	if err := Verify(h, body, ours, now); err != nil {
		t.Errorf("we refuse their signature: %v", err)
	}
}

// Every active secret signs, so a receiver may change its own at any moment of a rotation.
func TestRotation(t *testing.T) {
	past, current, next := NewSecret(), NewSecret(), NewSecret()
	now, body := time.Now(), []byte(`{}`)
	sent := signed(secretsOf(t, current, next), "evt_1", now, body)
	if n := len(strings.Split(sent.Get("webhook-signature"), " ")); n != 2 {
		t.Fatalf("%d signatures for two secrets", n)
	}
	for name, c := range map[string]struct {
		receiver []string
		ok       bool
	}{
		"current":          {[]string{current}, true},
		"next":             {[]string{next}, true},
		"past and current": {[]string{past, current}, true},
		"all":              {[]string{past, current, next}, true},
		"past alone":       {[]string{past}, false},
	} {
		if err := Verify(sent, body, secretsOf(t, c.receiver...), now); (err == nil) != c.ok {
			t.Errorf("receiver with %s: %v", name, err)
		}
	}
}

func TestZeroSecretIsNoKey(t *testing.T) {
	now, body := time.Now(), []byte(`{}`)
	if got := Sign([]Secret{{}}, "evt_1", now, body); got != "" {
		t.Errorf("the zero secret signed: %s", got)
	}
	empty := Secret{key: func() []byte { return nil }}
	if Verify(signed([]Secret{empty}, "evt_1", now, body), body, []Secret{{}}, now) == nil {
		t.Error("the zero secret verified a signature made with an empty key")
	}
}

func TestParseSecrets(t *testing.T) {
	of := func(n int) string { return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xA7}, n)) }
	for _, c := range []struct {
		name, file string
		n          int
		wants      []string // in the error
	}{
		{"one", of(24), 1, nil},
		{"longest", of(64) + "\n", 1, nil},
		{"comments, blank lines, CRLF, blanks around", "# ledger\r\n\r\n  " + of(32) + "  \r\n# next\n" + of(40) + "\r\n", 2, nil},
		{"published", vectorSecret, 1, nil},
		{"empty", "", 0, []string{"no secret"}},
		{"comments only", "# a\n#b\n", 0, []string{"no secret"}},
		{"too short", "\n\n" + of(23), 0, []string{"line 3", "24 to 64 bytes", "23"}},
		{"too long", of(65), 0, []string{"line 1", "65"}},
		{"no prefix", strings.TrimPrefix(of(32), "whsec_"), 0, []string{"line 1", "whsec_"}},
		{"asymmetric", "whsk_" + strings.TrimPrefix(of(32), "whsec_"), 0, []string{"line 1", "not available"}},
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
			if err != nil && (strings.Contains(err.Error(), "p6en") || strings.Contains(err.Error(), "AAAA")) {
				t.Errorf("error shows the secret: %q", err)
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

// A secret prints as nothing, however it is printed.
func TestSecretIsRedacted(t *testing.T) {
	raw := []byte("canary-canary-canary-canary-0042")
	encoded := base64.StdEncoding.EncodeToString(raw)
	secret := secretsOf(t, "whsec_"+encoded)[0]
	endpoint := Endpoint{URL: "https://bank.example/", Secrets: []Secret{secret}}
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
			if (name == "secret" || name == "zero") && way != "%T" && !strings.Contains(out, "[redacted]") {
				t.Errorf("%s by %s: %s", name, way, out)
			}
		}
	}
}
