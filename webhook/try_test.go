package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// try makes a trial, and looks at what every one must be.
func try(t *testing.T, s *Sender, e Endpoint) Trial {
	t.Helper()
	if e.Secrets == nil {
		e.Secrets = secretsOf(t, vectorSecret)
	}
	got := s.Try(t.Context(), e, Message{"evt_1", []byte(`{"type":"endpoint.test"}`)})
	checkSafe(t, got.Attempt)
	text := fmt.Sprintf("%+v %v %s", got, got.Warnings(), got.Advice())
	for _, step := range got.Dials {
		text += fmt.Sprint(step)
	}
	if got.TLS != nil {
		text += fmt.Sprintf("%+v", *got.TLS)
	}
	if strings.Contains(text, "canary") {
		t.Errorf("a trial tells what it must not: %s", text)
	}
	if (got.Outcome == Delivered) != (got.Advice() == "") {
		t.Errorf("%v, and the advice is %q", got.Outcome, got.Advice())
	}
	return got
}

// A good endpoint: every step is told, the event is a real one, and the connections of others
// are left alone.
func TestTry(t *testing.T) {
	bank := newAuthority(t)
	later := time.Now().Add(60 * 24 * time.Hour).Truncate(time.Second)
	own := bank.issue(t, later.Add(time.Hour))
	receiver, arrived := secureReceiver(t, &tls.Config{
		Certificates: []tls.Certificate{bank.issue(t, later)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: bank.pool(),
	})
	client := NewRoutedClient(loopback, Route{TLS: &tls.Config{RootCAs: bank.pool(), Certificates: []tls.Certificate{own}}})
	defer client.CloseIdleConnections()
	e := Endpoint{URL: receiver.URL + "/canary?token=canary", Secrets: secretsOf(t, vectorSecret, vectorPrivate), Client: client}
	var s Sender
	if a := s.Send(t.Context(), e, Message{"evt_0", []byte(`{}`)}); a.Outcome != Delivered {
		t.Fatalf("%+v", a)
	}
	kept := (<-arrived).RemoteAddr

	got := try(t, &s, e)
	r := <-arrived
	m, err := Read(r, Keys(e.Secrets), time.Now())
	if err != nil || m.ID != "evt_1" || string(m.Body) != `{"type":"endpoint.test"}` || r.Header.Get("Connection") != "" {
		t.Errorf("the receiver got %v %s, %v", m, m.Body, err)
	}
	addr := receiver.Listener.Addr().String()
	if got.Outcome != Delivered || got.Host != addr || got.Proxy != "" || got.Lookup.Name != "" || !got.Sent || got.FirstByte <= 0 || len(got.KeyIDs) != 2 {
		t.Errorf("%+v", got)
	}
	if a := got.Lookup.Addresses; len(a) != 1 || a[0].Addr.String() != "127.0.0.1" || a[0].Refused != "" {
		t.Errorf("addresses %v", a)
	}
	if len(got.Dials) != 1 || got.Dials[0].Addr != addr || got.Dials[0].Err != nil || got.Dials[0].Took <= 0 {
		t.Errorf("connections %v", got.Dials)
	}
	want := TLSStep{Took: got.TLS.Took, Version: "TLS 1.3", Until: later.UTC(), Configured: true, Asked: true, Shown: true, OwnUntil: later.Add(time.Hour).UTC()}
	if *got.TLS != want || want.Took <= 0 {
		t.Errorf("TLS %+v, want %+v", *got.TLS, want)
	}
	if w := got.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}

	if a := s.Send(t.Context(), e, Message{"evt_2", []byte(`{}`)}); a.Outcome != Delivered {
		t.Fatalf("%+v", a)
	}
	if r := <-arrived; r.RemoteAddr != kept {
		t.Error("the trial cost the sender its connection")
	}
}

// What can be wrong with a receiver's TLS, and what to do about it.
func TestTryTLS(t *testing.T) {
	bank, stranger := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	good, expired := bank.issue(t, later), bank.issue(t, time.Now().Add(-time.Hour))
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	believe := func(own ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: bank.pool(), Certificates: own}
	}
	asks := func(version uint16) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: bank.pool(), MaxVersion: version}
	}
	for _, c := range []struct {
		name     string
		receiver *tls.Config // nil: no TLS
		ours     *tls.Config
		reason   string
		advice   string
		until    time.Time
		warns    string
	}{
		{"unknown authority", &tls.Config{Certificates: []tls.Certificate{stranger.issue(t, later)}}, believe(), ReasonTLS, "tls.ca_file", later, ""},
		{"expired", &tls.Config{Certificates: []tls.Certificate{expired}}, believe(), ReasonTLS, "renew", expired.Leaf.NotAfter, ""},
		{"no TLS", nil, believe(), ReasonTLS, "does not speak TLS", time.Time{}, ""},
		{"asks, none configured, TLS 1.3", asks(tls.VersionTLS13), believe(), ReasonTLS, adviceNoCertificate, later, "none is configured"},
		{"asks, none configured, TLS 1.2", asks(tls.VersionTLS12), believe(), ReasonTLS, adviceNoCertificate, time.Time{}, "none is configured"},
		{"asks, refuses ours", asks(tls.VersionTLS13), believe(stranger.issue(t, later)), ReasonTLS, "does not take our client certificate", later, "our client certificate ends"},
		{"ours has expired", asks(tls.VersionTLS13), believe(expired), ReasonTLS, "Renew the client certificate", time.Time{}, ""},
		{"does not ask", &tls.Config{Certificates: []tls.Certificate{good}}, believe(good), "", "", later, "did not ask for one"},
		{"certificate ends soon", &tls.Config{Certificates: []tls.Certificate{good}}, believe(), "", "", later, "the receiver's certificate ends on " + later.UTC().Format(time.DateOnly)},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := strings.Replace(plain.URL, "http:", "https:", 1)
			if c.receiver != nil {
				receiver, _ := secureReceiver(t, c.receiver)
				target = receiver.URL
			}
			got := try(t, &Sender{Client: NewRoutedClient(loopback, Route{TLS: c.ours})}, Endpoint{URL: target})
			// In TLS 1.3 the receiver may reset the connection before its alert is read.
			late := c.reason == ReasonTLS && got.Reason == ReasonReset && got.TLS.Asked
			if got.Reason != c.reason && !late || !late && !strings.Contains(got.Advice(), c.advice) {
				t.Errorf("%+v, advice %q", got.Attempt, got.Advice())
			}
			if got.TLS == nil || !got.TLS.Until.Equal(c.until.UTC().Truncate(time.Second)) {
				t.Errorf("TLS %+v, want until %v", got.TLS, c.until)
			}
			if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, c.warns) {
				t.Errorf("warnings %q, want %q", w, c.warns)
			}
		})
	}
}

// Names: every address is judged, and only what is allowed is connected to.
func TestTryNames(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	_, port, _ := net.SplitHostPort(receiver.Listener.Addr().String())
	names := &nameServer{}
	d := newDialer(loopback)
	d.Resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	s := &Sender{Client: newClient(d)}
	for _, c := range []struct {
		addrs  map[string]string // why each is refused; empty: it is allowed
		reason string
		dials  int
		warns  string
	}{
		{map[string]string{"127.0.0.1": ""}, "", 1, "without TLS"},
		{map[string]string{"10.0.0.1": "it is in a private network", "127.0.0.1": ""}, "", 1, "1 of the name's 2 addresses"},
		{map[string]string{
			"169.254.169.254": "it is link-local, where clouds keep their metadata", "100.64.0.1": "it is in a network for special purposes",
			"168.63.129.16": "it is in a network for special purposes", "224.0.0.1": "it is for multicast",
		}, ReasonRefused, 0, ""},
		{nil, ReasonDNS, 0, ""},
	} {
		var addrs []string
		for a := range c.addrs {
			addrs = append(addrs, a)
		}
		names.set(addrs...)
		got := try(t, s, Endpoint{URL: "http://hooks.bank.invalid:" + port + "/"})
		if got.Reason != c.reason || got.Host != "hooks.bank.invalid:"+port || got.Lookup.Name != "hooks.bank.invalid" || len(got.Dials) != c.dials || got.TLS != nil {
			t.Errorf("%v: %+v", c.addrs, got)
		}
		if (got.Lookup.Err != nil) != (c.addrs == nil) || len(got.Lookup.Addresses) != len(c.addrs) {
			t.Errorf("%v: lookup %+v", c.addrs, got.Lookup)
			continue
		}
		for _, a := range got.Lookup.Addresses {
			if why, ok := c.addrs[a.Addr.String()]; !ok || a.Refused != why {
				t.Errorf("%+v, want %q", a, why)
			}
		}
		if w := strings.Join(got.Warnings(), "\n"); !strings.Contains(w, c.warns) || c.warns == "" && w != "" {
			t.Errorf("%v: warnings %q", c.addrs, w)
		}
	}

	// An address in the URL is judged as well.
	if got := try(t, &Sender{Client: NewClient(nil)}, Endpoint{URL: receiver.URL}); got.Reason != ReasonRefused ||
		len(got.Lookup.Addresses) != 1 || got.Lookup.Addresses[0].Refused != "it is this machine itself" || len(got.Dials) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestWhyRefused(t *testing.T) {
	for addr, want := range map[string]string{
		"::1": "it is this machine itself", "fd00::1": "it is in a private network", "fe80::1": "it is link-local, where clouds keep their metadata",
		"fe80::1%eth0": "it has a zone, so it leads nowhere but within one network", "64:ff9b::a00:1": "it leads to 10.0.0.1",
		"2002:7f00:1::": "it leads to 127.0.0.1", "::ffff:10.0.0.1": "it is in a private network", "0.0.0.0": "it is in a network for special purposes",
	} {
		if got := newGuard(nil).judged(netip.MustParseAddr(addr)); got.Refused != want {
			t.Errorf("%s: %q, want %q", addr, got.Refused, want)
		}
	}
	if got := newGuard(nil).judged(netip.MustParseAddr("8.8.8.8")); got.Refused != "" {
		t.Errorf("a public address: %q", got.Refused)
	}
}

// Through a proxy, the first steps are about the proxy, and what it does is its to see to.
func TestTryProxy(t *testing.T) {
	bank := newAuthority(t)
	receiver, arrived := secureReceiver(t, &tls.Config{Certificates: []tls.Certificate{bank.issue(t, time.Now().Add(time.Hour))}})
	p := newProxy(t, nil)
	try := func(u *url.URL) Trial {
		t.Helper()
		return try(t, &Sender{}, Endpoint{URL: receiver.URL, Client: NewRoutedClient(loopback, Route{TLS: &tls.Config{RootCAs: bank.pool()}, Proxy: u})})
	}
	got := try(p.url(t))
	if got.Outcome != Delivered || got.Proxy != p.url(t).Host || got.Host != receiver.Listener.Addr().String() || len(arrived) != 1 {
		t.Errorf("%+v", got)
	}
	if len(got.Dials) != 1 || got.Dials[0].Addr != p.url(t).Host || got.TLS == nil || got.TLS.Version != "TLS 1.3" ||
		!strings.Contains(strings.Join(got.Warnings(), "\n"), "the proxy looks up the receiver's name") {
		t.Errorf("%+v, %+v, %q", got.Dials, got.TLS, got.Warnings())
	}
	p.status = http.StatusForbidden
	if got := try(p.url(t)); got.Reason != ReasonProxy || got.TLS != nil || len(got.Dials) != 1 || got.Dials[0].Err != nil || !strings.Contains(got.Advice(), "CONNECT") {
		t.Errorf("refused by the proxy: %+v", got)
	}
	nobody := &url.URL{Scheme: "http", Host: listen(t, nil)}
	if got := try(nobody); got.Reason != ReasonProxy || len(got.Dials) != 1 || got.Dials[0].Err == nil {
		t.Errorf("nobody listens: %+v", got)
	}
}

// Answers, and where an attempt ends that takes too long.
func TestTryAnswers(t *testing.T) {
	for status, want := range map[int]string{
		400: "does not understand", 401: "verify the raw body with the key", 403: "headers_file", 404: "nothing at the URL's path", 405: "no POST", 415: "application/json",
		418: "Only a 2xx is a delivery", 429: "fewer requests", 500: "a fault of its own", 502: "a fault of its own", 308: "never followed", 410: "410 stops an event",
	} {
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://canary.example/")
			w.Header().Set("Retry-After", "7")
			http.Error(w, "canary", status)
		}))
		got := try(t, &Sender{Client: NewClient(loopback)}, Endpoint{URL: receiver.URL})
		receiver.Close()
		if got.Status != status || !strings.Contains(got.Advice(), want) || !got.Sent || (got.RetryAfter == 7*time.Second) != (status == 429) {
			t.Errorf("%d: %+v, %q", status, got.Attempt, got.Advice())
		}
	}
	nobody := try(t, &Sender{Client: NewClient(loopback)}, Endpoint{URL: "http://" + listen(t, nil)})
	if nobody.Reason != ReasonDial || len(nobody.Dials) != 1 || fmt.Sprint(nobody.Dials[0].Err) != "connection refused" || nobody.Sent {
		t.Errorf("nobody listens: %+v", nobody)
	}
	cut := try(t, &Sender{Client: NewClient(loopback)}, Endpoint{URL: "http://" + listen(t, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 64<<10)) })})
	if cut.Reason != ReasonReset || !strings.Contains(cut.Advice(), "closed the connection") {
		t.Errorf("cut: %+v", cut)
	}
}

func TestTryTakesNoLongerThanSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		got := try(t, s, Endpoint{URL: "http://bank.example/"})
		if got.Reason != ReasonTimeout || !got.Sent || got.FirstByte != 0 || got.Duration != defaultTimeout || got.Advice() != adviceSlowAnswer {
			t.Errorf("no answer: %+v, %q", got, got.Advice())
		}
		// A step that the time-out ended is told with the time it took.
		d := newDialer(nil)
		d.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		d.Timeout = time.Minute
		s = &Sender{Client: newClient(d), Timeout: time.Second}
		got = try(t, s, Endpoint{URL: "https://bank.invalid/"})
		if got.Sent || got.Lookup.Name != "bank.invalid" || got.Lookup.Err == nil || got.Lookup.Took != time.Second || got.Reason != ReasonTimeout && got.Reason != ReasonDNS {
			t.Errorf("no name server: %+v", got)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := Endpoint{URL: "https://127.0.0.1:1/", Secrets: secretsOf(t, vectorSecret)}
	if got := (&Sender{Client: NewClient(loopback)}).Try(ctx, e, Message{"evt_1", []byte(`{}`)}); got.Reason != ReasonCancelled || got.Sent {
		t.Errorf("cancelled: %+v", got)
	}
	if got := (&Sender{}).Try(t.Context(), e, Message{"evt_1", []byte(`{}`)}); got.Reason != ReasonConfiguration {
		t.Errorf("without a client: %+v", got)
	}
}

// Every Reason has its advice: a new word without one is found here.
func TestEveryReasonHasAdvice(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	words := 0
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Reason") {
			return true
		}
		words++
		word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if text := (Trial{Attempt: Attempt{Reason: word}}).Advice(); len(text) < 20 || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: the advice is %q", v.Names[0].Name, text)
		}
		return true
	})
	if words != len(advice) || words < 13 {
		t.Errorf("%d reasons, %d with advice", words, len(advice))
	}
}
