package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Trial is an attempt and what it met on its way. Like Attempt it has nothing of the URL but
// the host, and nothing that the receiver wrote but numbers and the end of its certificate.
type Trial struct {
	Attempt
	Host  string // host:port of the URL
	Proxy string // host:port of the egress proxy, whose name and address the first two steps are then about; empty: none

	Lookup LookupStep
	Dials  []DialStep // those that the guard let happen, in the order in which they ended
	TLS    *TLSStep   // with the receiver, never with a proxy; nil: not begun

	Sent      bool          // the whole request was written
	FirstByte time.Duration // from then to the first byte of the answer; 0: none came
}

// LookupStep is what the host's name came to.
type LookupStep struct {
	Name      string // empty: the host is an address, nothing was looked up
	Took      time.Duration
	Err       error // in fixed words
	Addresses []JudgedAddress
}

// JudgedAddress is an address and what the dial guard says of it.
type JudgedAddress struct {
	Addr    netip.Addr
	Refused string // why it is never connected to; empty: it is allowed
}

// DialStep is one connection, or the attempt at one.
type DialStep struct {
	Addr string // ip:port
	Took time.Duration
	Err  error // in fixed words
}

// TLSStep is the handshake with the receiver.
type TLSStep struct {
	Took    time.Duration
	Err     error     // in fixed words; nil: the receiver's certificate is believed
	Version string    // such as TLS 1.3; empty with Err
	Until   time.Time // the end of the receiver's certificate; zero where it showed none

	Configured bool      // we have a client certificate
	Asked      bool      // the receiver asked for one
	Shown      bool      // it was shown ours
	OwnUntil   time.Time // the end of ours; zero where none was shown
}

// Try is Send, over a connection of its own, and tells every step.
func (s *Sender) Try(ctx context.Context, e Endpoint, m Message) Trial {
	watch := &steps{began: map[string]time.Time{}}
	if client := cmp.Or(e.Client, s.Client); client != nil {
		if transport, ok := client.Transport.(*http.Transport); ok {
			// The same transport with no connections: none of the steps is left out, and nobody
			// else's connection is used up.
			e.Client = &http.Client{Transport: watch.over(transport.Clone())}
			defer e.Client.CloseIdleConnections()
		}
	}
	a := s.Send(watch.trace(ctx), e, m)
	return watch.trial(a, e.URL)
}

type trialKey struct{}

// steps collects a Trial. The transport's goroutines outlive a request that was given up,
// hence the lock.
type steps struct {
	mu    sync.Mutex
	guard *guard // nil: nothing was dialled
	proxy string

	lookup LookupStep
	found  []netip.Addr
	dials  []DialStep
	tls    *TLSStep
	own    TLSStep // what is known of the client certificate
	sent   time.Time
	first  time.Duration

	began map[string]time.Time // steps under way; a connection's name is its address
}

const (
	lookingUp    = "lookup"
	shakingHands = "handshake"
)

// over lets the steps see what httptrace does not show: the proxy, and the client certificate.
func (w *steps) over(t *http.Transport) *http.Transport {
	if choose := t.Proxy; choose != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			u, err := choose(r)
			if u != nil {
				w.note(func() { w.proxy = u.Host })
			}
			return u, err
		}
	}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	own := t.TLSClientConfig.GetClientCertificate
	w.own.Configured = own != nil
	t.TLSClientConfig.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert, err := new(tls.Certificate), error(nil) // none, as crypto/tls would answer
		if own != nil {
			cert, err = own(info)
		}
		w.note(func() {
			w.own.Asked, w.own.Shown = true, err == nil && len(cert.Certificate) > 0
			if w.own.Shown && cert.Leaf != nil {
				w.own.OwnUntil = cert.Leaf.NotAfter
			}
		})
		return cert, err
	}
	return t
}

func (w *steps) note(what func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what()
}

func (w *steps) begin(step string) { w.began[step] = time.Now() }

// end returns how long a step took.
func (w *steps) end(step string) time.Duration {
	defer delete(w.began, step)
	return time.Since(w.began[step])
}

func (w *steps) judgedBy(g guard) { w.note(func() { w.guard = &g }) }

func (w *steps) trace(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, trialKey{}, w)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(i httptrace.DNSStartInfo) {
			w.note(func() { w.begin(lookingUp); w.lookup.Name = i.Host })
		},
		DNSDone:      func(i httptrace.DNSDoneInfo) { w.note(func() { w.lookedUp(i) }) },
		ConnectStart: func(_, addr string) { w.note(func() { w.begin(addr) }) },
		ConnectDone:  func(_, addr string, err error) { w.note(func() { w.dialled(addr, err) }) },
		TLSHandshakeStart: func() {
			w.note(func() { w.begin(shakingHands); w.tls = new(TLSStep) })
		},
		TLSHandshakeDone: func(s tls.ConnectionState, err error) { w.note(func() { w.shookHands(s, err) }) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				w.note(func() { w.sent = time.Now() })
			}
		},
		GotFirstResponseByte: func() {
			w.note(func() {
				if !w.sent.IsZero() {
					w.first = time.Since(w.sent)
				}
			})
		},
	})
}

func (w *steps) lookedUp(i httptrace.DNSDoneInfo) {
	w.lookup.Took = w.end(lookingUp)
	for _, a := range i.Addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			w.found = append(w.found, ip.Unmap().WithZone(a.Zone))
		}
	}
	if i.Err != nil {
		w.lookup.Err = errors.New("lookup failed")
		if dns, ok := errors.AsType[*net.DNSError](i.Err); ok {
			w.lookup.Err = lookup(dns)
		}
	}
}

// dialled leaves out what the guard refused, which is told of the address, and the connection
// that another one overtook.
func (w *steps) dialled(addr string, err error) {
	step := DialStep{Addr: addr, Took: w.end(addr)}
	if errors.Is(err, errRefused) || errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		step.Err = errors.New("no connection")
		if op, ok := errors.AsType[*net.OpError](err); ok {
			step.Err = connection(op)
		}
		if errno, ok := errors.AsType[syscall.Errno](step.Err); ok { // without the address, which stands beside it
			step.Err = errno
		}
	}
	w.dials = append(w.dials, step)
}

func (w *steps) shookHands(s tls.ConnectionState, err error) {
	w.tls.Took = w.end(shakingHands)
	chain := s.PeerCertificates
	if err != nil {
		w.tls.Err = certificate(err)
		if unverified, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			chain = unverified.UnverifiedCertificates
		}
	} else {
		w.tls.Version = tls.VersionName(s.Version)
	}
	if len(chain) > 0 {
		w.tls.Until = chain[0].NotAfter
	}
}

// errUnfinished is what is wrong with a step in which the attempt ended.
var errUnfinished = errors.New("it was not done in time")

// trial is what came of it all.
func (w *steps) trial(a Attempt, target string) Trial {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := Trial{Attempt: a, Proxy: w.proxy, Lookup: w.lookup, Dials: slices.Clone(w.dials), Sent: !w.sent.IsZero(), FirstByte: w.first}
	host := ""
	if u, err := url.Parse(target); err == nil {
		host = u.Hostname()
		t.Host = net.JoinHostPort(host, port(u))
	}
	if w.proxy != "" {
		host, _, _ = net.SplitHostPort(w.proxy)
	}
	for step, at := range w.began {
		switch took := time.Since(at); step {
		case lookingUp:
			t.Lookup.Took, t.Lookup.Err = took, errUnfinished
		case shakingHands:
			w.tls.Took, w.tls.Err = took, errUnfinished
		default:
			t.Dials = append(t.Dials, DialStep{step, took, errUnfinished})
		}
	}
	if literal, err := netip.ParseAddr(host); err == nil && t.Lookup.Name == "" {
		w.found = []netip.Addr{literal}
	}
	for _, addr := range w.found {
		if w.guard != nil {
			t.Lookup.Addresses = append(t.Lookup.Addresses, w.guard.judged(addr))
		}
	}
	if w.tls != nil {
		step := *w.tls
		step.Configured, step.Asked, step.Shown, step.OwnUntil = w.own.Configured, w.own.Asked, w.own.Shown, w.own.OwnUntil
		t.TLS = &step
	}
	return t
}
