package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker/api"
)

// town is a world with several banks and providers: what happens between callers is seen here, over HTTP, with a real
// Redis and the simulated providers' own account of what reached them.
type town struct {
	*world
	banks     map[string]bank
	providers map[string]*phones
}

// plan is what towns differ in.
type plan struct {
	banks     []string // each may list, and has the one webhook
	providers []string
	limits    string // the section's lines
	redis     string // address; empty: a Redis of the town's own
}

// wide are limits that no test meets by accident.
const wide = `  per_person: {in_flight: 1, per_hour: 1000}
  per_caller: {rate: 5000, burst: 5000}
`

// beginTown serves a plan.
func beginTown(t *testing.T, p plan) *town {
	t.Helper()
	w := &town{banks: map[string]bank{}, providers: map[string]*phones{}}
	keys := map[string]string{}
	dir := t.TempDir()
	if _, err := newKeys(dir); err != nil {
		t.Fatal(err)
	}
	var section strings.Builder
	section.WriteString("providers:\n")
	for _, name := range p.providers {
		w.providers[name] = startPhones(t, dir, nil)
		fmt.Fprintf(&section, "  %s: {issuer: %q, profile: singpass, client_id: %s, keys_file: %q, poll: {interval: 1s}}\n",
			name, w.providers[name].url, demoClient, filepath.Join(dir, privateFile))
	}
	section.WriteString("callers:\n")
	for _, name := range p.banks {
		key, line := api.NewAPIKey()
		keys[name] = key
		write(t, dir, name+".apikeys", line+"\n")
		fmt.Fprintf(&section, "  %s: {api_keys_file: %q, providers: [%s], may_list: true, webhooks: [{name: ledger, url: \"INBOX\", secrets_file: %s}]}\n",
			name, filepath.Join(dir, name+".apikeys"), strings.Join(p.providers, ", "), webhookFile)
	}
	w.world = begin(t, func(yaml string) string {
		inbox := inboxURL.FindStringSubmatch(yaml)
		head, _, _ := strings.Cut(yaml, "providers:\n")
		if p.redis != "" {
			head = redisURL.ReplaceAllLiteralString(head, `url: "redis://`+p.redis+`/0"`)
		}
		return head + strings.ReplaceAll(section.String(), "INBOX", inbox[1]) + "limits:\n" + p.limits
	})
	for name, key := range keys {
		w.banks[name] = bank{url: w.bank.url, key: key}
	}
	go func() { // the banks' inbox takes all there is
		for {
			select {
			case <-w.came:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return w
}

var inboxURL = regexp.MustCompile(`url: "(http[^"]*/hooks/stepup)"`)

// phones is a simulated provider that counts what comes to /bc-auth, also what its ledger leaves out, and can hold it.
type phones struct {
	*cibatest.Server
	url   string
	asked atomic.Int64
	held  atomic.Pointer[chan struct{}]                                       // if set, /bc-auth is answered when it is closed
	watch func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) // if set, stands around every request
}

// startPhones serves a provider for the client whose public keys are in dir.
func startPhones(t *testing.T, dir string, edit func(*phones, *cibatest.Config)) *phones {
	t.Helper()
	public, err := os.ReadFile(filepath.Join(dir, publicFile))
	if err != nil {
		t.Fatal(err)
	}
	p := &phones{}
	srv := httptest.NewUnstartedServer(p)
	p.url = "http://" + srv.Listener.Addr().String()
	cfg := cibatest.Config{Issuer: p.url, ClientID: demoClient, ClientJWKS: public, Interval: 1, Manual: true, Detail: true}
	if edit != nil {
		edit(p, &cfg)
	}
	if p.Server, err = cibatest.New(cfg); err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return p
}

func (p *phones) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/bc-auth" {
		p.asked.Add(1)
		if held := p.held.Load(); held != nil {
			<-*held
		}
	}
	if p.watch != nil {
		p.watch(w, r, p.Server.ServeHTTP)
		return
	}
	p.Server.ServeHTTP(w, r)
}

// hold keeps what comes to /bc-auth until the returned function is called.
func (p *phones) hold() (letGo func()) {
	held := make(chan struct{})
	p.held.Store(&held)
	return func() { p.held.Store(nil); close(held) }
}

// pushes is how often a person's phone rang.
func (p *phones) pushes(hint string) int { return p.Ledger().PushesByHint[hint] }

// decide answers the prompt on a person's phone.
func (p *phones) decide(t *testing.T, hint string, how func(authReqID string) error) {
	t.Helper()
	for _, prompt := range p.Prompts() {
		if prompt.Hint == hint {
			if err := how(prompt.AuthReqID); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("nothing is on this phone")
}

// heard is an answer of the API, whole.
type heard struct {
	status int
	header http.Header
	body   []byte
}

// code is that of a problem.
func (h heard) code() string { return h.text("code") }

func (h heard) text(member string) string {
	var members map[string]any
	_ = json.Unmarshal(h.body, &members) // what is not JSON has no members
	text, _ := members[member].(string)
	return text
}

// retryAfter is 0 where the answer names none.
func (h heard) retryAfter() time.Duration {
	s, _ := strconv.Atoi(h.header.Get("Retry-After"))
	return time.Duration(s) * time.Second
}

// send is one request of a bank's. Headers are name and value pairs.
func (b bank) send(t testing.TB, method, path, body string, headers ...string) heard {
	t.Helper()
	h, err := b.try(t, method, path, body, headers...)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
	return h
}

func (b bank) try(t testing.TB, method, path, body string, headers ...string) (heard, error) {
	req, err := http.NewRequestWithContext(t.Context(), method, b.url+path, strings.NewReader(body))
	if err != nil {
		return heard{}, err
	}
	if b.key != "" {
		req.Header.Set("Authorization", "Bearer "+b.key)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := manyConns.Do(req)
	if err != nil {
		return heard{}, err
	}
	defer res.Body.Close()
	var all bytes.Buffer
	_, err = io.Copy(&all, res.Body)
	return heard{res.StatusCode, res.Header, all.Bytes()}, err
}

// manyConns keeps the connections of hundreds that ask at once.
var manyConns = &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200}}

// create asks for a step-up under a key.
func (b bank) create(t testing.TB, key, provider, hint string) heard {
	t.Helper()
	body := fmt.Sprintf(`{"provider":%q,"login_hint":%q}`, provider, hint)
	return b.send(t, http.MethodPost, "/v1/step-ups", body, "Idempotency-Key", key, "Content-Type", "application/json")
}

// created is create where it must succeed; it returns the id.
func (b bank) created(t testing.TB, key, provider, hint string) string {
	t.Helper()
	h := b.create(t, key, provider, hint)
	if h.status != http.StatusCreated {
		t.Fatalf("create: %d %s", h.status, h.body)
	}
	return h.text("id")
}

// endsAs waits for a step-up's final state.
func (b bank) endsAs(t testing.TB, id, want string) {
	t.Helper()
	if got, err := b.result(t.Context(), id); err != nil || got.Status != want {
		t.Errorf("%s ended as %s, %v; want %s", id, got, err, want)
	}
}
