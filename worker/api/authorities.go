package api

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Authorities are those whose client certificates are believed. The set is immutable; a reload makes a new one. nil
// believes nobody.
type Authorities struct {
	certs []*x509.Certificate
}

// ParseAuthorities takes the certificates of a PEM file, and skips what is none.
func ParseAuthorities(file []byte) *Authorities {
	a := &Authorities{}
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			a.certs = append(a.certs, cert)
		}
	}
	return a
}

// Pool is for the handshake, which verifies signatures, constraints and that the certificate is for clients.
func (a *Authorities) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range a.certs {
		pool.AddCert(c)
	}
	return pool
}

// Client is the certificate of a connection's client, or nil. The handshake has verified it, but a connection may outlive
// a certificate and a reload, so each request asks again: is everything in the chain still valid, and does the chain end
// in an authority that is believed now?
func (a *Authorities) Client(t *tls.ConnectionState, now time.Time) *x509.Certificate {
	if a == nil || t == nil {
		return nil
	}
	for _, chain := range t.VerifiedChains {
		last := len(chain) - 1
		lapsed := func(c *x509.Certificate) bool { return !valid(c, now) }
		if a.have(chain[last], now) && !slices.ContainsFunc(chain[:last], lapsed) {
			return chain[0]
		}
	}
	return nil
}

// have says whether root is among the authorities. One that was renewed under its name and key is the same.
func (a *Authorities) have(root *x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(a.certs, func(c *x509.Certificate) bool {
		return valid(c, now) && bytes.Equal(c.RawSubject, root.RawSubject) &&
			bytes.Equal(c.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo)
	})
}

func valid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// names are a certificate's subject alternative names as a configuration writes them (RFC 5280 §4.2.1.6): DNS names and
// the host of an e-mail address in lower case. A name in the form of another kind is left out, so that a DNS name "10.0.0.1"
// is never taken for an address. The common name is nobody's.
func names(c *x509.Certificate) []string {
	var all []string
	add := func(kind, name string) {
		if kindOf(name) == kind {
			all = append(all, name)
		}
	}
	for _, n := range c.DNSNames {
		add("dns", strings.ToLower(n))
	}
	for _, u := range c.URIs {
		add("uri", u.String())
	}
	for _, m := range c.EmailAddresses {
		user, host, _ := strings.Cut(m, "@")
		add("email", user+"@"+strings.ToLower(host))
	}
	for _, ip := range c.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			add("ip", addr.Unmap().String())
		}
	}
	return all
}

// kindOf tells by its form which kind of name is meant.
func kindOf(name string) string {
	switch _, err := netip.ParseAddr(name); {
	case err == nil:
		return "ip"
	case strings.Contains(name, ":"):
		return "uri"
	case strings.Contains(name, "@"):
		return "email"
	}
	return "dns"
}
