package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"stepup/webhook"
	"stepup/worker"
)

// What the file says of a webhook's TLS and headers is what its receiver meets.
func TestWebhookOfTheFile(t *testing.T) {
	p := loadGood(t)
	pair, err := tls.LoadX509KeyPair("secrets/server.crt", "secrets/server.key")
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(pair.Leaf)
	type arrival struct {
		message webhook.Message
		token   string
		err     error
	}
	arrived := make(chan arrival, 10)
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		m, err := webhook.Read(r, webhook.Keys(p.settings.Callers["core"].Webhooks[1].Endpoint.Secrets), time.Now())
		arrived <- arrival{m, r.Header.Get("X-Tenant-Token"), err}
	}))
	receiver.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities}
	receiver.StartTLS()
	defer receiver.Close()

	edit(t, "url: https://fraud.bank.example/hooks", "url: "+receiver.URL, "        proxy: http://egress.bank.example:3128\n", "",
		"# A complete", "development: true\n# A complete", "[10.20.0.0/16]", "[10.20.0.0/16, 127.0.0.0/8]")
	if p, err = load("stepup.yaml", nil, nil); err != nil {
		t.Fatal(err)
	}
	endpoint := p.settings.Callers["core"].Webhooks[1].Endpoint
	defer endpoint.Client.CloseIdleConnections()
	if a := p.settings.Sender.Send(t.Context(), endpoint, webhook.Message{ID: "evt_1", Body: []byte(`{}`)}); a.Outcome != webhook.Delivered {
		t.Fatalf("%+v", a)
	}
	if got := <-arrived; got.err != nil || got.message.ID != "evt_1" || got.token != "hunter2-fraud-desk-canary" {
		t.Errorf("%+v", got)
	}
	endpoint.Client = p.settings.Callers["core"].Webhooks[0].Endpoint.Client
	if a := p.settings.Sender.Send(t.Context(), endpoint, webhook.Message{ID: "evt_2", Body: []byte(`{}`)}); a.Reason != webhook.ReasonTLS || len(arrived) != 0 {
		t.Errorf("as another webhook: %+v", a)
	}
}

// Webhooks that go the same way share connections, which outlive a reload that does not change the way.
func TestRoutesOutliveReload(t *testing.T) {
	clients := func(p *parts) (usual, fraud *http.Client) {
		t.Helper()
		core := p.settings.Callers["core"].Webhooks
		if core[0].Endpoint.Client != p.settings.Sender.Client || p.settings.Callers["branch"].Webhooks[0].Endpoint.Client != p.settings.Sender.Client {
			t.Error("webhooks that go the same way have clients of their own")
		}
		if len(p.routes) != 2 {
			t.Errorf("%d clients are kept, want 2", len(p.routes))
		}
		return p.settings.Sender.Client, core[1].Endpoint.Client
	}
	p := loadGood(t)
	usual, fraud := clients(p)
	reload := func(what string, usualStays, fraudStays bool) {
		t.Helper()
		fresh, err := load("stepup.yaml", nil, p)
		if err != nil {
			t.Fatal(err)
		}
		u, f := clients(fresh)
		if (u == usual) != usualStays || (f == fraud) != fraudStays {
			t.Errorf("%s: the usual client stays: %v, that of fraud: %v", what, u == usual, f == fraud)
		}
		p, usual, fraud = fresh, u, f
	}
	reload("nothing changes", true, true)
	write(t, "secrets", "fraud.headers", "X-Other: 1\n")
	edit(t, "timeout: 15s", "timeout: 20s")
	reload("headers and time-out", true, true)
	edit(t, "proxy: http://egress.bank.example:3128", "proxy: http://egress.bank.example:3129")
	reload("the proxy", true, false)
	selfSigned(t, "secrets", "server")
	reload("the certificate", true, false)
	edit(t, "[10.20.0.0/16]", "[10.20.0.0/16, 10.30.0.0/16]")
	reload("the networks", false, false)
}

// A webhook that is pulled goes nowhere and signs nothing. What is encrypted is encrypted to the key in the file, after a
// reload to the new one; a file that is of no use changes nothing.
func TestEncryptedAndPulled(t *testing.T) {
	p := loadGood(t)
	published := string(p.webhookKeys)
	desk := func() worker.Webhook { return p.settings.Callers["core"].Webhooks[2] }
	if h := desk(); h.Name != "desk" || !h.Pull || h.Reference || h.Endpoint.URL != "" || h.Endpoint.Client != nil || h.Endpoint.Secrets != nil {
		t.Errorf("%+v", h)
	}
	if h := p.settings.Callers["core"].Webhooks[0]; h.Pull || h.Encrypt != nil || len(h.Endpoint.Secrets) != 1 {
		t.Errorf("%+v", h)
	}
	before := desk().Encrypt.KeyID()

	private, public := webhook.NewEncryptionKey()
	write(t, "secrets", "desk.jwks.json", string(private))
	if _, err := load("stepup.yaml", nil, p); err == nil || !strings.Contains(err.Error(), "private member d") {
		t.Errorf("a private key: %v", err)
	}
	write(t, "secrets", "desk.jwks.json", public)
	if err := os.Chmod("secrets/desk.jwks.json", 0o644); err != nil { // whoever likes may read it
		t.Fatal(err)
	}
	fresh, err := load("stepup.yaml", nil, p)
	if err != nil {
		t.Fatal(err)
	}
	p = fresh
	if before == desk().Encrypt.KeyID() {
		t.Error("the old key encrypts after a reload")
	}
	keys, err := webhook.ParsePrivateKeys(private)
	if err != nil {
		t.Fatal(err)
	}
	const event = `{"type":"step_up.denied","data":{"id":"su_1"}}`
	token, err := desk().Encrypt.Encrypt([]byte(event))
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(event, `"su_1"`, `"su_1","encrypted":"`+token+`"`, 1)
	if got, err := webhook.Open([]byte(body), keys); err != nil || string(got) != event {
		t.Errorf("%s, %v", got, err)
	}
	if string(p.webhookKeys) != published {
		t.Errorf("the keys that sign, as published: %s, before %s", p.webhookKeys, published)
	}
}

// edit replaces pairs of texts, each of which is there, in stepup.yaml.
func edit(t *testing.T, pairs ...string) {
	t.Helper()
	text := read(t, "stepup.yaml")
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not there", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	write(t, ".", "stepup.yaml", text)
}
