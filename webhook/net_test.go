package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

var loopback = prefixes("127.0.0.0/8")

// The reasons that need a real socket, on loopback.
func TestReasons(t *testing.T) {
	var connections atomic.Int64
	quiet := log.New(io.Discard, "", 0)
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	plain.Start()
	defer plain.Close()
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	defer secure.Close()
	old := httptest.NewUnstartedServer(http.NotFoundHandler())
	old.Config.ErrorLog = quiet
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.StartTLS()
	defer old.Close()
	resetting := listen(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.SetLinger(0) // RST
	})
	hangingUp := listen(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 64<<10)) })
	gone := listen(t, nil)

	authorities := x509.NewCertPool()
	authorities.AddCert(secure.Certificate())
	trusting, misled := NewClient(loopback), NewClient(loopback)
	trusting.Transport.(*http.Transport).TLSClientConfig.RootCAs = authorities
	misled.Transport.(*http.Transport).TLSClientConfig.RootCAs = authorities
	misled.Transport.(*http.Transport).TLSClientConfig.ServerName = "ledger.bank.example"

	for _, c := range []struct {
		name, url string
		client    *http.Client
		reason    string
		text      string
	}{
		{"trusted", secure.URL, trusting, "", ""},
		{"guarded", plain.URL, NewClient(nil), ReasonRefused, "refused address: 127.0.0.1:"},
		{"other network allowed", plain.URL, NewClient(prefixes("10.0.0.0/8")), ReasonRefused, "the dial guard refuses it"},
		{"nobody listens", "http://" + gone, NewClient(loopback), ReasonDial, "connection refused"},
		{"unknown authority", secure.URL, NewClient(loopback), ReasonTLS, "unknown authority"},
		{"another name", secure.URL, misled, ReasonTLS, "for another host"},
		{"TLS 1.1", old.URL, NewClient(loopback), ReasonTLS, "handshake failed"},
		{"no TLS", strings.Replace(plain.URL, "http:", "https:", 1), NewClient(loopback), ReasonTLS, "does not speak TLS"},
		{"cut in the handshake", "https://" + hangingUp, NewClient(loopback), ReasonTLS, "handshake failed"},
		{"cut after the request", "http://" + hangingUp, NewClient(loopback), ReasonReset, ""},
		{"reset", "http://" + resetting, NewClient(loopback), ReasonReset, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer c.client.CloseIdleConnections()
			a := (&Sender{Client: c.client}).Send(t.Context(),
				Endpoint{URL: c.url + "/canary-path?canary=1", Secrets: secretsOf(t, vectorSecret)}, Message{"evt_1", []byte(`{}`)})
			if a.Reason != c.reason || (a.Outcome == Delivered) != (c.reason == "") {
				t.Fatalf("%+v", a)
			}
			if a.Err != nil && !strings.Contains(a.Err.Error(), c.text) {
				t.Errorf("error %q, want %q in it", a.Err, c.text)
			}
			checkSafe(t, a)
			if a.Reason == ReasonRefused && connections.Load() != 0 {
				t.Error("a refused address was connected to")
			}
		})
	}
}

// listen accepts on loopback until the test's end; with do nil nobody listens any more.
func listen(t *testing.T, do func(*net.TCPConn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if do == nil {
		_ = l.Close()
		return l.Addr().String()
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				do(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// The reasons that loopback cannot produce.
func TestReasonsOfErrors(t *testing.T) {
	addr := &net.TCPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 443}
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Addr: addr, Err: err} }
	expired := &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired, Detail: "canary"}}
	constrained := &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.CANotAuthorizedForThisName, Detail: "canary"}}
	for _, c := range []struct {
		err       error
		handshake bool
		reason    string
		text      string
	}{
		{dial(&net.DNSError{Err: "canary", Name: "bank.example", IsTimeout: true}), false, ReasonDNS, "dns: no answer from the name server"},
		{dial(&net.DNSError{Err: "canary", Name: "bank.example"}), false, ReasonDNS, "dns: lookup failed"},
		{dial(os.ErrDeadlineExceeded), false, ReasonDial, "dial: no connection in time"},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), false, ReasonDial, "dial: 8.8.8.8:443: network is unreachable"},
		{dial(errors.New("canary")), false, ReasonDial, "dial: no connection"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, false, ReasonTimeout, "timeout: the connection was not ready in time"},
		{expired, true, ReasonTLS, "tls: the certificate has expired or is not yet valid"},
		{constrained, true, ReasonTLS, "tls: the certificate is not valid"},
		{errors.New("canary"), false, ReasonProtocol, "protocol: the answer is not HTTP/1.1, or its headers are too long"},
	} {
		watch := new(handshake)
		watch.failed.Store(c.handshake)
		a := failed(classify(t.Context(), t.Context(), defaultTimeout, watch, c.err))
		if a.Reason != c.reason || a.Err.Error() != c.text {
			t.Errorf("%v: %+v", c.err, a)
		}
	}
}
