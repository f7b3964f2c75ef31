package api_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/worker"
	"stepup/worker/api"
)

// service is a worker of two callers: each knows its own step-ups only.
type service struct {
	mu      sync.Mutex
	owned   map[string]string // step-up id -> caller
	asked   []worker.Request
	filters []worker.Filter
	err     error          // what every call answers, if set
	shown   *worker.StepUp // what a caller's own step-up looks like, if set
	queue   deliveries
	wait    func(context.Context, time.Duration) error
	seen    func(context.Context)
}

func newService() *service {
	return &service{owned: map[string]string{"su_00LEDGERAAAAAAAAAAAAAA": "ledger", "su_00CARDSAAAAAAAAAAAAAAA": "cards"}}
}

// pending is a step-up as a worker shows it.
func pending(id string) worker.StepUp {
	return worker.StepUp{ID: id, Status: worker.Pending, Provider: "singpass", Metadata: map[string]string{},
		CreatedAt: worker.Time{Time: time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC)}, Deliveries: []worker.DeliveryView{}}
}

func (s *service) find(caller, id string) (worker.StepUp, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return worker.StepUp{}, s.err
	}
	if s.owned[id] != caller {
		return worker.StepUp{}, &worker.Error{Code: "not_found", Detail: "no " + id}
	}
	if s.shown != nil {
		return *s.shown, nil
	}
	return pending(id), nil
}

func (s *service) Ask(ctx context.Context, r worker.Request) (worker.StepUp, error) {
	hints := 0
	for _, hint := range []string{r.Question.LoginHint, r.Question.LoginHintToken, r.Question.IDTokenHint} {
		if hint != "" {
			hints++
		}
	}
	if s.err == nil && hints != 1 {
		return worker.StepUp{}, &worker.Error{Code: worker.CodeInvalidRequest, Fields: []worker.FieldError{{Field: "login_hint", Message: "give one hint"}}}
	}
	s.mu.Lock()
	s.asked = append(s.asked, r)
	if s.seen != nil {
		s.seen(ctx)
	}
	if s.err == nil {
		s.owned["su_00NEWAAAAAAAAAAAAAAAAA"] = r.Caller
	}
	s.mu.Unlock()
	return s.find(r.Caller, "su_00NEWAAAAAAAAAAAAAAAAA")
}

func (s *service) Show(_ context.Context, caller, id string) (worker.StepUp, error) {
	return s.find(caller, id)
}

func (s *service) Wait(ctx context.Context, caller, id string, d time.Duration) (worker.StepUp, error) {
	v, err := s.find(caller, id)
	if err == nil && s.wait != nil {
		err = s.wait(ctx, d)
	}
	return v, err
}

func (s *service) List(_ context.Context, caller string, f worker.Filter) (worker.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filters = append(s.filters, f)
	page := worker.Page{}
	for id, owner := range s.owned {
		if owner == caller {
			page.StepUps = append(page.StepUps, pending(id))
		}
	}
	return page, s.err
}

func (s *service) Cancel(_ context.Context, caller, id string) (worker.StepUp, error) {
	return s.find(caller, id)
}

func (s *service) Redeliver(_ context.Context, caller, id string) (worker.StepUp, error) {
	return s.find(caller, id)
}

// bank is a Server, the keys of its callers and its log.
type bank struct {
	*service
	*api.Server
	h       http.Handler
	ledger  string // keys of its two callers
	cards   string
	callers *api.Callers
	log     *bytes.Buffer
}

func newBank(t testing.TB) *bank {
	t.Helper()
	b := &bank{service: newService(), log: &bytes.Buffer{}}
	var ledgerLine, cardsLine string
	b.ledger, ledgerLine = api.NewAPIKey()
	b.cards, cardsLine = api.NewAPIKey()
	b.callers = callers(t, map[string]api.Caller{
		"ledger": {Keys: keys(t, ledgerLine)},
		"cards":  {Keys: keys(t, cardsLine)},
	})
	b.Server = api.New(api.Options{
		Service:       b.service,
		Keys:          func(p string) ([]byte, bool) { return []byte(keySet(p)), true },
		ProviderNames: func() []string { return []string{"other", "singpass"} },
		WebhookKeys:   func() []byte { return []byte(webhookKeys) },
		Callers:       func() *api.Callers { return b.callers },
		Log:           slog.New(slog.NewJSONHandler(b.log, nil)),
	})
	b.h = b.Server.Handler(true)
	if t, ok := t.(*testing.T); ok { // a fuzz target has rules of its own, and no time for this
		b.h = b.checked(t, b.h)
	}
	return b
}

// webhookKeys are what receivers of webhooks verify with.
const webhookKeys = `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","use":"sig","alg":"EdDSA",` +
	`"kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}]}`

// keySet is what we publish for a provider.
func keySet(provider string) string {
	return `{"keys":[{"kty":"EC","use":"sig","kid":"` + provider + `","alg":"ES256","crv":"P-256","x":"AQ","y":"Ag"}]}`
}

func keys(t testing.TB, file string) []api.KeyHash {
	t.Helper()
	k, err := api.ParseAPIKeys([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func callers(t testing.TB, c map[string]api.Caller) *api.Callers {
	t.Helper()
	set, err := api.NewCallers(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// request is one by the ledger caller, ready to be spoilt.
func (b *bank) request(method, target, body string) *http.Request {
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, rd)
	r.Header.Set("Authorization", "Bearer "+b.ledger)
	if method == "POST" {
		r.Header.Set("Idempotency-Key", "k1")
		r.Header.Set("Content-Type", "application/json")
	}
	return r
}

func (b *bank) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	return w
}

const goodBody = `{"provider":"singpass","login_hint":"S1234567D"}`

// pipes is a listener without sockets, so that a whole server fits into a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	p.conns <- there
	return here
}

// serve runs h as cmd does, with the real time-outs, until the test ends.
func serve(t *testing.T, h http.Handler) (*pipes, *http.Client) {
	l := newPipes()
	srv := api.NewHTTPServer(h, slog.New(slog.DiscardHandler))
	go srv.Serve(l)
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil }}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		srv.Close()
	})
	return l, &http.Client{Transport: tr}
}
