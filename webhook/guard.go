package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// errRefused marks a connection that the dial guard did not let happen.
var errRefused = errors.New("the dial guard refuses it")

const handshakeTimeout = 5 * time.Second

var (
	nat64  = ssrf.IPv6NAT64Prefix                      // RFC 6052 §2.1; the IPv4 address is in the last 4 bytes
	sixTo4 = netip.MustParsePrefix("2002::/16")        // RFC 3056 §2; the IPv4 address follows the prefix
	azure  = netip.MustParsePrefix("168.63.129.16/32") // Azure's host agent: a public address that leads to metadata
)

// guard judges addresses. Its zero value is not usable; see newGuard.
type guard struct{ ssrf *ssrf.Guardian }

func newGuard(allow []netip.Prefix) guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		switch {
		case p.Addr().Is4():
			v4 = append(v4, p)
		case p.Addr().Is4In6() && p.Bits() >= 96:
			v4 = append(v4, netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96))
		case p.IsValid():
			v6 = append(v6, p)
		}
	}
	return guard{ssrf.New(
		ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(v4...),
		ssrf.WithAllowedV6Prefixes(v6...),
		ssrf.WithDeniedV4Prefixes(azure))}
}

// allowed judges the address and, where it is a way to write another one, that one too. So a
// network on the allow list that leads to IPv4 (NAT64, 6to4) opens public addresses only.
func (g guard) allowed(addr netip.Addr) bool {
	addr = addr.Unmap() // ::ffff:a.b.c.d is a.b.c.d to the kernel
	if !addr.IsValid() || addr.Zone() != "" || g.ssrf.SafeAddr(addr) != nil {
		return false
	}
	if inner, ok := embedded(addr); ok {
		return g.ssrf.SafeAddr(inner) == nil
	}
	return true
}

// embedded returns the IPv4 address that a translator or relay would forward to.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixTo4.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// control is net.Dialer.Control: it runs after DNS, with the very address that is about to be
// connected to, so a name that changes its answer between check and use gains nothing.
func (g guard) control(network, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil || (network != "tcp4" && network != "tcp6") {
		return fmt.Errorf("%s: %w", network, errRefused)
	}
	if !g.allowed(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), errRefused)
	}
	return nil
}

// Allowed reports whether a webhook may be sent to addr: a public unicast address, or one in
// the networks that the operator added (`webhooks.allow_networks`). Everything in the IANA
// special-purpose registries is refused otherwise: private, shared (CGNAT), loopback,
// link-local with the clouds' metadata, unique local, multicast, unspecified, broadcast,
// benchmarking, documentation, NAT64, 6to4, Teredo; an address with a zone always. An
// IPv4-mapped address is judged as the IPv4 address it is.
//
// Networks that reach IPv4 through IPv6 stay guarded: with 64:ff9b::/96 (NAT64, for hosts
// without IPv4) or 2002::/16 on the list, the IPv4 address inside must be allowed as well.
func Allowed(addr netip.Addr, allow []netip.Prefix) bool { return newGuard(allow).allowed(addr) }

// NewClient returns a client for Sender. It connects to no address that Allowed refuses,
// follows no redirect, takes no proxy from the environment, asks for no compression and
// undoes none, speaks HTTP/1.1 and TLS 1.2 or later.
func NewClient(allow []netip.Prefix) *http.Client {
	return newClient(newDialer(allow))
}

// dialer connects to nothing that its guard refuses.
type dialer struct {
	net.Dialer
	guard guard
}

func newDialer(allow []netip.Prefix) *dialer {
	g := newGuard(allow)
	return &dialer{net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second, Control: g.control}, g}
}

// DialContext is net.Dialer's. A trial is told who judges its addresses.
func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if t, ok := ctx.Value(trialKey{}).(*steps); ok {
		t.judgedBy(d.guard)
	}
	return d.Dialer.DialContext(ctx, network, address)
}

func newClient(d *dialer) *http.Client {
	// HTTP/1.1 alone: a connection whose request timed out is closed. One HTTP/2 connection
	// that died silently would go on failing every delivery to that receiver.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         d.DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: handshakeTimeout,
			Protocols:           &protocols,
			DisableCompression:  true,
			// Kept warm for the next event, but given up before the 60 s after which common
			// load balancers close: a request that meets such a close is a failed attempt.
			MaxIdleConns:           1024,
			MaxIdleConnsPerHost:    16,
			IdleConnTimeout:        55 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
		},
	}
}
