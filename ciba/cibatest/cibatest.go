// Package cibatest is a simulated CIBA provider that speaks like Singpass and can misbehave on demand.
//
// A [Server] is an http.Handler: the caller listens, on an address of its choice, so nothing is reachable that the caller did not
// open. It checks client assertions as strictly as Singpass documents, hands tokens out exactly once, and keeps a ledger of what
// reached it (pushes, polls, overlaps, polls that came too early) against which a client's promises can be checked. A person
// answers on the phone page at /phone, a test through [Server.Approve] and [Server.Refuse], a load generator through login hints
// that script themselves ([ScriptOf]).
//
// It is for tests, demonstrations and benchmarks: it knows no real people, its ledger shows login hints to whoever can reach it,
// and anybody who can reach it can approve.
package cibatest

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says how the provider behaves. Only Issuer and the client's keys must be given.
type Config struct {
	// Issuer must be the URL under which the handler is reached, without a slash at the end. It stands in the discovery
	// document, in assertions (aud) and in ID tokens (iss).
	Issuer string
	// ClientID is the one client that is registered. Must be set unless AllowAnyClient.
	ClientID string
	// ClientJWKS or ClientJWKSURL: the client's public keys, given or fetched. A set that is fetched is kept for an hour and
	// fetched again when an assertion names a key id that it lacks.
	ClientJWKS    []byte
	ClientJWKSURL string
	// AllowAnyClient accepts every client_id. Without client keys it accepts every signature too, and needs Plain.
	AllowAnyClient bool
	// Audience that assertions must carry; empty: Issuer.
	Audience string
	// HTTP fetches ClientJWKSURL; nil: a client with a time-out of 3 s.
	HTTP *http.Client

	// ExpiresIn is the life of an auth_req_id; 0: 300 s.
	ExpiresIn time.Duration
	// Interval in seconds that the answer of /bc-auth names. 0: not sent, as Singpass does; polls are then judged by 5 s
	// (CIBA Core §7.3).
	Interval int
	// Hold keeps a poll open for this long when there is no answer yet (CIBA Core §10.1, long polling); 0: answers at once.
	Hold time.Duration
	// Strict answers slow_down to a poll that comes early, by the rule of [Ledger.Early].
	Strict bool
	// Manual leaves hints without a script to the person at the phone; otherwise their first poll gets the tokens.
	Manual bool

	// Plain hands out signed-only ID tokens with `sub` "u=<uuid>" (Singpass's profile `direct`); otherwise the signed token is
	// encrypted to the client and `sub` is "s=<NRIC>,u=<uuid>" (`direct_pii_allowed`).
	Plain bool
	// OmitNRIC leaves `s=` out of the encrypted token's sub too.
	OmitNRIC bool
	// Standard makes this a provider by CIBA Core rather than Singpass: any login_hint is known and is the `sub`,
	// login_hint_token and id_token_hint are read, requested_expiry is obeyed, the first of acr_values becomes acr.
	Standard bool
	// Algs replaces the algorithms that Singpass uses.
	Algs Algs
	// Skew is how far this provider's clock is ahead of the real one.
	Skew time.Duration

	// TrustAssertions skips the signature of client assertions, for benchmarks of a client's engine alone. Claims are judged.
	TrustAssertions bool
	// Detail keeps every request and every poll in the ledger and forgets none: tests want it, long benchmarks do not. Without
	// it the ledger has counts and lateness only, and finished requests are forgotten.
	Detail bool
	// Intercept, if set, sees every request first and returns true when it has answered. What it answers is not in the ledger.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
}

// Algs are JOSE algorithm names; an empty one keeps Singpass's: ES256, the `alg` of the client's encryption key, A256CBC-HS512.
type Algs struct{ Signing, KeyManagement, Content string }

// Server is the simulated provider. Its methods may be called at any time from any goroutine.
type Server struct {
	cfg     Config
	mux     *http.ServeMux
	clients *clientKeys
	seen    seen // jti values of assertions
	flows   flows
	ring    keyRing // signs ID tokens
	tally   atomic.Pointer[tally]
	outage  atomic.Pointer[Step]

	mu      sync.Mutex
	scripts map[string]Script
}

// New makes a provider. It does no I/O: a ClientJWKSURL is fetched when the first assertion arrives.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("simulated provider: %w", err)
	}
	cfg.ExpiresIn = cmp.Or(cfg.ExpiresIn, 300*time.Second)
	cfg.Audience = cmp.Or(cfg.Audience, cfg.Issuer)
	cfg.Algs.Signing = cmp.Or(cfg.Algs.Signing, "ES256")
	cfg.Algs.Content = cmp.Or(cfg.Algs.Content, "A256CBC-HS512")

	s := &Server{cfg: cfg, mux: http.NewServeMux(), scripts: map[string]Script{}}
	var err error
	if s.clients, err = newClientKeys(cfg); err != nil {
		return nil, fmt.Errorf("simulated provider: %w", err)
	}
	if err := s.ring.rotate(cfg.Algs.Signing); err != nil {
		return nil, fmt.Errorf("simulated provider: %w", err)
	}
	s.flows.keep = cfg.Detail
	s.tally.Store(newTally(time.Now()))
	s.routes()
	return s, nil
}

func (c Config) check() error {
	noKeys := len(c.ClientJWKS) == 0 && c.ClientJWKSURL == ""
	switch {
	case c.Issuer == "" || strings.HasSuffix(c.Issuer, "/"):
		return errors.New("the Issuer must be a URL without a slash at the end")
	case c.ClientID == "" && !c.AllowAnyClient:
		return errors.New("set ClientID or AllowAnyClient")
	case len(c.ClientJWKS) > 0 && c.ClientJWKSURL != "":
		return errors.New("give ClientJWKS or ClientJWKSURL, not both")
	case noKeys && !c.AllowAnyClient:
		return errors.New("one of ClientJWKS and ClientJWKSURL must be set")
	case noKeys && !c.Plain:
		return errors.New("without client keys no token can be encrypted: set Plain")
	case c.Interval < 0 || c.Hold < 0 || c.ExpiresIn < 0:
		return errors.New("the Interval, Hold and ExpiresIn must not be negative")
	}
	return nil
}

func (s *Server) routes() {
	s.mux.HandleFunc("GET /.well-known/openid-configuration", s.discovery)
	s.mux.HandleFunc("GET /.well-known/keys", s.keys)
	s.mux.HandleFunc("POST /bc-auth", s.bcAuth)
	s.mux.HandleFunc("POST /token", s.token)
	s.mux.HandleFunc("GET /ledger", s.showLedger)
	s.mux.HandleFunc("GET /ledger/answered", s.showAnswered)

	// What a web page of another origin must not be able to do through the browser of whoever has the phone page open.
	own := http.NewCrossOriginProtection()
	s.mux.Handle("POST /ledger/reset", own.Handler(http.HandlerFunc(s.resetLedger)))
	s.mux.HandleFunc("GET /phone", s.phone)
	s.mux.HandleFunc("GET /phone/prompts", s.phonePrompts)
	s.mux.Handle("POST /phone/{id}/{verdict}", own.Handler(http.HandlerFunc(s.phoneAnswer)))
}

// ServeHTTP serves the provider's endpoints, the phone page and the ledger.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Intercept != nil && s.cfg.Intercept(w, r) {
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Script sets what happens to every later step-up for this login hint. An empty Script leaves it to the person.
func (s *Server) Script(loginHint string, steps Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[loginHint] = steps
}

// scriptFor: a script set by hand, else the hint's own, else the default.
func (s *Server) scriptFor(hint string) Script {
	s.mu.Lock()
	sc, ok := s.scripts[hint]
	s.mu.Unlock()
	if ok {
		return sc
	}
	if sc, ok := ScriptOf(hint); ok {
		return sc
	}
	if s.cfg.Manual {
		return Script{}
	}
	return Script{Polls: []Step{{Kind: Approve}}}
}

// Outage answers every /bc-auth and /token with this step, which must not be one that gives tokens, until Outage(nil). Nothing is
// pushed or consumed and no script moves on meanwhile; polls are in the ledger.
func (s *Server) Outage(step *Step) { s.outage.Store(step) }

// RotateKeys signs with a new key from now on and publishes it beside the older ones.
func (s *Server) RotateKeys() error { return s.ring.rotate(s.cfg.Algs.Signing) }

// now is this provider's idea of the time in tokens and assertions; the ledger uses the real one.
func (s *Server) now() time.Time { return time.Now().Add(s.cfg.Skew) }
