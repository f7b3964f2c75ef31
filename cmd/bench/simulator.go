package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/ciba/jose"
	"stepup/worker"
)

// target is what is polled and keeps the ledger.
type target interface {
	worker.Provider

	// cut returns what arrived since the last cut and begins anew.
	cut(context.Context) (cibatest.Ledger, error)

	// approved is when each approval was answered since the last cut, by login hint.
	approved(context.Context) (map[string]time.Time, error)

	// used is what the target's own process has used; nothing when it has none.
	used(context.Context) (consumption, error)

	close()
}

// consumption is what the target has used since its start.
type consumption struct {
	CPU         time.Duration `json:"cpu"` // user + system
	Connections int64         `json:"connections"`
}

// simulatorEnv makes this program the simulated provider: it reads a simulation from stdin, prints its address on stdout and
// ends when stdin is closed, so that it never outlives the run.
const simulatorEnv = "STEPUP_BENCH_SIMULATOR"

// expiresIn is the life of a request: longer than any run, and the most that the protocol's client accepts.
const expiresIn = time.Hour

// simulation is what the simulated provider is told.
type simulation struct {
	Interval int             `json:"interval"` // seconds
	JWKS     json.RawMessage `json:"jwks"`     // our public keys
	TLS      string          `json:"tls"`      // HTTP version under TLS; empty: no TLS
	BCAuth   time.Duration   `json:"bc_auth"`  // how long /bc-auth takes at least
}

// simulated is what the simulated provider answers.
type simulated struct {
	Issuer string `json:"issuer"`
	CA     []byte `json:"ca"` // PEM; empty: no TLS
}

const clientID = "bench"

// simulate is the whole life of the simulated provider's process.
func simulate(in io.Reader, out, errs io.Writer) int {
	stdin := bufio.NewReader(in)
	if err := serveSimulator(stdin, out); err != nil {
		fmt.Fprintln(errs, "simulated provider:", err)
		return 1
	}
	return 0
}

func serveSimulator(stdin *bufio.Reader, out io.Writer) error {
	line, err := stdin.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading what to simulate: %w", err)
	}
	var sim simulation
	if err := json.Unmarshal(line, &sim); err != nil {
		return fmt.Errorf("reading what to simulate: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	at := simulated{Issuer: "http://" + listener.Addr().String()}
	// Longer than the client keeps a connection that it has not used yet: who hangs up first decides whether a poll is lost.
	server := &http.Server{ReadHeaderTimeout: time.Minute}
	if sim.TLS != "" {
		at.Issuer = "https://" + listener.Addr().String()
		if at.CA, err = certify(server, sim.TLS); err != nil {
			return fmt.Errorf("making a certificate: %w", err)
		}
	}
	op, err := cibatest.New(cibatest.Config{
		Issuer: at.Issuer, ClientID: clientID, ClientJWKS: sim.JWKS, Interval: sim.Interval, ExpiresIn: expiresIn,
	})
	if err != nil {
		return err
	}
	var connections atomic.Int64
	server.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	mux := http.NewServeMux()
	slow := &holder{Handler: op, least: sim.BCAuth, held: map[string]time.Duration{}}
	mux.Handle("/", slow)
	mux.HandleFunc("GET /held", slow.tell)
	mux.HandleFunc("GET /used", func(w http.ResponseWriter, _ *http.Request) {
		cpu, _ := ownCPU()
		_ = json.NewEncoder(w).Encode(consumption{cpu, connections.Load()})
	})
	server.Handler = mux
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // until the bench ends, however it ends
		server.Close()
	}()
	if err := json.NewEncoder(out).Encode(at); err != nil {
		return err
	}
	serve := func() error { return server.Serve(listener) }
	if sim.TLS != "" {
		serve = func() error { return server.ServeTLS(listener, "", "") }
	}
	if err := serve(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// simulator is the simulated provider as this process sees it.
type simulator struct {
	worker.CIBA
	simulated
	private []byte       // our keys
	http    *http.Client // of the client under test
	ledger  *http.Client
	process *exec.Cmd
	stdin   io.Closer
}

// openTarget starts what is polled.
func openTarget(ctx context.Context, s settings, errs io.Writer) (target, error) {
	if s.engine {
		return newEngine(s.interval), nil
	}
	private, err := jose.Generate(time.Now())
	if err != nil {
		return nil, err
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		return nil, err
	}
	sim, err := startSimulator(simulation{Interval: int(s.interval / time.Second), JWKS: keys.Public(), TLS: s.tls, BCAuth: s.bcAuth}, errs)
	if err != nil {
		return nil, fmt.Errorf("starting the simulated provider: %w", err)
	}
	sim.private = private
	if err := sim.connect(ctx, keys); err != nil {
		sim.close()
		return nil, fmt.Errorf("connecting to the simulated provider: %w", err)
	}
	return sim, nil
}

// startSimulator runs this program once more.
func startSimulator(what simulation, errs io.Writer) (*simulator, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), simulatorEnv+"=1"), errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	sim := &simulator{process: cmd, stdin: stdin, ledger: &http.Client{Timeout: 30 * time.Second}}
	line, err := json.Marshal(what)
	if err == nil {
		_, err = stdin.Write(append(bytes.ReplaceAll(line, []byte("\n"), nil), '\n'))
	}
	if err == nil {
		err = json.NewDecoder(stdout).Decode(&sim.simulated)
	}
	if err != nil {
		sim.close()
		return nil, err
	}
	return sim, nil
}

// trust is whom the simulated provider's clients believe; nil without TLS.
func (s *simulator) trust() *tls.Config {
	if len(s.CA) == 0 {
		return nil
	}
	return believing(s.CA)
}

// connect makes the client under test, as `stepup serve` makes it for profile singpass.
func (s *simulator) connect(ctx context.Context, keys *jose.Keys) (err error) {
	if s.http, err = ciba.NewHTTPClient(s.CA); err != nil {
		return err
	}
	s.ledger.Transport = &http.Transport{TLSClientConfig: s.trust(), ForceAttemptHTTP2: true}
	s.Client, err = ciba.New(ciba.Config{
		Issuer: s.Issuer, ClientID: clientID, Profile: ciba.Singpass, Keys: keys, Encrypted: true, NRICChecksum: true,
		Algs: jose.Algs{
			Signing:       []string{"ES256"},
			KeyManagement: []string{"ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW"},
			Content:       []string{"A256CBC-HS512"},
		},
		HTTP: s.http, AllowHTTP: true, // loopback
	})
	if err != nil {
		return err
	}
	return s.Client.Ready(ctx)
}

func (s *simulator) cut(ctx context.Context) (l cibatest.Ledger, err error) {
	if err := s.ask(ctx, http.MethodGet, "/ledger?summary=1", &l); err != nil {
		return l, fmt.Errorf("reading the ledger: %w", err)
	}
	if err := s.ask(ctx, http.MethodPost, "/ledger/reset", nil); err != nil {
		return l, fmt.Errorf("resetting the ledger: %w", err)
	}
	return l, nil
}

// tokens is how many approvals have been handed out since the last cut.
func (s *simulator) tokens(ctx context.Context) (int, error) {
	var l cibatest.Ledger
	if err := s.ask(ctx, http.MethodGet, "/ledger?summary=1", &l); err != nil {
		return 0, fmt.Errorf("reading the ledger: %w", err)
	}
	return l.Tokens, nil
}

func (s *simulator) approved(ctx context.Context) (map[string]time.Time, error) {
	var all []cibatest.Answered
	if err := s.ask(ctx, http.MethodGet, "/ledger/answered", &all); err != nil {
		return nil, fmt.Errorf("reading the approvals: %w", err)
	}
	at := map[string]time.Time{}
	for _, a := range all {
		if a.Answer == cibatest.Approve.String() {
			at[a.Hint] = a.At
		}
	}
	return at, nil
}

// held is how long the provider had each /bc-auth since it was last asked, by login hint.
func (s *simulator) held(ctx context.Context) (held map[string]time.Duration, err error) {
	if err = s.ask(ctx, http.MethodGet, "/held", &held); err != nil {
		return nil, fmt.Errorf("reading how long /bc-auth was held: %w", err)
	}
	return held, nil
}

func (s *simulator) used(ctx context.Context) (u consumption, err error) {
	err = s.ask(ctx, http.MethodGet, "/used", &u)
	return u, err
}

// ask is one call to the simulator's own pages, over connections of its own.
func (s *simulator) ask(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.Issuer+path, nil)
	if err != nil {
		return err
	}
	res, err := s.ledger.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

func (s *simulator) close() {
	s.stdin.Close() // its process ends by itself
	if s.http != nil {
		s.http.CloseIdleConnections()
	}
	s.ledger.CloseIdleConnections()
	_ = s.process.Wait()
}
