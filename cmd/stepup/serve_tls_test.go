package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/worker"
	"stepup/worker/api"
)

// office issues certificates, for servers and clients.
type office struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newOffice(t *testing.T, name string) *office {
	t.Helper()
	o := &office{}
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	o.cert, o.key = o.sign(t, c)
	return o
}

func (o *office) sign(t *testing.T, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotAfter = big.NewInt(1), time.Now().Add(time.Hour)
	parent, signer := o.cert, o.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (o *office) issue(t *testing.T, c x509.Certificate, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	c.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	leaf, key := o.sign(t, &c)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

func (o *office) client(t *testing.T, name string) tls.Certificate {
	return o.issue(t, x509.Certificate{DNSNames: []string{name}}, x509.ExtKeyUsageClientAuth)
}

func (o *office) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.cert.Raw}))
}

// secureWorld is a world whose listeners speak TLS and believe client certificates of its office.
type secureWorld struct {
	*world
	office *office
	files  string // a folder: ca.pem, operators.pem, tls.pem, tls.key
	yaml   string // of the start
	turns  int    // reloads
}

func beginSecure(t *testing.T, sans string) *secureWorld {
	t.Helper()
	w := &secureWorld{office: newOffice(t, "bank"), files: t.TempDir()}
	pair := w.office.issue(t, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, x509.ExtKeyUsageServerAuth)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.files, "tls.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Leaf.Raw})))
	write(t, w.files, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	write(t, w.files, "ca.pem", w.office.pem())
	write(t, w.files, "operators.pem", w.office.pem())
	section := func(ca string) string {
		return fmt.Sprintf("{cert_file: %[1]s/tls.pem, key_file: %[1]s/tls.key, client_ca_file: %[1]s/%[2]s}", w.files, ca)
	}
	w.world = prepare(t, func(yaml string) string {
		yaml = replaced("listen: {", "listen: {tls: "+section("ca.pem")+", admin_tls: "+section("operators.pem")+", ")(yaml)
		w.yaml = replaced("may_list: true", "may_list: true\n    certificate_sans: ["+sans+"]")(yaml)
		return w.yaml
	})
	w.bank.url, w.admin = strings.Replace(w.bank.url, "http:", "https:", 1), strings.Replace(w.admin, "http:", "https:", 1)
	w.client = w.with(t)
	w.start(t, worker.RoleAll)
	return w
}

// with is a client of its own connections that shows a certificate, or none.
func (w *secureWorld) with(t *testing.T, certs ...tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(w.office.cert)
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil // whichever authorities the server names
		},
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// get fetches with a client; 0 is a handshake that failed.
func get(t *testing.T, client *http.Client, url, key string) (status int, body string) {
	t.Helper()
	return getWith(t.Context(), t, client, url, key)
}

func getWith(ctx context.Context, t *testing.T, client *http.Client, url, key string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("%s over %s", url, res.Proto)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Error(err)
	}
	return res.StatusCode, string(text)
}

// reload changes the configuration and waits until it is in use.
func (w *secureWorld) reload(t *testing.T, yaml string) {
	t.Helper()
	w.turns++
	write(t, w.dir, configFile, yaml)
	w.hup <- os.Interrupt
	eventually(t, "the reload is done", func() bool { return strings.Count(w.log.String(), `"msg":"reloaded"`) == w.turns })
}

// Callers and operators are known by certificates of the authorities that are configured now.
func TestClientCertificates(t *testing.T) {
	w := beginSecure(t, "ledger.bank.example, 'spiffe://bank.example/cards'")
	list := w.bank.url + "/v1/step-ups"
	foreign := newOffice(t, "bank")
	other := w.office.client(t, "other.bank.example")
	server := w.office.issue(t, x509.Certificate{DNSNames: []string{"ledger.bank.example"}}, x509.ExtKeyUsageServerAuth)
	for _, tt := range []struct {
		name   string
		client *http.Client
		key    string
		status int
	}{
		{"certificate", w.with(t, w.office.client(t, "ledger.bank.example")), "", 200},
		{"another's certificate", w.with(t, other), "", 401},
		{"another's certificate and a key", w.with(t, other), w.bank.key, 200},
		{"certificate and a wrong key", w.with(t, w.office.client(t, "ledger.bank.example")), "sk_wrong", 401},
		{"key", w.with(t), w.bank.key, 200},
		{"nothing", w.with(t), "", 401},
		{"certificate of a foreign authority", w.with(t, foreign.client(t, "ledger.bank.example")), w.bank.key, 0},
		{"certificate of a server", w.with(t, server), w.bank.key, 0},
	} {
		if status, text := get(t, tt.client, list, tt.key); status != tt.status {
			t.Errorf("%s: %d %s, want %d", tt.name, status, text, tt.status)
		}
	}
	for _, tt := range []struct {
		name, path string
		client     *http.Client
		status     int
	}{
		{"operator", "/nothing", w.with(t, other), 404},
		{"no certificate", "/nothing", w.with(t), 403},
		{"foreign", "/nothing", w.with(t, foreign.client(t, "operator")), 0},
		{"health", "/livez", w.with(t), 200},
	} {
		if status, text := get(t, tt.client, w.admin+tt.path, ""); status != tt.status {
			t.Errorf("admin, %s: %d %s, want %d", tt.name, status, text, tt.status)
		}
	}
	w.drain(t)
}

// SIGHUP takes keys, names and authorities away at once, on connections that are open too, and cuts nothing that is under way.
func TestReloadTakesCallersAway(t *testing.T) {
	w := beginSecure(t, "ledger.bank.example")
	url := w.bank.url + "/v1/step-ups/" + w.ask(t)
	byKey, byCert, later := w.with(t), w.with(t, w.office.client(t, "ledger.bank.example")), w.with(t, w.office.client(t, "new.bank.example"))
	expect := func(what string, client *http.Client, key string, want int) {
		t.Helper()
		if status, text := get(t, client, url, key); status != want {
			t.Errorf("%s: %d %s, want %d", what, status, text, want)
		}
	}
	expect("key", byKey, w.bank.key, 200)
	expect("certificate", byCert, "", 200)
	expect("certificate that is not named yet", later, "", 401)
	var polls sync.WaitGroup
	poll := func(client *http.Client, key string) {
		sent := make(chan struct{})
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }})
		polls.Go(func() {
			if status, text := getWith(ctx, t, client, url+"?wait=25s", key); status != 200 || !strings.Contains(text, `"approved"`) {
				t.Errorf("a long poll ended with %d %s", status, text)
			}
		})
		<-sent
		for range 3 { // on the same connection; by the time these are answered it waits
			expect("beside a long poll", client, key, 200)
		}
	}
	poll(byKey, w.bank.key)
	poll(byCert, "")

	newKey, line := api.NewAPIKey()
	write(t, w.dir, apiKeysFile, line+"\n")
	w.reload(t, replaced("ledger.bank.example", "new.bank.example")(w.yaml))
	expect("removed key", byKey, w.bank.key, 401)
	expect("new key", byKey, newKey, 200)
	expect("removed name, the same connection", byCert, "", 401)
	expect("removed name, a new connection", byCert, "", 401)
	expect("new name", later, "", 200)

	if err := w.op.Approve(w.op.Prompts()[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	polls.Wait()

	fresh := newOffice(t, "bank of June")
	write(t, w.files, "ca.pem", fresh.pem())
	w.reload(t, replaced("ledger.bank.example", "new.bank.example")(w.yaml))
	expect("removed authority, the same connection", later, "", 401)
	expect("removed authority, a new connection", later, "", 0)
	expect("new authority", w.with(t, fresh.client(t, "new.bank.example")), "", 200)
	expect("key beside it", byKey, newKey, 200)

	w.reload(t, strings.ReplaceAll(strings.Replace(w.yaml, ", client_ca_file: "+w.files+"/ca.pem", "", 1), "[ledger.bank.example]", "[]"))
	none := w.with(t, fresh.client(t, "new.bank.example"))
	expect("no authorities", none, "", 401)
	expect("no authorities, key", none, newKey, 200)
	w.reload(t, replaced("ledger.bank.example", "new.bank.example")(w.yaml))
	none.CloseIdleConnections()
	expect("authorities again", none, "", 200)
	w.drain(t)
}

// ask asks somebody and returns the step-up's id.
func (w *secureWorld) ask(t *testing.T) string {
	t.Helper()
	body := fmt.Sprintf(`{"provider":"singpass","login_hint":%q}`, person(1))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.bank.url+"/v1/step-ups", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Authorization": {"Bearer " + w.bank.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {"one"}}
	res, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var asked result
	if err := json.NewDecoder(res.Body).Decode(&asked); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("asking: %s, %v", res.Status, err)
	}
	return asked.ID
}
