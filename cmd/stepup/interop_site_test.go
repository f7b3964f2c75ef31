package main_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba/cibatest/peers"
	"stepup/worker/api/apitest"
	"stepup/worker/redistest"
)

// site is one installation: a folder, a Redis, the providers, the bank's inbox and a running `stepup serve`.
type site struct {
	dir       string
	key       string   // of the caller
	secrets   []string // of its webhook, all active
	public    string   // what verifies the webhook's v1a signatures
	receiver  []byte   // the private key set of who has encrypted webhooks; nil: nobody has
	redis     *redis.Client
	providers map[string]*peers.Provider // by name: the content encryption of its ID tokens, in lower case
	poll      string                     // the setting
	inbox     mailbox
	serve     *serving

	mu    sync.Mutex
	words map[string]string // must never be found in the clear -> what they are
}

// startSite does what an operator does, in that order: keys, secrets, configuration, check, serve.
func startSite(t *testing.T, contents ...string) *site {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is not installed; `make test` installs it, or: apt-get install curl")
	}
	s := newSite(t)
	s.makeReceiver(t)
	for _, content := range contents {
		s.providers[strings.ToLower(content)] = peers.StartProvider(t, peers.ProviderOptions{
			ClientID: "bank", ClientJWKS: s.read(t, "secrets/public.jwks.json"), Content: content, ExpiresIn: 30 * time.Second,
		})
	}
	s.open(t)
	return s
}

// newSite is a site with its keys and secrets, and nothing else yet.
func newSite(t *testing.T) *site {
	t.Helper()
	peers.Need(t)
	s := &site{dir: t.TempDir(), words: map[string]string{}, providers: map[string]*peers.Provider{}, poll: "{interval: 1s}"}
	s.makeSecrets(t)
	return s
}

// open starts what is around the service, and the service.
func (s *site) open(t *testing.T) {
	t.Helper()
	at := redistest.Start(t)
	s.redis = redis.NewClient(&redis.Options{Addr: at})
	t.Cleanup(func() { s.redis.Close() })
	bank := httptest.NewServer(&s.inbox)
	t.Cleanup(bank.Close)
	s.write(t, "stepup.yaml", s.configuration(at, bank.URL))
	good := fmt.Sprintf("good: %d provider", len(s.providers))
	if said := s.stepup(t, "check", "--online", "--config", "stepup.yaml"); !strings.Contains(said, good) || !strings.Contains(said, ", 1 caller") {
		t.Errorf("stepup check said:\n%s", said)
	}
	s.serve = serve(t, s.dir)
}

func (s *site) makeSecrets(t *testing.T) {
	t.Helper()
	s.stepup(t, "keygen", "--out", "secrets")
	lines := strings.Fields(s.stepup(t, "apikey"))
	if len(lines) != 2 {
		t.Fatalf("stepup apikey printed %d words, want a key and its line", len(lines))
	}
	s.key = lines[0]
	s.write(t, "secrets/bank.apikeys", lines[1]+"\n")
	for _, name := range []string{"secrets/old.whsec", "secrets/new.whsec"} {
		s.stepup(t, "keygen", "--webhook", name)
		s.secrets = append(s.secrets, strings.TrimSpace(string(s.read(t, name))))
	}
	told := strings.Fields(s.stepup(t, "keygen", "--webhook", "secrets/next.whsk", "--kind", "ed25519"))
	s.public = told[len(told)-1]
	private := string(s.read(t, "secrets/next.whsk"))
	s.write(t, "secrets/ledger.whsec", private+strings.Join(s.secrets, "\n")+"\n")
	s.watchFor(private[strings.Index(private, "whsk_")+len("whsk_"):len(private)-1], "a webhook's private key")

	s.watchFor(s.key, "the API key")
	for _, secret := range s.secrets {
		s.watchFor(strings.TrimPrefix(secret, "whsec_"), "a webhook secret")
	}
	for line := range strings.Lines(string(s.read(t, "secrets/seal.keys"))) {
		words := strings.Fields(line)
		s.watchFor(words[len(words)-1], "a seal key")
	}
	var set struct{ Keys []struct{ D string } }
	if err := json.Unmarshal(s.read(t, "secrets/private.jwks.json"), &set); err != nil || len(set.Keys) != 2 {
		t.Fatalf("private.jwks.json: %d keys: %v", len(set.Keys), err)
	}
	for _, k := range set.Keys {
		s.watchFor(k.D, "a private key")
	}
}

// makeReceiver makes the keys of a receiver that has encrypted webhooks beside the plain ones.
func (s *site) makeReceiver(t *testing.T) {
	t.Helper()
	said := s.stepup(t, "keygen", "--webhook", "secrets/receiver.jwks.json", "--kind", "encryption")
	s.receiver = s.read(t, "secrets/receiver.jwks.json")
	s.write(t, "secrets/public.receiver.jwks.json", said[strings.Index(said, "{"):])
	var set struct{ Keys []struct{ D string } }
	if err := json.Unmarshal(s.receiver, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("receiver.jwks.json: %d keys: %v", len(set.Keys), err)
	}
	s.watchFor(set.Keys[0].D, "the receiver's private key")
}

func (s *site) configuration(redisAt, bankURL string) string {
	var c strings.Builder
	fmt.Fprintf(&c, `development: true
listen: {api: "127.0.0.1:0", admin: "127.0.0.1:0"}
redis: {url: "redis://%s/0"}
limits: {per_caller: {rate: 1000, burst: 1000}} # those of a test that is held up arrive all at once
seal: {keys_file: secrets/seal.keys}
callers:
  bank:
    api_keys_file: secrets/bank.apikeys
    providers: [%s]
    webhooks:
      - {name: ledger, url: "%s/hooks/stepup", secrets_file: secrets/ledger.whsec}
`, redisAt, strings.Join(s.names(), ", "), bankURL)
	if s.receiver != nil {
		fmt.Fprintf(&c, `      - {name: sealed, url: "%s/hooks/sealed", secrets_file: secrets/ledger.whsec, content: encrypted, encrypt_to_file: secrets/public.receiver.jwks.json}
`, bankURL)
	}
	c.WriteString("webhooks: {allow_networks: [\"127.0.0.0/8\"]}\nproviders:\n")
	for _, name := range s.names() {
		fmt.Fprintf(&c, `  %s:
    issuer: %s
    profile: standard
    client_id: bank
    keys_file: secrets/private.jwks.json
    id_token: encrypted
    bind: subject
    poll: %s
`, name, s.providers[name].Issuer, s.poll)
	}
	return c.String()
}

func (s *site) names() (all []string) {
	for name := range s.providers {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// stepup runs a command in the folder, to its end, and returns what it printed.
func (s *site) stepup(t *testing.T, args ...string) string {
	t.Helper()
	cmd := program(t, s.dir, args...)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("stepup %s: %v\n%s", args[0], err, said)
	}
	return string(said)
}

// program is the test binary as `stepup`, without the settings that a developer may have around.
func program(t *testing.T, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "stepup", args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "STEPUP_") })
	return cmd
}

func (s *site) read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func (s *site) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// person is somebody to ask, once, about something that nobody else is asked about.
type person struct {
	*site
	provider               string
	peer                   *peers.Provider
	hint, reference, order string
	posts                  <-chan post // webhooks about it

	asked map[string]any // beyond the usual
	first answer         // to the first create
	id    string         // of the step-up
}

func (s *site) person(t *testing.T, provider string) *person {
	p := &person{
		site: s, provider: provider, peer: s.providers[provider],
		hint: rand.Text() + "@bank.example", reference: "ref-" + rand.Text(), order: "order-" + rand.Text(),
	}
	p.posts = s.inbox.about(p.reference)
	s.watchFor(p.hint, "the login hint of "+t.Name())
	s.watchFor(p.reference, "the reference of "+t.Name())
	s.watchFor(p.order, "the metadata of "+t.Name())
	return p
}

// create sends the same request, under the same Idempotency-Key, every time.
func (p *person) create(t *testing.T, more map[string]any) answer {
	t.Helper()
	body := map[string]any{
		"provider": p.provider, "login_hint": p.hint, "reference": p.reference, "metadata": map[string]string{"order": p.order},
	}
	for name, value := range more {
		body[name] = value
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	a := p.curl(t, "/v1/step-ups", "-H", "Content-Type: application/json", "-H", "Idempotency-Key: "+p.order, "-d", string(text))
	if p.first.status == 0 {
		p.first, p.asked = a, more
	}
	return a
}

// get fetches the step-up.
func (p *person) get(t *testing.T, query string) []byte {
	t.Helper()
	a := p.curl(t, "/v1/step-ups/"+p.id+query)
	if a.status != http.StatusOK {
		t.Fatalf("GET the step-up: status %d: %s", a.status, a.body)
	}
	return a.body
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// curl asks the service with the caller's key. It reads nobody's .curlrc and uses no proxy.
func (s *site) curl(t *testing.T, path string, args ...string) answer {
	t.Helper()
	args = append([]string{"-q", "--noproxy", "*", "-sS", "-i", "--raw", "--max-time", "30", "-H", "Authorization: Bearer " + s.key}, args...)
	cmd := exec.CommandContext(t.Context(), "curl", append(args, "http://"+s.serve.api+path)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl: %v: %s", err, said.String())
	}
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
	if err != nil {
		t.Fatalf("curl printed no HTTP answer: %v", err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("curl printed half an answer: %v", err)
	}
	method := http.MethodGet
	if slices.Contains(args, "-d") {
		method = http.MethodPost
	}
	q, err := http.NewRequest(method, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := apitest.CheckAnswer(q, r.StatusCode, r.Header, body); err != nil {
		t.Errorf("%s %s: not as documented: %v", method, path, err)
	}
	return answer{r.StatusCode, r.Header, body}
}

// post is one webhook as it came.
type post struct {
	header http.Header
	body   []byte
}

// mailbox is the bank's receiver: it takes everything and sorts it by the reference that the bank gave, what is encrypted by
// the step-up's id.
type mailbox struct {
	mu    sync.Mutex
	boxes map[string]chan post
}

func (m *mailbox) about(reference string) chan post {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boxes == nil {
		m.boxes = map[string]chan post{}
	}
	if m.boxes[reference] == nil {
		m.boxes[reference] = make(chan post, 100)
	}
	return m.boxes[reference]
}

func (m *mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, "not read", http.StatusBadRequest)
		return
	}
	var event struct {
		Data struct{ ID, Reference, Encrypted string }
	}
	_ = json.Unmarshal(body, &event) // what cannot be read has no reference, and is found at the end
	about := event.Data.Reference
	if event.Data.Encrypted != "" {
		about = event.Data.ID
	}
	m.about(about) <- post{r.Header.Clone(), body}
	w.WriteHeader(http.StatusNoContent)
}

// left counts the webhooks that nobody has taken out.
func (m *mailbox) left() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, box := range m.boxes {
		n += len(box)
	}
	return n
}

// await asks until ok says yes.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
