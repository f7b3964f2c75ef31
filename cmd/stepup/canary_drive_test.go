package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

// run sends a flow's create and follows it to its end.
func (c *cage) run(t *testing.T, f flow) (id string) {
	provider := f.provider
	if provider == "" {
		provider = "singpass"
	}
	body := map[string]any{
		"provider": provider, "reference": c.word("a reference", mine...),
		"metadata": map[string]string{c.word("a metadata key", mine...): c.word("a metadata value", mine...) + " & more/é+"},
	}
	hint := ""
	if f.members == nil {
		hint = c.person()
		body["login_hint"] = hint
	}
	maps.Copy(body, f.members)
	for _, name := range []string{"login_hint", "login_hint_token", "id_token_hint"} {
		if v, ok := body[name].(string); ok {
			hint = v
		}
	}
	map[string]*phones{"singpass": c.singpass, "standard": c.standard, "late": c.late}[provider].Script(hint, f.script)
	c.receivers.plan(body["reference"].(string), f.hooks)
	text, err := json.Marshal(body)
	if err != nil {
		t.Error(err)
		return ""
	}
	headers := []string{"Content-Type", "application/json", "Idempotency-Key", c.word("an Idempotency-Key"), "X-Request-Id", c.word("a request id"),
		"User-Agent", c.word("a user agent"), "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"Tracestate", "a=" + c.word("a trace state"), "Baggage", "nric=" + c.word("baggage"), "Cookie", "a=" + c.word("a cookie"), "X-Forwarded-For", c.word("a forwarded address")}
	h := c.ask(t, http.MethodPost, "/v1/step-ups", string(text), headers...)
	again := c.ask(t, http.MethodPost, "/v1/step-ups", string(text), headers...)
	if h.status != http.StatusCreated {
		if h.code() != f.want {
			t.Errorf("%s: %d %s, want %s", f.name, h.status, h.body, f.want)
		}
		return h.text("id")
	}
	id = h.text("id")
	if again.text("id") != id {
		t.Errorf("%s: the repeat: %d %s", f.name, again.status, again.body)
	}
	if f.act != "" {
		c.ask(t, http.MethodPost, "/v1/step-ups/"+id+"/"+f.act, "")
	}
	for h.text("status") == "pending" && f.want != "pending" {
		if h = c.ask(t, http.MethodGet, "/v1/step-ups/"+id+"?wait=30s", ""); h.status != http.StatusOK {
			break
		}
	}
	if h.text("status") != f.want {
		t.Errorf("%s: ended as %s, want %s", f.name, h.body, f.want)
	}
	return id
}

func (s *receivers) plan(reference string, answers []http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans[reference] = answers
}

// planless: everything that was planned has happened.
func (s *receivers) planless() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, plan := range s.plans {
		if len(plan) > 0 {
			return false
		}
	}
	return true
}

// runAll runs all flows at once.
func (c *cage) runAll(t *testing.T) (ids []string) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, f := range c.flows() {
		all.Go(func() {
			id := c.run(t, f)
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
		})
	}
	eventually(t, "a token waits for the keys", func() bool { return c.log.has("waits for the provider's key set") })
	c.keysDown.Done()
	all.Wait()
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

// again asks about what is final, in every way.
func (c *cage) again(t *testing.T, ids []string) {
	t.Helper()
	for _, id := range ids {
		c.ask(t, http.MethodPost, "/v1/step-ups/"+id+"/redeliver", "{}", "Content-Type", "application/json")
		c.ask(t, http.MethodPost, "/v1/step-ups/"+id+"/cancel", "")
		c.ask(t, http.MethodGet, "/v1/step-ups/"+id+"/attempts", "")
	}
	c.ask(t, http.MethodPost, "/v1/redeliveries", `{"from":"2020-11-21T02:00:00Z"}`, "Content-Type", "application/json")
	c.fetch(t)
	page := c.ask(t, http.MethodGet, "/v1/step-ups?limit=100", "")
	var list struct {
		StepUps []struct {
			Identity *struct {
				Token string `json:"id_token"`
			}
		} `json:"step_ups"`
	}
	if err := json.Unmarshal(page.body, &list); err != nil {
		t.Fatal(err)
	}
	evidence := ""
	for _, v := range list.StepUps {
		if v.Identity != nil && v.Identity.Token != "" {
			evidence = v.Identity.Token
		}
	}
	if evidence == "" {
		t.Fatalf("no identity came with its token: %s", page.body)
	}
	c.addToken(evidence, "the token in an identity, which became an id_token_hint", append(mine, inProvider)...)
	c.run(t, flow{name: "by id_token_hint", provider: "standard", want: "denied", members: map[string]any{"id_token_hint": evidence, "binding_message": c.word("a binding message", inProvider)},
		script: cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Pending}, {Kind: cibatest.Deny}}}})
	forged := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+c.standard.url+`","sub":"`+c.word("a forged subject", inProvider)+`"}`)) + "." + c.word("a forged signature", inProvider)
	c.run(t, flow{name: "by a forged id_token_hint", provider: "standard", want: "provider_rejected", members: map[string]any{"id_token_hint": forged}})
}

// fetch gets the events that wait, and acknowledges every other one.
func (c *cage) fetch(t *testing.T) {
	t.Helper()
	var page struct {
		Events []struct{ ID string }
	}
	h := c.ask(t, http.MethodGet, "/v1/events?wait=1s", "")
	if err := json.Unmarshal(h.body, &page); err != nil || len(page.Events) < 10 {
		t.Fatalf("%d events: %d %s", len(page.Events), h.status, h.body)
	}
	var ids []string
	for i := 0; i < len(page.Events); i += 2 {
		ids = append(ids, page.Events[i].ID)
	}
	body, err := json.Marshal(map[string]any{"ids": ids})
	if err != nil {
		t.Fatal(err)
	}
	if h := c.ask(t, http.MethodPost, "/v1/events/acknowledge", string(body), "Content-Type", "application/json"); h.status != http.StatusOK {
		t.Errorf("acknowledging: %d %s", h.status, h.body)
	}
}

// misuse sends what nobody should.
func (c *cage) misuse(t *testing.T) {
	t.Helper()
	for _, m := range []struct{ method, path, body string }{
		{http.MethodGet, "/v1/step-ups/" + c.word("a path"), ""},
		{http.MethodGet, "/" + c.word("a path"), ""},
		{http.MethodGet, "/v1/step-ups?reference=" + c.word("a query"), ""},
		{http.MethodGet, "/v1/step-ups?cursor=" + c.word("a cursor"), ""},
		{http.MethodGet, "/v1/step-ups?limit=" + c.word("a limit"), ""},
		{http.MethodGet, "/v1/step-ups?status=" + c.word("a status"), ""},
		{http.MethodGet, "/v1/step-ups/su_00" + strings.Repeat("A", 20) + "?wait=" + c.word("a wait"), ""},
		{http.MethodGet, "/v1/step-ups/" + c.word("a path") + "/attempts", ""},
		{http.MethodGet, "/v1/events?webhook=" + strings.ToLower(c.word("a webhook")), ""},
		{http.MethodGet, "/v1/events?after=" + c.word("a place"), ""},
		{http.MethodGet, "/v1/events?limit=" + c.word("a limit"), ""},
		{http.MethodGet, "/v1/events?wait=" + c.word("a wait"), ""},
		{http.MethodPost, "/v1/events/acknowledge", `{"ids":["evt_` + c.word("an event that is none", inAnswers) + `"]}`}, // it is told back
		{http.MethodPost, "/v1/events/acknowledge", `{"ids":["` + c.word("no event's id") + `"]}`},
		{http.MethodPost, "/v1/redeliveries", `{"from":"` + c.word("no time") + `"}`},
		{http.MethodPost, "/v1/redeliveries", `{"from":"2020-11-21T02:00:00Z","webhook":"` + c.word("a webhook") + `"}`},
		{http.MethodPost, "/v1/redeliveries", `{"from":"2020-11-21T02:00:00Z","cursor":"` + c.word("a cursor") + `"}`},
		{http.MethodPost, "/v1/step-ups", c.word("no JSON")},
		{http.MethodPost, "/v1/step-ups", `{"provider":"` + c.word("no provider") + `","login_hint":"x"}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"` + c.word("a broken hint") + `"}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":{"a":"` + c.word("a nested hint") + `"}}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","requested_expiry":"` + c.word("a broken number") + `"}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","metadata":"` + c.word("broken metadata") + `"}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","reference":"` + c.word("a long reference") + strings.Repeat("x", 200) + `"}`},
		{http.MethodPost, "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","status":"` + c.word("an unknown member") + `"}`},
		{"M" + c.word("a method"), "/v1/step-ups", ""},
	} {
		c.ask(t, m.method, m.path, m.body, "Idempotency-Key", c.word("an Idempotency-Key"), "Content-Type", "application/json")
	}
	c.ask(t, http.MethodPost, "/v1/step-ups", "{}", "Idempotency-Key", c.word("a long Idempotency-Key")+strings.Repeat("x", 300), "Content-Type", "application/json")
	c.ask(t, http.MethodPost, "/v1/step-ups", "{}", "Idempotency-Key", "k", "Content-Type", c.word("a content type"))
	c.askAs(t, bank{url: c.bank.url, key: c.word("a wrong API key")}, http.MethodGet, "/v1/step-ups", "")
	c.askAs(t, bank{url: c.bank.url}, http.MethodGet, "/v1/step-ups", "", "Authorization", "Basic "+c.word("basic credentials"))
	for _, text := range []string{"GET /" + c.word("a broken request") + "\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: " + c.word("a broken length") + "\r\n\r\n",
		"POST /v1/step-ups HTTP/1.1\r\nHost: x\r\n" + c.word("a broken header") + "\r\n\r\n", "\x16\x03\x01" + c.word("a TLS hello") + "\r\n\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.bank.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(conn, text)
		answer, _ := io.ReadAll(conn) // until it is closed, one way or another
		fmt.Fprintln(&c.problems, string(answer))
		conn.Close()
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/", "/asynqmon/", "/asynqmon/api/queues", "/" + c.word("an operator's path")} {
		for _, token := range []string{strings.TrimSpace(c.read(t, "admin.token")), c.word("a wrong operators' token")} {
			h, err := (bank{url: c.admin, key: token}).try(t, http.MethodGet, path, "")
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&c.admins, h.status, h.header, string(h.body))
		}
	}
}

// metrics is what Prometheus gets.
func (c *cage) metrics(t *testing.T) string {
	t.Helper()
	h, err := (bank{url: c.admin, key: strings.TrimSpace(c.read(t, "admin.token"))}).try(t, http.MethodGet, "/metrics", "")
	if err != nil || h.status != http.StatusOK {
		t.Fatalf("/metrics: %d, %v", h.status, err)
	}
	return string(h.body)
}

// mistakes are secrets in the wrong place of a configuration; each is checked, and read by the running service.
func (c *cage) mistakes(t *testing.T) {
	t.Helper()
	good := map[string]string{}
	for _, name := range []string{configFile, apiKeysFile, webhookFile, sealFile, privateFile} {
		good[name] = c.read(t, name)
	}
	spoilt := func(file, old, with string) map[string]string {
		if !strings.Contains(good[file], old) {
			t.Fatalf("%s has no %q", file, old)
		}
		return map[string]string{file: strings.Replace(good[file], old, with, 1)}
	}
	for _, edit := range []map[string]string{
		{apiKeysFile: c.bank.key + "\n" + c.word("half an API key line") + " x\n"},
		{webhookFile: "whsec_!" + c.word("a broken webhook secret") + "\n"},
		{sealFile: good[sealFile] + "seal again " + c.word("a broken seal key") + "\nindex " + c.word("a broken index key") + "\n"},
		{privateFile: strings.TrimSuffix(strings.TrimSpace(good[privateFile]), "}") + `,"d":"` + c.word("a broken private key")},
		spoilt(privateFile, `"d":`, `"d":"`+c.word("a second private key")+`","d":`),
		spoilt(privateFile, `"P-256"`, `"P-384"`),
		spoilt(configFile, "api_keys_file: bank.apikeys", "api_keys_file: "+c.bank.key),
		spoilt(configFile, "secrets_file: ledger.whsec", "secrets_file: "+strings.TrimSpace(good[webhookFile])),
		spoilt(configFile, "url: \"redis://", "url: \"redis://user:"+c.word("a password in a URL")+"@"),
		spoilt(configFile, "admin_token_file: admin.token", "admin_token: "+c.word("a token in the configuration")),
		spoilt(configFile, "otlp_endpoint: \"http://", "otlp_endpoint: \"http://user:"+c.word("a password of a collector")+"@"),
		spoilt(configFile, "limits:", "limits: {per_caller: \""+c.word("a limit that is none")+"\"}\nlimits:"),
	} {
		for name, content := range edit {
			write(t, c.dir, name, content)
		}
		before := strings.Count(c.log.String(), "reload refused")
		c.hup <- os.Interrupt
		eventually(t, "the reload is refused", func() bool { return strings.Count(c.log.String(), "reload refused") > before })
		if code := c.check(t); code != exitUsage {
			t.Errorf("check ends with %d for the mistakes in %v", code, slices.Collect(maps.Keys(edit)))
		}
		for name := range edit {
			write(t, c.dir, name, good[name])
		}
	}
	if code := c.check(t, "--online"); code != exitDone {
		t.Errorf("check ends with %d without mistakes", code)
	}
}

func (c *cage) check(t *testing.T, more ...string) (code int) {
	args := append([]string{"check", "--config", c.dir + "/" + configFile}, more...)
	return run(t.Context(), args, strings.NewReader(""), &c.checked, &c.checked)
}

// redisDies takes Redis away from a step-up that is pending.
func (c *cage) redisDies(t *testing.T) {
	t.Helper()
	nric := c.person()
	body := fmt.Sprintf(`{"provider":"singpass","login_hint":%q,"reference":%q}`, nric, c.word("a reference", mine...))
	create := func() heard {
		return c.ask(t, http.MethodPost, "/v1/step-ups", body, "Content-Type", "application/json", "Idempotency-Key", c.word("an Idempotency-Key"))
	}
	pending := create()
	if pending.status != http.StatusCreated {
		t.Fatalf("create: %d %s", pending.status, pending.body)
	}
	c.node.Kill()
	if h := create(); h.code() != "storage_unavailable" {
		t.Errorf("create without Redis: %d %s", h.status, h.body)
	}
	c.singpass.decide(t, nric, c.singpass.Approve)
	if err := c.node.Restart(); err != nil {
		t.Fatal(err)
	}
	c.monitor(t)
	var h heard
	eventually(t, "it is approved all the same", func() bool {
		h = c.ask(t, http.MethodGet, "/v1/step-ups/"+pending.text("id")+"?wait=5s", "")
		return h.text("status") == "approved"
	})
}
