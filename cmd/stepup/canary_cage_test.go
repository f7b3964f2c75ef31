package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"stepup/ciba/cibatest"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
	"stepup/worker/redistest"
)

// The places that words are looked for in. Words that belong to a place are told of it by its name.
const (
	inLog      = "the log"
	inSpans    = "the spans"
	inCounts   = "the metrics"
	inPage     = "/metrics"
	inCommands = "the commands to Redis"
	inKeys     = "Redis"
	inAOF      = "Redis's append-only file"
	inRDB      = "Redis's dump"
	inTasks    = "what asynq shows"
	inProblems = "the API's refusals"
	inAnswers  = "the API's answers"
	inAdmin    = "the operators' pages"
	inCheck    = "what check prints"
	inAudit    = "the audit log"
	inProvider = "the requests to the provider"
	inFull     = "the full webhooks"
	inBare     = "the webhooks without personal data"
	inSealed   = "the encrypted webhooks"
)

// mine is where a caller finds the data of its own step-ups.
var mine = []string{inAnswers, inFull}

// cage is a whole service with a unique word in every place that is personal or secret, and ears at every place that
// something could come out of.
type cage struct {
	canaries
	*world
	node      *redistest.Node
	redisDir  string
	password  string // of Redis
	bank      bank
	singpass  *phones
	standard  *phones
	late      *phones // its keys cannot be fetched at first
	keysDown  sync.WaitGroup
	telemetry *collector
	receivers *receivers

	answers, problems, provider, commands, checked, admins logText
}

const cageConfig = `development: true
listen: {api: "%[1]s", admin: "%[2]s", admin_token_file: admin.token}
redis: {url: "redis://%[3]s/0", password_file: redis.password, shards: 2}
seal: {keys_file: seal.keys}
worker: {max_in_flight: 1000, max_in_flight_total: 1000}
providers:
  singpass: {issuer: "%[4]s", profile: singpass, client_id: demo-bank, keys_file: private.jwks.json, poll: {interval: 1s}}
  standard: {issuer: "%[5]s", profile: standard, client_id: demo-bank, keys_file: private.jwks.json, evidence: true, poll: {interval: 1s}}
  late: {issuer: "%[6]s", profile: singpass, client_id: demo-bank, keys_file: private.jwks.json, poll: {interval: 1s}}
callers:
  bank:
    api_keys_file: bank.apikeys
    providers: [singpass, standard, late]
    may_list: true
    webhooks:
      - {name: ledger, url: "%[7]s/full", secrets_file: ledger.whsec}
      - {name: bare, url: "%[7]s/bare", secrets_file: ledger.whsec, content: reference}
      - {name: sealed, url: "%[7]s/sealed", secrets_file: ledger.whsec, content: encrypted, encrypt_to_file: receiver.jwks.json}
      - {name: queue, pull: true}
limits:
  per_person: {in_flight: 1, per_hour: 1000}
  per_caller: {rate: 5000, burst: 5000}
audit_file: audit.jsonl
telemetry: {otlp_endpoint: "%[8]s"}
`

// openCage starts everything.
func openCage(t *testing.T) *cage {
	t.Helper()
	c := &cage{canaries: canaries{words: map[string]canary{}}, redisDir: t.TempDir(), telemetry: startCollector(t)}
	c.world = &world{dir: t.TempDir(), log: &logText{}, hup: make(chan os.Signal), ended: make(chan error, 1)}
	if _, err := newKeys(c.dir); err != nil {
		t.Fatal(err)
	}
	c.keysDown.Add(1)
	c.singpass = startPhones(t, c.dir, func(p *phones, _ *cibatest.Config) { p.watch = c.listen })
	c.standard = startPhones(t, c.dir, func(p *phones, cfg *cibatest.Config) { p.watch, cfg.Standard = c.listen, true })
	c.late = startPhones(t, c.dir, func(p *phones, _ *cibatest.Config) {
		p.watch = func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
			if r.URL.Path == "/.well-known/keys" {
				c.keysDown.Wait()
			}
			c.listen(w, r, next)
		}
	})
	c.receivers = &receivers{plans: map[string][]http.HandlerFunc{}}
	hooks := httptest.NewServer(c.receivers)
	t.Cleanup(hooks.Close)
	c.secrets(t)
	c.startRedis(t)
	base := freePorts(t, 2)
	apiAddr, adminAddr := fmt.Sprintf("127.0.0.1:%d", base), fmt.Sprintf("127.0.0.1:%d", base+1)
	write(t, c.dir, configFile, fmt.Sprintf(cageConfig, apiAddr, adminAddr, c.node.Addr, c.singpass.url, c.standard.url, c.late.url, hooks.URL, c.telemetry.url))
	c.bank.url, c.admin = "http://"+apiAddr, "http://"+adminAddr

	ctx, stop := context.WithCancel(t.Context())
	c.stop = stop
	t.Cleanup(stop)
	s := &service{path: filepath.Join(c.dir, configFile), role: worker.RoleAll, log: c.debug(), reload: c.hup}
	go func() { c.ended <- s.run(ctx) }()
	eventually(t, "the service is ready", func() bool { return c.status("/readyz") == http.StatusOK })
	return c
}

// debug is the service's log, with everything that it can say.
func (c *cage) debug() *slog.Logger {
	return slog.New(newQuiet(slog.NewJSONHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// secrets writes the secret files, and notes what is in them.
func (c *cage) secrets(t *testing.T) {
	t.Helper()
	key, line := api.NewAPIKey()
	c.bank.key = c.add(key, "an API key")
	secret := webhook.NewSecret()
	c.add(strings.TrimPrefix(secret, "whsec_"), "a webhook secret")
	token := c.add("operators-"+rand.Text(), "the operators' token")
	c.password = c.add("redis-"+rand.Text(), "Redis's password")
	opener, public := webhook.NewEncryptionKey()
	for name, content := range map[string]string{apiKeysFile: line, webhookFile: secret, "admin.token": token, "redis.password": c.password, "receiver.jwks.json": public} {
		write(t, c.dir, name, content+"\n")
	}
	c.add(strings.TrimPrefix(line, "sha256:"), "the hash of an API key")
	for line := range strings.Lines(c.read(t, sealFile)) {
		if words := strings.Fields(line); words[0] != "#" {
			c.add(words[len(words)-1], "a seal key")
		}
	}
	n := 0
	for _, set := range []string{c.read(t, privateFile), string(opener)} {
		var private struct{ Keys []struct{ D string } }
		if err := json.Unmarshal([]byte(set), &private); err != nil {
			t.Fatal(err)
		}
		for _, k := range private.Keys {
			c.add(k.D, "a private key")
			n++
		}
	}
	if n != 3 {
		t.Fatalf("%d private keys", n)
	}
}

func (c *cage) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// startRedis starts one that writes everything to disk as it is, and listens to all that it is told.
func (c *cage) startRedis(t *testing.T) {
	t.Helper()
	var err error
	c.node, err = redistest.RunNode(c.redisDir, "--requirepass", c.password, "--appendonly", "yes", "--appendfsync", "always",
		"--aof-use-rdb-preamble", "no", "--rdbcompression", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.node.Kill() })
	c.monitor(t)
}

// monitor writes down every command, with what scripts are given and what they do.
func (c *cage) monitor(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", c.node.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "AUTH %s\r\nMONITOR\r\n", c.password)
	go func() { _, _ = io.Copy(&c.commands, conn) }()
}

// listen notes what the provider is sent and what it hands out.
func (c *cage) listen(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "not read", http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	c.addToken(form.Get("client_assertion"), "a client assertion", inProvider)
	fmt.Fprintln(&c.provider, r.Method, r.URL, r.Header, form)
	copied := &copied{ResponseWriter: w}
	defer func() {
		var answer struct {
			Request string `json:"auth_req_id"`
			Access  string `json:"access_token"`
			ID      string `json:"id_token"`
		}
		if json.Unmarshal(copied.body.Bytes(), &answer) == nil {
			if len(answer.Request) >= 8 {
				c.add(answer.Request, "an auth_req_id", inProvider)
			}
			if answer.Access != "" {
				c.add(answer.Access, "an access token")
			}
			c.addToken(answer.ID, "an ID token")
		}
	}()
	next(copied, r)
}

type copied struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (c *copied) Write(b []byte) (int, error) {
	c.body.Write(b)
	return c.ResponseWriter.Write(b)
}

func (c *copied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// receivers are the bank's endpoints: they note what comes and answer the full one as planned for its reference.
type receivers struct {
	full, bare, sealed logText

	mu    sync.Mutex
	plans map[string][]http.HandlerFunc
}

func (s *receivers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "not read", http.StatusBadRequest)
		return
	}
	switch r.URL.Path {
	case "/bare":
		fmt.Fprintln(&s.bare, r.Header, string(body))
		return
	case "/sealed":
		fmt.Fprintln(&s.sealed, r.Header, string(body))
		return
	}
	fmt.Fprintln(&s.full, r.Header, string(body))
	var event struct{ Data struct{ Reference string } }
	_ = json.Unmarshal(body, &event) // without a reference there is no plan
	s.mu.Lock()
	var now http.HandlerFunc
	if plan := s.plans[event.Data.Reference]; len(plan) > 0 {
		now, s.plans[event.Data.Reference] = plan[0], plan[1:]
	}
	s.mu.Unlock()
	if now != nil {
		now(w, r)
	}
}

// ask sends a request as the bank does, and notes what is answered.
func (c *cage) ask(t testing.TB, method, path, body string, headers ...string) heard {
	return c.askAs(t, c.bank, method, path, body, headers...)
}

func (c *cage) askAs(t testing.TB, b bank, method, path, body string, headers ...string) heard {
	h, err := b.try(t, method, path, body, headers...)
	if err != nil {
		t.Errorf("%s: %v", method, err)
		return h
	}
	to := &c.answers
	if h.status >= 300 {
		to = &c.problems
	}
	fmt.Fprintln(to, h.status, h.header, string(h.body))
	return h
}

// client is a connection of the test's own.
func (c *cage) client(t *testing.T) *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: c.node.Addr, Password: c.password})
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// lookIntoTasks notes all that asynq shows of its queues.
func (c *cage) tasks(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	in := asynq.NewInspectorFromRedisClient(rdb)
	var all []any
	keep := func(v any, err error) {
		t.Helper()
		if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	queues, err := in.Queues()
	keep(queues, err)
	for _, q := range queues {
		info, err := in.GetQueueInfo(q)
		keep(info, err)
		for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
			in.ListPendingTasks, in.ListActiveTasks, in.ListScheduledTasks, in.ListRetryTasks, in.ListArchivedTasks, in.ListCompletedTasks,
		} {
			tasks, err := list(q, asynq.PageSize(1000))
			keep(tasks, err)
		}
	}
	servers, err := in.Servers()
	keep(servers, err)
	entries, err := in.SchedulerEntries()
	keep(entries, err)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// keys is every key and what is in it.
func (c *cage) keys(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	ctx := t.Context()
	var all strings.Builder
	for _, key := range rdb.Keys(ctx, "*").Val() {
		dump, err := rdb.Dump(ctx, key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		fmt.Fprintln(&all, key, dump)
	}
	return all.String()
}

// files is everything of Redis's that a pattern names.
func (c *cage) files(t *testing.T, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.redisDir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(names), err)
	}
	var all strings.Builder
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	return all.String()
}
