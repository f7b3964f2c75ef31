package ciba_test

import (
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/ciba/jose"
)

// start runs the simulated provider behind TLS and a client that knows its authority.
func start(t *testing.T, provider cibatest.Config, client ciba.Config) (*cibatest.Server, *ciba.Client) {
	t.Helper()
	private, err := jose.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if client.Keys, err = jose.ReadKeys(private); err != nil {
		t.Fatal(err)
	}
	var handler http.Handler
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)

	provider.Issuer, provider.ClientID, provider.ClientJWKS, provider.Detail = s.URL, "bank", client.Keys.Public(), true
	op, err := cibatest.New(provider)
	if err != nil {
		t.Fatal(err)
	}
	handler = op

	client.Issuer, client.ClientID = s.URL, "bank"
	client.Algs = jose.Algs{
		Signing:       []string{"ES256"},
		KeyManagement: []string{"ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"},
		Content:       []string{"A256CBC-HS512"},
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if client.HTTP, err = ciba.NewHTTPClient(ca); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.HTTP.CloseIdleConnections)
	c, err := ciba.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return op, c
}

// A question, a person who takes a moment, an answer.
func TestApproved(t *testing.T) {
	const nric, uuid = "S1234567D", "0d5c2f6e-93a1-4c7b-8f1e-5ca9a41e5001"
	for _, row := range []struct {
		name     string
		provider cibatest.Config
		client   ciba.Config
		request  ciba.Request
		bound    bool
	}{
		{"Singpass, NRIC", cibatest.Config{}, ciba.Config{Profile: ciba.Singpass, Encrypted: true, NRICChecksum: true}, ciba.Request{LoginHint: nric}, true},
		{"Singpass, UUID", cibatest.Config{}, ciba.Config{Profile: ciba.Singpass, Encrypted: true, Evidence: true}, ciba.Request{LoginHint: uuid}, true},
		{"Singpass, signed only", cibatest.Config{Plain: true}, ciba.Config{Profile: ciba.Singpass}, ciba.Request{LoginHint: uuid}, true},
		{"standard", cibatest.Config{Standard: true, Plain: true, Interval: 3}, ciba.Config{Profile: ciba.Standard, Bind: true},
			ciba.Request{LoginHint: "jo", ACRValues: "loa2", BindingMessage: "W4", RequestedExpiry: 60}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.provider.Manual = true
			op, c := start(t, row.provider, row.client)
			asked := time.Now()
			ack, err := c.Authenticate(t.Context(), row.request)
			if err != nil {
				t.Fatal(err)
			}
			if ack.AuthReqID == "" || ack.ExpiresIn <= 0 || ack.Interval != time.Duration(row.provider.Interval)*time.Second {
				t.Errorf("expires in %v, interval %v", ack.ExpiresIn, ack.Interval)
			}
			if _, err := c.Token(t.Context(), ack.AuthReqID); !is[*ciba.Pending](err) {
				t.Fatalf("before the person has answered: %v", err)
			}
			if err := op.Approve(ack.AuthReqID); err != nil {
				t.Fatal(err)
			}
			token, err := c.Token(t.Context(), ack.AuthReqID)
			if err != nil {
				t.Fatal(err)
			}
			id, err := c.Open(token, ciba.Expect{Request: row.request, Created: asked, Received: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			if id.Bound != row.bound || len(id.Claims) == 0 || (id.IDToken != "") != row.client.Evidence || strings.Count(id.IDToken, ".") == 4 {
				t.Errorf("bound %v, %d claims, evidence %v", id.Bound, len(id.Claims), id.IDToken != "")
			}
			if row.request.LoginHint == nric && (id.NRIC == nil || *id.NRIC != nric) {
				t.Error("not the person who was asked")
			}
			if e, ok := errors.AsType[*ciba.Refusal](second(c.Token(t.Context(), ack.AuthReqID))); !ok || e.Code != "invalid_grant" {
				t.Errorf("the answer must come once: %v", e)
			}
			if l := op.Ledger(); l.Pushes != 1 || l.Polls != 3 || l.Overlaps != 0 {
				t.Errorf("the provider saw %d pushes, %d polls, %d overlaps", l.Pushes, l.Polls, l.Overlaps)
			}
		})
	}
}

func TestDenied(t *testing.T) {
	op, c := start(t, cibatest.Config{Manual: true}, ciba.Config{Profile: ciba.Singpass, Encrypted: true})
	ack, err := c.Authenticate(t.Context(), ciba.Request{LoginHint: "S1234567D"})
	if err != nil {
		t.Fatal(err)
	}
	if err := op.Refuse(ack.AuthReqID); err != nil {
		t.Fatal(err)
	}
	_, err = c.Token(t.Context(), ack.AuthReqID)
	if e, ok := errors.AsType[*ciba.Refusal](err); !ok || e.Code != "access_denied" {
		t.Errorf("got %v", err)
	}
}

func TestMisbehaviour(t *testing.T) {
	request := ciba.Request{LoginHint: "S1234567D"}
	for _, row := range []struct {
		name  string
		kind  cibatest.Kind
		token func(error) bool // nil: Token succeeds
		open  func(error) bool
	}{
		{"cut", cibatest.Cut, is[*ciba.Ambiguous], nil},
		{"answer lost", cibatest.Lost, is[*ciba.Ambiguous], nil},
		{"answer cut short", cibatest.Truncated, is[*ciba.Ambiguous], nil},
		{"page", cibatest.HTML, is[*ciba.Ambiguous], nil},
		{"busy", cibatest.Unavailable, is[*ciba.Transient], nil},
		{"slow down", cibatest.SlowDown, is[*ciba.SlowDown], nil},
		{"another person's token", cibatest.OtherPerson, nil, func(err error) bool {
			e, ok := errors.AsType[*ciba.Untrusted](err)
			return ok && e.Mismatch
		}},
		{"unknown key", cibatest.UnknownKey, nil, is[*ciba.Unverified]},
		{"bad signature", cibatest.BadSignature, nil, is[*ciba.Unverified]},
	} {
		t.Run(row.name, func(t *testing.T) {
			op, c := start(t, cibatest.Config{}, ciba.Config{Profile: ciba.Singpass, Encrypted: true})
			op.Script(request.LoginHint, cibatest.Script{Polls: []cibatest.Step{{Kind: row.kind}}})
			asked := time.Now()
			ack, err := c.Authenticate(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			token, err := c.Token(t.Context(), ack.AuthReqID)
			if row.token != nil {
				if !row.token(err) {
					t.Errorf("got %T %v", err, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.Open(token, ciba.Expect{Request: request, Created: asked, Received: time.Now()}); !row.open(err) {
				t.Errorf("got %T %v", err, err)
			}
		})
	}
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func second[T any](_ T, err error) error { return err }
