package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"stepup/worker/api"
)

// lines are what is written to a log.
type lines chan string

func (l lines) Write(p []byte) (int, error) { l <- string(p); return len(p), nil }

func (l lines) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-l:
		return line
	case <-time.After(30 * time.Second):
		t.Fatal("nothing is logged")
		return ""
	}
}

// What goes wrong on a connection is logged with its client's address, and without what the client wrote.
func TestErrorLogQuotesNobody(t *testing.T) {
	const canary = "S1234567D"
	ca := newAuthority(t, "bank", eternity)
	log := make(lines, 100)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = api.NewHTTPServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(`a "fault" of ours`) }), slog.New(slog.NewTextHandler(log, nil)))
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authorities(ca).Pool()}
	srv.StartTLS()
	defer srv.Close()
	// Two that sign under one name: the certificate of one is shown as what the other signed by.
	stranger, twin := newAuthority(t, canary, eternity), newAuthority(t, canary, eternity)
	unknown := stranger.issue(t, x509.Certificate{Subject: pkix.Name{CommonName: canary}})
	unknown.Certificate = append(unknown.Certificate, twin.cert.Raw)
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &unknown, nil } // whoever is asked for
	const greeting = "GET /" + canary + "/sk_KEY HTTP/1.1\r\nHost: bank\r\n\r\n"
	for _, tt := range []struct {
		name   string
		client *tls.Config
		want   string
	}{
		{"HTTP/1.1 where HTTP/2 was agreed", &tls.Config{NextProtos: []string{"h2"}}, "bogus greeting"},
		{"protocols that we lack", &tls.Config{NextProtos: []string{canary, "x"}}, "unsupported application protocols"},
		{"an authority that nobody believes", &tls.Config{GetClientCertificate: show}, "signed by unknown authority (possibly because of"},
		{"a fault of ours", &tls.Config{NextProtos: []string{"http/1.1"}}, "goroutine "},
	} {
		tt.client.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), tt.client)
		from := "127.0.0.1:"
		if err == nil {
			from = conn.LocalAddr().String()
			io.WriteString(conn, greeting)
			defer conn.Close()
		}
		line := log.next(t)
		if strings.Contains(line, canary) || strings.Contains(line, "sk_KEY") || !strings.Contains(line, tt.want) || !strings.Contains(line, from) {
			t.Errorf("%s: logged %s\nwant %q", tt.name, line, tt.want)
		}
	}
}
