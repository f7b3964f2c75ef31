package api_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"

	"stepup/worker/api"
)

func TestAuthentication(t *testing.T) {
	b := newBank(t)
	sum := sha256.Sum256([]byte(b.ledger))
	tests := []struct {
		name   string
		header []string
		status int
	}{
		{"right", []string{"Bearer " + b.ledger}, 200},
		{"scheme in another case", []string{"bearer " + b.ledger}, 200},
		{"missing", nil, 401},
		{"empty", []string{""}, 401},
		{"scheme alone", []string{"Bearer"}, 401},
		{"empty key", []string{"Bearer "}, 401},
		{"no scheme", []string{b.ledger}, 401},
		{"another scheme", []string{"Basic " + b.ledger}, 401},
		{"wrong key", []string{"Bearer sk_wrong"}, 401},
		{"key cut", []string{"Bearer " + b.ledger[:len(b.ledger)-1]}, 401},
		{"key in another case", []string{"Bearer " + strings.ToLower(b.ledger)}, 401},
		{"key and more", []string{"Bearer " + b.ledger + " x"}, 401},
		{"two spaces", []string{"Bearer  " + b.ledger}, 401},
		{"twice", []string{"Bearer " + b.ledger, "Bearer " + b.ledger}, 401},
		{"the stored hash", []string{"Bearer sha256:" + hex.EncodeToString(sum[:])}, 401},
		{"huge", []string{"Bearer " + strings.Repeat("k", 10_000)}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", "")
			r.Header["Authorization"] = tt.header
			w := b.do(r)
			if w.Code != tt.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status == 401 && (problemOf(t, w).Code != "unauthorized" || w.Header().Get("WWW-Authenticate") != "Bearer") {
				t.Errorf("%v %s", w.Header(), w.Body)
			}
		})
	}
}

// Without a key nothing else is judged: not the body, not the id, not the query.
func TestAuthenticationComesFirst(t *testing.T) {
	b := newBank(t)
	for _, r := range []*http.Request{
		b.request("POST", "/v1/step-ups", "{"),
		b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", ""),
		b.request("GET", "/v1/step-ups/%20?wait=x", ""),
		b.request("GET", "/v1/step-ups?satus=1", ""),
		b.request("POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/cancel", "{"),
		b.request("POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/redeliver", strings.Repeat(" ", 20<<10)),
		b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/attempts?x=1", ""),
		b.request("POST", "/v1/redeliveries", strings.Repeat(" ", 20<<10)),
		b.request("GET", "/v1/events?wait=x", ""),
		b.request("POST", "/v1/events/acknowledge", "{"),
	} {
		r.Header.Del("Authorization")
		if w := b.do(r); w.Code != 401 {
			t.Errorf("%s %s: %d, want 401", r.Method, r.URL, w.Code)
		}
	}
}

// Old and new key work side by side, and a reload takes the old one away at once.
func TestKeyRotation(t *testing.T) {
	b := newBank(t)
	status := func(key string) int {
		r := b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", "")
		r.Header.Set("Authorization", "Bearer "+key)
		return b.do(r).Code
	}
	first, firstLine := api.NewAPIKey()
	second, secondLine := api.NewAPIKey()
	_, otherLine := api.NewAPIKey()
	load := func(file string) {
		b.callers = callers(t, map[string]api.Caller{"ledger": {Keys: keys(t, file)}, "cards": {Keys: keys(t, otherLine)}})
	}
	load("# of May\n" + firstLine + "\n")
	if status(first) != 200 || status(second) != 401 {
		t.Error("before the rotation")
	}
	load(firstLine + "\r\n\n  sha256:" + strings.ToUpper(strings.TrimPrefix(secondLine, "sha256:")) + "  # of June")
	if status(first) != 200 || status(second) != 200 {
		t.Error("during the rotation: both keys should work, hex in either case")
	}
	load(secondLine)
	if status(first) != 401 || status(second) != 200 {
		t.Error("after the rotation")
	}
	b.callers = nil
	if status(second) != 401 {
		t.Error("no callers loaded: somebody got in")
	}
}

func TestParseAPIKeysRefuses(t *testing.T) {
	digits := strings.Repeat("a1", 32)
	tests := []struct{ name, file, line string }{
		{"empty", "", "no key"},
		{"comments only", "# sha256:" + digits + "\n", "no key"},
		{"the key itself", "sk_SECRET", "line 1:"},
		{"no prefix", "\n" + digits, "line 2:"},
		{"short", "sha256:SECRET" + digits[:60], "line 1:"},
		{"one byte short", "sha256:" + digits[:62], "line 1:"},
		{"one byte long", "sha256:" + digits + "a1", "line 1:"},
		{"not hexadecimal", "sha256:" + digits[:62] + "SE", "line 1:"},
		{"second of two", "sha256:" + digits + "\nSECRET\n", "line 2:"},
		{"endless line", "sha256:" + digits + "\n" + strings.Repeat("x", 100_000), "line 2:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := api.ParseAPIKeys([]byte(tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.line) {
				t.Fatalf("error %v, want %q", err, tt.line)
			}
			if strings.Contains(err.Error(), "SE") || strings.Contains(err.Error(), digits[:20]) {
				t.Errorf("the error tells the content: %v", err)
			}
		})
	}
	_, err := api.ParseAPIKeys([]byte("one\nsha256:" + digits + "\nthree\n"))
	if err == nil || !strings.Contains(err.Error(), "line 1:") || !strings.Contains(err.Error(), "line 3:") {
		t.Errorf("not every mistake at once: %v", err)
	}
}

func TestSharedKeyIsRefused(t *testing.T) {
	_, line := api.NewAPIKey()
	_, err := api.NewCallers(map[string]api.Caller{"a": {Keys: keys(t, line)}, "b": {Keys: keys(t, line)}}, nil)
	if err == nil || strings.Contains(err.Error(), line[10:]) {
		t.Errorf("error %v, want one that names both callers and no hash", err)
	}
	if _, err := api.NewCallers(map[string]api.Caller{"a": {Keys: keys(t, line+"\n"+line)}}, nil); err != nil {
		t.Errorf("the same key twice in one file: %v", err)
	}
}

func TestNewAPIKey(t *testing.T) {
	key, line := api.NewAPIKey()
	if rest, ok := strings.CutPrefix(key, "sk_"); !ok || len(rest)*5 < 160 { // base32: 5 bits a character
		t.Errorf("key of %d characters", len(key))
	}
	sum := sha256.Sum256([]byte(key))
	if line != "sha256:"+hex.EncodeToString(sum[:]) {
		t.Error("the line is not the hash of the whole key")
	}
	if again, _ := api.NewAPIKey(); again == key {
		t.Error("the same key twice")
	}
}
