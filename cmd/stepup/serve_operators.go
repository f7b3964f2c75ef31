package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"stepup/deploy"
	"stepup/worker/admin"
	"stepup/worker/api"
)

// operators is the admin listener. Where a token or authorities are configured, everything but the health checks wants one
// of the two.
func (s *service) operators() http.Handler {
	inner := admin.Handler(admin.Options{
		Checks: s.worker.Checks(), Log: s.log, Service: s.worker, Redis: s.tasks, Metrics: s.metrics, Runbook: deploy.Runbook,
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := s.now.Load()
		switch {
		case r.URL.Path == "/livez" || r.URL.Path == "/readyz":
		case p.operator(r):
			api.Keep(r.Context())
		case p.cfg.Listen.AdminToken.IsZero() && p.operators == nil:
			http.Error(w, "without listen.admin_token_file this is for this machine alone, as http://localhost or http://127.0.0.1", http.StatusForbidden)
			return
		case p.cfg.Listen.AdminToken.IsZero():
			http.Error(w, "an operator's certificate is required", http.StatusForbidden)
			return
		default:
			w.Header().Set("WWW-Authenticate", `Basic realm="stepup operators", charset="UTF-8"`)
			http.Error(w, "the operators' token is required", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

// operator says whether the request comes from one: it shows the token, as a bearer token or as the password of Basic
// authentication, which browsers know, or a certificate of the operators' authorities. With neither configured, whoever is
// on this machine is one; a reload that takes both away does not open a listener that others reach.
func (p *parts) operator(r *http.Request) bool {
	token := secretLine(p.cfg.Listen.AdminToken)
	if token == "" && p.operators == nil {
		return onLoopback(r)
	}
	return token != "" && shows(r, token) || p.operators.Client(r.TLS, time.Now()) != nil
}

// onLoopback says that the request came to an address that only this machine reaches, and by its name: a page on the internet
// could have its own name lead here, and would be taken for ours by the browser that shows it.
func onLoopback(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	addr, err := netip.ParseAddrPort(local.String())
	return err == nil && addr.Addr().Unmap().IsLoopback() && namesLoopback(r.Host)
}

func namesLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// shows says whether the request carries the token; hashes have one length, so time tells nothing.
func shows(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, given, _ = r.BasicAuth()
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
