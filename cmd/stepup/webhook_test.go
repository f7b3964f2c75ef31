package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"stepup/webhook"
	"stepup/worker/api"
)

// tryConfig has one webhook that is sent to: its URL and what else it has.
const tryConfig = `development: true
redis: {url: embedded}
seal: {keys_file: seal.keys}
providers:
  fake: {issuer: "http://127.0.0.1:1", profile: singpass, client_id: abc, keys_file: private.jwks.json}
callers:
  bank:
    api_keys_file: bank.apikeys
    providers: [fake]
    webhooks:
      - {name: ledger, secrets_file: ledger.whsec, %s}
      - {name: fetched, pull: true}
  branch: {api_keys_file: branch.apikeys, providers: [fake]}
`

// trySite is a folder in which a webhook can be tried, and its receiver over TLS.
type trySite struct {
	dir      string
	keys     []webhook.Key
	receiver *httptest.Server
	came     chan webhook.Message // verified
}

func newTrySite(t *testing.T, answer http.HandlerFunc, clients tls.ClientAuthType) *trySite {
	t.Helper()
	s := &trySite{dir: t.TempDir(), came: make(chan webhook.Message, 10)}
	if _, err := newKeys(s.dir); err != nil {
		t.Fatal(err)
	}
	for _, caller := range []string{"bank", "branch"} {
		_, line := api.NewAPIKey()
		write(t, s.dir, caller+".apikeys", line+"\n")
	}
	lines, _ := newWebhookKeys("both")
	write(t, s.dir, "ledger.whsec", lines)
	secrets, err := webhook.ParseSecrets([]byte(lines))
	if err != nil {
		t.Fatal(err)
	}
	s.keys = webhook.Keys(secrets)
	for _, name := range []string{"server", "client", "stranger"} {
		selfSigned(t, s.dir, name)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "server.crt"), filepath.Join(s.dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	believed := x509.NewCertPool()
	believed.AppendCertsFromPEM([]byte(read(t, filepath.Join(s.dir, "client.crt"))))
	s.receiver = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if m, err := webhook.Read(r, s.keys, time.Now()); err != nil {
			t.Errorf("the receiver does not believe it: %v", err)
		} else {
			s.came <- m
		}
		answer(w, r)
	}))
	s.receiver.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: clients, ClientCAs: believed}
	s.receiver.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.receiver.StartTLS()
	t.Cleanup(s.receiver.Close)
	return s
}

// try runs `stepup webhook test`. Edit may be empty, or text that is put at the file's end.
func (s *trySite) try(t *testing.T, hook, more, target string) (code int, stdout, stderr string) {
	t.Helper()
	write(t, s.dir, configFile, fmt.Sprintf(tryConfig, hook)+more)
	var out, errs bytes.Buffer
	code = run(t.Context(), []string{"webhook", "test", "--config", filepath.Join(s.dir, configFile), target}, nil, &out, &errs)
	for _, hidden := range []string{"canary", "whsec_", "whsk_", "PRIVATE"} {
		if text := out.String() + errs.String(); strings.Contains(text, hidden) {
			t.Errorf("%s is told:\n%s", hidden, text)
		}
	}
	return code, out.String(), errs.String()
}

// always differs from run to run.
var always = regexp.MustCompile(`evt_test_[A-Z2-7]{26}|\d+\.\d ms|127\.0\.0\.1:\d+|20\d\d-\d\d-\d\d|[0-9a-f]{8}, [\w-]{43}`)

// An endpoint that is as it should be: a line for each step, and the receiver has a signed event without anybody in it.
func TestWebhookTest(t *testing.T) {
	s := newTrySite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }, tls.RequireAndVerifyClientCert)
	hook := `url: "` + s.receiver.URL + `/canary?token=canary", tls: {ca_file: server.crt, cert_file: client.crt, key_file: client.key}`
	code, out, errs := s.try(t, hook, "", "bank/ledger")
	want := `event    endpoint.test for bank/ledger, *
host     *
address  127.0.0.1: allowed
connect  *: connected, *
tls      TLS 1.3, the receiver's certificate is believed, certificate until *, *
tls      our certificate was asked for and shown
request  * bytes, signed with *
answer   202, *
result   delivered, *
warning  the receiver's certificate ends on *
warning  our client certificate ends on *
`
	got := regexp.MustCompile(`\d+ bytes`).ReplaceAllString(always.ReplaceAllString(out, "*"), "* bytes")
	if code != exitDone || got != want || errs != "" {
		t.Errorf("exit code %d, it says\n%s%s", code, got, errs)
	}
	m := <-s.came
	body := regexp.MustCompile(`^{"type":"endpoint.test","timestamp":"[^"]+Z","data":{"caller":"bank","webhook":"ledger"}}$`)
	if !body.Match(m.Body) || !strings.HasPrefix(m.ID, "evt_test_") || !strings.Contains(out, m.ID) {
		t.Errorf("%v: %s", m, m.Body)
	}
}

// Where content is encrypted, the test event is too: inside is what stands outside.
func TestWebhookTestEncrypted(t *testing.T) {
	s := newTrySite(t, func(http.ResponseWriter, *http.Request) {}, tls.NoClientCert)
	code, out, errs := s.try(t, `url: "`+s.receiver.URL+`", tls: {ca_file: server.crt}, content: encrypted, encrypt_to_file: public.jwks.json`, "", "bank/ledger")
	keys, err := webhook.ParsePrivateKeys([]byte(read(t, filepath.Join(s.dir, privateFile))))
	if err != nil {
		t.Fatal(err)
	}
	if code != exitDone || errs != "" || !strings.Contains(out, ", encrypted to "+keys[0].KeyID()+"\n") {
		t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	m := <-s.came
	inner, err := webhook.Open(m.Body, keys)
	if err != nil {
		t.Fatal(err)
	}
	outside := regexp.MustCompile(`,"encrypted":"[^"]+"`).ReplaceAllString(string(m.Body), "")
	if string(inner) != outside || outside == string(m.Body) {
		t.Errorf("inside is %s, outside %s", inner, m.Body)
	}
}

// What may be wrong with an endpoint, told with a way on; and what may not be reached is not.
func TestWebhookTestExplains(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "canary", http.StatusForbidden) }))
	defer proxy.Close()
	const trusts = ", tls: {ca_file: server.crt}"
	for name, c := range map[string]struct {
		answer  int
		clients tls.ClientAuthType
		hook    string // beside the URL
		more    string
		says    []string
		came    bool
	}{
		"not believed": {answer: 401, hook: trusts, came: true,
			says: []string{"answer   401, ", "result   not delivered", "status: the receiver answered 401", "advice   The receiver does not believe the signature"}},
		"too much": {answer: 503, hook: trusts, came: true, says: []string{"answer   503, not again before 7s, ", "advice   The receiver, or a gateway before it, has a fault"}},
		"redirect": {answer: 307, hook: trusts, came: true, says: []string{"answer   307, ", "redirect: the receiver answered 307", "advice   Redirects are never followed"}},
		"refused address": {answer: 200, hook: trusts, more: "webhooks: {allow_networks: [10.99.0.0/16]}\n",
			says: []string{"address  127.0.0.1: refused, it is this machine itself", "result   not delivered", "refused address: 127.0.0.1", "webhooks.allow_networks"}},
		"unknown authority": {answer: 200, hook: "", says: []string{"tls      the certificate is signed by an unknown authority, certificate until 20", "tls.ca_file"}},
		"wants a certificate": {answer: 200, clients: tls.RequireAndVerifyClientCert, hook: trusts,
			says: []string{"tls      a client certificate was asked for, and there is none", "advice   The receiver wants a client certificate"}},
		"another certificate": {answer: 200, clients: tls.RequireAndVerifyClientCert, hook: ", tls: {ca_file: server.crt, cert_file: stranger.crt, key_file: stranger.key}",
			says: []string{"tls      our certificate was asked for and shown", "result   not delivered"}},
		"does not ask": {answer: 200, hook: ", tls: {ca_file: server.crt, cert_file: client.crt, key_file: client.key}", came: true,
			says: []string{"tls      our certificate was not asked for", "result   delivered", "warning  a client certificate is configured and the receiver did not ask"}},
		"proxy refuses": {answer: 200, hook: trusts + ", proxy: " + proxy.URL,
			says: []string{"proxy    " + proxy.Listener.Addr().String() + " is asked", "connect  " + proxy.Listener.Addr().String() + ": connected", "it answered 403", "advice   Check the webhook's proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTrySite(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "https://canary.example/")
				w.WriteHeader(c.answer)
				fmt.Fprint(w, "canary")
			}, c.clients)
			code, out, errs := s.try(t, `url: "`+s.receiver.URL+`/canary?token=canary"`+c.hook, c.more, "bank/ledger")
			want := exitFailed
			if c.answer < 300 && c.came {
				want = exitDone
			}
			if code != want || errs != "" || (len(s.came) == 1) != c.came {
				t.Errorf("exit code %d, %d events came; stderr %q", code, len(s.came), errs)
			}
			for _, text := range c.says {
				if !strings.Contains(out, text) {
					t.Errorf("%q is missing in\n%s", text, out)
				}
			}
		})
	}
}

// A name that is not there, and a configuration that is not good, are told as such; nothing is sent.
func TestWebhookTestUsage(t *testing.T) {
	s := newTrySite(t, func(http.ResponseWriter, *http.Request) {}, tls.NoClientCert)
	hook := `url: "` + s.receiver.URL + `", tls: {ca_file: server.crt}`
	for _, c := range []struct{ hook, target, says string }{
		{hook, "ledger", "ledger must be CALLER/NAME"},
		{hook, "bnak/ledger", "there is no caller bnak in the configuration; there is bank, branch"},
		{hook, "bank/legder", "caller bank has no webhook legder; it has ledger, fetched"},
		{hook, "bank/fetched", "bank/fetched is pulled: nothing is sent to it, so there is nothing to try"},
		{hook, "branch/ledger", "caller branch has no webhook ledger; it has none"},
		{hook + ", content: everything", "bank/ledger", "content"},
	} {
		if code, out, errs := s.try(t, c.hook, "", c.target); code != exitUsage || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit code %d, %q, %q", c.target, code, out, errs)
		}
	}
	if len(s.came) != 0 {
		t.Error("something was sent")
	}
}
