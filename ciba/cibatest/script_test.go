package cibatest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told is what a client sees of an answer, in one word.
func told(a answered) string {
	switch {
	case a.cut:
		return "cut"
	case a.status == 200 && a.json["id_token"] != nil:
		return "tokens"
	case a.code() != "":
		return a.code()
	}
	return http.StatusText(a.status)
}

func TestHintsScriptThemselves(t *testing.T) {
	for name, tt := range map[string]struct {
		code uint8
		n    uint16
		want []string
	}{
		"01 approve at once":        {0x01, 0, []string{"tokens", "invalid_grant", "invalid_grant"}},
		"01 approve after 2":        {0x01, 2, []string{"authorization_pending", "authorization_pending", "tokens", "invalid_grant"}},
		"02 deny after 1":           {0x02, 1, []string{"authorization_pending", "access_denied", "invalid_grant"}},
		"03 nobody answers":         {0x03, 12, []string{"authorization_pending", "authorization_pending", "expired_token", "expired_token"}},
		"04 slow_down twice":        {0x04, 2, []string{"slow_down", "slow_down", "tokens", "invalid_grant"}},
		"05 500 once":               {0x05, 1, []string{"SERVER_SIDE_ERROR", "tokens", "invalid_grant"}},
		"06 503 once":               {0x06, 1, []string{"SERVER_SIDE_ERROR", "tokens"}},
		"07 HTML once":              {0x07, 1, []string{"Forbidden", "tokens"}},
		"08 cut twice":              {0x08, 2, []string{"cut", "cut", "tokens", "invalid_grant"}},
		"09 lost answer":            {0x09, 1, []string{"authorization_pending", "cut", "invalid_grant"}},
		"10 approved by itself":     {0x10, 7, []string{"authorization_pending", "tokens", "invalid_grant"}},
		"11 refused by itself":      {0x11, 7, []string{"authorization_pending", "access_denied", "invalid_grant"}},
		"no script of that number":  {0x7f, 1, []string{"authorization_pending", "authorization_pending"}},
		"script of 65,535 pendings": {0x01, 0xffff, []string{"authorization_pending", "authorization_pending"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, func(c *Config) { c.Manual = true })
				id := c.ask(HintFor(tt.code, tt.n, 42))
				var got []string
				for range tt.want {
					time.Sleep(5*time.Second + time.Millisecond)
					got = append(got, told(c.poll(id)))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got  %v\nwant %v", got, tt.want)
				}
			})
		})
	}
}

func TestHintsThatFailBCAuth(t *testing.T) {
	for code, tt := range map[uint8]struct {
		status, pushes int
		want           string
	}{
		0x0b: {400, 0, "unknown_user_id"},
		0x0c: {403, 0, "access_denied"},
		0x0d: {401, 0, "invalid_client"},
		0x0e: {200, 1, "cut"},
	} {
		c := start(t, nil)
		hint := HintFor(code, 0, 1)
		a := c.tryAsk(hint)
		if told(a) != tt.want || !a.cut && a.status != tt.status {
			t.Errorf("%02x: %d %s, want %d %s", code, a.status, told(a), tt.status, tt.want)
		}
		if l := c.s.Ledger(); l.Pushes != tt.pushes || l.PushesByHint[hint] != tt.pushes {
			t.Errorf("%02x: %d pushes (%v), want %d", code, l.Pushes, l.PushesByHint, tt.pushes)
		}
	}
}

func TestHintsThatDoNotScript(t *testing.T) {
	for _, hint := range []string{nric, person, "000000ZZ-0000-4000-8000-000000000000", "00000101-0000-4000-8000-000000000000",
		"00000001-0000-4000-9000-000000000000", "00000000-0000-4000-8000-000000000000", ""} {
		if _, ok := ScriptOf(hint); ok {
			t.Errorf("%q has a script", hint)
		}
	}
	if hint := HintFor(0x0a, 0x1f, 7); hint != "0000000a-001f-4000-8000-000000000007" || !isUUID(hint) {
		t.Errorf("HintFor: %s", hint)
	}
}

func TestWrongTokens(t *testing.T) {
	c := start(t, nil)
	set := c.get("/.well-known/keys").body

	other := HintFor(0x0a, 0, 9)
	if claims := c.claims(c.poll(c.ask(other)), false); strings.Contains(claims["sub"].(string), other) || !strings.HasPrefix(claims["sub"].(string), "s=") {
		t.Errorf("another person's token has sub %v", claims["sub"])
	}
	c.s.Script(nric, Script{Polls: []Step{{Kind: OtherPerson}}})
	if claims := c.claims(c.poll(c.ask(nric)), false); strings.Contains(claims["sub"].(string), nric) {
		t.Errorf("another person's token has sub %v", claims["sub"])
	}

	p := start(t, func(c *Config) { c.Plain = true })
	for kind, kidIsPublished := range map[Kind]bool{UnknownKey: false, BadSignature: true} {
		p.s.Script(person, Script{Polls: []Step{{Kind: kind}}})
		token := p.poll(p.ask(person)).json["id_token"].(string)
		kid := headerOf(t, token)["kid"].(string)
		if strings.Contains(set, `"`+kid+`"`) != kidIsPublished {
			t.Errorf("%v: kid %s", kind, kid)
		}
		if verifies(t, p.get("/.well-known/keys").body, token) {
			t.Errorf("%v: the signature verifies", kind)
		}
	}

	p.s.Script(person, Script{Polls: []Step{{Kind: Approve, Claims: func(m map[string]any) { m["aud"] = "somebody"; delete(m, "iat") }}}})
	first := p.poll(p.ask(person))
	if claims := p.claims(first, true); claims["aud"] != "somebody" || claims["iat"] != nil {
		t.Errorf("edited claims: %v", claims)
	}
	p.s.Script(person, Script{Polls: []Step{{Kind: Replay}}})
	if again := p.poll(p.ask(person)); again.json["id_token"] != first.json["id_token"] {
		t.Error("the replayed token is another one")
	}
}

func TestStepsByHand(t *testing.T) {
	c := start(t, nil)
	c.s.Script(nric, Script{
		Ack: map[string]any{"interval": 1, "expires_in": nil, "extra": true},
		Polls: []Step{
			{Kind: Fail, Status: 400, Code: "TOO_MANY_REQUESTS", RetryAfter: 3},
			{Kind: Fail, Code: "invalid_request"},
			{Kind: Unavailable},
			{Kind: HTML, Status: 200},
			{Kind: Redirect, Status: 308, Location: "https://elsewhere.test/"},
			{Kind: Raw, Do: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }},
			{Kind: Expire},
		},
	})
	a := c.tryAsk(nric)
	if _, has := a.json["expires_in"]; has || a.json["interval"] != 1.0 || a.json["extra"] != true {
		t.Errorf("acknowledgement %s", a.body)
	}
	id := a.json["auth_req_id"].(string)
	for i, want := range []struct {
		status             int
		told, header, text string
	}{
		{400, "TOO_MANY_REQUESTS", "Retry-After", "3"},
		{400, "invalid_request", "Content-Type", "application/json"},
		{503, "SERVER_SIDE_ERROR", "Retry-After", "2"},
		{200, "OK", "Content-Type", "text/html; charset=utf-8"},
		{308, "Permanent Redirect", "Location", "https://elsewhere.test/"},
		{418, "I'm a teapot", "Content-Type", ""},
		{400, "expired_token", "Content-Type", "application/json"},
		{400, "expired_token", "Content-Type", "application/json"},
	} {
		if a := c.poll(id); a.status != want.status || told(a) != want.told || a.header.Get(want.header) != want.text {
			t.Errorf("step %d: %d %s, %s: %q; want %+v", i+1, a.status, told(a), want.header, a.header.Get(want.header), want)
		}
	}
}

// What a real connection shows: cut without an answer, and half an answer.
func TestCutOnTheWire(t *testing.T) {
	c := start(t, nil)
	srv := httptest.NewServer(c.s)
	defer srv.Close()
	c.s.Script(nric, Script{Polls: []Step{{Kind: Cut}, {Kind: Truncated}}})
	id := c.ask(nric)
	send := func() (string, error) {
		form := c.auth(map[string][]string{"grant_type": {grantCIBA}, "auth_req_id": {id}})
		res, err := srv.Client().PostForm(srv.URL+"/token", form)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	if body, err := send(); err == nil || body != "" {
		t.Errorf("cut: %d bytes, error %v", len(body), err)
	}
	if body, err := send(); err == nil || !strings.HasPrefix(body, "{") {
		t.Errorf("truncated: %d bytes, error %v", len(body), err)
	}
	if got := told(c.poll(id)); got != "invalid_grant" {
		t.Errorf("after a truncated answer: %s", got)
	}
}

func TestOutage(t *testing.T) {
	c := start(t, nil)
	id := c.ask(HintFor(0x01, 1, 1))
	c.s.Outage(&Step{Kind: Fail})
	for range 3 {
		if a := c.poll(id); a.status != 500 {
			t.Fatalf("status %d during the outage", a.status)
		}
	}
	if a := c.tryAsk(nric); a.status != 500 {
		t.Errorf("bc-auth during the outage: %d", a.status)
	}
	c.s.Outage(nil)
	if got := []string{told(c.poll(id)), told(c.poll(id))}; !slices.Equal(got, []string{"authorization_pending", "tokens"}) {
		t.Errorf("after the outage %v", got)
	}
	if l := c.s.Ledger(); l.Pushes != 1 || l.Polls != 5 {
		t.Errorf("%d pushes, %d polls", l.Pushes, l.Polls)
	}
}

func TestThePersonDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(c *Config) { c.Manual, c.Hold = true, 30*time.Second })
		id := c.ask(nric)
		begin := time.Now()
		if got := told(c.poll(id)); got != "authorization_pending" || time.Since(begin) != 30*time.Second {
			t.Errorf("nobody answers: %s after %v", got, time.Since(begin))
		}
		begin = time.Now()
		go func() {
			time.Sleep(12 * time.Second)
			if err := c.s.Approve(id); err != nil {
				t.Error(err)
			}
		}()
		if got := told(c.poll(id)); got != "tokens" || time.Since(begin) != 12*time.Second {
			t.Errorf("approved while held: %s after %v", got, time.Since(begin))
		}
		if c.s.Approve(id) == nil || c.s.Refuse(id) == nil || c.s.Approve("nobody") == nil {
			t.Error("answered twice, or for an unknown id")
		}

		late := c.ask(nric)
		time.Sleep(280 * time.Second)
		begin = time.Now()
		if got := told(c.poll(late)); got != "expired_token" || time.Since(begin) != 20*time.Second {
			t.Errorf("held past the expiry: %s after %v", got, time.Since(begin))
		}
		if c.s.Refuse(late) == nil {
			t.Error("answered after the expiry")
		}

		over := c.ask(nric)
		begin = time.Now()
		go func() {
			time.Sleep(5 * time.Second)
			if err := c.s.Lapse(over); err != nil {
				t.Error(err)
			}
		}()
		if got := told(c.poll(over)); got != "expired_token" || time.Since(begin) != 5*time.Second {
			t.Errorf("the time was let pass while held: %s after %v", got, time.Since(begin))
		}
		if c.s.Lapse(over) == nil || c.s.Approve(over) == nil {
			t.Error("answered after the time was let pass")
		}

		self := c.ask(HintFor(0x11, 9, 1))
		begin = time.Now()
		if got := told(c.poll(self)); got != "access_denied" || time.Since(begin) != 9*time.Second {
			t.Errorf("refused by itself while held: %s after %v", got, time.Since(begin))
		}
	})
}

// Two polls held at once and one approval: exactly one has the tokens.
func TestTokensOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(c *Config) { c.Manual, c.Hold = true, 30*time.Second })
		id := c.ask(nric)
		got := make(chan string, 8)
		for range cap(got) {
			go func() { got <- told(c.poll(id)) }()
		}
		time.Sleep(time.Second)
		if err := c.s.Approve(id); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for range cap(got) {
			count[<-got]++
		}
		if count["tokens"] != 1 || count["invalid_grant"] != 7 {
			t.Errorf("answers %v", count)
		}
		r, _ := c.s.Ledger().Request(id)
		if len(r.Tokens) != 1 || r.Overlaps != 7 {
			t.Errorf("%d tokens, %d overlaps on record", len(r.Tokens), r.Overlaps)
		}
	})
}
