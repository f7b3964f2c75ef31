package cibatest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (c *client) press(id, verdict string, header ...string) answered {
	req := httptest.NewRequest(http.MethodPost, "/phone/"+id+"/"+verdict, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return c.send(req)
}

func TestPhoneButtons(t *testing.T) {
	c := start(t, func(c *Config) { c.Manual = true })
	for verdict, want := range map[string]string{"approve": "tokens", "refuse": "access_denied", "lapse": "expired_token"} {
		id := c.ask(nric)
		if got := told(c.poll(id)); got != "authorization_pending" {
			t.Errorf("before: %s", got)
		}
		if a := c.press(id, verdict); a.status != http.StatusSeeOther || a.header.Get("Location") != "/phone" {
			t.Errorf("%s: %d to %q", verdict, a.status, a.header.Get("Location"))
		}
		if got := told(c.poll(id)); got != want {
			t.Errorf("%s: %s, want %s", verdict, got, want)
		}
		if a := c.press(id, verdict); a.status != http.StatusConflict {
			t.Errorf("pressed twice: %d", a.status)
		}
		if r, _ := c.s.Ledger().Request(id); r.Decision != want || r.Decided.Before(r.Polls[0].Answered) || r.Decided.After(r.Polls[1].Arrived) {
			t.Errorf("the ledger says of the press: %q at %v", r.Decision, r.Decided)
		}
	}
	id := c.ask(nric)
	if r, _ := c.s.Ledger().Request(id); r.Decision != "" || !r.Decided.IsZero() {
		t.Errorf("the ledger knows of a press before there was one: %q at %v", r.Decision, r.Decided)
	}
	if a := c.press(id, "approve", "Accept", "application/json"); a.status != http.StatusNoContent {
		t.Errorf("the script's own press: %d", a.status)
	}
	if a := c.press(person, "approve"); a.status != http.StatusNotFound {
		t.Errorf("unknown id: %d", a.status)
	}
	if a := c.press(id, "explode"); a.status != http.StatusNotFound {
		t.Errorf("unknown verdict: %d", a.status)
	}
}

func TestForeignPagesCannotPress(t *testing.T) {
	c := start(t, func(c *Config) { c.Manual = true })
	id := c.ask(nric)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
		if a := c.press(id, "approve", header...); a.status != http.StatusForbidden {
			t.Errorf("%v: %d", header, a.status)
		}
	}
	if len(c.s.Prompts()) != 1 {
		t.Error("the prompt was answered")
	}
	if a := c.press(id, "approve", "Sec-Fetch-Site", "same-origin"); a.status != http.StatusSeeOther {
		t.Errorf("own page: %d", a.status)
	}
}

func TestPhoneShowsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(c *Config) { c.Manual = true })
		if page := c.get("/phone").body; !strings.Contains(page, `id="empty">`) || strings.Contains(page, "data-id") {
			t.Error("an empty phone does not say so")
		}
		evil := `<script>alert(1)</script> & "quotes"`
		a := c.post("/bc-auth", c.auth(url.Values{"scope": {"openid"}, "login_hint": {nric}, "binding_message": {evil}}))
		id := a.json["auth_req_id"].(string)
		c.ask(HintFor(1, 3, 1)) // ends by itself: not on the phone
		time.Sleep(70 * time.Second)
		newer := c.ask(person)
		time.Sleep(5 * time.Second)

		page := c.get("/phone")
		if strings.Contains(page.body, "<script>alert") || !strings.Contains(page.body, "&lt;script&gt;alert(1)") {
			t.Error("the binding message is not escaped")
		}
		for _, want := range []string{"2 waiting", "bank", "1 min ago", "3:45 left", "5 s ago", "/phone/" + id + "/approve", "/phone/" + id + "/refuse", `id="empty" hidden`} {
			if !strings.Contains(page.body, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("CSP %q", csp)
		}

		var v phoneView
		if err := json.Unmarshal([]byte(c.get("/phone/prompts").body), &v); err != nil {
			t.Fatal(err)
		}
		if v.Waiting != 2 || len(v.Prompts) != 2 || v.Prompts[0].ID != newer || v.Prompts[1] != (phonePrompt{id, "bank", nric, evil, 75, 225, 300}) {
			t.Errorf("prompts %+v", v)
		}
		if p := c.s.Prompts(); len(p) != 2 || p[0].AuthReqID != id || p[0].BindingMessage != evil || p[0].Expires.Sub(p[0].Asked) != 300*time.Second {
			t.Errorf("Prompts() = %+v", p)
		}
		time.Sleep(226 * time.Second)
		if p := c.s.Prompts(); len(p) != 1 || p[0].AuthReqID != newer {
			t.Errorf("after the first expired: %+v", p)
		}
	})
}

func TestPhoneWithManyPrompts(t *testing.T) {
	c := start(t, func(c *Config) { c.Manual, c.TrustAssertions = true, true })
	for range maxShown + 5 {
		c.ask(nric)
	}
	v := c.s.phoneView()
	if v.Waiting != maxShown+5 || len(v.Prompts) != maxShown {
		t.Errorf("%d waiting, %d shown", v.Waiting, len(v.Prompts))
	}
}
