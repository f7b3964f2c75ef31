package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"stepup/worker/api"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string, until time.Time) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	return a.renewed(t, name, until)
}

// renewed is the authority with a new certificate for its key.
func (a *authority) renewed(t testing.TB, name string, until time.Time) *authority {
	t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return &authority{cert: sign(t, c, c, a.key.Public(), a.key), key: a.key}
}

func sign(t testing.TB, c, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	c.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// issue makes a certificate for the template, good for both ends.
func (a *authority) issue(t testing.TB, c x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = eternity
	}
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	leaf := sign(t, &c, a.cert, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// eternity is after every time that a bubble's clock shows.
var eternity = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)

func authorities(all ...*authority) *api.Authorities {
	var file []byte
	for _, a := range all {
		file = append(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})...)
	}
	return api.ParseAuthorities(file)
}

// connection is what a handshake leaves of a client's certificate that it verified.
func connection(c tls.Certificate, a *authority) *tls.ConnectionState {
	return &tls.ConnectionState{
		PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: [][]*x509.Certificate{{c.Leaf, a.cert}},
	}
}

func uri(s string) []*url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return []*url.URL{u}
}

func ip(s string) []net.IP { return []net.IP{netip.MustParseAddr(s).AsSlice()} }

// A certificate is a caller's by exactly one of the names that the configuration lists, of the same kind.
func TestCertificateNames(t *testing.T) {
	ca := newAuthority(t, "bank", eternity)
	set, err := api.NewCallers(map[string]api.Caller{
		"ledger": {SANs: []string{"ledger.bank.example", "spiffe://bank.example/ledger", "urn:bank:ledger", "ledger@bank.example", "10.1.2.3", "2001:db8::1", "10.9.9.9"}},
		"cards":  {SANs: []string{"cards.bank.example"}},
	}, authorities(ca))
	if err != nil {
		t.Fatal(err)
	}
	b := newBank(t)
	b.callers = set
	for _, tt := range []struct {
		name   string
		cert   x509.Certificate
		status int
	}{
		{"DNS name", x509.Certificate{DNSNames: []string{"ledger.bank.example"}}, 200},
		{"DNS name in another case", x509.Certificate{DNSNames: []string{"Ledger.BANK.example"}}, 200},
		{"one of several", x509.Certificate{DNSNames: []string{"host7.bank.example", "ledger.bank.example"}}, 200},
		{"URI", x509.Certificate{URIs: uri("spiffe://bank.example/ledger")}, 200},
		{"URN", x509.Certificate{URIs: uri("urn:bank:ledger")}, 200},
		{"e-mail", x509.Certificate{EmailAddresses: []string{"ledger@Bank.example"}}, 200},
		{"address", x509.Certificate{IPAddresses: ip("10.1.2.3")}, 200},
		{"IPv6 address", x509.Certificate{IPAddresses: ip("2001:db8::1")}, 200},

		{"another caller's", x509.Certificate{DNSNames: []string{"cards.bank.example"}}, 404},
		{"two callers'", x509.Certificate{DNSNames: []string{"cards.bank.example", "ledger.bank.example"}}, 401},
		{"nobody's", x509.Certificate{DNSNames: []string{"other.bank.example"}}, 401},
		{"no name", x509.Certificate{}, 401},
		{"common name", x509.Certificate{Subject: pkix.Name{CommonName: "ledger.bank.example"}}, 401},
		{"wildcard", x509.Certificate{DNSNames: []string{"*.bank.example"}}, 401},
		{"name below", x509.Certificate{DNSNames: []string{"x.ledger.bank.example"}}, 401},
		{"URI below", x509.Certificate{URIs: uri("spiffe://bank.example/ledger/x")}, 401},
		{"URI in another case", x509.Certificate{URIs: uri("spiffe://bank.example/Ledger")}, 401},
		{"user in another case", x509.Certificate{EmailAddresses: []string{"Ledger@bank.example"}}, 401},
		{"address as a DNS name", x509.Certificate{DNSNames: []string{"10.9.9.9"}}, 401},
		{"e-mail as a DNS name", x509.Certificate{DNSNames: []string{"ledger@bank.example"}}, 401},
		{"URI as a DNS name", x509.Certificate{DNSNames: []string{"spiffe://bank.example/ledger"}}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w := ask(b, connection(ca.issue(t, tt.cert), ca)); w.Code != tt.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
		})
	}
}

// ask fetches the ledger's step-up over a connection; keys, if any, are shown too.
func ask(b *bank, conn *tls.ConnectionState, keys ...string) *httptest.ResponseRecorder {
	r := b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", "")
	r.Header.Del("Authorization")
	for _, k := range keys {
		r.Header.Add("Authorization", "Bearer "+k)
	}
	r.TLS = conn
	return b.do(r)
}

// The handshake was long ago: each request looks at the certificate's time and at the authorities that are configured now.
func TestCertificateIsJudgedAtEachRequest(t *testing.T) {
	ca, other := newAuthority(t, "bank", eternity), newAuthority(t, "bank", eternity)
	past := time.Now().Add(-time.Second)
	name := x509.Certificate{DNSNames: []string{"ledger.bank.example"}}
	short, early := name, name
	short.NotAfter, early.NotBefore = past, time.Now().Add(time.Hour)
	good := connection(ca.issue(t, name), ca)
	middle := ca.issue(t, short)
	for _, tt := range []struct {
		name   string
		conn   *tls.ConnectionState
		now    *api.Authorities
		status int
	}{
		{"good", good, authorities(other, ca), 200},
		{"authority renewed with its key", good, authorities(ca.renewed(t, "bank", eternity.Add(-time.Hour))), 200},
		{"authority renewed under another name", good, authorities(ca.renewed(t, "other", eternity)), 401},
		{"authority lapsed", good, authorities(ca.renewed(t, "bank", past)), 401},
		{"authority removed", good, authorities(other), 401},
		{"no authorities", good, nil, 401},
		{"authorities of nobody", good, authorities(), 401},
		{"lapsed", connection(ca.issue(t, short), ca), authorities(ca), 401},
		{"not yet valid", connection(ca.issue(t, early), ca), authorities(ca), 401},
		{"an authority between lapsed", &tls.ConnectionState{
			PeerCertificates: good.PeerCertificates,
			VerifiedChains:   [][]*x509.Certificate{{good.PeerCertificates[0], middle.Leaf, ca.cert}},
		}, authorities(ca), 401},
		{"a second chain", &tls.ConnectionState{
			PeerCertificates: good.PeerCertificates,
			VerifiedChains:   [][]*x509.Certificate{{good.PeerCertificates[0], other.cert}, {good.PeerCertificates[0], ca.cert}},
		}, authorities(ca), 200},
		{"shown and not verified", &tls.ConnectionState{PeerCertificates: good.PeerCertificates}, authorities(ca), 401},
		{"TLS without a certificate", &tls.ConnectionState{}, authorities(ca), 401},
		{"no TLS", nil, authorities(ca), 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBank(t)
			var err error
			if b.callers, err = api.NewCallers(map[string]api.Caller{"ledger": {SANs: []string{"ledger.bank.example"}}}, tt.now); err != nil {
				t.Fatal(err)
			}
			w := ask(b, tt.conn)
			if w.Code != tt.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			// So that the next handshake may show a certificate that was renewed.
			if shown := tt.conn != nil && tt.conn.PeerCertificates != nil; (w.Header().Get("Connection") == "close") != (shown && tt.status == 401) {
				t.Errorf("Connection: %q", w.Header().Get("Connection"))
			}
		})
	}
}

// Key and certificate together must be one caller's; a certificate that is nobody's does not spoil a key.
func TestKeyWithCertificate(t *testing.T) {
	ca := newAuthority(t, "bank", eternity)
	b := newBank(t)
	ledgerKey, ledgerLine := api.NewAPIKey()
	cardsKey, cardsLine := api.NewAPIKey()
	var err error
	b.callers, err = api.NewCallers(map[string]api.Caller{
		"ledger": {Keys: keys(t, ledgerLine), SANs: []string{"ledger.bank.example"}},
		"cards":  {Keys: keys(t, cardsLine), SANs: []string{"cards.bank.example"}},
	}, authorities(ca))
	if err != nil {
		t.Fatal(err)
	}
	named := func(names ...string) *tls.ConnectionState {
		return connection(ca.issue(t, x509.Certificate{DNSNames: names}), ca)
	}
	for _, tt := range []struct {
		name   string
		conn   *tls.ConnectionState
		keys   []string
		status int
	}{
		{"its own key", named("ledger.bank.example"), []string{ledgerKey}, 200},
		{"another's key", named("cards.bank.example"), []string{ledgerKey}, 401},
		{"another's certificate", named("ledger.bank.example"), []string{cardsKey}, 401},
		{"wrong key", named("ledger.bank.example"), []string{"sk_wrong"}, 401},
		{"two keys", named("ledger.bank.example"), []string{ledgerKey, ledgerKey}, 401},
		{"empty key", named("ledger.bank.example"), []string{""}, 401},
		{"a gateway's certificate", named("gateway.bank.example"), []string{ledgerKey}, 200},
		{"certificate of two callers", named("ledger.bank.example", "cards.bank.example"), []string{ledgerKey}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(b, tt.conn, tt.keys...)
			if w.Code != tt.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			if w.Header().Get("Connection") != "" { // it may be a gateway's, with others' requests on it
				t.Error("a wrong key ends the connection")
			}
		})
	}
}

func TestSharedNameIsRefused(t *testing.T) {
	same := []string{"spiffe://bank.example/both"}
	if _, err := api.NewCallers(map[string]api.Caller{"a": {SANs: same}, "b": {SANs: same}}, nil); err == nil {
		t.Error("two callers have the same name in their certificates")
	}
}
