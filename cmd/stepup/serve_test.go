package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
	"stepup/worker/redistest"
)

// world is a service on a real Redis with a provider and a receiver around it.
type world struct {
	dir   string
	bank  bank
	admin string
	op    *cibatest.Server
	log   *logText
	hup   chan os.Signal
	came  chan news

	client  *http.Client // that operators use; nil: http.DefaultClient
	environ []string
	stop    context.CancelFunc
	ended   chan error
}

// begin writes a configuration and serves it. Edit may change the text of the file first.
func begin(t *testing.T, edit func(yaml string) string) *world {
	t.Helper()
	w := prepare(t, edit)
	w.start(t, worker.RoleAll)
	return w
}

// prepare is begin without the service.
func prepare(t *testing.T, edit func(yaml string) string) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), log: &logText{}, hup: make(chan os.Signal), came: make(chan news, 16), ended: make(chan error, 1)}
	if _, err := newKeys(w.dir); err != nil {
		t.Fatal(err)
	}
	key, line := api.NewAPIKey()
	secret := webhook.NewSecret()
	keys, err := webhook.ParseKeys([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	op := w.provider(t)
	in := httptest.NewServer(&inbox{keys: keys, seen: map[string]bool{}, show: func(n news) { w.came <- n }})
	t.Cleanup(in.Close)
	base := freePorts(t, 2)
	apiAddr, adminAddr := fmt.Sprintf("127.0.0.1:%d", base), fmt.Sprintf("127.0.0.1:%d", base+1)
	yaml := fmt.Sprintf(demoConfig, apiAddr, adminAddr, op, in.URL)
	yaml = strings.Replace(yaml, "url: embedded", `url: "redis://`+redistest.Start(t)+`/0"`, 1)
	write(t, w.dir, configFile, edit(yaml))
	write(t, w.dir, apiKeysFile, line+"\n")
	write(t, w.dir, webhookFile, secret+"\n")
	write(t, w.dir, "admin.token", adminToken+"\n")
	w.bank, w.admin = bank{url: "http://" + apiAddr, key: key}, "http://"+adminAddr
	return w
}

const adminToken = "operators-only"

func asItIs(yaml string) string { return yaml }

// provider listens first, because its address is its name.
func (w *world) provider(t *testing.T) (issuer string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	public, err := os.ReadFile(filepath.Join(w.dir, publicFile))
	if err != nil {
		t.Fatal(err)
	}
	issuer = "http://" + srv.Listener.Addr().String()
	w.op, err = cibatest.New(cibatest.Config{Issuer: issuer, ClientID: demoClient, ClientJWKS: public, Interval: 1, Manual: true, Detail: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Config.Handler = w.op
	srv.Start()
	t.Cleanup(srv.Close)
	return issuer
}

func (w *world) start(t *testing.T, role worker.Role) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	s := &service{path: filepath.Join(w.dir, configFile), environ: w.environ, role: role, log: newLog(w.log, "json"), reload: w.hup}
	go func() { w.ended <- s.run(ctx) }()
	t.Cleanup(stop)
	eventually(t, "the service is ready", func() bool { return w.status("/readyz") == http.StatusOK })
}

func (w *world) status(path string) int {
	res, err := cmp.Or(w.client, http.DefaultClient).Get(w.admin + path)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// drain stops the service as SIGTERM would.
func (w *world) drain(t *testing.T) {
	t.Helper()
	w.stop()
	select {
	case err := <-w.ended:
		if err != nil {
			t.Fatalf("the drain ended with %v", err)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("the drain does not end")
	}
}

// logText is a log that tests read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logText) has(part string) bool { return strings.Contains(l.String(), part) }

// A step-up that is pending at SIGTERM is let go of and finished by the next process.
func TestServeDrain(t *testing.T) {
	w := begin(t, asItIs)
	asked, err := w.bank.ask(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	w.drain(t)
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(w.bank.url, "http://"), time.Second); err == nil {
		t.Error("the port is still open after the drain")
	}
	if !w.log.has("DEVELOPMENT MODE") || !w.log.has(`"stepup serves"`) || !w.log.has("appendonly") {
		t.Error("the start did not say what the operator must know")
	}

	prompts := w.op.Prompts()
	if len(prompts) != 1 {
		t.Fatalf("%d prompts on the phone, want 1", len(prompts))
	}
	if err := w.op.Approve(prompts[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	w.start(t, worker.RoleAll)
	got, err := w.bank.result(t.Context(), asked.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != "approved" || got.Identity.NRIC != person(1) {
		t.Errorf("ended as %s", got)
	}
	if n := <-w.came; n.err != nil || !bytes.Contains(n.body, []byte(asked.ID)) {
		t.Errorf("the webhook did not verify: %v", n.err)
	}
	if l := w.op.Ledger(); l.Pushes != 1 || l.Overlaps != 0 || l.Early != 0 {
		t.Errorf("pushes %d, overlapping polls %d, early polls %d; want 1, 0, 0", l.Pushes, l.Overlaps, l.Early)
	}
	w.drain(t)
}

// One process answers the banks, another polls and delivers.
func TestServeRoles(t *testing.T) {
	w := begin(t, asItIs)
	w.drain(t)
	w.start(t, worker.RoleAPI)
	other := *w
	other.admin = fmt.Sprintf("http://127.0.0.1:%d", freePorts(t, 1))
	other.environ, other.ended = []string{"STEPUP_LISTEN_ADMIN=" + strings.TrimPrefix(other.admin, "http://")}, make(chan error, 1)
	other.start(t, worker.RoleWorker)

	w.op.Script(person(1), cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}})
	asked, err := w.bank.ask(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.bank.result(t.Context(), asked.ID); err != nil || got.Status != "denied" {
		t.Errorf("ended as %s, %v", got, err)
	}
	if n := <-w.came; n.err != nil {
		t.Errorf("the webhook did not verify: %v", n.err)
	}
	w.drain(t)
	other.drain(t)
}

// SIGHUP with a broken file keeps what was in use and tells every mistake; with a good one it takes effect.
func TestReload(t *testing.T) {
	w := begin(t, asItIs)
	path := filepath.Join(w.dir, configFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := w.bank
	newKey, line := api.NewAPIKey()

	write(t, w.dir, apiKeysFile, "not a key\n")
	write(t, w.dir, configFile, string(good)+"nonsense: 1\n")
	w.hup <- os.Interrupt
	eventually(t, "the reload is refused", func() bool { return w.log.has("unknown member") || w.log.has("not a known member") })
	if !w.log.has(`"key":"callers.bank.api_keys_file"`) {
		t.Error("only one of two mistakes was told")
	}
	if w.log.has("not a key") {
		t.Error("the content of a secret file is in the log")
	}
	if _, err := old.ask(t.Context(), person(1)); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}

	write(t, w.dir, apiKeysFile, line+"\n")
	write(t, w.dir, configFile, string(good))
	w.hup <- os.Interrupt
	eventually(t, "the reload is done", func() bool { return w.log.has(`"msg":"reloaded"`) })
	if _, err := old.ask(t.Context(), person(2)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("the old key after its removal: %v, want 401", err)
	}
	if _, err := (bank{url: old.url, key: newKey}).ask(t.Context(), person(2)); err != nil {
		t.Errorf("the new key: %v", err)
	}
	w.drain(t)
}

// A reload keeps the clients of providers that have not changed, and with them what they know of the provider.
func TestReloadKeepsClients(t *testing.T) {
	dir := t.TempDir()
	if _, err := newKeys(dir); err != nil {
		t.Fatal(err)
	}
	_, line := api.NewAPIKey()
	write(t, dir, apiKeysFile, line)
	write(t, dir, webhookFile, webhook.NewSecret())
	path := filepath.Join(dir, configFile)
	yaml := fmt.Sprintf(demoConfig, "127.0.0.1:8080", "127.0.0.1:8081", "http://127.0.0.1:1", "http://127.0.0.1:2")
	write(t, dir, configFile, yaml)
	first, err := load(path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(string) string
		kept bool
	}{
		{"nothing", asItIs, true},
		{"paused", replaced("poll: {interval: 1s}", "paused: true"), true},
		{"interval", replaced("interval: 1s", "interval: 2s"), true},
		{"rate", replaced("poll: {interval: 1s}", "rate: {bc_auth: 7, token: 70}"), true},
		{"time-out", replaced("interval: 1s", "timeout: 20s"), false},
		{"client_id", replaced("demo-bank", "other-bank"), false},
		{"issuer", replaced("http://127.0.0.1:1", "http://127.0.0.1:3"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, dir, configFile, c.edit(yaml))
			second, err := load(path, nil, first)
			if err != nil {
				t.Fatal(err)
			}
			if kept := second.clients["singpass"] == first.clients["singpass"]; kept != c.kept {
				t.Errorf("kept: %v, want %v", kept, c.kept)
			}
			if rate := second.settings.Providers["singpass"].Rate; c.name == "rate" && rate != (worker.Rate{Ask: 7, Answer: 70}) {
				t.Errorf("the rate in use is %v", rate)
			}
		})
	}
	t.Run("keys", func(t *testing.T) {
		write(t, dir, configFile, yaml)
		if _, err := rotateKeys(dir, "sig"); err != nil {
			t.Fatal(err)
		}
		second, err := load(path, nil, first)
		if err != nil {
			t.Fatal(err)
		}
		if second.clients["singpass"] == first.clients["singpass"] {
			t.Error("the client with the old keys was kept")
		}
	})
}

func replaced(old, with string) func(string) string {
	return func(yaml string) string { return strings.Replace(yaml, old, with, 1) }
}

// A provider that is down stops neither the start nor readiness; a Redis that is down stops the start.
func TestServeWithoutProvider(t *testing.T) {
	w := begin(t, func(yaml string) string {
		before, after, _ := strings.Cut(yaml, "issuer: ")
		_, after, _ = strings.Cut(after, "\n")
		return before + "issuer: http://127.0.0.1:1\n" + after
	})
	eventually(t, "the log says so", func() bool { return w.log.has("provider is not ready") })
	if _, err := w.bank.ask(t.Context(), person(1)); err == nil || !strings.Contains(err.Error(), "provider_unavailable") {
		t.Errorf("asking: %v, want provider_unavailable", err)
	}
	w.drain(t)
}

func TestServeRefusesToStart(t *testing.T) {
	w := begin(t, asItIs)
	again := &service{path: filepath.Join(w.dir, configFile), role: worker.RoleAll, log: newLog(w.log, "json")}
	if err := again.run(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a second one on the same ports: %v", err)
	}
	w.drain(t)

	again.environ = []string{"STEPUP_REDIS_URL=redis://127.0.0.1:1/0"}
	if err := again.run(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redis.url: ") || exitCode(err) != exitFailed {
		t.Errorf("without Redis: %v", err)
	}
	again.environ = []string{"STEPUP_REDIS_SHARDS=3"}
	if err := again.run(t.Context()); err == nil || !strings.Contains(err.Error(), "shards") {
		t.Errorf("with another number of shards: %v", err)
	}
}

// With a token, operators show it; health checks need none.
func TestAdminToken(t *testing.T) {
	w := begin(t, replaced("listen: {", "listen: {admin_token_file: admin.token, "))
	for _, c := range []struct {
		path, user, password, bearer string
		refused                      bool
	}{
		{path: "/livez"},
		{path: "/readyz"},
		{path: "/", refused: true},
		{path: "/metrics", refused: true},
		{path: "/events", refused: true},
		{path: "/runbook", refused: true},
		{path: "/step-ups/su_00ABCDEFGHIJKLMNOPQRST", refused: true},
		{path: "/asynqmon/", refused: true},
		{path: "/asynqmon/api/queues", refused: true},
		{path: "/asynqmon/api/queues", user: "me", password: adminToken},
		{path: "/", bearer: "wrong", refused: true},
		{path: "/", user: "me", password: "wrong", refused: true},
		{path: "/", bearer: adminToken},
		{path: "/", user: "me", password: adminToken},
	} {
		req, err := http.NewRequest(http.MethodGet, w.admin+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		} else if c.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+c.bearer)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if (res.StatusCode == http.StatusUnauthorized) != c.refused {
			t.Errorf("%+v: %d", c, res.StatusCode)
		}
	}
	w.drain(t)
}
