package api

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"time"

	"stepup/worker"
)

// redeliver sends the webhooks of one step-up again.
func (s *Server) redeliver(ctx context.Context, c *call[none]) (reply, error) {
	v, err := s.Service.Redeliver(ctx, c.caller, c.id)
	return reply{Body: v}, err
}

// spanBody is the body of POST /v1/redeliveries.
type spanBody struct {
	From    string  `json:"from"`    // RFC 3339
	Until   *string `json:"until"`   // the same; if nil: now
	Webhook *string `json:"webhook"` // if nil: every webhook
	Cursor  *string `json:"cursor"`
}

// redeliverSpan sends again what was not delivered of a range of time.
func (s *Server) redeliverSpan(ctx context.Context, c *call[spanBody]) (reply, error) {
	span, err := c.body.span(time.Now())
	if err != nil {
		return reply{}, err
	}
	done, err := s.Service.RedeliverSpan(ctx, c.caller, span)
	return reply{Body: done}, err
}

func (b spanBody) span(now time.Time) (worker.Span, error) {
	var bad faults
	var span worker.Span
	if b.From == "" {
		bad.add("from", "is required")
	} else {
		span.From = bad.time("from", b.From)
	}
	end := now
	if b.Until != nil {
		end = bad.time("until", *b.Until)
		span.Until = end
	}
	if b.Webhook != nil {
		span.Webhook = bad.webhook(*b.Webhook)
	}
	if b.Cursor != nil {
		span.Cursor = bad.cursor("cursor", *b.Cursor, 512)
	}
	if len(bad) == 0 && !span.From.Before(end) {
		bad.add("from", "must be before until, which is now when it is left out")
	}
	if len(bad) > 0 {
		return span, invalid(bad)
	}
	return span, nil
}

// timeShape is the form of a time that the document promises: RFC 3339. Package time lets a comma pass.
var timeShape = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`)

func (f *faults) time(name, value string) (t time.Time) {
	if !timeShape.MatchString(value) || t.UnmarshalText([]byte(value)) != nil {
		f.add(name, "must be a time such as 2026-11-21T02:03:04Z")
	}
	return t
}

// attemptsBody is the answer of GET /v1/step-ups/{id}/attempts.
type attemptsBody struct {
	Attempts []worker.AttemptLog `json:"attempts"`
}

// attempts tells what was tried to deliver a step-up's events.
func (s *Server) attempts(ctx context.Context, c *call[none]) (reply, error) {
	log, err := s.Service.Attempts(ctx, c.caller, c.id)
	for i := range log {
		log[i].KeyIDs = neverNull(log[i].KeyIDs)
	}
	return reply{Body: attemptsBody{neverNull(log)}}, err
}

// events answers with what a caller that pulls has not acknowledged, or holds the request until there is something, the
// wait is over or the worker drains.
func (s *Server) events(ctx context.Context, c *call[none]) (reply, error) {
	f, wait, err := parseEventFilter(c.query)
	if err != nil {
		return reply{}, err
	}
	over, err := s.hold(c, wait)
	if err != nil {
		return reply{}, err
	}
	defer over()
	page, err := s.Service.Events(ctx, c.caller, f, wait)
	page.Events = neverNull(page.Events)
	return reply{Body: page}, err
}

func parseEventFilter(q url.Values) (f worker.EventFilter, wait time.Duration, err error) {
	var bad faults
	f.Limit, wait = bad.limit(q, 100), bad.wait(q)
	if q.Has("webhook") {
		f.Webhook = bad.webhook(q.Get("webhook"))
	}
	if q.Get("after") != "" { // empty is what a loop begins with: from the oldest
		f.After = bad.cursor("after", q.Get("after"), 1024) // it names a place in each of up to 64 shards
	}
	if len(bad) > 0 {
		return f, wait, invalid(bad)
	}
	return f, wait, nil
}

// acknowledgeBody is the body of POST /v1/events/acknowledge.
type acknowledgeBody struct {
	IDs []string `json:"ids"`
}

// mostAcknowledged is how many events one call acknowledges: a page's.
const mostAcknowledged = 100

// eventShape is an event's id. Nothing else is looked for, or told back.
var eventShape = regexp.MustCompile(`^evt_[0-9A-Za-z]{1,60}$`)

// acknowledge ends the delivery of events. Each id is answered once, however often it is given.
func (s *Server) acknowledge(ctx context.Context, c *call[acknowledgeBody]) (reply, error) {
	ids, err := c.body.events()
	if err != nil {
		return reply{}, err
	}
	done, err := s.Service.Acknowledge(ctx, c.caller, ids)
	done.Acknowledged, done.Unknown = neverNull(done.Acknowledged), neverNull(done.Unknown)
	return reply{Body: done}, err
}

func (b acknowledgeBody) events() (ids []string, err error) {
	if len(b.IDs) < 1 || len(b.IDs) > mostAcknowledged {
		return nil, invalid(faults{{Field: "ids", Message: fmt.Sprintf("must have 1 to %d ids", mostAcknowledged)}})
	}
	var bad faults
	for i, id := range b.IDs {
		switch {
		case !eventShape.MatchString(id):
			bad.add(fmt.Sprintf("ids.%d", i), "is not the id of an event")
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	return ids, nil
}
