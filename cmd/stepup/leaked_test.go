package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stepup/ciba/jose"
)

// A provider that publishes a private key is told of: by `check --online`, and by serve, which does not use
// that key.
func TestProviderPublishesPrivateKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	makeGood(t)
	issuer := leaking(t)
	write(t, ".", "stepup.yaml", fmt.Sprintf(`
development: true
redis: {url: embedded}
seal: {keys_file: secrets/seal.keys}
providers:
  fake: {issuer: %q, profile: singpass, client_id: abc, keys_file: secrets/private.jwks.json}
callers:
  bank: {api_keys_file: secrets/core.apikeys, providers: [fake]}
`, issuer))
	code, out, _ := runOn(t, "check", "--online")
	if want := "stepup.yaml: providers.fake: warning: the provider publishes keys with their secret part"; code != exitDone || !strings.Contains(out, want) {
		t.Errorf("exit code %d:\n%s", code, out)
	}

	p, err := load("stepup.yaml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := &logText{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		keeper{"fake", p.clients["fake"]}.keep(ctx, newLog(log, "json"))
	}()
	eventually(t, "the alarm", func() bool { return log.has("publishes keys with their secret part") && log.has(`"alarm":true`) })
	cancel()
	<-done
}

// leaking is a provider that publishes one good key, and a set of keys with their private parts.
func leaking(t *testing.T) (issuer string) {
	t.Helper()
	sets := make([]struct{ Keys []json.RawMessage }, 2)
	for i := range sets {
		private, err := jose.Generate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		keys, err := jose.ReadKeys(private)
		if err != nil {
			t.Fatal(err)
		}
		published := private
		if i == 0 {
			published = keys.Public()
		}
		if err := json.Unmarshal(published, &sets[i]); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	answer := func(path string, v any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(v)
		})
	}
	answer("/jwks", map[string]any{"keys": append(sets[0].Keys, sets[1].Keys...)})
	answer("/.well-known/openid-configuration", map[string]any{
		"issuer": srv.URL, "jwks_uri": srv.URL + "/jwks", "token_endpoint": srv.URL + "/token",
		"backchannel_authentication_endpoint": srv.URL + "/bc-auth", "grant_types_supported": []string{"urn:openid:params:grant-type:ciba"},
		"backchannel_token_delivery_modes_supported": []string{"poll"},
	})
	return srv.URL
}
