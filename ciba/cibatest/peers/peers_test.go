package peers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest/peers"
	"stepup/ciba/jose"
)

const phone, card = "urn:stepup:peers:phone", "urn:stepup:peers:card" // the provider's acr values

// newKeys makes a client's key ring.
func newKeys(t *testing.T) *jose.Keys {
	t.Helper()
	jwks, err := jose.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ReadKeys(jwks)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// meet starts a provider that knows our keys, and a client for it: bound to the subject, encrypted unless o.Content is "none".
// change, if not nil, has the last word on the client.
func meet(t *testing.T, o peers.ProviderOptions, change func(*ciba.Config)) (*peers.Provider, *ciba.Client) {
	t.Helper()
	keys := newKeys(t)
	o.ClientJWKS = keys.Public()
	p := peers.StartProvider(t, o)
	transport, err := ciba.NewHTTPClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	config := ciba.Config{
		Issuer: p.Issuer, ClientID: "bank", Audience: p.Issuer, Profile: ciba.Standard,
		Keys: keys, Encrypted: o.Content != "none", Bind: true, HTTP: transport, AllowHTTP: true,
		Algs: jose.Algs{
			Signing:       []string{"ES256"},
			KeyManagement: []string{"ECDH-ES+A256KW"},
			Content:       []string{"A256CBC-HS512", "A256GCM"},
		},
	}
	if change != nil {
		change(&config)
	}
	c, err := ciba.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// asked is a question that the provider has accepted.
type asked struct {
	ciba.Ack
	request ciba.Request
	created time.Time
}

func ask(t *testing.T, c *ciba.Client, r ciba.Request) asked {
	t.Helper()
	r.Scope = "openid"
	a := asked{request: r, created: time.Now()}
	var err error
	if a.Ack, err = c.Authenticate(t.Context(), r); err != nil {
		t.Fatalf("Authenticate: %v", err)
	}
	return a
}

// wantPending asks once and wants "not yet".
func wantPending(t *testing.T, c *ciba.Client, a asked) {
	t.Helper()
	_, err := c.Token(t.Context(), a.AuthReqID)
	if _, ok := errors.AsType[*ciba.Pending](err); !ok {
		t.Fatalf("Token before the person answered: %v (%T), want *Pending", err, err)
	}
}

// wantRefusal wants an error with this OAuth code.
func wantRefusal(t *testing.T, what string, err error, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*ciba.Refusal](err)
	if !ok || refusal.Code != code {
		t.Fatalf("%s: %v (%T), want *Refusal %s", what, err, err, code)
	}
	if strings.Contains(err.Error(), "person") { // its error_description says "the person said no"
		t.Errorf("%s: the error tells the provider's description: %v", what, err)
	}
}

// redeem fetches the ID token and opens it, fetching the key set when it must.
func redeem(t *testing.T, c *ciba.Client, a asked) (ciba.Identity, error) {
	t.Helper()
	token, err := c.Token(t.Context(), a.AuthReqID)
	if err != nil {
		t.Fatalf("Token after the person said yes: %v", err)
	}
	received := time.Now()
	expect := ciba.Expect{Request: a.request, Created: a.created, Received: received}
	identity, err := c.Open(token, expect)
	if _, ok := errors.AsType[*ciba.Unverified](err); ok {
		if err := c.RefreshKeys(t.Context(), received); err != nil {
			t.Fatalf("RefreshKeys: %v", err)
		}
		return c.Open(token, expect)
	}
	return identity, err
}

func TestApproved(t *testing.T) {
	for _, content := range []string{"A256CBC-HS512", "A256GCM", "none"} {
		t.Run(content, func(t *testing.T) {
			p, c := meet(t, peers.ProviderOptions{Content: content}, func(o *ciba.Config) { o.Evidence = true })
			const hint = "alice@bank.example"
			a := ask(t, c, ciba.Request{LoginHint: hint, BindingMessage: "Pay 100 to Bob", ACRValues: card + " " + phone})
			if a.ExpiresIn != 120*time.Second || a.Interval != 0 {
				t.Errorf("expires in %v, interval %v; the provider said 120 s and names no interval", a.ExpiresIn, a.Interval)
			}
			wantPending(t, c, a)
			p.Approve(hint)
			got, err := redeem(t, c, a)
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			if got.Subject != hint || !got.Bound || got.ACR != card || !slices.Equal(got.AMR, []string{"swk", "user"}) {
				t.Errorf("subject %q bound %t acr %q amr %q", got.Subject, got.Bound, got.ACR, got.AMR)
			}
			for name, at := range map[string]*time.Time{"auth_time": got.AuthTime, "issued_at": got.IssuedAt} {
				if at == nil || time.Since(*at).Abs() > time.Minute {
					t.Errorf("%s: %v, want about now", name, at)
				}
			}
			if got.NRIC != nil || got.UUID != nil || got.ForeignID != nil || got.Country != nil {
				t.Error("profile standard read Singpass's members out of a plain subject")
			}
			if strings.Count(got.IDToken, ".") != 2 {
				t.Errorf("the evidence has %d dots, want the inner JWS with 2", strings.Count(got.IDToken, "."))
			}
			// Single use: a second redemption is invalid_grant, and says nothing about the person's answer.
			_, err = c.Token(t.Context(), a.AuthReqID)
			wantRefusal(t, "Token after redemption", err, "invalid_grant")

			seen := p.Seen(hint)
			var told []string
			for _, poll := range seen.Polls {
				told = append(told, poll.Error)
			}
			if want := []string{"authorization_pending", "", "invalid_grant"}; len(seen.Pushes) != 1 || !slices.Equal(told, want) {
				t.Errorf("the provider saw %d pushes and told %q, want 1 and %q", len(seen.Pushes), told, want)
			}
		})
	}
}

func TestDenied(t *testing.T) {
	for _, content := range []string{"A256CBC-HS512", "A256GCM"} {
		t.Run(content, func(t *testing.T) {
			p, c := meet(t, peers.ProviderOptions{Content: content}, nil)
			a := ask(t, c, ciba.Request{LoginHint: "bob"})
			wantPending(t, c, a)
			p.Deny("bob")
			_, err := c.Token(t.Context(), a.AuthReqID)
			wantRefusal(t, "Token after no", err, "access_denied")
			_, err = c.Token(t.Context(), a.AuthReqID)
			wantRefusal(t, "Token after access_denied was told", err, "invalid_grant")
		})
	}
}

func TestExpired(t *testing.T) {
	for _, content := range []string{"A256CBC-HS512", "A256GCM"} {
		t.Run(content, func(t *testing.T) {
			t.Parallel()
			_, c := meet(t, peers.ProviderOptions{Content: content, ExpiresIn: 2 * time.Second}, nil)
			a := ask(t, c, ciba.Request{LoginHint: "carol"})
			if a.ExpiresIn != 2*time.Second {
				t.Errorf("expires in %v, want 2 s", a.ExpiresIn)
			}
			wantPending(t, c, a)
			wantRefusal(t, "Token after the expiry", outlast(t, c, a), "expired_token")
		})
	}
}

// outlast asks until the answer is another than "not yet".
func outlast(t *testing.T, c *ciba.Client, a asked) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := c.Token(ctx, a.AuthReqID)
		if _, ok := errors.AsType[*ciba.Pending](err); !ok {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("still pending after 20 s")
		}
	}
}

func TestRequestedExpiry(t *testing.T) {
	_, c := meet(t, peers.ProviderOptions{}, nil)
	if a := ask(t, c, ciba.Request{LoginHint: "dora", RequestedExpiry: 30}); a.ExpiresIn != 30*time.Second {
		t.Errorf("expires in %v, want the 30 s that were asked for", a.ExpiresIn)
	}
}

// What the provider refuses is told at once, and nobody's phone rings.
func TestRefusedAtOnce(t *testing.T) {
	p, c := meet(t, peers.ProviderOptions{}, nil)
	for _, q := range []struct {
		name    string
		request ciba.Request
		code    string
	}{
		{"unknown user", ciba.Request{LoginHint: "nobody@bank.example"}, "unknown_user_id"},
		{"user who may not use this client", ciba.Request{LoginHint: "foreign@bank.example"}, "access_denied"},
		{"binding message it cannot show", ciba.Request{LoginHint: "erin", BindingMessage: strings.Repeat("x", 21)}, "invalid_binding_message"},
		{"login_hint_token of nobody", ciba.Request{LoginHintToken: "opaque"}, "unknown_user_id"},
	} {
		q.request.Scope = "openid"
		_, err := c.Authenticate(t.Context(), q.request)
		wantRefusal(t, q.name, err, q.code)
		if n := len(p.Seen(q.request.LoginHint).Pushes); n != 0 {
			t.Errorf("%s: %d pushes, want none", q.name, n)
		}
	}
	_, err := c.Token(t.Context(), "never-issued")
	wantRefusal(t, "an auth_req_id that it never gave", err, "invalid_grant")
}

func TestUnknownClientKey(t *testing.T) {
	_, c := meet(t, peers.ProviderOptions{}, func(o *ciba.Config) { o.Keys = newKeys(t) })
	_, err := c.Authenticate(t.Context(), ciba.Request{Scope: "openid", LoginHint: "frank"})
	wantRefusal(t, "an assertion by another key", err, "invalid_client")
}

func TestSomebodyElseAnswers(t *testing.T) {
	t.Run("bound", func(t *testing.T) {
		p, c := meet(t, peers.ProviderOptions{}, nil)
		a := ask(t, c, ciba.Request{LoginHint: "other-grace"})
		p.Approve("other-grace")
		_, err := redeem(t, c, a)
		if u, ok := errors.AsType[*ciba.Untrusted](err); !ok || !u.Mismatch {
			t.Errorf("Open: %v (%T), want *Untrusted with Mismatch", err, err)
		}
	})
	t.Run("not bound", func(t *testing.T) {
		p, c := meet(t, peers.ProviderOptions{}, func(o *ciba.Config) { o.Bind = false })
		a := ask(t, c, ciba.Request{LoginHint: "other-grace"})
		p.Approve("other-grace")
		got, err := redeem(t, c, a)
		if err != nil || got.Subject != "somebody-else" || got.Bound || got.IDToken != "" {
			t.Errorf("Open: subject %q bound %t, %v; want somebody-else, marked as not bound, without evidence", got.Subject, got.Bound, err)
		}
	})
}

func TestUntrusted(t *testing.T) {
	for _, q := range []struct {
		name     string
		content  string // how the provider answers
		client   func(*ciba.Config)
		acr      string // what the person used; "" for what was asked
		mismatch bool
	}{
		{name: "an acr that was not asked for", acr: card, mismatch: true},
		{name: "a content encryption that is not listed", content: "A256GCM", client: func(o *ciba.Config) { o.Algs.Content = []string{"A256CBC-HS512"} }},
		{name: "a key management that is not listed", client: func(o *ciba.Config) { o.Algs.KeyManagement = []string{"ECDH-ES+A128KW"} }},
		{name: "a signed token where encrypted ones are agreed", content: "none", client: func(o *ciba.Config) { o.Encrypted = true }},
		{name: "an encrypted token where signed ones are agreed", client: func(o *ciba.Config) { o.Encrypted = false }},
	} {
		t.Run(q.name, func(t *testing.T) {
			p, c := meet(t, peers.ProviderOptions{Content: q.content}, q.client)
			a := ask(t, c, ciba.Request{LoginHint: "heidi", ACRValues: phone})
			if q.acr != "" {
				p.ApproveWith("heidi", q.acr)
			} else {
				p.Approve("heidi")
			}
			_, err := redeem(t, c, a)
			if u, ok := errors.AsType[*ciba.Untrusted](err); !ok || u.Mismatch != q.mismatch {
				t.Errorf("Open: %v (%T), want *Untrusted with Mismatch %t", err, err, q.mismatch)
			}
		})
	}
}

// A token that answers one question does not answer another one's.
func TestTokenOfAnotherStepUp(t *testing.T) {
	p, c := meet(t, peers.ProviderOptions{}, nil)
	if err := c.Ready(t.Context()); err != nil {
		t.Fatalf("Ready: %v", err)
	}
	first, second := ask(t, c, ciba.Request{LoginHint: "ivan"}), ask(t, c, ciba.Request{LoginHint: "judy"})
	p.Approve("ivan")
	token, err := c.Token(t.Context(), first.AuthReqID)
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Open(token, ciba.Expect{Request: second.request, Created: second.created, Received: time.Now()})
	if u, ok := errors.AsType[*ciba.Untrusted](err); !ok || !u.Mismatch {
		t.Errorf("Open for another's question: %v (%T), want *Untrusted with Mismatch", err, err)
	}
	_, err = c.Open(token, ciba.Expect{Request: first.request, Created: time.Now().Add(time.Hour), Received: time.Now()})
	if _, ok := errors.AsType[*ciba.Untrusted](err); !ok {
		t.Errorf("Open of a token older than its question: %v (%T), want *Untrusted", err, err)
	}
	wantPending(t, c, second)
}

// The answer comes once, so a token that cannot be judged yet is kept, and judged when the key set has come.
func TestKeySetComesLater(t *testing.T) {
	p, c := meet(t, peers.ProviderOptions{}, nil)
	a := ask(t, c, ciba.Request{LoginHint: "kim"})
	p.Approve("kim")
	token, err := c.Token(t.Context(), a.AuthReqID)
	if err != nil {
		t.Fatal(err)
	}
	expect := ciba.Expect{Request: a.request, Created: a.created, Received: time.Now()}
	_, err = c.Open(token, expect)
	kept, ok := errors.AsType[*ciba.Unverified](err)
	if !ok || kept.IDToken != token {
		t.Fatalf("Open without the provider's keys: %v (%T), want *Unverified with the token", err, err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v %s", kept, kept, kept, err), token[:20]) {
		t.Error("*Unverified prints its token")
	}
	if err := c.RefreshKeys(t.Context(), expect.Received); err != nil {
		t.Fatalf("RefreshKeys: %v", err)
	}
	if got, err := c.Open(kept.IDToken, expect); err != nil || got.Subject != "kim" {
		t.Errorf("Open with the provider's keys: %v", err)
	}
}
