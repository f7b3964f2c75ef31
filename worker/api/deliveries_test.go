package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/worker"
	"stepup/worker/api"
)

// deliveries are what the fake worker has of them, and how it was asked.
type deliveries struct {
	events   []worker.Pulled // of the ledger
	attempts []worker.AttemptLog
	filters  []worker.EventFilter
	waits    []time.Duration
	acked    [][]string
	spans    []worker.Span
}

func (s *service) Events(ctx context.Context, caller string, f worker.EventFilter, d time.Duration) (worker.Events, error) {
	s.mu.Lock()
	s.queue.filters, s.queue.waits = append(s.queue.filters, f), append(s.queue.waits, d)
	page, err := worker.Events{Next: "AAAA"}, s.err
	if caller == "ledger" {
		page.Events = s.queue.events
	}
	s.mu.Unlock()
	if err == nil && d > 0 && s.wait != nil {
		err = s.wait(ctx, d)
	}
	return page, err
}

func (s *service) Acknowledge(_ context.Context, caller string, ids []string) (worker.Acknowledged, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.acked = append(s.queue.acked, ids)
	var done worker.Acknowledged
	for _, id := range ids {
		if caller == "ledger" && slices.ContainsFunc(s.queue.events, func(p worker.Pulled) bool { return p.ID == id }) {
			done.Acknowledged = append(done.Acknowledged, id)
		} else {
			done.Unknown = append(done.Unknown, id)
		}
	}
	return done, s.err
}

func (s *service) RedeliverSpan(_ context.Context, _ string, span worker.Span) (worker.Redelivered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.spans = append(s.queue.spans, span)
	return worker.Redelivered{StepUps: 2, Busy: 1, Gone: 3, NextCursor: "BBBB"}, s.err
}

func (s *service) Attempts(_ context.Context, caller, id string) ([]worker.AttemptLog, error) {
	_, err := s.find(caller, id)
	return s.queue.attempts, err
}

const (
	firstEvent  = "evt_00LEDGERAAAAAAAAAAAAAA22222222"
	secondEvent = "evt_00LEDGERAAAAAAAAAAAAAA33333333"
)

// pulled is the event of the ledger's denied step-up; what stands in its reference, JSON may write in several ways.
func pulled(id string) worker.Pulled {
	return worker.Pulled{ID: id, Webhook: "queue", Event: json.RawMessage(`{"type":"step_up.denied","timestamp":"2026-11-21T02:03:20.456Z","data":` +
		`{"id":"su_00LEDGERAAAAAAAAAAAAAA","status":"denied","provider":"singpass","reference":"\u003cé\u2028/","metadata":{},` +
		`"created_at":"2026-11-21T02:03:04.123Z","expires_at":"2026-11-21T02:05:04.123Z","completed_at":"2026-11-21T02:03:20.456Z",` +
		`"reason":{"code":"denied_by_user","message":"","provider_error":null,"trace_id":null},"identity":null,` +
		`"result_expires_at":"2026-11-21T02:18:20.456Z","identity_purged_at":null}}`)}
}

// A page has the events as a webhook would have them, byte for byte, and what was asked for reaches the worker.
func TestEvents(t *testing.T) {
	b := newBank(t)
	b.queue.events = []worker.Pulled{pulled(firstEvent), pulled(secondEvent)}
	w := b.do(b.request("GET", "/v1/events?webhook=queue&after=abc&limit=7&wait=1500ms", ""))
	want := fmt.Sprintf(`{"events":[{"id":%q,"webhook":"queue","event":%s},{"id":%q,"webhook":"queue","event":%[2]s}],"next":"AAAA"}`+"\n",
		firstEvent, pulled("").Event, secondEvent)
	if w.Code != 200 || w.Body.String() != want || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
		t.Errorf("%d %v %s\nwant %s", w.Code, w.Header(), w.Body, want)
	}
	if f := (worker.EventFilter{Webhook: "queue", After: "abc", Limit: 7}); b.queue.filters[0] != f || b.queue.waits[0] != 1500*time.Millisecond {
		t.Errorf("asked for %+v within %v, want %+v", b.queue.filters[0], b.queue.waits[0], f)
	}
	r := b.request("GET", "/v1/events", "")
	r.Header.Set("Authorization", "Bearer "+b.cards)
	if w := b.do(r); w.Code != 200 || w.Body.String() != `{"events":[],"next":"AAAA"}`+"\n" {
		t.Errorf("another caller: %d %s", w.Code, w.Body)
	}
	if f := (worker.EventFilter{Limit: 100}); b.queue.filters[1] != f || b.queue.waits[1] != 0 {
		t.Errorf("without a query it asked for %+v within %v, want %+v at once", b.queue.filters[1], b.queue.waits[1], f)
	}
	if w := b.do(b.request("GET", "/v1/events?after=&webhook=queue", "")); w.Code != 200 || b.queue.filters[2] != (worker.EventFilter{Webhook: "queue", Limit: 100}) {
		t.Errorf("with an empty after, as a loop begins, it asked for %+v: %d %s; want all from the oldest", b.queue.filters[2:], w.Code, w.Body)
	}
	b.service.err = &worker.Error{Code: worker.CodeNotFound, Detail: "no webhook queue"}
	unknown := b.do(b.request("GET", "/v1/events?webhook=nobody", ""))
	if p := problemOf(t, unknown); unknown.Code != 404 || p.Detail != "There is nothing here for this caller." {
		t.Errorf("an unknown webhook: %s", unknown.Body)
	}
}

// Each id is answered once, and every one is either acknowledged or unknown.
func TestAcknowledge(t *testing.T) {
	b := newBank(t)
	b.queue.events = []worker.Pulled{pulled(firstEvent), pulled(secondEvent)}
	acknowledge := func(body string) *httptest.ResponseRecorder {
		return b.do(b.request("POST", "/v1/events/acknowledge", body))
	}
	for _, tt := range []struct{ name, body, want string }{
		{"one", `{"ids":["` + firstEvent + `"]}`, `{"acknowledged":["` + firstEvent + `"],"unknown":[]}`},
		{"one twice", `{"ids":["` + firstEvent + `","` + secondEvent + `","` + firstEvent + `"]}`, `{"acknowledged":["` + firstEvent + `","` + secondEvent + `"],"unknown":[]}`},
		{"unknown", `{"ids":["evt_x"]}`, `{"acknowledged":[],"unknown":["evt_x"]}`},
		{"some", `{"ids":["evt_A","` + secondEvent + `"]}`, `{"acknowledged":["` + secondEvent + `"],"unknown":["evt_A"]}`},
		{"a hundred", `{"ids":["evt_B"` + strings.Repeat(`,"evt_B"`, 99) + `]}`, `{"acknowledged":[],"unknown":["evt_B"]}`},
	} {
		if w := acknowledge(tt.body); w.Code != 200 || w.Body.String() != tt.want+"\n" {
			t.Errorf("%s: %d %s\nwant %s", tt.name, w.Code, w.Body, tt.want)
		}
	}
	asked := len(b.queue.acked)
	for _, tt := range []struct{ name, body, field string }{
		{"nothing", `{}`, "ids"},
		{"none", `{"ids":[]}`, "ids"},
		{"null", `{"ids":null}`, "ids"},
		{"not a list", `{"ids":"` + firstEvent + `"}`, "ids"},
		{"a number", `{"ids":[1]}`, "ids.0"},
		{"a number behind an id", `{"ids":["` + firstEvent + `",1]}`, "ids.1"},
		{"a null", `{"ids":[null]}`, "ids"},
		{"a list in it", `{"ids":[["` + firstEvent + `"]]}`, "ids.0"},
		{"101", `{"ids":["evt_B"` + strings.Repeat(`,"evt_B"`, 100) + `]}`, "ids"},
		{"a step-up's id", `{"ids":["evt_A","su_00LEDGERAAAAAAAAAAAAAA"]}`, "ids.1"},
		{"an empty one", `{"ids":[""]}`, "ids.0"},
		{"a longer one", `{"ids":["evt_` + strings.Repeat("A", 61) + `"]}`, "ids.0"},
		{"with a blank", `{"ids":["` + firstEvent + ` "]}`, "ids.0"},
		{"with an end of line", `{"ids":["` + firstEvent + `\n"]}`, "ids.0"},
		{"another member", `{"ids":["` + firstEvent + `"],"webhook":"queue"}`, "webhook"},
		{"two lists", `{"ids":["` + firstEvent + `"],"ids":["` + firstEvent + `"]}`, "ids"},
		{"in capitals", `{"IDS":["` + firstEvent + `"]}`, "IDS"},
	} {
		w := acknowledge(tt.body)
		if p := problemOf(t, w); w.Code != 400 || len(p.Errors) == 0 || p.Errors[0].Field != tt.field {
			t.Errorf("%s: %d %s, want a mistake in %s", tt.name, w.Code, w.Body, tt.field)
		}
	}
	if w := acknowledge(`{"ids":["` + strings.Repeat(`x","`, 60) + `"]}`); len(problemOf(t, w).Errors) != 16 {
		t.Errorf("61 mistakes are told as %s", w.Body)
	}
	if len(b.queue.acked) != asked {
		t.Errorf("a refused request acknowledged %v", b.queue.acked[asked:])
	}
}

func TestRedeliverSpan(t *testing.T) {
	b := newBank(t)
	redeliver := func(body string) *httptest.ResponseRecorder {
		return b.do(b.request("POST", "/v1/redeliveries", body))
	}
	at := func(hour, minute int) time.Time { return time.Date(2020, 11, 21, hour, minute, 0, 0, time.UTC) }
	for _, tt := range []struct {
		name, body string
		want       worker.Span
	}{
		{"all until now", `{"from":"2020-11-21T02:00:00Z"}`, worker.Span{From: at(2, 0)}},
		{"an hour at one webhook", `{"from":"2020-11-21T02:00:00.000Z","until":"2020-11-21T03:00:00Z","webhook":"ledger"}`,
			worker.Span{From: at(2, 0), Until: at(3, 0), Webhook: "ledger"}},
		{"other zones", `{"from":"2020-11-21T10:00:00+08:00","until":"2020-11-20T21:30:00.0-05:30"}`, worker.Span{From: at(2, 0), Until: at(3, 0)}},
		{"the next of many", `{"from":"2020-11-21T02:00:00Z","cursor":"BBBB"}`, worker.Span{From: at(2, 0), Cursor: "BBBB"}},
	} {
		w := redeliver(tt.body)
		if w.Code != 200 || w.Body.String() != `{"step_ups":2,"busy":1,"gone":3,"next_cursor":"BBBB"}`+"\n" {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
			continue
		}
		got := b.queue.spans[len(b.queue.spans)-1]
		got.From, got.Until = got.From.UTC(), got.Until.UTC()
		if got != tt.want {
			t.Errorf("%s: asked for %+v, want %+v", tt.name, got, tt.want)
		}
	}
	asked := len(b.queue.spans)
	for _, tt := range []struct{ name, body, field string }{
		{"nothing", `{}`, "from"},
		{"empty", `{"from":""}`, "from"},
		{"a number", `{"from":1795226600}`, "from"},
		{"a day", `{"from":"2020-11-21"}`, "from"},
		{"no zone", `{"from":"2020-11-21T02:00:00"}`, "from"},
		{"a day that is none", `{"from":"2020-02-30T02:00:00Z"}`, "from"},
		{"an hour that is none", `{"from":"2020-11-21T24:00:00Z"}`, "from"},
		{"a comma", `{"from":"2020-11-21T02:00:00,5Z"}`, "from"},
		{"a blank", `{"from":"2020-11-21 02:00:00Z"}`, "from"},
		{"an empty end", `{"from":"2020-11-21T02:00:00Z","until":""}`, "until"},
		{"an end without a zone", `{"from":"2020-11-21T02:00:00Z","until":"2020-11-21T03:00:00"}`, "until"},
		{"no time at all", `{"from":"2020-11-21T02:00:00Z","until":"2020-11-21T02:00:00Z"}`, "from"},
		{"backwards", `{"from":"2020-11-21T02:00:00Z","until":"2020-11-21T01:00:00Z"}`, "from"},
		{"the future", `{"from":"2999-01-01T00:00:00Z"}`, "from"},
		{"no webhook", `{"from":"2020-11-21T02:00:00Z","webhook":""}`, "webhook"},
		{"a long webhook", `{"from":"2020-11-21T02:00:00Z","webhook":"` + strings.Repeat("w", 64) + `"}`, "webhook"},
		{"no cursor", `{"from":"2020-11-21T02:00:00Z","cursor":""}`, "cursor"},
		{"a long cursor", `{"from":"2020-11-21T02:00:00Z","cursor":"` + strings.Repeat("c", 513) + `"}`, "cursor"},
		{"null", `{"from":"2020-11-21T02:00:00Z","until":null}`, "until"},
		{"two of one", `{"from":"2020-11-21T02:00:00Z","from":"2020-11-21T02:00:00Z"}`, "from"},
		{"another member", `{"from":"2020-11-21T02:00:00Z","limit":5}`, "limit"},
	} {
		w := redeliver(tt.body)
		if p := problemOf(t, w); w.Code != 400 || len(p.Errors) != 1 || p.Errors[0].Field != tt.field {
			t.Errorf("%s: %d %s, want a mistake in %s", tt.name, w.Code, w.Body, tt.field)
		}
	}
	if len(b.queue.spans) != asked {
		t.Errorf("a refused request asked for %v", b.queue.spans[asked:])
	}
}

func TestAttempts(t *testing.T) {
	b := newBank(t)
	ask := func() string { return b.do(b.request("GET", own+"/attempts", "")).Body.String() }
	if got := ask(); got != `{"attempts":[]}`+"\n" {
		t.Errorf("no attempt: %s", got)
	}
	status, reason := 502, "status"
	at := worker.Time{Time: time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC)}
	b.queue.attempts = []worker.AttemptLog{
		{Webhook: "ledger", EventID: firstEvent, Type: "step_up.denied", At: at, DurationMS: 31, Outcome: "failed", Status: &status, Reason: &reason, KeyIDs: []string{"9b1f03ce"}},
		{Webhook: "queue", EventID: secondEvent, Type: "step_up.denied", At: at, Outcome: "acknowledged"},
	}
	want := `{"attempts":[{"webhook":"ledger","event_id":"` + firstEvent + `","type":"step_up.denied","at":"2026-11-21T02:03:04.000Z","duration_ms":31,` +
		`"outcome":"failed","status":502,"reason":"status","key_ids":["9b1f03ce"]},{"webhook":"queue","event_id":"` + secondEvent + `","type":"step_up.denied",` +
		`"at":"2026-11-21T02:03:04.000Z","duration_ms":0,"outcome":"acknowledged","status":null,"reason":null,"key_ids":[]}]}` + "\n"
	if got := ask(); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// Whatever is sent to any route, its body is JSON of at most 16 KiB with the members that the route has.
func TestEveryBodyIsStrict(t *testing.T) {
	b := newBank(t)
	tried := 0
	for pattern, methods := range api.Routes(b.Server) {
		if !slices.Contains(methods, "POST") {
			continue
		}
		tried++
		path := strings.Replace(pattern, "{id}", "su_00LEDGERAAAAAAAAAAAAAA", 1)
		for _, tt := range []struct {
			name, body, kind, code string
			length                 int64
		}{
			{"long", "{" + strings.Repeat(" ", 16<<10) + "}", "application/json", "too_large", 0},
			{"long, in chunks", "{" + strings.Repeat(" ", 16<<10) + "}", "application/json", "too_large", -1},
			{"of another kind", "{}", "text/plain", "unsupported_media_type", 0},
			{"of no kind", "{}", "", "unsupported_media_type", 0},
			{"not an object", "[]", "application/json", "invalid_request", 0},
			{"an unknown member", `{"nobody":1}`, "application/json", "invalid_request", 0},
			{"two objects", "{}{}", "application/json", "invalid_request", 0},
			{"half an object", "{", "application/json", "invalid_request", 0},
		} {
			r := b.request("POST", path, tt.body)
			r.Header.Set("Content-Type", tt.kind)
			if tt.length != 0 {
				r.ContentLength = tt.length
			}
			if w := b.do(r); problemOf(t, w).Code != tt.code {
				t.Errorf("%s, %s: %d %s, want %s", path, tt.name, w.Code, w.Body, tt.code)
			}
		}
		if w := b.do(b.request("POST", path+"?x=1", "")); problemOf(t, w).Errors == nil {
			t.Errorf("%s with a query: %d %s", path, w.Code, w.Body)
		}
	}
	if tried < 5 || len(b.asked)+len(b.queue.acked)+len(b.queue.spans) > 0 {
		t.Errorf("%d routes; asked %v, acknowledged %v, sent again %v", tried, b.asked, b.queue.acked, b.queue.spans)
	}
}
