package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// errProxy marks an answer with which a proxy did not open the way to the receiver.
var errProxy = errors.New("the proxy did not open a connection to the receiver")

// errOwnCertificate marks a handshake that we ended, because the receiver would refuse us.
var errOwnCertificate = errors.New("our client certificate has expired or is not yet valid")

// errPlain marks a request without TLS by a route that is for TLS.
var errPlain = errors.New("the endpoint has its own TLS or proxy, and its URL is not https")

// Route is how an endpoint is reached, where that is not the usual way. There is no second
// way: what the route does not allow fails, and so does an http endpoint, unless the route is
// the zero one.
type Route struct {
	// TLS has the authorities that are believed instead of the system's (RootCAs) and what we
	// show the receiver (Certificates, at most one). Of the rest nothing is used. Nil: the
	// system's authorities, and nothing shown.
	TLS *tls.Config

	// Proxy is asked with CONNECT for a connection to the receiver, whose TLS it does not see
	// into; http or https, host and port alone. An https proxy is believed on the system's
	// authorities and is never shown our certificate. Nil: none; the environment's is never
	// used.
	//
	// The dial guard judges the proxy's address. It cannot judge the receiver's: the proxy
	// looks up the name and connects, so refusing private addresses is the proxy's to do.
	Proxy *url.URL
}

// NewRoutedClient returns a client as NewClient does, for endpoints that are reached by route.
func NewRoutedClient(allow []netip.Prefix, route Route) *http.Client {
	dialer := newDialer(allow)
	client := newClient(dialer)
	transport := client.Transport.(*http.Transport)
	if route.TLS != nil {
		transport.TLSClientConfig.RootCAs = route.TLS.RootCAs
		if len(route.TLS.Certificates) > 0 {
			transport.TLSClientConfig.GetClientCertificate = show(route.TLS.Certificates[0])
		}
	}
	if route.Proxy == nil {
		if transport.TLSClientConfig.RootCAs != nil || transport.TLSClientConfig.GetClientCertificate != nil {
			transport.Proxy = overHTTPS(nil)
		}
		return client
	}
	// The transport would use the endpoint's TLS settings for the proxy too. So the dialer
	// speaks TLS to the proxy, and the transport takes it for a plain one.
	plain := &url.URL{Scheme: "http", Host: net.JoinHostPort(route.Proxy.Hostname(), port(route.Proxy))}
	transport.Proxy = overHTTPS(plain)
	transport.ProxyConnectHeader = http.Header{"User-Agent": {userAgent}}
	transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%w: it answered %d", errProxy, res.StatusCode)
		}
		return nil
	}
	if route.Proxy.Scheme == "https" {
		transport.DialContext = overTLS(dialer, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: route.Proxy.Hostname()})
	}
	return client
}

// show answers a receiver that asks for a certificate, whichever authorities it names:
// crypto/tls alone would show none to a receiver that names others, and go on without. The
// certificate is held by the function, where nothing prints its key.
func show(own tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		// In TLS 1.3 a receiver refuses only after our side has finished and sent the event.
		if now := time.Now(); own.Leaf != nil && (now.Before(own.Leaf.NotBefore) || now.After(own.Leaf.NotAfter)) {
			return nil, errOwnCertificate
		}
		return &own, nil
	}
}

// overHTTPS is a transport's choice of proxy, which it makes before it dials.
func overHTTPS(proxy *url.URL) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			return nil, errPlain
		}
		return proxy, nil
	}
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// overTLS dials over TLS the one host that config names.
func overTLS(d *dialer, config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		conn := tls.Client(raw, config)
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return conn, nil
	}
}
