package worker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker"
)

// askPlay is one answer of a row of the /bc-auth table.
type askPlay struct {
	name   string // the row, as TestRefusedAsk has it
	with   string // which of the row's answers
	script cibatest.Script
	pushes int    // what the provider has sent to the phone
	code   string // of the problem; empty: a step-up
	alarm  bool

	patience time.Duration // of the client
	fault    string        // as in the token table

	key  string // of the provider, the Idempotency-Key and the reference
	hint string
	road *road
}

func (p *askPlay) String() string { return fmt.Sprintf("%s (%s)", p.name, p.with) }

func authFails(code string, status int) cibatest.Script {
	return cibatest.Script{Auth: cibatest.Step{Kind: cibatest.Fail, Code: code, Status: status}}
}

func auth(steps []cibatest.Step) cibatest.Script { return cibatest.Script{Auth: steps[0]} }

// acked accepts, with other members in the answer.
func acked(name string, value any) cibatest.Script {
	return cibatest.Script{Ack: map[string]any{name: value}}
}

func askPlays(trap string) []*askPlay {
	const json, text = "application/json", "text/plain"
	const rejected, failure, unavailable, unknown = worker.CodeProviderRejected, worker.CodeProviderError, worker.CodeProviderUnavailable, worker.CodeInitiationUnknown
	const sent, ok = "5xx, cut, time-out after a byte", "200 with auth_req_id and expires_in"
	const busy, page, members = "429, or 503 that says it did nothing", "3xx, HTML", "200 without its members"
	return []*askPlay{
		{name: ok, with: "interval", script: cibatest.Script{Polls: answers(cibatest.Approve)}, pushes: 1},
		{name: "unknown_user_id", script: authFails("unknown_user_id", 400), code: worker.CodeUnknownUser},
		{name: "access_denied", script: authFails("access_denied", 403), code: worker.CodeNotEligible},
		{name: "access_denied", with: "400", script: authFails("access_denied", 400), code: worker.CodeNotEligible},
		{name: "another 4xx", with: "invalid_scope", script: authFails("invalid_scope", 400), code: rejected},
		{name: "another 4xx", with: "CLIENT_SIDE_ERROR", script: authFails("CLIENT_SIDE_ERROR", 400), code: rejected},
		{name: "another 4xx", with: "invalid_user_code", script: authFails("invalid_user_code", 400), code: rejected},
		{name: "a code we do not know", script: authFails("made_up", 400), code: rejected},
		{name: "invalid_client", script: authFails("invalid_client", 401), code: failure, alarm: true},
		{name: "unauthorized_client", script: authFails("unauthorized_client", 400), code: failure, alarm: true},
		{name: "dial or TLS failure", with: "dial", fault: "closed", code: unavailable},
		{name: "dial or TLS failure", with: "TLS", fault: "plain", code: unavailable},
		{name: busy, with: "429", script: auth(says(429, text, "busy")), code: unavailable},
		{name: busy, with: "TOO_MANY_REQUESTS", script: authFails("TOO_MANY_REQUESTS", 400), code: unavailable},
		{name: busy, with: "503 with Retry-After", script: auth([]cibatest.Step{{Kind: cibatest.Unavailable, RetryAfter: 7}}), code: unavailable},
		{name: busy, with: "503 with a JSON error", script: authFails("SERVER_SIDE_ERROR", 503), code: unavailable},
		{name: sent, with: "500", script: authFails("SERVER_SIDE_ERROR", 500), code: unknown},
		{name: sent, with: "500 that says unknown_user_id", script: authFails("unknown_user_id", 500), code: unknown},
		{name: sent, with: "502, a page", script: auth([]cibatest.Step{{Kind: cibatest.HTML, Status: 502}}), code: unknown},
		{name: sent, with: "a bare 503", script: auth(says(503, text, "")), code: unknown},
		{name: sent, with: "cut", script: auth(answers(cibatest.Cut)), pushes: 1, code: unknown},
		{name: sent, with: "cut short", script: auth(answers(cibatest.Truncated)), pushes: 1, code: unknown},
		{name: sent, with: "time-out", patience: 2 * time.Second, script: auth(hangs()), code: unknown},
		{name: page, with: "307", script: auth([]cibatest.Step{{Kind: cibatest.Redirect, Location: trap}}), code: unknown, alarm: true},
		{name: page, with: "303", script: auth([]cibatest.Step{{Kind: cibatest.Redirect, Status: 303, Location: trap}}), code: unknown, alarm: true},
		{name: page, with: "200", script: auth([]cibatest.Step{{Kind: cibatest.HTML, Status: 200}}), code: unknown, alarm: true},
		{name: page, with: "403", script: auth(answers(cibatest.HTML)), code: unknown, alarm: true},
		{name: members, with: "no auth_req_id", script: acked("auth_req_id", nil), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "auth_req_id with a space", script: acked("auth_req_id", "a b"), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "no expires_in", script: acked("expires_in", nil), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "expires_in 0", script: acked("expires_in", 0), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "expires_in beyond an hour", script: acked("expires_in", 3601), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "interval beyond a minute", script: acked("interval", 61), pushes: 1, code: unknown, alarm: true},
		{name: members, with: "an empty object", script: auth(says(200, json, "{}")), code: unknown, alarm: true},
	}
}

// asked reports that the person may have been asked.
func (p *askPlay) asked() bool { return p.code == worker.CodeInitiationUnknown || p.code == "" }

func (s *site) layAsk(t *testing.T, p *askPlay) {
	t.Helper()
	s.op.Script(p.hint, p.script)
	p.road = &road{patience: p.patience}
	if p.fault != "" {
		p.road.fault, p.road.badAddr = "/bc-auth 1", s.bank.server.Listener.Addr().String()
		if p.fault == "closed" {
			p.road.badAddr = closed(t)
		}
	}
	s.client(t, p.key, p.road, true)
}

// playAsk asks, asks again with the same key, and asks the same person under another key.
func (s *site) playAsk(t *testing.T, p *askPlay) {
	v, err := s.ask(p.key, p.hint, p.key)
	id := v.ID
	if p.code != "" {
		id = s.checkRefused(t, p, err)
	} else if err != nil {
		t.Errorf("%s: %v", p, err)
		return
	}
	if n := s.op.Ledger().PushesByHint[p.hint]; n != p.pushes {
		t.Errorf("%s: %d pushes, want %d", p, n, p.pushes)
	}
	if alarms := s.log.alarms(p.key); (len(alarms) > 0) != p.alarm {
		t.Errorf("%s: alarms %q, want some: %t", p, alarms, p.alarm)
	}
	if p.asked() {
		s.checkKept(t, p, id)
	}
	// From here on the provider takes everything.
	s.op.Script(p.hint, cibatest.Script{Polls: answers(cibatest.Approve)})
	if p.code == worker.CodeProviderUnavailable {
		s.checkFreed(t, p)
		return
	}
	again, err := s.ask(p.key, p.hint, p.key)
	if p.code != "" && s.checkRefused(t, p, err) != id || p.code == "" && again.ID != id {
		t.Errorf("%s: a repeat was answered with another step-up", p)
	}
	if n := p.road.count("/bc-auth"); n != 1 {
		t.Errorf("%s: /bc-auth was asked %d times for one request", p, n)
	}
	_, err = s.ask(p.key, p.hint, p.key+"-next")
	if e, ok := errors.AsType[*worker.Error](err); p.code == worker.CodeInitiationUnknown && (!ok || e.Code != worker.CodePersonBusy) {
		t.Errorf("%s: the prompt may stand on the phone, and another was sent: %v", p, err)
	}
	if !p.asked() && err != nil {
		t.Errorf("%s: nobody was asked, and the person cannot be: %v", p, err)
	}
}

// checkRefused checks a problem and gives the step-up it names.
func (s *site) checkRefused(t *testing.T, p *askPlay, err error) (id string) {
	e, ok := errors.AsType[*worker.Error](err)
	if !ok || e.Code != p.code {
		t.Errorf("%s: error %v, want %s", p, err, p.code)
		return ""
	}
	if (e.ID != "") != (p.code == worker.CodeInitiationUnknown) {
		t.Errorf("%s: the problem names the step-up %q", p, e.ID)
	}
	if least := time.Second; p.code == worker.CodeProviderUnavailable {
		if p.script.Auth.RetryAfter > 0 {
			least = time.Duration(p.script.Auth.RetryAfter) * time.Second
		}
		if e.RetryAfter < least {
			t.Errorf("%s: Retry-After %v, want at least %v", p, e.RetryAfter, least)
		}
	}
	return e.ID
}

// checkKept: a question that may have been asked is on record, ends, and is told to the bank.
func (s *site) checkKept(t *testing.T, p *askPlay, id string) {
	want := outcome{worker.Unknown, worker.InitiationUnknown, ""}
	if p.code == "" {
		want = approved
	}
	v, err := s.Wait(context.Background(), "bank", id, 30*time.Second)
	if err != nil || outcomeOf(v) != want {
		t.Errorf("%s: ended as %+v, want %+v (%v)", p, outcomeOf(v), want, err)
	}
	got, err := s.bank.await(p.key)
	if err != nil || got.Type != "step_up."+string(want.state) || got.Data.ID != id || outcomeOf(got.Data) != want {
		t.Errorf("%s: webhook %s with %+v, %v", p, got.Type, outcomeOf(got.Data), err)
	}
}

// checkFreed: nothing was sent, so the same request goes through as if it were the first.
func (s *site) checkFreed(t *testing.T, p *askPlay) {
	v, err := s.ask(p.key, p.hint, p.key)
	if err != nil || v.Status != worker.Pending {
		t.Errorf("%s: the repeat: %v", p, err)
		return
	}
	s.checkKept(t, &askPlay{name: p.name, with: p.with + ", repeated", key: p.key}, v.ID)
	if n := s.op.Ledger().PushesByHint[p.hint]; n != 1 {
		t.Errorf("%s: %d pushes by the repeat, want 1", p, n)
	}
}

// checkSilence, when all is over: one webhook for what may have reached a person
// (or did, by the repeat), none for what did not.
func (s *site) checkSilence(t *testing.T, p *askPlay) {
	want := 0
	if p.asked() || p.code == worker.CodeProviderUnavailable {
		want = 1
	}
	if n := s.bank.count(p.key); n != want {
		t.Errorf("%s: %d webhooks in the end, want %d", p, n, want)
	}
	page, err := s.List(t.Context(), "bank", worker.Filter{Reference: p.key, Limit: 10})
	if err != nil || len(page.StepUps) != want {
		t.Errorf("%s: %d step-ups on record, want %d (%v)", p, len(page.StepUps), want, err)
	}
}
