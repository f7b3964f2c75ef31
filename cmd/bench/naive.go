package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jwt"

	"stepup/worker"
)

// naiveLoop is what somebody writes who has read the libraries' first pages and none of the specification's hard parts: it does not tell what
// was lost from what was refused, and reads any answer, whatever its size. Its key is parsed once and its client keeps enough
// connections, so it is no straw man.
func (b *bench) naiveLoop() (loop, error) {
	sim, ok := b.target.(*simulator)
	if !ok {
		return loop{}, errors.New("the naive loop needs a provider to speak with")
	}
	set, err := jwk.Parse(sim.private)
	if err != nil {
		return loop{}, fmt.Errorf("reading our keys: %w", err)
	}
	n := naive{issuer: sim.Issuer, token: sim.Issuer + "/token"}
	for i := range set.Len() {
		if key, _ := set.Key(i); key.KeyUsage() == string(jwk.ForSignature) {
			n.key = key
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 1000, 1000
	transport.TLSClientConfig = sim.trust()
	n.http = &http.Client{Transport: transport, Timeout: 40 * time.Second}
	return loop{"naive", naiveSerial, n.poll}, nil
}

type naive struct {
	issuer, token string
	key           jwk.Key
	http          *http.Client
}

func (n naive) poll(ctx context.Context, a worker.Asked) error {
	now := time.Now()
	claims, err := jwt.NewBuilder().Issuer(clientID).Subject(clientID).Audience([]string{n.issuer}).
		IssuedAt(now).Expiration(now.Add(2 * time.Minute)).JwtID(rand.Text()).Build()
	if err != nil {
		return err
	}
	claims.Options().Enable(jwt.FlattenAudience)
	assertion, err := jwt.Sign(claims, jwt.WithKey(jwa.ES256, n.key))
	if err != nil {
		return err
	}
	form := url.Values{
		"grant_type":            {"urn:openid:params:grant-type:ciba"},
		"auth_req_id":           {a.ID},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {string(assertion)},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.token, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := n.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer map[string]any
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if answer["error"] != "authorization_pending" {
		return errors.New("the answer is not pending")
	}
	return nil
}
