package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"stepup/ciba"
	"stepup/ciba/jose"
	"stepup/webhook"
)

// street is the demo's page with a simulated provider and an API that answers as it is told.
type street struct {
	*branch
	url     string
	secrets []webhook.Secret
	phones  *phones
	client  *ciba.Client
	api     func(w http.ResponseWriter)
}

const expires = `"expires_at":"2030-01-02T03:04:05Z"`

func openStreet(t *testing.T) *street {
	t.Helper()
	dir := t.TempDir()
	if _, err := newKeys(dir); err != nil {
		t.Fatal(err)
	}
	s := &street{phones: startPhones(t, dir, nil)}
	private, err := os.ReadFile(filepath.Join(dir, privateFile))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	s.client, err = ciba.New(ciba.Config{
		Issuer: s.phones.url, ClientID: demoClient, Profile: ciba.Singpass, Keys: keys, Encrypted: true, HTTP: http.DefaultClient, AllowHTTP: true,
		Algs: jose.Algs{Signing: []string{"ES256"}, KeyManagement: []string{"ECDH-ES+A256KW"}, Content: []string{"A256CBC-HS512"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.secrets, err = webhook.ParseSecrets([]byte(webhook.NewSecret())); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.api(w) }))
	t.Cleanup(api.Close)
	s.branch = &branch{bank: bank{url: api.URL}, op: s.phones.Server, stage: newStage(io.Discard, s.phones.Server), keyID: s.secrets[0].KeyID()}
	in := &inbox{keys: webhook.Keys(s.secrets), seen: map[string]bool{}, show: func(n news) { s.arrived(n) }}
	srv := httptest.NewServer(demoSite{s.branch, nil, t.Context().Done()}.handler(in))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// answer is what the API answers from now on.
func (s *street) answer(status int, body string) {
	s.api = func(w http.ResponseWriter) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// asks lets the API ask the customer as the service would.
func (s *street) asks(t *testing.T, id string) {
	s.api = func(w http.ResponseWriter) {
		if _, err := s.client.Authenticate(t.Context(), ciba.Request{LoginHint: customer}); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":%q,"status":"pending",%s}`, id, expires)
	}
}

// hook sends a webhook; its text may be forged after it was signed.
func (s *street) hook(t *testing.T, id, body, forged string) int {
	t.Helper()
	now := time.Now()
	req, err := http.NewRequest(http.MethodPost, s.url+hooksPath, strings.NewReader(body+forged))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", webhook.Sign(s.secrets, id, now, []byte(body)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// press posts as a browser without a script would, and returns the page it gets then.
func (s *street) press(t *testing.T, path string, header ...string) (status int, page string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (s *street) page(t *testing.T) string {
	t.Helper()
	res, err := http.Get(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatal(res.Status, err)
	}
	return string(body)
}

func onPage(t *testing.T, page string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
}

func TestDemoPageWithoutScript(t *testing.T) {
	s := openStreet(t)
	onPage(t, s.page(t), "Press the button", "Nothing to confirm", "No webhook yet", "Nothing happened yet", "<noscript>")

	s.asks(t, "su_1")
	status, page := s.press(t, "/transfer")
	if status != http.StatusOK {
		t.Fatalf("pressed: %d", status)
	}
	onPage(t, page, "Waiting for the phone", "su_1", `action="/phone/0/approve"`, `formaction="/phone/0/refuse"`, `formaction="/phone/0/lapse"`, "asks you, <b>"+customer+"</b>", ">4:59</time>")
	if status, page = s.press(t, "/phone/0/refuse"); status != http.StatusOK {
		t.Fatalf("refused: %d", status)
	}
	onPage(t, page, "You refused.", customer+" refuses", "Waiting for the phone")
	for path, want := range map[string]int{"/phone/0/approve": 409, "/phone/1/approve": 409, "/phone/-1/approve": 409, "/phone/x/approve": 409, "/phone/0/explode": 409, "/nothing": 404} {
		if status, text := s.press(t, path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
	if status := s.hook(t, "evt_1", `{"type":"step_up.denied","data":{"id":"su_1","status":"denied"}}`, ""); status != http.StatusNoContent {
		t.Fatalf("webhook: %d", status)
	}
	onPage(t, s.page(t), "It was refused on the phone.", "Signature verified", "whsec "+s.keyID, "webhook-signature", "&#34;status&#34;: &#34;denied&#34;")
}

// What the bank shows of a step-up is what a verified webhook of that step-up says, and of a press what the API answers.
func TestDemoPageTellsHowItEnded(t *testing.T) {
	const person = `"identity":{"nric":"S1234567D"}`
	for _, row := range []struct{ name, status, more, want string }{
		{"approved", "approved", person, "S1234567D confirmed it on the phone."},
		{"expired", "expired", `"reason":{"code":"expired"}`, "Nobody answered in time."},
		{"unknown", "unknown", `"reason":{"code":"result_lost"}`, "The step-up is unknown (result_lost)."},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := openStreet(t)
			s.answer(http.StatusCreated, `{"id":"su_1","status":"pending",`+expires+`}`)
			_, page := s.press(t, "/transfer")
			onPage(t, page, "Waiting for the phone")
			event := func(id string) string {
				return fmt.Sprintf(`{"type":"step_up.%s","data":{"id":%q,"status":%q,%s}}`, row.status, id, row.status, row.more)
			}
			s.hook(t, "evt_1", event("su_another"), "")
			onPage(t, s.page(t), "Waiting for the phone", "Signature verified")
			if status := s.hook(t, "evt_2", event("su_1"), " "); status != http.StatusUnauthorized {
				t.Errorf("forged: %d", status)
			}
			onPage(t, s.page(t), "Waiting for the phone", "Not accepted", "no signature matches", `<b class="good">verified</b>`)
			s.hook(t, "evt_3", event("su_1"), "")
			onPage(t, s.page(t), row.want, "Signature verified", `<code class="type">step_up.`+row.status, `<b class="bad">refused</b>`)
			for n := range keepLetters { // what it said counts also when its letter is gone
				s.hook(t, "evt_other_"+strconv.Itoa(n), event("su_another"), "")
			}
			onPage(t, s.page(t), row.want)
		})
	}

	s := openStreet(t)
	s.answer(http.StatusCreated, `{"id":"su_1","status":"pending",`+expires+`}`)
	s.press(t, "/transfer")
	s.answer(http.StatusTooManyRequests, `{"status":429,"code":"person_busy","detail":"A <b>prompt</b> is there."}`)
	_, page := s.press(t, "/transfer")
	onPage(t, page, "Not asked", "429 person_busy", "A &lt;b&gt;prompt&lt;/b&gt; is there.", "Waiting for the phone")
	s.hook(t, "evt_1", `{"type":"step_up.approved","data":{"id":"su_1","status":"approved"}}`, "")
	if page := s.page(t); strings.Contains(page, "person_busy</code>") {
		t.Error("what was refused stays when the other question has ended")
	}
	s.bank.url = "http://127.0.0.1:1"
	_, page = s.press(t, "/transfer")
	onPage(t, page, "Not asked", "The service does not answer.")
}

// Who presses and reloads at once has asked, and the page knows it.
func TestDemoPageLeftWhileAsking(t *testing.T) {
	s := openStreet(t)
	s.answer(http.StatusCreated, `{"id":"su_1","status":"pending",`+expires+`}`)
	gone, leave := context.WithCancel(t.Context())
	leave()
	demoSite{branch: s.branch}.pressTransfer(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, http.MethodPost, "/transfer", nil))
	onPage(t, s.page(t), "Waiting for the phone", "su_1")
}

func TestDemoPageIsClosedToOtherPages(t *testing.T) {
	s := openStreet(t)
	s.api = func(http.ResponseWriter) { t.Error("the API was asked") }
	for _, path := range []string{"/transfer", "/phone/0/approve"} {
		for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			if status, _ := s.press(t, path, header...); status != http.StatusForbidden {
				t.Errorf("%s with %v: %d", path, header, status)
			}
		}
	}
	for path, kind := range map[string]string{"/": "text/html", "/style.css": "text/css", "/script.js": "text/javascript"} {
		res, err := http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		h := res.Header
		if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "nonce") {
			t.Errorf("%s: CSP %q", path, csp)
		}
		if !strings.HasPrefix(h.Get("Content-Type"), kind) || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", path, res.StatusCode, h)
		}
	}
}

// Only what has changed is sent again, so that nothing moves under somebody's finger.
func TestDemoPageEvents(t *testing.T) {
	s := openStreet(t)
	res, err := http.Get(s.url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	stream := bufio.NewScanner(res.Body)
	next := func() (parts []string, f frame) {
		t.Helper()
		for stream.Scan() {
			if text, ok := strings.CutPrefix(stream.Text(), "data: "); ok {
				if err := json.Unmarshal([]byte(text), &f); err != nil {
					t.Fatal(err)
				}
				for _, name := range regions {
					if _, ok := f.Parts[name]; ok {
						parts = append(parts, name)
					}
				}
				return parts, f
			}
		}
		t.Fatalf("the stream ended: %v", stream.Err())
		return nil, f
	}
	parts, f := next()
	if !slices.Equal(parts, regions) || time.Since(time.UnixMilli(f.Now)).Abs() > 5*time.Second {
		t.Errorf("first came %v at %d", parts, f.Now)
	}
	s.stage.say("bank", "does <something>")
	if parts, f = next(); !slices.Equal(parts, []string{"trail"}) || !strings.Contains(f.Parts["trail"], "does &lt;something&gt;") {
		t.Errorf("then came %v: %s", parts, f.Parts["trail"])
	}
	if _, err := s.client.Authenticate(t.Context(), ciba.Request{LoginHint: customer}); err != nil {
		t.Fatal(err)
	}
	s.stage.say("bank", "sees the question")
	for !slices.Contains(parts, "phone") {
		parts, f = next()
	}
	if slices.Contains(parts, "bank") || !strings.Contains(f.Parts["phone"], `data-until="`) || strings.Contains(f.Parts["phone"], "4:5") {
		t.Errorf("with the question came %v: %s", parts, f.Parts["phone"])
	}
}

// The trail is in the order in which things happened, whoever tells of them first, and counts polls that brought nothing.
func TestDemoTrail(t *testing.T) {
	s := openStreet(t)
	s.stage.title("one")
	began := time.Now()
	at := func(ms int, text string, waiting bool) {
		s.stage.tell(happening{At: began.Add(time.Duration(ms) * time.Millisecond), Who: "provider", Text: text, Waiting: waiting})
	}
	at(3000, "poll 3", true)
	at(1000, "poll 1", true)
	at(2000, "poll 2", true)
	tell := func() (all []string) {
		acts, _ := s.stage.watch()
		for _, l := range actViews(acts)[0].Lines {
			all = append(all, l.Text)
		}
		return all
	}
	if got := tell(); !slices.Equal(got, []string{"poll 1", "poll 2", "poll 3"}) {
		t.Errorf("three polls: %q", got)
	}
	at(4000, "poll 4", true)
	at(5000, "an answer", false)
	at(500, "the question", false)
	if got := tell(); !slices.Equal(got, []string{"the question", "poll 1", "asked 2 more times: not answered yet", "poll 4", "an answer"}) {
		t.Errorf("four polls: %q", got)
	}
	for range 2 * keepLines {
		at(6000, "more", false)
	}
	for range 2 * keepActs {
		s.stage.title("another")
	}
	at(0, "the last", false)
	acts, _ := s.stage.watch()
	if len(acts) != keepActs || !slices.Equal(tell(), []string{"the last"}) {
		t.Errorf("%d acts, the last has %q", len(acts), tell())
	}
}
