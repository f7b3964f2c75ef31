package cibatest

import (
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

func (c *client) askWith(assertion string) answered {
	form := c.auth(url.Values{"scope": {"openid"}, "login_hint": {nric}})
	form.Set("client_assertion", assertion)
	return c.post("/bc-auth", form)
}

func TestAssertionRules(t *testing.T) {
	sign := func(c *client, kid, typ string, edit func(map[string]any)) string {
		claims := goodClaims()
		edit(claims)
		return signed(c.t, jwa.ES256, c.sig, kid, typ, claims)
	}
	claim := func(edit func(map[string]any)) func(*client) string {
		return func(c *client) string { return sign(c, c.sig.KeyID(), "JWT", edit) }
	}
	set := func(name string, value any) func(*client) string {
		return claim(func(m map[string]any) { m[name] = value })
	}
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		make func(*client) string
		good bool
	}{
		"as documented":       {claim(func(map[string]any) {}), true},
		"shorter life":        {set("exp", now+30), true},
		"iat a bit ahead":     {claim(func(m map[string]any) { m["iat"], m["exp"] = now+30, now+150 }), true},
		"life of 121 s":       {claim(func(m map[string]any) { m["iat"], m["exp"] = now-1, now+120 }), false},
		"expired":             {claim(func(m map[string]any) { m["iat"], m["exp"] = now-121, now-1 }), false},
		"iat far ahead":       {claim(func(m map[string]any) { m["iat"], m["exp"] = now+90, now+120 }), false},
		"nbf far ahead":       {set("nbf", now+90), false},
		"no exp":              {claim(func(m map[string]any) { delete(m, "exp") }), false},
		"no iat":              {claim(func(m map[string]any) { delete(m, "iat") }), false},
		"no jti":              {claim(func(m map[string]any) { delete(m, "jti") }), false},
		"iat as text":         {set("iat", "now"), false},
		"iss is another":      {set("iss", "other"), false},
		"sub is another":      {set("sub", "other"), false},
		"both are another":    {claim(func(m map[string]any) { m["iss"], m["sub"] = "other", "other" }), false},
		"aud as a list":       {set("aud", []string{issuer}), false},
		"aud is the endpoint": {set("aud", issuer+"/bc-auth"), false},
		"no aud":              {claim(func(m map[string]any) { delete(m, "aud") }), false},
		"no typ":              {func(c *client) string { return sign(c, c.sig.KeyID(), "", func(map[string]any) {}) }, false},
		"other typ":           {func(c *client) string { return sign(c, c.sig.KeyID(), "at+jwt", func(map[string]any) {}) }, false},
		"unknown kid":         {func(c *client) string { return sign(c, "rp/sig/2", "JWT", func(map[string]any) {}) }, false},
		"kid of the enc key":  {func(c *client) string { return sign(c, c.enc.KeyID(), "JWT", func(map[string]any) {}) }, false},
		"another's signature": {func(c *client) string {
			return signed(c.t, jwa.ES256, newKey(c.t, elliptic.P256(), "sig", "x", ""), c.sig.KeyID(), "JWT", goodClaims())
		}, false},
		"alg of another curve": {func(c *client) string {
			return signed(c.t, jwa.ES384, newKey(c.t, elliptic.P384(), "sig", "x", ""), c.sig.KeyID(), "JWT", goodClaims())
		}, false},
		"alg none": {func(c *client) string {
			parts := strings.Split(sign(c, c.sig.KeyID(), "JWT", func(map[string]any) {}), ".")
			head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"rp/sig/1"}`))
			return head + "." + parts[1] + "."
		}, false},
		"signature cut": {func(c *client) string {
			token := sign(c, c.sig.KeyID(), "JWT", func(map[string]any) {})
			return token[:len(token)-4]
		}, false},
		"no JWS at all": {func(*client) string { return "abc" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, nil)
			a := c.askWith(tt.make(c))
			if tt.good != (a.status == 200) || !tt.good && (a.status != 401 || a.code() != "invalid_client") {
				t.Errorf("status %d, error %q (%v)", a.status, a.code(), a.json["error_description"])
			}
		})
	}
}

func TestAssertionCurves(t *testing.T) {
	for alg, curve := range map[jwa.SignatureAlgorithm]elliptic.Curve{jwa.ES256: elliptic.P256(), jwa.ES384: elliptic.P384(), jwa.ES512: elliptic.P521()} {
		key := newKey(t, curve, "sig", "rp/other", alg.String())
		c := start(t, nil)
		c = start(t, func(cfg *Config) { cfg.ClientJWKS = publicSet(t, key, c.enc) })
		if a := c.askWith(signed(t, alg, key, "rp/other", "JWT", goodClaims())); a.status != 200 {
			t.Errorf("%s: %d %v", alg, a.status, a.json)
		}
	}
}

// A jti counts once, at whichever endpoint and whatever its exp, until the assertion has expired.
func TestSingleUseJTI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		claims := goodClaims()
		again := func() string { return signed(t, jwa.ES256, c.sig, c.sig.KeyID(), "JWT", claims) }
		if a := c.askWith(again()); a.status != 200 {
			t.Fatalf("first use: %d", a.status)
		}
		if a := c.askWith(again()); a.code() != "invalid_client" {
			t.Errorf("second use: %d %s", a.status, a.code())
		}
		claims["exp"] = claims["exp"].(int64) - 60
		if a := c.askWith(again()); a.code() != "invalid_client" {
			t.Errorf("second use with another exp: %d %s", a.status, a.code())
		}
		id := c.ask(nric)
		form := c.auth(url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}})
		form.Set("client_assertion", again())
		if a := c.post("/token", form); a.status != 401 {
			t.Errorf("second use at /token: %d", a.status)
		}

		time.Sleep(5 * time.Minute)
		for range 200 { // a shard is pruned when it is used
			c.ask(nric)
		}
		kept := 0
		for i := range c.s.seen.shards {
			kept += len(c.s.seen.shards[i].buckets)
		}
		if kept > len(c.s.seen.shards) {
			t.Errorf("%d buckets of jti values are kept, want the current one in each of %d shards", kept, len(c.s.seen.shards))
		}
	})
}

func TestConfiguredAudience(t *testing.T) {
	c := start(t, func(c *Config) { c.Audience = issuer + "/token" })
	if a := c.tryAsk(nric); a.status != 401 {
		t.Errorf("the issuer as audience: %d", a.status)
	}
	claims := goodClaims()
	claims["aud"] = issuer + "/token"
	if a := c.askWith(signed(t, jwa.ES256, c.sig, c.sig.KeyID(), "JWT", claims)); a.status != 200 {
		t.Errorf("the configured audience: %d", a.status)
	}
}

func TestTrustedAssertions(t *testing.T) {
	c := start(t, func(c *Config) { c.TrustAssertions = true })
	token := signed(t, jwa.ES256, newKey(t, elliptic.P256(), "sig", "x", ""), c.sig.KeyID(), "JWT", goodClaims())
	if a := c.askWith(token); a.status != 200 {
		t.Errorf("signature must not be judged: %d", a.status)
	}
	if a := c.askWith(token); a.status != 401 {
		t.Errorf("claims and jti must be judged still: %d", a.status)
	}
}

func TestAnyClient(t *testing.T) {
	c := start(t, func(c *Config) { c.ClientID, c.ClientJWKS, c.AllowAnyClient, c.Plain = "", nil, true, true })
	claims := goodClaims()
	claims["iss"], claims["sub"] = "curl", "curl"
	a := c.askWith(signed(t, jwa.ES256, c.sig, "whatever", "JWT", claims))
	if a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	// Another client's auth_req_id is not known to this one.
	if got := c.poll(a.json["auth_req_id"].(string)); got.code() != "invalid_grant" {
		t.Errorf("another client's poll: %d %s", got.status, got.code())
	}
}

func TestGrantRules(t *testing.T) {
	c := start(t, nil)
	id := c.ask(nric)
	for name, tt := range map[string]struct {
		edit func(url.Values)
		want string
	}{
		"another grant":       {func(v url.Values) { v.Set("grant_type", "authorization_code") }, "unsupported_grant_type"},
		"no auth_req_id":      {func(v url.Values) { v.Del("auth_req_id") }, "invalid_request"},
		"unknown auth_req_id": {func(v url.Values) { v.Set("auth_req_id", person) }, "invalid_grant"},
		"no assertion":        {func(v url.Values) { v.Del("client_assertion") }, "invalid_client"},
	} {
		form := c.auth(url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}})
		tt.edit(form)
		if a := c.post("/token", form); a.code() != tt.want {
			t.Errorf("%s: %d %q, want %q", name, a.status, a.code(), tt.want)
		}
	}
	if a := c.poll(id); a.status != 200 {
		t.Errorf("refusals consumed the tokens: %d %s", a.status, a.code())
	}
}

func TestClientSetRules(t *testing.T) {
	sig, enc := newKey(t, elliptic.P256(), "sig", "s", ""), newKey(t, elliptic.P256(), "enc", "e", "ECDH-ES+A128KW")
	private, err := jwk.FromRaw([]byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		raw  []byte
		good bool
	}{
		"one of each":    {publicSet(t, sig, enc), true},
		"no sig":         {publicSet(t, enc), false},
		"no enc":         {publicSet(t, sig), false},
		"sig, no kid":    {publicSet(t, newKey(t, elliptic.P256(), "sig", "", ""), enc), false},
		"enc, no alg":    {publicSet(t, sig, newKey(t, elliptic.P256(), "enc", "e", "")), false},
		"enc, bare ECDH": {publicSet(t, sig, newKey(t, elliptic.P256(), "enc", "e", "ECDH-ES")), false},
		"no use":         {publicSet(t, sig, enc, newKey(t, elliptic.P256(), "", "x", "")), false},
		"wrong alg":      {publicSet(t, newKey(t, elliptic.P256(), "sig", "s", "ES384"), enc), false},
		"symmetric":      {publicSet(t, sig, enc, private), false},
		"with d":         {[]byte(`{"keys":[` + string(jsonOf(t, sig)) + `,` + string(jsonOf(t, enc)) + `]}`), false},
	} {
		_, err := New(Config{Issuer: issuer, ClientID: "bank", ClientJWKS: tt.raw})
		if (err == nil) != tt.good {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The set is fetched once an hour, again for an unknown kid, three tries a fetch; its failure is invalid_client.
func TestFetchedClientSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served []byte
		fetches, fail := 0, 0
		c := start(t, func(cfg *Config) {
			served, cfg.ClientJWKS, cfg.ClientJWKSURL = cfg.ClientJWKS, nil, "https://rp.test/jwks"
			cfg.HTTP = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				fetches++
				if fail > 0 {
					fail--
					return nil, errors.New("down")
				}
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(string(served)))}, nil
			})}
		})
		expect := func(when string, want int) {
			t.Helper()
			if fetches != want {
				t.Errorf("%s: %d fetches, want %d", when, fetches, want)
			}
		}
		fail = 3
		if a := c.tryAsk(nric); a.code() != "invalid_client" {
			t.Errorf("key set down: %d %s", a.status, a.code())
		}
		expect("down", 3)
		fail = 2
		c.claims(c.poll(c.ask(nric)), false)
		expect("third try", 6)
		time.Sleep(59 * time.Minute)
		c.ask(nric)
		expect("within the hour", 6)
		time.Sleep(2 * time.Minute)
		c.ask(nric)
		expect("after an hour", 7)

		next := newKey(t, elliptic.P256(), "sig", "rp/sig/2", "")
		served = publicSet(t, c.sig, next, c.enc)
		time.Sleep(2 * time.Second)
		c.sig = next
		c.ask(nric)
		expect("unknown kid", 8)
		c.sig = newKey(t, elliptic.P256(), "sig", "rp/sig/3", "")
		for range 100 {
			if a := c.tryAsk(nric); a.code() != "invalid_client" {
				t.Fatalf("kid that nobody published: %d", a.status)
			}
		}
		expect("a hundred unknown kids in the same second", 8)
	})
}
