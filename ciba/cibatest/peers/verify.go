package peers

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"testing"
	"unicode/utf8"
)

// verifier is one verify.mjs. It answers one line at a time.
type verifier struct {
	mu sync.Mutex
	*process
}

// verifiers holds one for each test that verifies, so that many webhooks cost
// one start of Node.
var verifiers = struct {
	sync.Mutex
	of map[testing.TB]*verifier
}{of: map[testing.TB]*verifier{}}

func verifierOf(t testing.TB) *verifier {
	t.Helper()
	verifiers.Lock()
	defer verifiers.Unlock()
	if v := verifiers.of[t]; v != nil {
		return v
	}
	v := &verifier{process: start(t, "verify.mjs")}
	verifiers.of[t] = v
	t.Cleanup(func() { // before the process's own cleanup
		verifiers.Lock()
		defer verifiers.Unlock()
		delete(verifiers.of, t)
	})
	return v
}

// Verify judges a webhook with npm standardwebhooks, or its v1a signature with
// Node's own crypto: header must hold
// webhook-id, webhook-timestamp (within 5 min of now) and webhook-signature;
// secret is a whole `whsec_…`, for v1, or `whpk_…`, for v1a; body is the bytes as they came. An error is the
// library's refusal, or says that it is not JSON. That the library cannot be
// asked fails the test; so call it from the test's own goroutine.
func Verify(t testing.TB, secret string, header http.Header, body []byte) error {
	t.Helper()
	headers := map[string]string{}
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		if v := header.Get(name); v != "" {
			headers[name] = v
		}
	}
	if !utf8.Valid(body) { // JSON could not carry it to the library unchanged
		return errors.New("body is not UTF-8")
	}
	question, err := json.Marshal(map[string]any{"secret": secret, "headers": headers, "body": string(body)})
	if err != nil {
		t.Fatalf("peers: verifying: %v", err)
	}
	_, err = judge(t, question)
	return err
}

// Open opens a compact JWE, ECDH-ES+A256KW with A256GCM, by npm jose with the key of a private
// JSON Web Key Set that the JWE's kid names. An error is the library's refusal. That the
// library cannot be asked fails the test; so call it from the test's own goroutine.
func Open(t testing.TB, jwks []byte, jwe string) ([]byte, error) {
	t.Helper()
	question, err := json.Marshal(map[string]any{"jwks": json.RawMessage(jwks), "jwe": jwe})
	if err != nil {
		t.Fatalf("peers: opening: %v", err)
	}
	plain, err := judge(t, question)
	return []byte(plain), err
}

// judge asks one question, and gives the refusal as an error.
func judge(t testing.TB, question []byte) (plain string, err error) {
	t.Helper()
	line, err := verifierOf(t).ask(question)
	if err != nil {
		t.Fatalf("peers: asking: %v", err)
	}
	var verdict struct {
		OK           bool
		Plain, Error string
	}
	if err := json.Unmarshal([]byte(line), &verdict); err != nil {
		t.Fatalf("peers: reading the verdict: %v", err)
	}
	if !verdict.OK {
		return "", errors.New(verdict.Error)
	}
	return verdict.Plain, nil
}

func (v *verifier) ask(question []byte) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, err := v.stdin.Write(append(question, '\n')); err != nil {
		return "", err
	}
	return v.line()
}
