package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"stepup/worker"
	"stepup/worker/api"
)

// door is one listener and what answers there.
type door struct {
	name    string // api, public, admin
	addr    string
	most    int // connections at once
	handler func(*service) http.Handler
	tls     func(*parts) *tls.Config // what is in use now
	plain   bool                     // no TLS, for as long as the process runs
	l       net.Listener
	server  *http.Server
}

type doors []*door

// How many connections each listener has at once. Strangers have a quarter of them, more for two seconds, and cannot keep
// callers out (api.Limit), so the figures bound memory: the worst that 2,500 strangers can do, over HTTP/2 with answers that
// they do not read, is 120 KB each, 300 MB in all. Over HTTP/1.1 a long poll takes a connection of its own, so callers have
// as many as a process polls step-ups by default; HTTP/2 puts a hundred on one.
const (
	mostCallers = 10_000
	mostOthers  = 1000
)

// open takes the ports that the role needs.
func (s *service) open(p *parts) (doors, error) {
	listen := p.cfg.Listen
	wanted := doors{{
		name: "admin", addr: listen.Admin, most: mostOthers,
		handler: (*service).operators, tls: func(p *parts) *tls.Config { return p.adminTLS },
	}}
	if s.role != worker.RoleWorker {
		wanted = append(wanted, &door{
			name: "api", addr: listen.API, most: mostCallers,
			handler: (*service).backends, tls: func(p *parts) *tls.Config { return p.apiTLS },
		})
		if listen.Public != "" {
			wanted = append(wanted, &door{
				name: "public", addr: listen.Public, most: mostOthers,
				handler: (*service).strangers, tls: func(*parts) *tls.Config { return nil },
			})
		}
	}
	for _, d := range wanted {
		l, err := net.Listen("tcp", d.addr)
		if err != nil {
			wanted.close()
			return nil, fmt.Errorf("listen.%s: %w", d.name, err)
		}
		d.l, d.plain = api.Limit(l, spareFiles(d.most)), d.tls(p) == nil
	}
	return wanted, nil
}

// serve answers at every door until it is shut; fail is told when one cannot go on. Each handshake takes the certificate and
// the authorities that are configured then.
func (ds doors) serve(s *service, fail func(error)) {
	for _, d := range ds {
		d.server = api.NewHTTPServer(d.handler(s), s.log)
		go func() {
			var err error
			if d.plain {
				err = d.server.Serve(d.l)
			} else {
				d.server.TLSConfig = &tls.Config{
					MinVersion:         tls.VersionTLS12,
					GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return d.tls(s.now.Load()), nil },
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

// shutdown lets requests under way end, at all doors at once: who is slow at one takes no time from the others.
func (ds doors) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for _, d := range ds {
		all.Go(func() {
			if d.server.Shutdown(ctx) != nil {
				_ = d.server.Close()
			}
		})
	}
	all.Wait()
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
		WebhookKeys:   func() []byte { return s.now.Load().webhookKeys },
		Callers:       func() *api.Callers { return s.now.Load().callers },
		Log:           s.log,
	})
}

func (s *service) backends() http.Handler {
	return s.edge().Handler(s.now.Load().cfg.Listen.Public == "")
}

func (s *service) strangers() http.Handler { return s.edge().Public() }
