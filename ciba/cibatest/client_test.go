package cibatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwe"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

const (
	issuer = "https://op.test"
	nric   = "S1234567D"
	person = "178478de-fed7-4c03-a75e-e68c44d0d5f0"
)

// client is a relying party written by hand, so that nothing of the code under test is also its judge.
type client struct {
	t        *testing.T
	s        *Server
	sig, enc jwk.Key // private
}

// answered is one HTTP answer; cut means that the connection was closed instead.
type answered struct {
	status int
	header http.Header
	body   string
	json   map[string]any
	cut    bool
}

func (a answered) code() string { s, _ := a.json["error"].(string); return s }

func newKey(t testing.TB, curve elliptic.Curve, use, kid, alg string) jwk.Key {
	t.Helper()
	raw, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{jwk.KeyIDKey: kid, jwk.KeyUsageKey: use, jwk.AlgorithmKey: alg} {
		if value != "" {
			if err := key.Set(name, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return key
}

func publicSet(t testing.TB, keys ...jwk.Key) []byte {
	t.Helper()
	set := jwk.NewSet()
	for _, key := range keys {
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if err := set.AddKey(public); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// start makes a provider and its client. The client's key ids hold slashes, as Singpass's do.
func start(t *testing.T, edit func(*Config)) *client {
	t.Helper()
	c := &client{t: t, sig: newKey(t, elliptic.P256(), "sig", "rp/sig/1", ""), enc: newKey(t, elliptic.P256(), "enc", "rp/enc/1", "ECDH-ES+A256KW")}
	cfg := Config{Issuer: issuer, ClientID: "bank", ClientJWKS: publicSet(t, c.sig, c.enc), Detail: true}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if c.s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return c
}

func signed(t testing.TB, alg jwa.SignatureAlgorithm, key jwk.Key, kid, typ string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	var raw any
	if err := key.Raw(&raw); err != nil {
		t.Fatal(err)
	}
	head := jws.NewHeaders()
	_ = head.Set(jws.KeyIDKey, kid)
	_ = head.Set(jws.TypeKey, typ)
	token, err := jws.Sign(payload, jws.WithKey(alg, raw, jws.WithProtectedHeaders(head)))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

func goodClaims() map[string]any {
	now := time.Now().Unix()
	return map[string]any{"iss": "bank", "sub": "bank", "aud": issuer, "iat": now, "exp": now + 120, "jti": rand.Text()}
}

// auth is a form with a good assertion.
func (c *client) auth(more url.Values) url.Values {
	form := url.Values{
		"client_assertion_type": {assertionType},
		"client_assertion":      {signed(c.t, jwa.ES256, c.sig, c.sig.KeyID(), "JWT", goodClaims())},
	}
	for name, values := range more {
		form[name] = values
	}
	return form
}

func (c *client) post(path string, form url.Values) answered {
	c.t.Helper()
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=ISO-8859-1")
	return c.send(req)
}

func (c *client) get(path string) answered {
	return c.send(httptest.NewRequest(http.MethodGet, path, nil))
}

func (c *client) send(req *http.Request) (a answered) {
	rec := httptest.NewRecorder()
	func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			} else if v != nil {
				a.cut = true
			}
		}()
		c.s.ServeHTTP(rec, req)
	}()
	a.status, a.header, a.body = rec.Code, rec.Header(), rec.Body.String()
	_ = json.Unmarshal(rec.Body.Bytes(), &a.json)
	return a
}

func (c *client) tryAsk(hint string) answered {
	return c.post("/bc-auth", c.auth(url.Values{"scope": {"openid"}, "login_hint": {hint}}))
}

// ask starts a step-up and returns its auth_req_id.
func (c *client) ask(hint string) string {
	c.t.Helper()
	a := c.tryAsk(hint)
	id, _ := a.json["auth_req_id"].(string)
	if a.status != 200 || id == "" {
		c.t.Fatalf("asking: status %d, %s", a.status, a.body)
	}
	return id
}

func (c *client) poll(id string) answered {
	return c.post("/token", c.auth(url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}))
}

// claims opens the ID token of an answer: decrypts unless plain, verifies with the published keys.
func (c *client) claims(a answered, plain bool) map[string]any {
	c.t.Helper()
	if a.status != 200 {
		c.t.Fatalf("no tokens: status %d, error %q", a.status, a.code())
	}
	token := []byte(a.json["id_token"].(string))
	if !plain {
		m, err := jwe.Parse(token)
		if err != nil {
			c.t.Fatal(err)
		}
		head := m.ProtectedHeaders()
		if head.KeyID() != c.enc.KeyID() || head.Algorithm() != jwa.ECDH_ES_A256KW || head.ContentEncryption() != jwa.A256CBC_HS512 || head.ContentType() != "JWT" {
			c.t.Errorf("JWE header: kid %q alg %q enc %q cty %q", head.KeyID(), head.Algorithm(), head.ContentEncryption(), head.ContentType())
		}
		var raw any
		_ = c.enc.Raw(&raw)
		if token, err = jwe.Decrypt(token, jwe.WithKey(jwa.ECDH_ES_A256KW, raw)); err != nil {
			c.t.Fatal(err)
		}
	}
	set, err := jwk.ParseString(c.get("/.well-known/keys").body)
	if err != nil {
		c.t.Fatal(err)
	}
	payload, err := jws.Verify(token, jws.WithKeySet(set, jws.WithInferAlgorithmFromKey(true)))
	if err != nil {
		c.t.Fatalf("verifying the ID token: %v", err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(payload, &claims); err != nil {
		c.t.Fatal(err)
	}
	return claims
}

func headerOf(t testing.TB, token string) map[string]any {
	t.Helper()
	head := map[string]any{}
	if err := decodeSegment(strings.SplitN(token, ".", 2)[0], &head); err != nil {
		t.Fatal(err)
	}
	return head
}

func verifies(t testing.TB, set, token string) bool {
	t.Helper()
	keys, err := jwk.ParseString(set)
	if err != nil {
		t.Fatal(err)
	}
	_, err = jws.Verify([]byte(token), jws.WithKeySet(keys, jws.WithInferAlgorithmFromKey(true)))
	return err == nil
}

func jsonOf(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
