package peers

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ProviderOptions says which client the provider knows and how it answers.
type ProviderOptions struct {
	// ClientID is the client's name. Default: "bank".
	ClientID string
	// ClientJWKS must be the client's public keys: an ES256 key with use sig
	// and, unless Content is "none", one with use enc and alg KeyManagement.
	// It is read once; the provider refuses a jwks_uri on loopback.
	ClientJWKS []byte
	// Content encrypts the ID token: "A256CBC-HS512" (the default), "A256GCM",
	// or "none" for a signed one.
	Content string
	// KeyManagement is the ID token's JWE alg. Default: "ECDH-ES+A256KW".
	KeyManagement string
	// ExpiresIn is how long a request stands, in whole seconds. Default: 120 s.
	// The provider counts in whole seconds and may expire up to 1 s early.
	ExpiresIn time.Duration
	// Issuer is the name of a provider that is reached through a proxy. Default:
	// where it listens.
	Issuer string
}

// Provider is a running oidc-provider with one client. It names no interval,
// never says slow_down, tells access_denied once and invalid_grant after it,
// and answers a second redemption with invalid_grant.
//
// The login hint is the account and comes back as sub. A hint that begins with
// "nobody" is an unknown user, with "foreign" one who may not use this client
// (access_denied at the backchannel endpoint); a hint that begins with "other"
// is answered by "somebody-else".
type Provider struct {
	Issuer  string // http://127.0.0.1:PORT
	Address string // 127.0.0.1:PORT, where it listens

	t       testing.TB
	control string
}

// StartProvider runs a provider until the test ends.
func StartProvider(t testing.TB, o ProviderOptions) *Provider {
	t.Helper()
	args := []string{"--expect-stdin", "--client-jwks", string(o.ClientJWKS)}
	for name, value := range map[string]string{"--client-id": o.ClientID, "--enc": o.Content, "--alg": o.KeyManagement, "--issuer": o.Issuer} {
		if value != "" {
			args = append(args, name, value)
		}
	}
	if o.ExpiresIn > 0 {
		args = append(args, "--expires", strconv.Itoa(int(o.ExpiresIn.Seconds())))
	}
	line, err := start(t, "provider.mjs", args...).line()
	if err != nil {
		t.Fatalf("peers: starting the provider: %v", err)
	}
	var at struct{ Listening, Control string }
	if err := json.Unmarshal([]byte(line), &at); err != nil {
		t.Fatalf("peers: starting the provider: reading its first line: %v", err)
	}
	return &Provider{
		Issuer: cmp.Or(o.Issuer, at.Listening), Address: strings.TrimPrefix(at.Listening, "http://"), t: t, control: at.Control,
	}
}

// Approve answers the newest request for a login hint with yes. It waits up to
// 10 s for such a request; the acr is the first that was asked for.
func (p *Provider) Approve(hint string) {
	p.t.Helper()
	p.answer("/approve", url.Values{"login_hint": {hint}})
}

// ApproveWith is Approve with an acr of the test's choice.
func (p *Provider) ApproveWith(hint, acr string) {
	p.t.Helper()
	p.answer("/approve", url.Values{"login_hint": {hint}, "acr": {acr}})
}

// Deny answers the newest request for a login hint with no. It waits up to
// 10 s for such a request.
func (p *Provider) Deny(hint string) {
	p.t.Helper()
	p.answer("/deny", url.Values{"login_hint": {hint}})
}

func (p *Provider) answer(verb string, q url.Values) {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		status, _, err := p.call(http.MethodPost, verb, q)
		switch {
		case err != nil:
			p.t.Fatalf("peers: %s: %v", verb, err)
		case status == http.StatusNoContent:
			return
		case status != http.StatusNotFound:
			p.t.Fatalf("peers: %s: status %d", verb, status)
		case time.Now().After(deadline):
			p.t.Fatalf("peers: %s: no request is waiting for this login hint", verb)
		}
		time.Sleep(20 * time.Millisecond) // until the request has arrived
	}
}

// Seen is what the provider witnessed for one login hint.
type Seen struct {
	Pushes []time.Time // accepted backchannel requests
	Polls  []Poll      // token requests, in the order of their answers
}

// Poll is one token request with a known auth_req_id.
type Poll struct {
	AuthReqID string
	At, Done  time.Time // when it arrived and when it was answered, to the millisecond
	Status    int
	Error     string // the OAuth code; empty when tokens were handed out
}

// Seen tells what has been asked for a login hint until now.
func (p *Provider) Seen(hint string) Seen {
	p.t.Helper()
	status, body, err := p.call(http.MethodGet, "/seen", url.Values{"login_hint": {hint}})
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("peers: /seen: status %d: %v", status, err)
	}
	var raw struct {
		Pushes []int64
		Polls  []struct {
			AuthReqID string `json:"auth_req_id"`
			At, Done  int64
			Status    int
			Error     string
		}
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		p.t.Fatalf("peers: /seen: %v", err)
	}
	var s Seen
	for _, ms := range raw.Pushes {
		s.Pushes = append(s.Pushes, time.UnixMilli(ms))
	}
	for _, r := range raw.Polls {
		s.Polls = append(s.Polls, Poll{r.AuthReqID, time.UnixMilli(r.At), time.UnixMilli(r.Done), r.Status, r.Error})
	}
	return s
}

func (p *Provider) call(method, path string, q url.Values) (status int, body []byte, err error) {
	req, err := http.NewRequest(method, p.control+path+"?"+q.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, fmt.Errorf("reading the answer: %w", err)
	}
	return resp.StatusCode, body, nil
}
