// Package api is the HTTP edge for the bank's backends: routes, authentication, strict decoding, problems.
//
// It trusts the caller's key and nothing else a caller sends. It keeps no state but the callers' key hashes, and leaves
// every decision about a step-up (limits, idempotency, hints, whose it is) to the worker. What it tells strangers about an
// error is a row of one table; everything else is "internal" to them and whole in the log. Its logs and spans carry route
// patterns, codes and ids, never a path, a query, a header or a body.
package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"stepup/worker"
)

// Service is what the routes need of *worker.Worker. Every method MUST answer an id of another caller exactly as it
// answers an unknown one (not_found), and MUST return refusals as *worker.Error with a code of the problem table; any
// other error is answered as 500 and logged whole, so its text MUST NOT hold personal data. Ask MUST survive the end of
// its context once the provider may have been called: the caller's connection may go at any time.
type Service interface {
	Ask(ctx context.Context, r worker.Request) (worker.StepUp, error)
	Show(ctx context.Context, caller, id string) (worker.StepUp, error)
	Wait(ctx context.Context, caller, id string, d time.Duration) (worker.StepUp, error)
	List(ctx context.Context, caller string, f worker.Filter) (worker.Page, error)
	Cancel(ctx context.Context, caller, id string) (worker.StepUp, error)
	Redeliver(ctx context.Context, caller, id string) (worker.StepUp, error)
	RedeliverSpan(ctx context.Context, caller string, s worker.Span) (worker.Redelivered, error)
	Attempts(ctx context.Context, caller, id string) ([]worker.AttemptLog, error)
	Events(ctx context.Context, caller string, f worker.EventFilter, d time.Duration) (worker.Events, error)
	Acknowledge(ctx context.Context, caller string, ids []string) (worker.Acknowledged, error)
}

var _ Service = (*worker.Worker)(nil)

// Options wires a Server. All fields must be set, except Log.
type Options struct {
	Service       Service
	Keys          func(provider string) (jwks []byte, ok bool) // the public keys we publish for a provider; must not do I/O
	ProviderNames func() []string                              // configured now
	WebhookKeys   func() (jwks []byte)                         // the public keys of the callers' webhooks; must not do I/O
	Callers       func() *Callers                              // read once per request, so that a reload is a swap
	Log           *slog.Logger                                 // if nil: slog.Default()
}

// Server has the routes of the api and the public listener.
type Server struct {
	Options
	waits waits
}

// New makes a Server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Server{Options: o}
}

// Public is the handler of the public listener: our keys, for the provider and for receivers of webhooks. No
// authentication, no Redis.
func (s *Server) Public() http.Handler {
	return s.serve(s.publicRoutes(), s.receiverRoutes())
}

// Handler is the handler of the api listener, with the API's documentation; includePublic adds the public routes, for when
// they have no listener.
func (s *Server) Handler(includePublic bool) http.Handler {
	if includePublic {
		return s.serve(s.routes(), documentation(), s.receiverRoutes(), s.publicRoutes())
	}
	return s.serve(s.routes(), documentation(), s.receiverRoutes())
}

// paths are the patterns of a mux and what stands under each.
type paths map[string]methods

func (s *Server) serve(tables ...paths) http.Handler {
	mux := http.NewServeMux()
	for _, t := range tables {
		for pattern, m := range t {
			mux.Handle(pattern, m)
		}
	}
	return s.observe(mux)
}

func (s *Server) routes() paths {
	return paths{
		"/v1/step-ups": {
			http.MethodPost: handle(s, route[createBody]{call: s.create}),
			http.MethodGet:  handle(s, route[none]{call: s.list, query: []string{"status", "reference", "limit", "cursor"}}),
		},
		"/v1/step-ups/{id}":           {http.MethodGet: handle(s, route[none]{call: s.show, query: []string{"wait"}})},
		"/v1/step-ups/{id}/cancel":    {http.MethodPost: handle(s, route[none]{call: s.cancel})},
		"/v1/step-ups/{id}/redeliver": {http.MethodPost: handle(s, route[none]{call: s.redeliver})},
		"/v1/step-ups/{id}/attempts":  {http.MethodGet: handle(s, route[none]{call: s.attempts})},
		"/v1/redeliveries":            {http.MethodPost: handle(s, route[spanBody]{call: s.redeliverSpan})},
		"/v1/events":                  {http.MethodGet: handle(s, route[none]{call: s.events, query: []string{"webhook", "after", "limit", "wait"}})},
		"/v1/events/acknowledge":      {http.MethodPost: handle(s, route[acknowledgeBody]{call: s.acknowledge})},
	}
}

// create asks the person. The answer includes /bc-auth, so that refusals are told at once.
func (s *Server) create(ctx context.Context, c *call[createBody]) (reply, error) {
	r, err := request(c)
	if err != nil {
		return reply{}, err
	}
	v, err := s.Service.Ask(ctx, r)
	return reply{Status: http.StatusCreated, Location: "/v1/step-ups/" + v.ID, Body: v}, err
}

// show answers with the step-up, or holds the request until it is final, the wait is over or the worker drains.
func (s *Server) show(ctx context.Context, c *call[none]) (reply, error) {
	var bad faults
	wait := bad.wait(c.query)
	if len(bad) > 0 {
		return reply{}, invalid(bad)
	}
	over, err := s.hold(c, wait)
	if err != nil {
		return reply{}, err
	}
	defer over()
	var v worker.StepUp
	if wait == 0 {
		v, err = s.Service.Show(ctx, c.caller, c.id)
	} else {
		v, err = s.Service.Wait(ctx, c.caller, c.id, wait)
	}
	if err != nil {
		return reply{}, err
	}
	tag := stepUpTag(v)
	if notModified(c.header, tag) {
		return reply{Status: http.StatusNotModified, ETag: tag}, nil
	}
	return reply{ETag: tag, Body: v}, nil
}

// stepUpTag changes with everything that can change of a step-up. What is personal counts only as there or gone, for it
// never changes otherwise: whoever sees a tag must not be able to try out whom it was made of.
func stepUpTag(v worker.StepUp) string {
	personal := []bool{v.Identity != nil, v.Reference != nil, len(v.Metadata) > 0}
	v.Identity, v.Reference, v.Metadata = nil, nil, nil
	raw, _ := json.Marshal([]any{v, personal}) // plain data: cannot fail
	return tagOf(raw)
}

func (s *Server) list(ctx context.Context, c *call[none]) (reply, error) {
	f, err := parseFilter(c.query)
	if err != nil {
		return reply{}, err
	}
	page, err := s.Service.List(ctx, c.caller, f)
	page.StepUps = neverNull(page.StepUps)
	return reply{Body: page}, err
}

// neverNull is a list that is told as [] when there is nothing in it.
func neverNull[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// cancel stops our polling; the prompt on the phone stays, CIBA has no cancel message.
func (s *Server) cancel(ctx context.Context, c *call[none]) (reply, error) {
	v, err := s.Service.Cancel(ctx, c.caller, c.id)
	return reply{Body: v}, err
}

func (s *Server) publicRoutes() paths {
	return paths{
		"/providers/{provider}/jwks.json": readOnly(func(x *exchange, r *http.Request) { s.jwks(x, r.PathValue("provider")) }),
		"/.well-known/jwks.json": readOnly(func(x *exchange, _ *http.Request) {
			names := s.ProviderNames()
			if len(names) != 1 { // which provider's keys is not for us to guess
				x.fail(refuse("not_found", ""))
				return
			}
			s.jwks(x, names[0])
		}),
	}
}

// receiverRoutes are on both listeners: receivers of webhooks may stand on either side.
func (s *Server) receiverRoutes() paths {
	return paths{
		"/.well-known/webhook-jwks.json": readOnly(func(x *exchange, _ *http.Request) { x.publish(s.WebhookKeys()) }),
	}
}

// jwks publishes our keys. The provider fetches them with 3 s a try and caches them for an hour (Singpass).
func (s *Server) jwks(x *exchange, provider string) {
	var keys []byte
	ok := slices.Contains(s.ProviderNames(), provider)
	if ok {
		keys, ok = s.Keys(provider)
	}
	if !ok {
		x.fail(refuse("not_found", ""))
		return
	}
	x.publish(keys)
}

// publish answers with a key set.
func (x *exchange) publish(keys []byte) {
	x.Header().Set("Cache-Control", "public, max-age=3600")
	x.Header().Set("Content-Type", "application/json")
	x.Header().Set("Content-Length", strconv.Itoa(len(keys)))
	x.WriteHeader(http.StatusOK)
	x.Write(keys) // net/http sends no body to HEAD
}

// refuse makes an error of the problem table.
func refuse(code, detail string, fields ...worker.FieldError) *worker.Error {
	return &worker.Error{Code: code, Detail: detail, Fields: fields}
}
