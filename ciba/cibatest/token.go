package cibatest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

const grantCIBA = "urn:openid:params:grant-type:ciba"

// token is POST /token. A poll for a known auth_req_id goes on record whatever comes of it, before anything is judged.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	t := s.tally.Load()
	form, bad := readForm(w, r)
	if bad != nil {
		t.refused.Add(1)
		bad.write(w, r)
		return
	}
	f := s.flows.find(form.Get("auth_req_id"))
	if f == nil {
		t.refused.Add(1)
		s.checkGrant(r.Context(), form, nil).write(w, r)
		return
	}
	p := t.arrive(f, arrived, s.cfg.Detail)
	a := s.judge(r.Context(), form, p)
	// The answer is on record when this function returns or panics to cut the connection, before net/http sends what it buffers.
	defer func() { t.leave(p, a, time.Now(), s.cfg.Detail) }()
	a.write(w, r)
}

// checkGrant judges who asks and for what; f is nil for an unknown auth_req_id.
func (s *Server) checkGrant(ctx context.Context, form url.Values, f *flow) *answer {
	bad := func(status int, code, text string) *answer {
		a := failure(status, code, text)
		return &a
	}
	if form.Get("grant_type") != grantCIBA {
		return bad(http.StatusBadRequest, "unsupported_grant_type", "the grant must be "+grantCIBA)
	}
	client, err := s.authenticate(ctx, form)
	switch {
	case err != nil:
		return bad(http.StatusUnauthorized, "invalid_client", err.Error())
	case form.Get("auth_req_id") == "":
		return bad(http.StatusBadRequest, "invalid_request", "auth_req_id is missing")
	case f == nil || f.client != client:
		return bad(http.StatusBadRequest, "invalid_grant", "the auth_req_id is not known")
	}
	return nil
}

// judge finds the answer to a poll; it is the only place that waits.
func (s *Server) judge(ctx context.Context, form url.Values, p *poll) answer {
	if step := s.outage.Load(); step != nil {
		return answerFor(*step)
	}
	if bad := s.checkGrant(ctx, form, p.f); bad != nil {
		return *bad
	}
	if s.cfg.Strict && p.early && p.f.live(p.arrived) {
		return s.play(ctx, p.f, Step{Kind: SlowDown})
	}
	step := p.f.next(p.arrived)
	if step.Kind == Pending {
		kind, there := s.await(ctx, p.f)
		if !there {
			return answer{kind: Cut, name: "gone", gone: true}
		}
		step.Kind = kind
	}
	return s.play(ctx, p.f, step)
}

// await holds a poll until the person has answered, the auth_req_id expires, Config.Hold passes or the client hangs up.
func (s *Server) await(ctx context.Context, f *flow) (kind Kind, there bool) {
	end := time.Now().Add(s.cfg.Hold)
	for ctx.Err() == nil {
		now := time.Now()
		if kind := f.verdict(now); kind != Pending || !now.Before(end) {
			return kind, true
		}
		until := f.changesBy()
		if end.Before(until) {
			until = end
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-f.answered:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return Pending, false
}

// play turns a step into the answer and does what it means to the flow.
func (s *Server) play(ctx context.Context, f *flow, step Step) answer {
	a := answerFor(step)
	switch {
	case step.Kind == SlowDown:
		f.slowDown()
	case step.Kind == Expire:
		a.final = f.settle(Expire, time.Now())
	case step.Kind == Deny:
		if !f.settle(Deny, time.Now()) {
			return failure(http.StatusBadRequest, "invalid_grant", "the auth_req_id was used")
		}
		a.final = true
	case step.Kind.givesTokens():
		// The token is made first, so that a client key that cannot be fetched consumes nothing.
		token, err := s.idToken(ctx, f, step)
		if err != nil {
			return failure(http.StatusInternalServerError, "SERVER_SIDE_ERROR", err.Error())
		}
		if !f.settle(step.Kind, time.Now()) {
			return failure(http.StatusBadRequest, "invalid_grant", "the auth_req_id was used")
		}
		a.final, a.status, a.code = true, http.StatusOK, ""
		a.body, _ = json.Marshal(map[string]string{"access_token": randomUUID(), "token_type": "Bearer", "id_token": token})
	}
	return a
}
