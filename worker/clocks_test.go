package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/ciba/jose"
	"stepup/worker"
)

// inProcess is a provider without a network between.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(q *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, q)
	return w.Result(), nil
}

// The provider's clock is off, or only that of its token signer. Up to a
// minute is accepted; beyond, nothing is approved, and operators are told.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	invalid := failed(worker.TokenInvalid, "")
	for _, c := range []struct {
		whole  time.Duration // how far the provider's clock is ahead
		signer time.Duration // how far that of its ID tokens is ahead of its others
		want   outcome       // zero: the provider refuses our assertion, and nothing is pushed
	}{
		{whole: -90 * time.Second}, {whole: -61 * time.Second},
		{whole: -59 * time.Second, want: approved}, {whole: -30 * time.Second, want: approved},
		{whole: 30 * time.Second, want: approved}, {whole: 59 * time.Second, want: approved}, {whole: 60 * time.Second, want: approved},
		{whole: 61 * time.Second, want: invalid}, {whole: 90 * time.Second, want: invalid},
		// The first poll is 5 s after the question, and no answer is older than that less a minute.
		{signer: -90 * time.Second, want: invalid}, {signer: -66 * time.Second, want: invalid},
		{signer: -64 * time.Second, want: approved}, {signer: -30 * time.Second, want: approved},
		{signer: 30 * time.Second, want: approved}, {signer: 60 * time.Second, want: approved},
		{signer: 61 * time.Second, want: invalid}, {signer: 90 * time.Second, want: invalid},
	} {
		t.Run(fmt.Sprintf("provider %v, signer %v", c.whole, c.signer), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { clockCase(t, c.whole, c.signer, c.want) })
		})
	}
}

func clockCase(t *testing.T, whole, signer time.Duration, want outcome) {
	op, client := opAndClient(t, cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Approve, Claims: func(m map[string]any) {
		at := time.Now().Add(whole + signer).Unix()
		m["iat"], m["exp"] = at, at+600
	}}}}, whole)
	log := &logBook{}
	w, stop := bubbleWorker(t, worker.ProviderSettings{Provider: worker.CIBA{Client: client}, Interval: 5 * time.Second}, log)
	defer stop()
	v, err := w.Ask(t.Context(), worker.Request{Caller: "bank", IdempotencyKey: "k", Provider: "op", Question: worker.Question{LoginHint: hint(1)}})
	if (want == outcome{}) {
		if e, ok := errors.AsType[*worker.Error](err); !ok || e.Code != worker.CodeProviderError {
			t.Errorf("create: %v, want %s", err, worker.CodeProviderError)
		}
		if n := op.Ledger().Pushes; n != 0 || len(log.alarms("op")) == 0 {
			t.Errorf("%d pushes, alarms %v", n, log.alarms("op"))
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second)
	if v, err = w.Show(t.Context(), "bank", v.ID); err != nil {
		t.Fatal(err)
	}
	got := outcome{state: v.Status}
	if v.Reason != nil {
		got.code = v.Reason.Code
	}
	if got != want || (len(log.alarms("op")) > 0) != (want != approved) {
		t.Errorf("ended as %+v, want %+v; alarms %v", got, want, log.alarms("op"))
	}
}

// opAndClient is a simulated provider and a client of it that is ready, without a network.
func opAndClient(t *testing.T, script cibatest.Script, skew time.Duration) (*cibatest.Server, *ciba.Client) {
	t.Helper()
	const issuer = "https://op.example"
	private, err := jose.Generate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	op, err := cibatest.New(cibatest.Config{Issuer: issuer, ClientID: "bank", ClientJWKS: keys.Public(), Skew: skew, Detail: true})
	if err != nil {
		t.Fatal(err)
	}
	op.Script(hint(1), script)
	client, err := ciba.New(ciba.Config{
		Issuer: issuer, ClientID: "bank", Profile: ciba.Singpass, Keys: keys, Encrypted: true,
		Algs: jose.Algs{Signing: []string{"ES256"}, KeyManagement: []string{"ECDH-ES+A256KW"}, Content: []string{"A256CBC-HS512"}},
		HTTP: &http.Client{Transport: inProcess{op}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return op, client
}

// bubbleWorker runs a worker with one provider, op, until stop is called.
func bubbleWorker(t *testing.T, p worker.ProviderSettings, log *logBook) (w *worker.Worker, stop func()) {
	m := miniredis.NewMiniRedis()
	t.Cleanup(m.Close)
	client := func() redis.UniversalClient {
		c := redis.NewClient(&redis.Options{Addr: "bubble", MaxRetries: -1, Protocol: 2,
			Dialer:                   func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
			MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
		t.Cleanup(func() { c.Close() })
		return c
	}
	seal, err := worker.ParseSealKeys(worker.NewSealKeys())
	if err != nil {
		t.Fatal(err)
	}
	w, err = worker.New(worker.Options{Store: client(), Queue: client(), Lease: client(), Shards: 1, MaxInFlight: 10, MaxInFlightTotal: 10,
		Role: worker.RoleAll, Log: slog.New(slog.NewJSONHandler(log, nil))},
		worker.Settings{Providers: map[string]worker.ProviderSettings{"op": p}, Callers: map[string]worker.Caller{"bank": {Providers: []string{"op"}}},
			Sealer: seal, PersonInFlight: 1, PersonPerHour: 10, ResultTTL: 15 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	time.Sleep(2 * time.Second)
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}
