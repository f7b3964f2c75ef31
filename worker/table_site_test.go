package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/ciba/jose"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/redistest"
)

// site is one worker on a real Redis, the simulated provider behind TLS, and a
// bank's endpoint. Every case of the tables has its own way to the provider: a
// client of its own under a provider name of its own.
type site struct {
	*worker.Worker
	op       *cibatest.Server
	provider *httptest.Server
	bank     *bank
	log      *logBook
	keys     *jose.Keys
	names    map[string]worker.ProviderSettings
}

func newSite(t *testing.T) *site {
	t.Helper()
	private, err := jose.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{bank: newBank(t), log: &logBook{}, names: map[string]worker.ProviderSettings{}}
	if s.keys, err = jose.ReadKeys(private); err != nil {
		t.Fatal(err)
	}
	s.provider = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.op.ServeHTTP(w, r) }))
	s.provider.StartTLS()
	t.Cleanup(s.provider.Close)
	s.op, err = cibatest.New(cibatest.Config{
		Issuer: s.provider.URL, ClientID: "bank", ClientJWKS: s.keys.Public(), Interval: 1, Manual: true, Detail: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client makes a case's way to the provider and lets the worker know it by name.
// With ready set its keys are fetched now, so that no answer has to wait for them.
func (s *site) client(t *testing.T, name string, r *road, ready bool) {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.provider.Certificate().Raw})
	plain := func() *http.Client {
		h, err := ciba.NewHTTPClient(ca)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.CloseIdleConnections)
		return h
	}
	r.good, r.bad = plain().Transport, plain().Transport
	r.bad.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, r.badAddr)
	}
	c, err := ciba.New(ciba.Config{
		Issuer: s.provider.URL, ClientID: "bank", Profile: ciba.Singpass, Keys: s.keys, Encrypted: true,
		Algs: jose.Algs{Signing: []string{"ES256"}, KeyManagement: []string{"ECDH-ES+A256KW"}, Content: []string{"A256CBC-HS512"}},
		HTTP: &http.Client{Transport: r}, TokenTimeout: r.patience, AuthTimeout: r.patience,
	})
	if err != nil {
		t.Fatal(err)
	}
	if ready {
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.names[name] = worker.ProviderSettings{Provider: worker.CIBA{Client: c}, Interval: 50 * time.Millisecond}
}

// start runs the worker until the test ends.
func (s *site) start(t *testing.T) {
	t.Helper()
	seal, err := worker.ParseSealKeys(worker.NewSealKeys())
	if err != nil {
		t.Fatal(err)
	}
	addr := redistest.Start(t)
	client := func() redis.UniversalClient {
		c := redis.NewClient(&redis.Options{
			Addr: addr, MaxRetries: -1, PoolSize: 64,
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	all := []string{}
	for name := range s.names {
		all = append(all, name)
	}
	s.Worker, err = worker.New(worker.Options{
		Store: client(), Queue: client(), Lease: client(), Shards: 2, MaxInFlight: 500, MaxInFlightTotal: 1000,
		Role: worker.RoleAll, Log: slog.New(slog.NewJSONHandler(s.log, nil)),
	}, worker.Settings{
		Providers: s.names,
		Callers: map[string]worker.Caller{"bank": {Providers: all, MayList: true, Webhooks: []worker.Webhook{{
			Name: "ledger", Events: []string{"step_up.*"}, Endpoint: webhook.Endpoint{URL: s.bank.server.URL + "/hook", Secrets: s.bank.secrets},
		}}}},
		Sealer:         seal,
		Sender:         &webhook.Sender{Client: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), Timeout: 15 * time.Second},
		PersonInFlight: 1, PersonPerHour: 10, ResultTTL: 15 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// ask creates a step-up at the case's provider; the reference finds it again.
func (s *site) ask(name, hint, key string) (worker.StepUp, error) {
	return s.Ask(context.Background(), worker.Request{Caller: "bank", IdempotencyKey: key, Provider: name,
		Question: worker.Question{LoginHint: hint}, Reference: key})
}

// pushed is the ledger's entry of a hint's only push.
func (s *site) pushed(hint string) (cibatest.Request, error) {
	l := s.op.Ledger()
	if n := l.PushesByHint[hint]; n != 1 {
		return cibatest.Request{}, fmt.Errorf("%d pushes, want 1", n)
	}
	for _, r := range l.Requests {
		if r.Hint == hint {
			return r, nil
		}
	}
	return cibatest.Request{}, errors.New("a push without its entry")
}

// hint is a person of a case's own.
func hint(n int) string { return fmt.Sprintf("0d5c2f6e-93a1-4c7b-8f1e-%012x", n) }

// road is what lies between a client and the provider. It counts what is sent.
type road struct {
	patience time.Duration // of the client; 0: as it comes
	fault    string        // "/token 2": the second token request finds the bad road
	badAddr  string        // where that leads
	keys     chan struct{} // if set, the key set does not arrive before this is closed
	good     http.RoundTripper
	bad      http.RoundTripper

	mu   sync.Mutex
	sent map[string]int // by path
}

func (r *road) RoundTrip(q *http.Request) (*http.Response, error) {
	r.mu.Lock()
	if r.sent == nil {
		r.sent = map[string]int{}
	}
	r.sent[q.URL.Path]++
	this := fmt.Sprint(q.URL.Path, " ", r.sent[q.URL.Path])
	r.mu.Unlock()
	if r.keys != nil && q.URL.Path == "/.well-known/keys" {
		select {
		case <-r.keys:
		case <-q.Context().Done():
			return nil, q.Context().Err()
		}
	}
	if this == r.fault {
		return r.bad.RoundTrip(q)
	}
	return r.good.RoundTrip(q)
}

func (r *road) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[path]
}

// closed is a loopback address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// hook is one webhook that came in.
type hook struct {
	ID   string
	Type string
	Data worker.StepUp
}

// bank is the receiver: it verifies every signature and keeps what came, by reference.
type bank struct {
	server  *httptest.Server
	secrets []webhook.Secret

	mu      sync.Mutex
	arrived *sync.Cond
	got     map[string][]hook
	bad     []error
	strays  int // requests to anywhere but the webhook's path
}

func newBank(t *testing.T) *bank {
	t.Helper()
	secrets, err := webhook.ParseSecrets([]byte(webhook.NewSecret()))
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{secrets: secrets, got: map[string][]hook{}}
	b.arrived = sync.NewCond(&b.mu)
	b.server = httptest.NewServer(b)
	t.Cleanup(b.server.Close)
	return b
}

func (b *bank) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.URL.Path != "/hook" {
		b.strays++
		return
	}
	m, err := webhook.Read(r, webhook.Keys(b.secrets), time.Now())
	h := hook{ID: m.ID}
	if err == nil {
		err = json.Unmarshal(m.Body, &h)
	}
	if err != nil || h.Data.Reference == nil {
		b.bad = append(b.bad, fmt.Errorf("webhook not understood: %w", err))
		return
	}
	b.got[*h.Data.Reference] = append(b.got[*h.Data.Reference], h)
	b.arrived.Broadcast()
}

// await waits for the first webhook of a reference.
func (b *bank) await(reference string) (hook, error) {
	late := false
	alarm := time.AfterFunc(10*time.Second, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.arrived.Broadcast()
	})
	defer alarm.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.got[reference]) == 0 {
		if late {
			return hook{}, errors.New("no webhook")
		}
		b.arrived.Wait()
	}
	return b.got[reference][0], nil
}

func (b *bank) count(reference string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got[reference])
}

// logBook keeps what the worker logs.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(bytes.TrimSpace(p)))
	return len(p), nil
}

// alarms are the lines that call for an operator, about one provider.
func (l *logBook) alarms(provider string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, `"alarm":true`) && strings.Contains(line, `"provider":"`+provider+`"`) {
			found = append(found, line)
		}
	}
	return found
}
