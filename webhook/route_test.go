package webhook

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority is a bank's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	template.Subject.CommonName = "authority of " + t.Name()
	made := sign(t, template, nil)
	return authority{made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// issue makes a certificate for 127.0.0.1 and for clients.
func (a authority) issue(t *testing.T, until time.Time) tls.Certificate {
	t.Helper()
	return sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, &a)
}

// sign makes a certificate; without an authority it is its own.
func sign(t *testing.T, template *x509.Certificate, by *authority) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, parentKey := template, key
	if by != nil {
		parent, parentKey = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// secureReceiver speaks TLS; arrived gets each request that its handler sees.
func secureReceiver(t *testing.T, config *tls.Config) (server *httptest.Server, arrived chan *http.Request) {
	t.Helper()
	arrived = make(chan *http.Request, 10)
	server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		arrived <- r
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server, arrived
}

// A receiver with an authority of its own that wants a client certificate gets events from
// whoever has one, and nobody else's event; what cannot be proved is not sent another way.
func TestMutualTLS(t *testing.T) {
	bank, stranger := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good, expired := bank.issue(t, later), bank.issue(t, time.Now().Add(-time.Hour))
	unread := expired
	unread.Leaf = nil // our side does not look: the receiver must
	const refuses = "tls: the receiver wants a client certificate, or refuses ours"
	// TLS 1.2 has no word for a certificate that is missing.
	refused := map[uint16]string{tls.VersionTLS12: "tls: handshake failed", tls.VersionTLS13: refuses}

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		receiver, arrived := secureReceiver(t, &tls.Config{
			Certificates: []tls.Certificate{bank.issue(t, later)}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: bank.pool(),
		})
		for _, c := range []struct {
			name  string
			route Route
			text  string // of the error; empty: delivered
		}{
			{"with a certificate", Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{good}}}, ""},
			{"without", Route{TLS: &tls.Config{RootCAs: bank.pool()}}, refused[version]},
			{"of another authority", Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{stranger.issue(t, later)}}}, refuses},
			{"expired", Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{expired}}}, "tls: our client certificate has expired"},
			{"expired, seen by the receiver", Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{unread}}}, refuses},
			{"another authority believed", Route{TLS: &tls.Config{RootCAs: stranger.pool(), Certificates: []tls.Certificate{good}}}, "tls: the certificate is signed by an unknown authority"},
			{"the system's believed", Route{TLS: &tls.Config{Certificates: []tls.Certificate{good}}}, "tls: the certificate is signed by an unknown authority"},
		} {
			t.Run(tls.VersionName(version)+" "+c.name, func(t *testing.T) {
				client := NewRoutedClient(loopback, c.route)
				defer client.CloseIdleConnections()
				// The sender's own client could reach the receiver: it must not be tried.
				fallback := NewRoutedClient(loopback, Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{good}}})
				defer fallback.CloseIdleConnections()
				s := Sender{Client: fallback}
				a := s.Send(t.Context(), Endpoint{URL: receiver.URL + "/hook", Secrets: secretsOf(t, vectorSecret), Client: client}, Message{"evt_1", []byte(`{}`)})
				checkSafe(t, a)
				if c.text == "" {
					if a.Outcome != Delivered {
						t.Fatalf("%+v", a)
					}
					if r := <-arrived; len(r.TLS.PeerCertificates) != 1 || !r.TLS.PeerCertificates[0].Equal(good.Leaf) {
						t.Error("not our certificate")
					}
					return
				}
				// In TLS 1.3 the receiver may reset the connection before its alert is read.
				late := version == tls.VersionTLS13 && a.Reason == ReasonReset && c.text == refuses
				if a.Outcome != Failed || !late && (a.Reason != ReasonTLS || !strings.Contains(a.Err.Error(), c.text)) {
					t.Errorf("%+v", a)
				}
				if len(arrived) != 0 {
					t.Error("the receiver's handler saw the event")
				}
			})
		}
	}
}

// What is for TLS sends nothing in the clear.
func TestRoutesAreNeverPlain(t *testing.T) {
	bank := newAuthority(t)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("something arrived") }))
	defer receiver.Close()
	p := newProxy(t, nil)
	for name, route := range map[string]Route{
		"authority":   {TLS: &tls.Config{RootCAs: bank.pool()}},
		"certificate": {TLS: &tls.Config{Certificates: []tls.Certificate{bank.issue(t, time.Now().Add(time.Hour))}}},
		"proxy":       {Proxy: p.url(t)},
	} {
		e := Endpoint{URL: receiver.URL, Secrets: secretsOf(t, vectorSecret), Client: NewRoutedClient(loopback, route)}
		if a := (&Sender{}).Send(t.Context(), e, Message{"evt_1", []byte(`{}`)}); a.Reason != ReasonConfiguration || p.asked.Load() != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// A receiver that names other authorities than ours is shown our certificate all the same,
// so that it is the receiver who decides, and nothing goes on without.
func TestCertificateIsAlwaysShown(t *testing.T) {
	bank, stranger := newAuthority(t), newAuthority(t)
	own := stranger.issue(t, time.Now().Add(time.Hour))
	receiver, arrived := secureReceiver(t, &tls.Config{
		Certificates: []tls.Certificate{bank.issue(t, time.Now().Add(time.Hour))}, ClientAuth: tls.RequestClientCert, ClientCAs: bank.pool(),
	})
	client := NewRoutedClient(loopback, Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{own}}})
	defer client.CloseIdleConnections()
	a := (&Sender{}).Send(t.Context(), Endpoint{URL: receiver.URL, Secrets: secretsOf(t, vectorSecret), Client: client}, Message{"evt_1", []byte(`{}`)})
	if a.Outcome != Delivered || len((<-arrived).TLS.PeerCertificates) != 1 {
		t.Errorf("%+v", a)
	}
}

// proxy opens ways as CONNECT asks; asked counts, header gets the last one's.
type proxy struct {
	server *httptest.Server
	target atomic.Value // string
	header atomic.Value // http.Header
	asked  atomic.Int64
	status int
}

func newProxy(t *testing.T, config *tls.Config) *proxy {
	t.Helper()
	p := &proxy{status: http.StatusOK}
	p.server = httptest.NewUnstartedServer(http.HandlerFunc(p.connect))
	p.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if p.server.TLS = config; config != nil {
		p.server.StartTLS()
	} else {
		p.server.Start()
	}
	t.Cleanup(p.server.Close)
	return p
}

func (p *proxy) url(t *testing.T) *url.URL {
	t.Helper()
	u, err := url.Parse(p.server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (p *proxy) connect(w http.ResponseWriter, r *http.Request) {
	p.asked.Add(1)
	p.target.Store(r.Method + " " + r.Host)
	p.header.Store(r.Header)
	if p.status != http.StatusOK {
		http.Error(w, "canary", p.status)
		return
	}
	there, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, "canary", http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	fmt.Fprint(here, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		_, _ = io.Copy(there, bufio.NewReader(buffered))
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
}

// An egress proxy sees CONNECT and no more; the receiver gets the signed bytes through it.
func TestProxy(t *testing.T) {
	bank := newAuthority(t)
	later := time.Now().Add(time.Hour)
	own := bank.issue(t, later)
	receiver, arrived := secureReceiver(t, &tls.Config{
		Certificates: []tls.Certificate{bank.issue(t, later)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: bank.pool(),
	})
	p := newProxy(t, nil)
	secrets := secretsOf(t, vectorSecret)
	headers, err := ParseHeaders([]byte("Authorization: Bearer canary\n"))
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{own}}
	client := NewRoutedClient(loopback, Route{TLS: trust, Proxy: p.url(t)})
	defer client.CloseIdleConnections()
	send := func(client *http.Client) Attempt {
		a := (&Sender{}).Send(t.Context(), Endpoint{URL: receiver.URL + "/hook", Secrets: secrets, Headers: headers, Client: client}, Message{"evt_1", []byte(`{"a":1}`)})
		checkSafe(t, a)
		return a
	}

	for range 2 { // the second goes over the same connection
		if a := send(client); a.Outcome != Delivered {
			t.Fatalf("%+v", a)
		}
		m, err := Read(<-arrived, Keys(secrets), time.Now())
		if err != nil || string(m.Body) != `{"a":1}` {
			t.Errorf("%+v, %v", m, err)
		}
	}
	h := p.header.Load().(http.Header)
	if p.asked.Load() != 1 || p.target.Load() != "CONNECT "+receiver.Listener.Addr().String() || h.Get("User-Agent") != userAgent || len(h) != 1 {
		t.Errorf("the proxy was asked %d times, %v, %v", p.asked.Load(), p.target.Load(), h)
	}

	t.Run("refused by the proxy", func(t *testing.T) {
		refusing := newProxy(t, nil)
		refusing.status = http.StatusForbidden
		a := send(NewRoutedClient(loopback, Route{TLS: trust, Proxy: refusing.url(t)}))
		if a.Reason != ReasonProxy || a.Err.Error() != "proxy: the proxy did not open a connection to the receiver: it answered 403" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		u := &url.URL{Scheme: "http", Host: listen(t, nil)}
		if a := send(NewRoutedClient(loopback, Route{TLS: trust, Proxy: u})); a.Reason != ReasonProxy || a.Err.Error() != "proxy: no connection to the proxy" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("the proxy's address is guarded", func(t *testing.T) {
		if a := send(NewRoutedClient(nil, Route{TLS: trust, Proxy: p.url(t)})); a.Reason != ReasonRefused || !strings.Contains(a.Err.Error(), "refused address: 127.0.0.1:") {
			t.Errorf("%+v", a)
		}
	})
	t.Run("an https proxy is not believed on the endpoint's authority", func(t *testing.T) {
		secure := newProxy(t, &tls.Config{Certificates: []tls.Certificate{bank.issue(t, later)}})
		if a := send(NewRoutedClient(loopback, Route{TLS: trust, Proxy: secure.url(t)})); a.Reason != ReasonProxy || secure.asked.Load() != 0 {
			t.Errorf("%+v", a)
		}
	})
	if len(arrived) != 0 {
		t.Error("an event arrived another way")
	}
}

// An https proxy that the system's authorities vouch for is spoken to over TLS, is shown no
// certificate, and opens the way.
func TestProxyOverTLS(t *testing.T) {
	bank, web := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	shown := make(chan int, 10)
	receiver, arrived := secureReceiver(t, &tls.Config{Certificates: []tls.Certificate{bank.issue(t, later)}})
	p := newProxy(t, &tls.Config{
		Certificates: []tls.Certificate{web.issue(t, later)}, ClientAuth: tls.RequestClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { shown <- len(s.PeerCertificates); return nil },
	})
	client := NewRoutedClient(loopback, Route{
		TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{bank.issue(t, later)}}, Proxy: p.url(t),
	})
	defer client.CloseIdleConnections()
	// Stands in for the system's authorities, which a test cannot change.
	client.Transport.(*http.Transport).DialContext = overTLS(newDialer(loopback), &tls.Config{ServerName: "127.0.0.1", RootCAs: web.pool()})
	a := (&Sender{}).Send(t.Context(), Endpoint{URL: receiver.URL, Secrets: secretsOf(t, vectorSecret), Client: client}, Message{"evt_1", []byte(`{}`)})
	if a.Outcome != Delivered || len(arrived) != 1 || <-shown != 0 {
		t.Errorf("%+v", a)
	}
}

// What the environment says of proxies holds for nobody.
func TestProxyOfTheEnvironment(t *testing.T) {
	p := newProxy(t, nil)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, p.server.URL)
	}
	for name, route := range map[string]Route{"usual": {}, "own TLS": {TLS: &tls.Config{}}} {
		if NewRoutedClient(nil, route).Transport.(*http.Transport).Proxy != nil {
			t.Errorf("%s: a proxy may be taken from the environment", name)
		}
	}
	// A proxy of the route is used where the environment excludes the receiver's host.
	t.Setenv("NO_PROXY", "*")
	transport := NewRoutedClient(nil, Route{Proxy: p.url(t)}).Transport.(*http.Transport)
	u, err := transport.Proxy(httptest.NewRequest(http.MethodPost, "https://127.0.0.1/", nil))
	if err != nil || u == nil || u.Host != p.url(t).Host {
		t.Errorf("%v, %v", u, err)
	}
}
