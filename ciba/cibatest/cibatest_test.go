package cibatest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWhatItPublishes(t *testing.T) {
	c := start(t, nil)
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/keys"} {
		a := c.get(path)
		if a.status != 200 || !strings.Contains(a.header.Get("Cache-Control"), "max-age=21600") {
			t.Errorf("%s: status %d, Cache-Control %q", path, a.status, a.header.Get("Cache-Control"))
		}
	}
	doc := c.get("/.well-known/openid-configuration").json
	for name, want := range map[string]string{
		"issuer": issuer, "token_endpoint": issuer + "/token", "backchannel_authentication_endpoint": issuer + "/bc-auth",
		"jwks_uri": issuer + "/.well-known/keys",
	} {
		if doc[name] != want {
			t.Errorf("%s = %v, want %s", name, doc[name], want)
		}
	}
	if modes, _ := json.Marshal(doc["backchannel_token_delivery_modes_supported"]); string(modes) != `["poll"]` {
		t.Errorf("delivery modes %s", modes)
	}
	key := c.get("/.well-known/keys").json["keys"].([]any)[0].(map[string]any)
	if _, has := key["alg"]; has || key["d"] != nil || key["use"] != "sig" || !strings.Contains(key["kid"].(string), "/") {
		t.Errorf("published key: %v; want use sig, a kid with slashes, no alg, no d", key)
	}
}

func TestAcknowledgement(t *testing.T) {
	a := start(t, nil).tryAsk(nric)
	if len(a.json) != 2 || a.json["expires_in"] != 300.0 || !isUUID(a.json["auth_req_id"].(string)) {
		t.Errorf("Singpass's answer is auth_req_id and expires_in 300 alone, got %s", a.body)
	}
	a = start(t, func(c *Config) { c.Interval, c.ExpiresIn = 2, time.Minute }).tryAsk(nric)
	if a.json["interval"] != 2.0 || a.json["expires_in"] != 60.0 {
		t.Errorf("configured interval and life: %s", a.body)
	}
}

func TestErrorBody(t *testing.T) {
	a := start(t, nil).tryAsk("s1234567d")
	for _, name := range []string{"id", "error", "error_description", "trace_id"} {
		if s, _ := a.json[name].(string); s == "" {
			t.Errorf("%s is missing: %s", name, a.body)
		}
	}
	if len(a.json) != 4 || a.code() != "invalid_request" || a.status != 400 {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

func TestBCAuthJudgesParameters(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(url.Values)
		want string
	}{
		"no scope":            {func(v url.Values) { v.Del("scope") }, "invalid_scope"},
		"other scope":         {func(v url.Values) { v.Set("scope", "openid profile") }, "invalid_scope"},
		"no hint":             {func(v url.Values) { v.Del("login_hint") }, "invalid_request"},
		"lower-case NRIC":     {func(v url.Values) { v.Set("login_hint", "s1234567d") }, "invalid_request"},
		"upper-case UUID":     {func(v url.Values) { v.Set("login_hint", strings.ToUpper(person)) }, "invalid_request"},
		"hint given twice":    {func(v url.Values) { v.Add("login_hint", nric) }, "invalid_request"},
		"no assertion":        {func(v url.Values) { v.Del("client_assertion") }, "invalid_client"},
		"wrong type":          {func(v url.Values) { v.Set("client_assertion_type", "jwt") }, "invalid_client"},
		"another client_id":   {func(v url.Values) { v.Set("client_id", "other") }, "invalid_client"},
		"the same client_id":  {func(v url.Values) { v.Set("client_id", "bank") }, ""},
		"unknown parameter":   {func(v url.Values) { v.Set("nonce", "x") }, ""},
		"NRIC, wrong letter":  {func(v url.Values) { v.Set("login_hint", "S1234567A") }, ""},
		"foreigner's Y":       {func(v url.Values) { v.Set("login_hint", "Y1234567P") }, ""},
		"UUID, no binding":    {func(v url.Values) { v.Set("login_hint", person) }, ""},
		"ping token, ignored": {func(v url.Values) { v.Set("client_notification_token", "x") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, nil)
			form := c.auth(url.Values{"scope": {"openid"}, "login_hint": {nric}})
			tt.edit(form)
			a := c.post("/bc-auth", form)
			if a.code() != tt.want || (tt.want == "") != (a.status == 200) {
				t.Errorf("status %d, error %q, want %q", a.status, a.code(), tt.want)
			}
			if pushes := c.s.Ledger().Pushes; (pushes == 1) != (tt.want == "") {
				t.Errorf("%d pushes", pushes)
			}
		})
	}
}

func TestRequestsMustBeForms(t *testing.T) {
	c := start(t, nil)
	form := c.auth(url.Values{"scope": {"openid"}, "login_hint": {nric}}).Encode()
	for name, edit := range map[string]func(*http.Request){
		"JSON":              func(r *http.Request) { r.Header.Set("Content-Type", "application/json") },
		"Authorization":     func(r *http.Request) { r.Header.Set("Authorization", "Basic YTpi") },
		"in the query only": func(r *http.Request) { r.URL.RawQuery, r.Body = form, http.NoBody },
	} {
		req, _ := http.NewRequest(http.MethodPost, "/bc-auth", strings.NewReader(form))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		edit(req)
		if a := c.send(req); a.status == 200 {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTokenClaims(t *testing.T) {
	_, u, _ := PersonOf(nric)
	s, _, _ := PersonOf(person)
	for name, tt := range map[string]struct {
		edit      func(*Config)
		hint, sub string
		plain     bool
	}{
		"NRIC, encrypted":    {nil, nric, "s=" + nric + ",u=" + u, false},
		"UUID, encrypted":    {nil, person, "s=" + s + ",u=" + person, false},
		"NRIC left out":      {func(c *Config) { c.OmitNRIC = true }, nric, "u=" + u, false},
		"signed only":        {func(c *Config) { c.Plain = true }, person, "u=" + person, true},
		"any CIBA provider":  {func(c *Config) { c.Standard = true }, "mary@example.test", "mary@example.test", false},
		"ES384, signed only": {func(c *Config) { c.Plain, c.Algs.Signing = true, "ES384" }, person, "u=" + person, true},
		"PS256, signed only": {func(c *Config) { c.Plain, c.Algs.Signing = true, "PS256" }, person, "u=" + person, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, tt.edit)
			a := c.poll(c.ask(tt.hint))
			claims := c.claims(a, tt.plain)
			iat, exp := claims["iat"].(float64), claims["exp"].(float64)
			if claims["sub"] != tt.sub || claims["iss"] != issuer || claims["aud"] != "bank" || exp-iat != 600 || claims["amr"] == nil {
				t.Errorf("claims %v, want sub %s", claims, tt.sub)
			}
			if a.json["token_type"] != "Bearer" || a.json["access_token"] == "" || a.header.Get("Cache-Control") == "" {
				t.Errorf("answer has members %v", a.json)
			}
		})
	}
}

func TestForeignSubject(t *testing.T) {
	c := start(t, nil)
	sub := c.claims(c.poll(c.ask("Y1234567P")), false)["sub"].(string)
	for _, part := range []string{"s=Y1234567P", "u=", "fid=", "coi="} {
		if !slices.ContainsFunc(strings.Split(sub, ","), func(kv string) bool { return strings.HasPrefix(kv, part) }) {
			t.Errorf("sub %q lacks %s", sub, part)
		}
	}
}

func TestPeopleAreStable(t *testing.T) {
	n, u, ok := PersonOf(person)
	n2, u2, _ := PersonOf(person)
	if !ok || n != n2 || u != u2 || u != person || !isNRIC(n) {
		t.Errorf("PersonOf(uuid) = %s %s %v, then %s %s", n, u, ok, n2, u2)
	}
	for _, known := range []string{"S1234567D", "S9812381D"} { // right check letters
		if digits := known[1:8]; nricFromDigits(digits) != known {
			t.Errorf("check letter of %s: got %s", known, nricFromDigits(digits))
		}
	}
	if _, u, _ := PersonOf(nric); !isUUID(u) || u[14] != '4' {
		t.Errorf("derived UUID %s", u)
	}
	if _, _, ok := PersonOf("mary"); ok {
		t.Error("a hint that is neither was accepted")
	}
}

func nricFromDigits(digits string) string {
	n := uint64(0)
	for _, d := range digits {
		n = n*10 + uint64(d-'0')
	}
	return nricFrom(n)
}

func TestStandardProvider(t *testing.T) {
	c := start(t, func(c *Config) { c.Standard, c.Plain = true, true })
	more := func(v url.Values) answered { v.Set("scope", "openid profile"); return c.post("/bc-auth", c.auth(v)) }
	if a := more(url.Values{"login_hint": {"mary"}, "login_hint_token": {"x"}}); a.code() != "invalid_request" {
		t.Errorf("two hints: %d %s", a.status, a.code())
	}
	if a := more(url.Values{"login_hint": {"mary"}, "requested_expiry": {"0"}}); a.code() != "invalid_request" {
		t.Errorf("requested_expiry 0: %d %s", a.status, a.code())
	}
	if a := more(url.Values{"id_token_hint": {"a.b.c"}}); a.code() != "invalid_request" {
		t.Errorf("foreign id_token_hint: %d %s", a.status, a.code())
	}
	a := more(url.Values{"login_hint": {"mary"}, "requested_expiry": {"77"}, "acr_values": {"urn:high urn:low"}})
	if a.json["expires_in"] != 77.0 {
		t.Fatalf("requested_expiry 77: %s", a.body)
	}
	tokens := c.poll(a.json["auth_req_id"].(string))
	if claims := c.claims(tokens, true); claims["acr"] != "urn:high" || claims["sub"] != "mary" {
		t.Errorf("claims %v", claims)
	}
	b := more(url.Values{"id_token_hint": {tokens.json["id_token"].(string)}})
	if claims := c.claims(c.poll(b.json["auth_req_id"].(string)), true); claims["sub"] != "mary" {
		t.Errorf("sub of the id_token_hint's person: %v", claims["sub"])
	}
}

func TestKeyRotation(t *testing.T) {
	c := start(t, nil)
	c.claims(c.poll(c.ask(nric)), false)
	if err := c.s.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	if n := len(c.get("/.well-known/keys").json["keys"].([]any)); n != 2 {
		t.Errorf("%d published keys after a rotation, want 2", n)
	}
	c.claims(c.poll(c.ask(nric)), false)
}

func TestConfigMistakes(t *testing.T) {
	good := start(t, nil).s.cfg
	for name, edit := range map[string]func(*Config){
		"no issuer":          func(c *Config) { c.Issuer = "" },
		"issuer with slash":  func(c *Config) { c.Issuer += "/" },
		"no client":          func(c *Config) { c.ClientID = "" },
		"no keys":            func(c *Config) { c.ClientJWKS = nil },
		"both kinds of keys": func(c *Config) { c.ClientJWKSURL = "https://rp.test/jwks" },
		"nothing to encrypt": func(c *Config) { c.ClientJWKS, c.AllowAnyClient = nil, true },
		"not a key set":      func(c *Config) { c.ClientJWKS = []byte("{") },
		"negative hold":      func(c *Config) { c.Hold = -1 },
		"unknown algorithm":  func(c *Config) { c.Algs.Signing = "HS256" },
	} {
		cfg := good
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIntercept(t *testing.T) {
	c := start(t, func(c *Config) {
		c.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/.well-known/keys" {
				w.WriteHeader(http.StatusTeapot)
				return true
			}
			return false
		}
	})
	if a := c.get("/.well-known/keys"); a.status != http.StatusTeapot {
		t.Errorf("status %d", a.status)
	}
	c.ask(nric)
}

func TestSkewedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for skew, want := range map[time.Duration]int{0: 200, 90 * time.Second: 200, -50 * time.Second: 200, -90 * time.Second: 401, 2 * time.Minute: 401} {
			c := start(t, func(c *Config) { c.Skew = skew })
			a := c.tryAsk(nric)
			if a.status != want {
				t.Errorf("provider's clock %v ahead: status %d, want %d", skew, a.status, want)
			}
			if a.status == 200 {
				id := a.json["auth_req_id"].(string)
				if iat := c.claims(c.poll(id), false)["iat"].(float64); int64(iat) != time.Now().Add(skew).Unix() {
					t.Errorf("iat %v with skew %v", iat, skew)
				}
			}
		}
	})
}
