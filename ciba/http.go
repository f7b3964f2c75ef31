package ciba

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"
)

// NewHTTPClient makes the client for one provider. ca is PEM; if not empty, only these authorities are believed, else the system's.
//
// No proxy from the environment: it would see every assertion's way. No compression: an inflated answer has no honest size. Redirects
// are not followed. Time-outs of whole calls are the Client's.
func NewHTTPClient(ca []byte) (*http.Client, error) {
	var roots *x509.CertPool // nil: the system's
	if len(ca) > 0 {
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(ca) {
			return nil, errors.New("reading CA certificates: no certificate in PEM")
		}
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil,
			DialContext:            (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    5 * time.Second,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1000,
			MaxIdleConnsPerHost:    1000,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
			// One HTTP/2 connection carries many held polls: notice its death in seconds, not at every poll's deadline.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		},
	}, nil
}
