package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"stepup/worker"
	"stepup/worker/admin"
	"stepup/worker/api"
)

// door is one listener and what answers there.
type door struct {
	name    string // api, public, admin
	l       net.Listener
	handler func(*service) http.Handler
	cert    func() *tls.Certificate // nil: plain HTTP
	server  *http.Server
}

type doors []*door

// open takes the ports that the role needs.
func (s *service) open(p *parts) (doors, error) {
	listen := p.cfg.Listen
	wanted := doors{{name: "admin", handler: (*service).operators, cert: certificate(p.adminTLS, func() *tls.Certificate { return s.now.Load().adminTLS })}}
	addrs := map[string]string{"admin": listen.Admin}
	if s.role != worker.RoleWorker {
		wanted = append(wanted, &door{name: "api", handler: (*service).backends, cert: certificate(p.apiTLS, func() *tls.Certificate { return s.now.Load().apiTLS })})
		addrs["api"] = listen.API
		if listen.Public != "" {
			wanted = append(wanted, &door{name: "public", handler: func(s *service) http.Handler { return s.edge().Public() }})
			addrs["public"] = listen.Public
		}
	}
	for _, d := range wanted {
		var err error
		if d.l, err = net.Listen("tcp", addrs[d.name]); err != nil {
			wanted.close()
			return nil, fmt.Errorf("listen.%s: %w", d.name, err)
		}
	}
	return wanted, nil
}

// certificate is nil without one at the start. A later one replaces it at the next connection.
func certificate(first *tls.Certificate, now func() *tls.Certificate) func() *tls.Certificate {
	if first == nil {
		return nil
	}
	return func() *tls.Certificate {
		if c := now(); c != nil {
			return c
		}
		return first
	}
}

// serve answers at every door until it is shut; fail is told when one cannot go on.
func (ds doors) serve(s *service, fail func(error)) {
	for _, d := range ds {
		d.server = api.NewHTTPServer(d.handler(s), s.log)
		go func() {
			var err error
			if d.cert == nil {
				err = d.server.Serve(d.l)
			} else {
				d.server.TLSConfig = &tls.Config{
					MinVersion:     tls.VersionTLS12,
					GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return d.cert(), nil },
				}
				err = d.server.ServeTLS(d.l, "", "")
			}
			if !errors.Is(err, http.ErrServerClosed) {
				fail(fmt.Errorf("listen.%s: %w", d.name, err))
			}
		}()
	}
}

// addresses are for the log.
func (ds doors) addresses() []any {
	var all []any
	for _, d := range ds {
		all = append(all, slog.String(d.name, d.l.Addr().String()))
	}
	return all
}

// shutdown lets requests under way end.
func (ds doors) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, d := range ds {
		if d.server.Shutdown(ctx) != nil {
			_ = d.server.Close()
		}
	}
}

// close frees the ports.
func (ds doors) close() {
	for _, d := range ds {
		if d.l != nil {
			_ = d.l.Close()
		}
	}
}

// edge is the banks' side; it reads what is configured now at every request.
func (s *service) edge() *api.Server {
	return api.New(api.Options{
		Service:       s.worker,
		Keys:          func(provider string) ([]byte, bool) { return s.now.Load().publicKeys(provider) },
		ProviderNames: func() []string { return s.now.Load().providerNames() },
		Callers:       func() *api.Callers { return s.now.Load().callers },
		Log:           s.log,
	})
}

func (s *service) backends() http.Handler {
	return s.edge().Handler(s.now.Load().cfg.Listen.Public == "")
}

// operators is the admin listener. With a token everything but the health checks asks for it, as a bearer token or as
// the password of Basic authentication, which browsers know.
func (s *service) operators() http.Handler {
	inner := admin.Handler(admin.Options{Checks: s.worker.Checks(), Log: s.log})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := secretLine(s.now.Load().cfg.Listen.AdminToken)
		health := r.URL.Path == "/livez" || r.URL.Path == "/readyz"
		if token != "" && !health && !shows(r, token) {
			w.Header().Set("WWW-Authenticate", `Basic realm="stepup operators", charset="UTF-8"`)
			http.Error(w, "the operators' token is required", http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	})
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
