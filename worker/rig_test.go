package worker

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
	"stepup/worker/redistest"
)

var redisAddr string // of the package's redis-server

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "stepup-redis")
	if err != nil {
		panic(err)
	}
	addr, stop, err := redistest.Run(dir)
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	redisAddr = addr
	code := m.Run()
	stop()
	os.RemoveAll(dir)
	os.Exit(code)
}

// script is a Provider that answers from a list, one entry a poll, and keeps a
// ledger of what it was asked.
type scripted struct {
	mu      sync.Mutex
	asks    []Question
	askErr  error
	expires time.Duration
	answers []any         // error, Identity, or func(Asked) (Identity, error); the last one repeats
	holds   time.Duration // how long an answer takes
	unsent  bool          // all that time goes by before the provider is asked
	polls   []time.Time
	running int
	overlap int
	cut     int // polls that the worker gave up
}

func (p *scripted) Check(q Question) []ciba.FieldError {
	if q.LoginHint == "" {
		return []ciba.FieldError{{Field: "login_hint", Message: "is missing"}}
	}
	return nil
}

func (p *scripted) Ask(_ context.Context, q Question) (Asked, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asks = append(p.asks, q)
	if p.askErr != nil {
		return Asked{}, p.askErr
	}
	return Asked{ID: "auth-req-secret", Expires: time.Now().Add(p.expires)}, nil
}

func (p *scripted) Answer(ctx context.Context, a Asked) (Identity, error) {
	p.mu.Lock()
	if p.running++; p.running > 1 {
		p.overlap++
	}
	p.polls = append(p.polls, time.Now())
	next := p.answers[0]
	if len(p.answers) > 1 {
		p.answers = p.answers[1:]
	}
	holds, unsent := p.holds, p.unsent
	p.mu.Unlock()
	if holds > 0 { // in bubbles only
		held := time.NewTimer(holds)
		defer held.Stop()
		select {
		case <-held.C:
		case <-ctx.Done():
			next = &ciba.Ambiguous{}
			p.mu.Lock()
			p.cut++
			p.mu.Unlock()
		}
	}
	p.mu.Lock()
	p.running--
	p.mu.Unlock()
	switch v := next.(type) {
	case *ciba.Pending:
		if unsent {
			holds = 0
		}
		return Identity{}, &ciba.Pending{Detail: v.Detail, Held: holds}
	case error:
		return Identity{}, v
	case Identity:
		return v, nil
	case func(Asked) (Identity, error):
		return v(a)
	}
	panic("scripted: unknown answer")
}

// times is when the provider was polled.
func (p *scripted) times() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.polls)
}

// overlaps is how many polls began while another one ran.
func (p *scripted) overlaps() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overlap
}

// cuts is how many polls the worker gave up while they were held.
func (p *scripted) cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// pushes is how many questions reached the phone.
func (p *scripted) pushes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asks)
}

func someone() Identity {
	nric := "S1234567D"
	return Identity{Subject: "s=S1234567D", Bound: true, NRIC: &nric, AMR: []string{}, Fingerprint: [32]byte{1}}
}

// received is one webhook that came in.
type received struct {
	at   time.Time
	id   string
	body []byte
	event
}

// receiver is a bank's endpoint: an http.RoundTripper in the process, so that it
// works inside a bubble. It verifies every signature.
type receiver struct {
	t       testing.TB
	secrets []webhook.Secret

	mu     sync.Mutex
	status []int // one an attempt; 200 when used up
	header http.Header
	got    []received
	arrive chan struct{}
}

func (r *receiver) RoundTrip(q *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(q.Body)
	q.Body.Close()
	if err := webhook.Verify(q.Header, body, webhook.Keys(r.secrets), time.Now()); err != nil {
		r.t.Errorf("webhook does not verify: %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := received{at: time.Now(), id: q.Header.Get("webhook-id"), body: body}
	if err := json.Unmarshal(body, &rec.event); err != nil {
		r.t.Errorf("webhook body: %v", err)
	}
	r.got = append(r.got, rec)
	status := http.StatusOK
	if len(r.status) > 0 {
		status, r.status = r.status[0], r.status[1:]
	}
	select {
	case r.arrive <- struct{}{}:
	default:
	}
	header := r.header
	if header == nil {
		header = http.Header{}
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: q}, nil
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

// rig is a worker with a scripted provider and a receiver.
type rig struct {
	*Worker
	t        testing.TB
	provider *scripted
	receiver *receiver
	rdb      redis.UniversalClient
	set      Settings
	stop     func()

	cut     *cut
	named   *named
	another func() *rig     // a second worker on the same Redis, provider and receiver
	beside  func(Role) *rig // the same in another role
}

// newRig starts a worker on the Redis that dial names. change may alter options and settings.
func newRig(t testing.TB, o redis.Options, change func(*Options, *Settings)) *rig {
	t.Helper()
	o.MaxRetries, o.Protocol = -1, 2
	o.PoolSize = 64
	o.MaintNotificationsConfig = noMaintenance()
	secrets, err := webhook.ParseSecrets([]byte(webhook.NewSecret()))
	if err != nil {
		t.Fatal(err)
	}
	seal, err := ParseSealKeys(NewSealKeys())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, provider: &scripted{expires: 5 * time.Minute, answers: []any{&ciba.Pending{}}}}
	r.receiver = &receiver{t: t, secrets: secrets, arrive: make(chan struct{}, 100)}
	r.set = Settings{
		Providers: map[string]ProviderSettings{"singpass": {Provider: r.provider, Interval: 5 * time.Second}},
		Callers: map[string]Caller{
			"bank": {Providers: []string{"singpass"}, MayList: true, Webhooks: []Webhook{{Name: "ledger", Events: []string{"step_up.*"},
				Endpoint: webhook.Endpoint{URL: "https://bank.example/hook", Secrets: secrets}}}},
			"other": {Providers: []string{"singpass"}},
		},
		Sealer: seal, Sender: &webhook.Sender{Client: &http.Client{Transport: r.receiver}, Timeout: 15 * time.Second},
		PersonInFlight: 1, PersonPerHour: 10, ResultTTL: 15 * time.Minute,
	}
	opts := Options{Shards: 2, MaxInFlight: 100, MaxInFlightTotal: 1000, Role: RoleAll, Log: testLog(t)}
	if change != nil {
		change(&opts, &r.set)
	}
	r.start(o, opts)
	return r
}

// start runs a worker with clients of its own.
func (r *rig) start(o redis.Options, opts Options) {
	t := r.t
	r.cut = &cut{}
	client := func() redis.UniversalClient {
		c := redis.NewClient(&o)
		c.AddHook(r.cut)
		t.Cleanup(func() { c.Close() })
		return c
	}
	opts.Store, opts.Queue, opts.Lease = client(), client(), client()
	r.rdb = opts.Store
	r.named = &named{}
	r.rdb.AddHook(r.named)
	var err error
	if r.Worker, err = New(opts, r.set); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil && !r.cut.off.Load() {
			t.Errorf("Run: %v", err)
		}
	}()
	// Not a sync.OnceFunc: waiting for a mutex does not let a bubble's time go on.
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	r.beside = func(role Role) *rig {
		twin := &rig{t: t, provider: r.provider, receiver: r.receiver, set: r.set}
		opts := opts
		opts.Role = role
		twin.start(o, opts)
		return twin
	}
	r.another = func() *rig { return r.beside(opts.Role) }
}

// testLog shows the worker's log when a test fails.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// onRedis is a rig on the package's redis-server, in a database of its own.
func onRedis(t testing.TB, change func(*Options, *Settings)) *rig {
	t.Helper()
	dbMu.Lock()
	db := nextDB
	nextDB = (nextDB + 1) % 15 // 15 is for the store alone
	dbMu.Unlock()
	c := redis.NewClient(&redis.Options{Addr: redisAddr, DB: db})
	defer c.Close()
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return newRig(t, redis.Options{Addr: redisAddr, DB: db}, change)
}

var (
	dbMu   sync.Mutex
	nextDB int
)

// ask creates a step-up for a hint.
func (r *rig) ask(key, hint string) (StepUp, error) {
	return r.Ask(r.t.Context(), Request{Caller: "bank", IdempotencyKey: key, Provider: "singpass",
		Question: Question{Scope: "openid", LoginHint: hint}, Reference: "ref-" + key, Metadata: map[string]string{"k": "v"}})
}

// asked is ask where it must succeed.
func (r *rig) asked(key, hint string) StepUp {
	r.t.Helper()
	v, err := r.ask(key, hint)
	if err != nil {
		r.t.Fatalf("Ask: %v", err)
	}
	return v
}

// until waits for a condition of the real world.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			r.t.Fatalf("never happened: %s", what)
		}
	}
}

// settledAs waits for the final state and the given number of webhooks.
func (r *rig) settledAs(id string, want State, hooks int) StepUp {
	r.t.Helper()
	var v StepUp
	r.until(string(want)+" and its webhooks", func() bool {
		var err error
		if v, err = r.Show(r.t.Context(), "bank", id); err != nil {
			r.t.Fatalf("Show: %v", err)
		}
		return v.Status.Final() && len(r.receiver.all()) >= hooks
	})
	if v.Status != want {
		r.t.Fatalf("status %s, want %s (%+v)", v.Status, want, v.Reason)
	}
	return v
}
