package peers_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"stepup/ciba/cibatest/peers"
)

const (
	secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	older  = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
)

// signed is what the specification's own Go library sends for body.
func signed(t *testing.T, secret, id string, at time.Time, body string) http.Header {
	t.Helper()
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", fmt.Sprint(at.Unix()))
	h.Set("webhook-signature", signature)
	return h
}

func TestVerify(t *testing.T) {
	const body = `{"type":"step_up.approved","data":{"reference":"<a&b> 陈 🙂` + "\u2028" + `"}}`
	now := time.Now()
	good := func() http.Header { return signed(t, secret, "evt_1", now, body) }
	with := func(name, value string) http.Header {
		h := good()
		h.Set(name, value)
		return h
	}
	theirs := signed(t, older, "evt_1", now, body).Get("webhook-signature")
	ours := good().Get("webhook-signature")
	seed := sha256.Sum256([]byte("a key of this test"))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := "whpk_" + base64.StdEncoding.EncodeToString(private.Public().(ed25519.PublicKey))
	v1a := "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, fmt.Appendf(nil, "evt_1.%d.%s", now.Unix(), body)))
	for _, c := range []struct {
		name   string
		secret string
		header http.Header
		body   string
		want   string // part of the refusal; empty: verified
	}{
		{"as signed", secret, good(), body, ""},
		{"the second of two signatures", secret, with("webhook-signature", theirs+" "+ours), body, ""},
		{"the first of two signatures", older, with("webhook-signature", theirs+" "+ours), body, ""},
		{"a version it does not know beside v1", secret, with("webhook-signature", "v1a,AAAA "+ours), body, ""},
		{"v1 beside v1a", secret, with("webhook-signature", ours+" "+v1a), body, ""},
		{"v1a beside v1", public, with("webhook-signature", ours+" "+v1a), body, ""},
		{"v1a alone", public, with("webhook-signature", v1a), body, ""},
		{"v1a alone, and a secret", secret, with("webhook-signature", v1a), body, "No matching signature"},
		{"v1 alone, and a public key", public, good(), body, "No matching signature"},
		{"v1a of one byte more", public, with("webhook-signature", v1a), body + " ", "No matching signature"},
		{"v1a, ten minutes old", public, http.Header{"Webhook-Id": {"evt_1"}, "Webhook-Timestamp": {"1"}, "Webhook-Signature": {v1a}}, body, "too old"},
		{"another secret", older, good(), body, "No matching signature"},
		{"one byte more", secret, good(), body + " ", "No matching signature"},
		{"another id", secret, with("webhook-id", "evt_2"), body, "No matching signature"},
		{"another second", secret, with("webhook-timestamp", fmt.Sprint(now.Unix()-1)), body, "No matching signature"},
		{"six minutes old", secret, signed(t, secret, "evt_1", now.Add(-6*time.Minute), body), body, "too old"},
		{"six minutes ahead", secret, signed(t, secret, "evt_1", now.Add(6*time.Minute), body), body, "too new"},
		{"no signature", secret, http.Header{"Webhook-Id": {"evt_1"}, "Webhook-Timestamp": {"1"}}, body, "Missing required headers"},
		{"a body that is not JSON", secret, signed(t, secret, "evt_1", now, "{"), "{", "JSON"},
		{"a body that is not text", secret, good(), "\xff", "UTF-8"},
	} {
		err := peers.Verify(t, c.secret, c.header, []byte(c.body))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: refused: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want a refusal with %q", c.name, err, c.want)
		}
	}
}

func TestVerifySideBySide(t *testing.T) {
	var wg sync.WaitGroup
	now := time.Now()
	for i := range 200 {
		body := fmt.Sprintf(`{"n":%d}`, i)
		h := signed(t, secret, fmt.Sprint("evt_", i), now, body)
		wg.Go(func() {
			if i%2 == 1 {
				h.Set("webhook-id", "evt_other")
			}
			if err := peers.Verify(t, secret, h, []byte(body)); (err != nil) != (i%2 == 1) {
				t.Errorf("webhook %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
