package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker"
)

// outcome is what a step-up ends as.
type outcome struct {
	state         worker.State
	code          string
	providerError string
}

var approved = outcome{state: worker.Approved}

func failed(code, providerError string) outcome {
	return outcome{worker.Failed, code, providerError}
}

// lost is an answer that may have been an approval.
func lost(providerError string) outcome {
	return outcome{worker.Unknown, worker.ResultLost, providerError}
}

// tokenRow is one answer of a row of the token table.
type tokenRow struct {
	name       string          // the row, as TestSettle has it
	with       string          // which of the row's answers
	steps      []cibatest.Step // what the provider answers
	polls      string          // what its ledger must have: the answers of all polls
	pollsAfter string          // the same after an ambiguous poll; empty: that one's answer and polls

	// goesOn: the answer is not the last one. An invalid_request follows, which tells
	// whether the step-up is ambiguous by then; and in a third run the tokens.
	goesOn        bool
	before, after outcome // when no poll was ambiguous before, and when one was

	alarm  bool
	cold   bool // the client has no keys yet
	held   bool // and gets them only after the step-up was seen waiting for them
	script cibatest.Script

	patience time.Duration // of the client
	fault    string        // the first poll finds a closed port, or one that speaks plain HTTP
}

const ambiguousFirst = "SERVER_SIDE_ERROR"

func status(code string, status int) []cibatest.Step {
	return []cibatest.Step{{Kind: cibatest.Fail, Code: code, Status: status}}
}

func answers(kinds ...cibatest.Kind) (steps []cibatest.Step) {
	for _, k := range kinds {
		steps = append(steps, cibatest.Step{Kind: k})
	}
	return steps
}

// raw answers by hand.
func raw(do http.HandlerFunc) []cibatest.Step {
	return []cibatest.Step{{Kind: cibatest.Raw, Do: do}}
}

func says(status int, contentType, body string) []cibatest.Step {
	return raw(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// hangs holds a request until the client goes away.
func hangs() []cibatest.Step {
	return raw(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

// halves sends half of an answer and cuts the connection.
func halves(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	fmt.Fprint(w, `{"access_token":"abc","id_to`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func wrongAudience(claims map[string]any) { claims["aud"] = "another-bank" }

func tokenRows(trap string) []tokenRow {
	const json, text = "application/json", "text/plain"
	rejected, misconfigured := worker.ProviderRejected, worker.ProviderMisconfigured
	expired := outcome{worker.Expired, worker.ExpiredCode, "expired_token"}
	invalid := failed(worker.TokenInvalid, "")
	const pending = cibatest.Pending
	return []tokenRow{
		{name: "200, valid and bound", steps: answers(cibatest.Approve), polls: "tokens", before: approved, after: approved},
		{name: "200, valid and bound", with: "first key set fetch after it", cold: true, alarm: true, steps: answers(cibatest.Approve), polls: "tokens", before: approved, after: approved},
		{name: "200, valid and bound", with: "the provider names no interval", script: cibatest.Script{Ack: map[string]any{"interval": nil}},
			steps: answers(pending, pending, pending, cibatest.Approve), polls: strings.Repeat("authorization_pending ", 3) + "tokens", before: approved, after: approved},
		{name: "200, cannot be verified yet", cold: true, held: true, alarm: true, steps: answers(cibatest.Approve), polls: "tokens", before: approved, after: approved},
		{name: "200, not valid after one refetch", with: "unknown key", cold: true, alarm: true, steps: answers(cibatest.UnknownKey), polls: "tokens_unknown_key", before: invalid, after: invalid},
		{name: "200, not valid after one refetch", with: "wrong signature", cold: true, alarm: true, steps: answers(cibatest.BadSignature), polls: "tokens_bad_signature", before: invalid, after: invalid},
		{name: "200, not valid after one refetch", with: "wrong audience", alarm: true, steps: []cibatest.Step{{Kind: cibatest.Approve, Claims: wrongAudience}}, polls: "tokens", before: invalid, after: invalid},
		{name: "200, not valid after one refetch", with: "no id_token", alarm: true, steps: says(200, json, `{"access_token":"a","token_type":"Bearer"}`), polls: "raw", before: invalid, after: invalid},
		{name: "200, somebody else's", alarm: true, steps: answers(cibatest.OtherPerson), polls: "tokens_other_person", before: failed(worker.TokenMismatch, ""), after: failed(worker.TokenMismatch, "")},
		{name: "200 cut short or not JSON", with: "tokens consumed", steps: answers(cibatest.Truncated), polls: "tokens_truncated invalid_grant", before: lost("invalid_grant"), after: lost("invalid_grant")},
		{name: "200 cut short or not JSON", with: "nothing consumed", goesOn: true, steps: raw(halves), polls: "raw", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "200 cut short or not JSON", with: "text", alarm: true, goesOn: true, steps: says(200, text, "OK"), polls: "raw", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "authorization_pending", goesOn: true, steps: answers(pending), polls: "authorization_pending", before: failed(rejected, "invalid_request"), after: failed(rejected, "invalid_request")},
		{name: "slow_down", goesOn: true, steps: answers(cibatest.SlowDown), polls: "slow_down", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "access_denied", steps: answers(cibatest.Deny), polls: "access_denied",
			before: outcome{worker.Denied, worker.DeniedByUser, "access_denied"}, after: outcome{worker.Denied, worker.DeniedByUser, "access_denied"}},
		{name: "expired_token", steps: answers(cibatest.Expire), polls: "expired_token", before: expired, after: lost("expired_token")},
		{name: "expired_token", with: "in its time", script: cibatest.Script{ExpiresIn: 2 * time.Second}, steps: answers(pending), polls: "authorization_pending expired_token",
			pollsAfter: "SERVER_SIDE_ERROR expired_token", before: expired, after: lost("expired_token")},
		{name: "invalid_grant", steps: status("invalid_grant", 400), polls: "invalid_grant", before: lost("invalid_grant"), after: lost("invalid_grant")},
		{name: "invalid_grant", with: "tokens consumed, answer lost", steps: answers(cibatest.Lost), polls: "tokens_lost invalid_grant", before: lost("invalid_grant"), after: lost("invalid_grant")},
		{name: "invalid_request", steps: status("invalid_request", 400), polls: "invalid_request", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "invalid_request", with: "CLIENT_SIDE_ERROR", steps: status("CLIENT_SIDE_ERROR", 400), polls: "CLIENT_SIDE_ERROR", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "invalid_request", with: "ARGUMENTS_NOT_VALID", steps: status("ARGUMENTS_NOT_VALID", 400), polls: "ARGUMENTS_NOT_VALID", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "unauthorized_client", alarm: true, steps: status("unauthorized_client", 400), polls: "unauthorized_client", before: failed(misconfigured, "unauthorized_client"), after: lost("unauthorized_client")},
		{name: "unsupported_grant_type", alarm: true, steps: status("unsupported_grant_type", 400), polls: "unsupported_grant_type", before: failed(misconfigured, "unsupported_grant_type"), after: lost("unsupported_grant_type")},
		{name: "any other 4xx code", with: "known", steps: status("transaction_failed", 400), polls: "transaction_failed", before: failed(rejected, "transaction_failed"), after: lost("transaction_failed")},
		{name: "any other 4xx code", with: "unknown", steps: status("made_up", 403), polls: "made_up", before: failed(rejected, "other"), after: lost("other")},
		// Half a minute to the next poll is beyond this auth_req_id's end: one poll, and the deadline.
		{name: "invalid_client", alarm: true, script: cibatest.Script{ExpiresIn: 4 * time.Second}, steps: status("invalid_client", 401), polls: "invalid_client", before: lost(""), after: lost("")},
		{name: "429 or 503 with Retry-After", with: "503", goesOn: true, steps: []cibatest.Step{{Kind: cibatest.Unavailable, RetryAfter: 3}}, polls: "unavailable", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "429 or 503 with Retry-After", with: "429", goesOn: true, steps: []cibatest.Step{{Kind: cibatest.Fail, Code: "TOO_MANY_REQUESTS", Status: 429, RetryAfter: 3}}, polls: "TOO_MANY_REQUESTS", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "429 or 503 with Retry-After", with: "429 without", goesOn: true, steps: says(429, text, "busy"), polls: "raw", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "other 5xx, time-out, reset", with: "500", goesOn: true, steps: status("", 500), polls: "SERVER_SIDE_ERROR", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "other 5xx, time-out, reset", with: "500 that says access_denied", goesOn: true, steps: status("access_denied", 500), polls: "access_denied", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "other 5xx, time-out, reset", with: "503 alone", goesOn: true, steps: status("", 503), polls: "SERVER_SIDE_ERROR", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "other 5xx, time-out, reset", with: "time-out", goesOn: true, patience: 2 * time.Second, steps: hangs(), polls: "raw", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "other 5xx, time-out, reset", with: "reset", goesOn: true, steps: answers(cibatest.Cut), polls: "cut", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "could not connect", with: "dial", goesOn: true, fault: "closed", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "could not connect", with: "TLS", goesOn: true, fault: "plain", before: failed(rejected, "invalid_request"), after: lost("invalid_request")},
		{name: "3xx, HTML, 403 without JSON", with: "307", alarm: true, goesOn: true, steps: []cibatest.Step{{Kind: cibatest.Redirect, Location: trap}}, polls: "redirect", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "3xx, HTML, 403 without JSON", with: "HTML, 200", alarm: true, goesOn: true, steps: []cibatest.Step{{Kind: cibatest.HTML, Status: 200}}, polls: "html", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "3xx, HTML, 403 without JSON", with: "HTML, 403", alarm: true, goesOn: true, steps: answers(cibatest.HTML), polls: "html", before: lost("invalid_request"), after: lost("invalid_request")},
		{name: "3xx, HTML, 403 without JSON", with: "403, empty", alarm: true, goesOn: true, steps: says(403, text, ""), polls: "raw", before: lost("invalid_request"), after: lost("invalid_request")},
		// The second poll would be due more than 10 s after the end.
		{name: "our deadline", with: "last poll pending, within the interval", script: cibatest.Script{ExpiresIn: 13 * time.Second, Ack: map[string]any{"interval": 12}},
			steps: answers(pending), polls: "authorization_pending", pollsAfter: "SERVER_SIDE_ERROR", before: outcome{worker.Expired, worker.ExpiredCode, ""}, after: lost("")},
		{name: "our deadline", with: "last poll not answered pending", script: cibatest.Script{ExpiresIn: 4 * time.Second},
			steps: []cibatest.Step{{Kind: cibatest.Unavailable, RetryAfter: 60}}, polls: "unavailable", before: lost(""), after: lost("")},
		{name: "our deadline", with: "a poll due shortly after it is sent and its answer rules", script: cibatest.Script{Ack: map[string]any{"expires_in": 2}},
			steps: answers(pending, pending, cibatest.Approve), polls: "authorization_pending authorization_pending tokens", before: approved, after: approved},
	}
}

// tokenPlay is one run of a row.
type tokenPlay struct {
	tokenRow
	when string
	want outcome
	key  string // of the provider, the Idempotency-Key and the reference
	hint string
	road *road
}

// plays are a row's runs: before and after an ambiguous poll, and for an answer
// that is not the last one, on to the tokens.
func (r tokenRow) plays() []*tokenPlay {
	with := func(when string, want outcome, first, last []cibatest.Step, polls ...string) *tokenPlay {
		p := &tokenPlay{tokenRow: r, when: when, want: want}
		p.steps = slices.Concat(first, r.steps, last)
		p.polls = strings.Join(strings.Fields(strings.Join(polls, " ")), " ")
		return p
	}
	ambiguous := status("", 500)
	if r.goesOn {
		probe := status("invalid_request", 400)
		return []*tokenPlay{
			with("before", r.before, nil, probe, r.polls, "invalid_request"),
			with("after", r.after, ambiguous, probe, ambiguousFirst, r.polls, "invalid_request"),
			with("then tokens", approved, nil, answers(cibatest.Approve), r.polls, "tokens"),
		}
	}
	after := r.pollsAfter
	if after == "" {
		after = ambiguousFirst + " " + r.polls
	}
	return []*tokenPlay{with("before", r.before, nil, nil, r.polls), with("after", r.after, ambiguous, nil, after)}
}

// Every row of the token table, over HTTP, before and after an
// ambiguous poll, and with it the /bc-auth table. All runs go on at once: most of
// their time is the interval.
func TestTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	trap := s.bank.server.URL + "/trap"
	var plays []*tokenPlay
	for _, r := range tokenRows(trap) {
		plays = append(plays, r.plays()...)
	}
	for i, p := range plays {
		p.key, p.hint = fmt.Sprintf("token-%d", i), hint(1000+i)
		s.lay(t, p)
	}
	asks := askPlays(trap)
	for i, p := range asks {
		p.key, p.hint = fmt.Sprintf("ask-%d", i), hint(2000+i)
		s.layAsk(t, p)
	}
	s.start(t)
	var all sync.WaitGroup
	for _, p := range plays {
		all.Go(func() { s.play(t, p) })
	}
	for _, p := range asks {
		all.Go(func() { s.playAsk(t, p) })
	}
	all.Wait()
	for _, p := range plays {
		if n := s.bank.count(p.key); n != 1 {
			t.Errorf("%s: %d webhooks in the end, want 1", p, n)
		}
	}
	for _, p := range asks {
		s.checkSilence(t, p)
	}
	if s.bank.strays != 0 || len(s.bank.bad) != 0 {
		t.Errorf("%d redirects were followed; bad webhooks: %v", s.bank.strays, s.bank.bad)
	}
}

func (p *tokenPlay) String() string { return fmt.Sprintf("%s (%s), %s", p.name, p.with, p.when) }

// lay prepares the provider's side and the way there.
func (s *site) lay(t *testing.T, p *tokenPlay) {
	t.Helper()
	script := p.script
	script.Polls = p.steps
	s.op.Script(p.hint, script)
	p.road = &road{patience: p.patience}
	if p.fault != "" {
		p.road.fault, p.road.badAddr = "/token 1", s.bank.server.Listener.Addr().String()
		if p.when == "after" {
			p.road.fault = "/token 2"
		}
		if p.fault == "closed" {
			p.road.badAddr = closed(t)
		}
	}
	if p.held {
		p.road.keys = make(chan struct{})
	}
	s.client(t, p.key, p.road, !p.cold)
}

// play runs one step-up to its end and holds everybody's account against the table.
func (s *site) play(t *testing.T, p *tokenPlay) {
	created, err := s.ask(p.key, p.hint, p.key)
	if err != nil || created.Status != worker.Pending || created.ExpiresAt == nil {
		t.Errorf("%s: created as %s, %v", p, created.Status, err)
		return
	}
	if p.held {
		s.waits(t, p, created.ID)
	}
	v, err := s.Wait(context.Background(), "bank", created.ID, 30*time.Second)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	s.checkFinal(t, p, v)
	s.checkLedger(t, p)
	got, err := s.bank.await(p.key)
	if err != nil || got.Type != "step_up."+string(p.want.state) || got.Data.ID != v.ID || outcomeOf(got.Data) != p.want {
		t.Errorf("%s: webhook %s with %+v, %v", p, got.Type, outcomeOf(got.Data), err)
	}
	again, err := s.ask(p.key, p.hint, p.key)
	if err != nil || again.ID != v.ID {
		t.Errorf("%s: a repeat of the request was answered with another step-up: %v", p, err)
	}
	if n := p.road.count("/bc-auth"); n != 1 {
		t.Errorf("%s: /bc-auth was asked %d times", p, n)
	}
}

func outcomeOf(v worker.StepUp) outcome {
	if v.Reason == nil {
		return outcome{state: v.Status}
	}
	return outcome{v.Status, v.Reason.Code, v.Reason.ProviderError}
}

func (s *site) checkFinal(t *testing.T, p *tokenPlay, v worker.StepUp) {
	if got := outcomeOf(v); got != p.want {
		t.Errorf("%s: ended as %+v, want %+v", p, got, p.want)
	}
	if (v.Identity != nil) != (p.want.state == worker.Approved) || v.Identity != nil && (v.Identity.UUID == nil || *v.Identity.UUID != p.hint || !v.Identity.Bound) {
		t.Errorf("%s: the identity is not that of the person who was asked", p)
	}
	if v.Reason != nil && (v.Reason.ProviderError != "") != (v.Reason.TraceID != "") {
		t.Errorf("%s: trace id %q beside the provider's error %q", p, v.Reason.TraceID, v.Reason.ProviderError)
	}
	if alarms := s.log.alarms(p.key); (len(alarms) > 0) != p.alarm {
		t.Errorf("%s: alarms %q, want some: %t", p, alarms, p.alarm)
	}
}

// checkLedger: one push, the polls of the row and no others, never two at once and
// never one before its time where the provider names the interval.
func (s *site) checkLedger(t *testing.T, p *tokenPlay) {
	l, err := s.pushed(p.hint)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	var polls []string
	for _, poll := range l.Polls {
		polls = append(polls, poll.Answer)
	}
	if got := strings.Join(polls, " "); got != p.polls {
		t.Errorf("%s: polls answered %q, want %q", p, got, p.polls)
	}
	interval, named := p.script.Ack["interval"]
	if unnamed := named && interval == nil; l.Overlaps != 0 || l.Early != 0 && !unnamed {
		t.Errorf("%s: %d overlapping and %d early polls", p, l.Overlaps, l.Early)
	}
	if strings.Contains(p.polls, "tokens") != (len(l.Tokens) == 1) {
		t.Errorf("%s: tokens were given %d times", p, len(l.Tokens))
	}
}

// waits sees a step-up wait, with its answer in hand, for the key set to come.
func (s *site) waits(t *testing.T, p *tokenPlay, id string) {
	for len(s.log.alarms(p.key)) == 0 { // told when the answer is there
		v, err := s.Wait(context.Background(), "bank", id, 100*time.Millisecond)
		if err != nil || v.Status != worker.Pending {
			t.Errorf("%s: %s before its keys were there, %v", p, v.Status, err)
			break
		}
	}
	close(p.road.keys)
}
