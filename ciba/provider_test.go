package ciba

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/jose"
)

// What no error may ever print. The person's check letter is right.
const (
	canaryNRIC  = "S9876543C"
	canaryUUID  = "0d5c2f6e-93a1-4c7b-8f1e-5ca9a41e5001"
	canaryID    = "CANARY-auth-req-id"
	canaryToken = "CANARY.id.token"
	canaryWords = "CANARY-description"
)

var clientKeys = sync.OnceValue(func() *jose.Keys {
	private, err := jose.Generate(time.Now())
	if err != nil {
		panic(err)
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		panic(err)
	}
	return keys
})

func singpassConfig(issuer string) Config {
	return Config{
		Issuer: issuer, ClientID: "client", Profile: Singpass, Keys: clientKeys(), Encrypted: true, NRICChecksum: true,
		Algs: jose.Algs{
			Signing:       []string{"ES256"},
			KeyManagement: []string{"ECDH-ES+A256KW"},
			Content:       []string{"A256CBC-HS512"},
		},
		HTTP:      &http.Client{Transport: &http.Transport{}}, // a careless one: nothing here may depend on its settings
		AllowHTTP: true,
	}
}

func newClient(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.HTTP.CloseIdleConnections)
	return c
}

// provider serves good metadata for its own address, and whatever the test says for the rest.
func provider(t *testing.T, handlers map[string]http.HandlerFunc) *httptest.Server {
	mux := http.NewServeMux()
	for pattern, h := range handlers {
		mux.HandleFunc(pattern, h)
	}
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(s.Close)
	if _, own := handlers["/.well-known/openid-configuration"]; !own {
		mux.HandleFunc("/.well-known/openid-configuration", metadata(s.URL))
	}
	return s
}

func metadata(issuer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"backchannel_authentication_endpoint":%q,"token_endpoint":%q,"jwks_uri":%q}`,
			issuer, issuer+"/bc-auth", issuer+"/token", issuer+"/keys")
	}
}

// says answers every request the same way.
func says(status int, header http.Header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// pipes is a network made of net.Pipe, which lives inside a synctest bubble.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// signer is a provider's key. It signs by hand, so that a test can sign anything.
type signer struct {
	kid string
	key *ecdsa.PrivateKey
}

func newSigner(t *testing.T, kid string) *signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{kid, key}
}

func (s *signer) jwks() string {
	point, _ := s.key.PublicKey.Bytes()
	b64 := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":%q,"x":%q,"y":%q}]}`, s.kid, b64(point[1:33]), b64(point[33:]))
}

func (s *signer) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := b64(fmt.Appendf(nil, `{"alg":"ES256","typ":"JWT","kid":%q}`, s.kid)) + "." + b64(payload)
	digest := sha256.Sum256([]byte(signed))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	v.FillBytes(signature[32:])
	return signed + "." + b64(signature)
}

// tellsNothing fails when an error gives a canary away, printed in any way a program prints errors.
func tellsNothing(t *testing.T, err error) {
	t.Helper()
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "err", err)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "err", err)
	encoded, _ := json.Marshal(err)
	for _, printed := range []string{err.Error(), fmt.Sprintf("%v", err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprintf("%q", err),
		fmt.Sprint([]error{err}), log.String(), string(encoded)} {
		for _, canary := range []string{"CANARY", canaryNRIC, canaryUUID, "client_assertion"} {
			if strings.Contains(printed, canary) {
				t.Errorf("error gives away %q: %s", canary, printed)
			}
		}
	}
}
