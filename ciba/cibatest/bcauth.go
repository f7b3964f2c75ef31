package cibatest

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ask is what a client wants to know from a person.
type ask struct {
	hint    string // as sent, whichever of the three
	subject string // the sub of the answer
	binding string
	acr     string
	expires time.Duration // requested_expiry, if obeyed
}

// bcAuth is POST /bc-auth: authenticate, read, push (CIBA Core §7).
func (s *Server) bcAuth(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	form, bad := readForm(w, r)
	if bad != nil {
		bad.write(w, r)
		return
	}
	if step := s.outage.Load(); step != nil {
		answerFor(*step).write(w, r)
		return
	}
	client, err := s.authenticate(r.Context(), form)
	if err != nil {
		failure(http.StatusUnauthorized, "invalid_client", err.Error()).write(w, r)
		return
	}
	a, bad := s.readAsk(form)
	if bad != nil {
		bad.write(w, r)
		return
	}
	sc := s.scriptFor(a.hint)
	switch sc.Auth.Kind {
	case Accept, Cut, Truncated:
	default:
		answerFor(sc.Auth).write(w, r)
		return
	}
	f, body := s.push(client, a, sc, now)
	s.flows.add(f)
	s.tally.Load().pushes.Add(1)
	answer{kind: sc.Auth.Kind, status: http.StatusOK, body: body}.write(w, r)
}

// push makes the flow and the answer that acknowledges it.
func (s *Server) push(client string, a ask, sc Script, now time.Time) (*flow, []byte) {
	life := s.cfg.ExpiresIn
	if a.expires > 0 {
		life = a.expires
	}
	if sc.ExpiresIn > 0 {
		life = sc.ExpiresIn
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	f := &flow{
		id:     uuidFrom(binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])),
		client: client, ask: a, pushed: now, scripted: sc.ends(), answered: make(chan struct{}),
		expires: now.Add(life), steps: slices.Clone(sc.Polls), interval: 5 * time.Second, // CIBA Core §7.3
	}
	if sc.Decision != Pending {
		f.decides = decision{kind: sc.Decision, at: now.Add(sc.After)}
	}
	ack := map[string]any{"auth_req_id": f.id, "expires_in": int(life / time.Second)}
	if s.cfg.Interval > 0 {
		ack["interval"] = s.cfg.Interval
	}
	maps.Copy(ack, sc.Ack)
	maps.DeleteFunc(ack, func(_ string, v any) bool { return v == nil })
	if n, ok := ack["interval"].(int); ok && n > 0 {
		f.interval = time.Duration(n) * time.Second
	}
	body, _ := json.Marshal(ack)
	f.due, f.orderly = time.Now().Add(f.interval), sc.Auth.Kind == Accept
	return f, body
}

// readAsk judges the parameters. Singpass documents scope and login_hint and knows no other; a binding_message is shown all the same.
func (s *Server) readAsk(form url.Values) (ask, *answer) {
	bad := func(code, text string) (ask, *answer) {
		a := failure(http.StatusBadRequest, code, text)
		return ask{}, &a
	}
	scopes := strings.Fields(form.Get("scope"))
	if !slices.Contains(scopes, "openid") || !s.cfg.Standard && len(scopes) != 1 {
		return bad("invalid_scope", "the scope must be openid")
	}
	a := ask{binding: form.Get("binding_message")}
	if !s.cfg.Standard {
		a.hint = form.Get("login_hint")
		if !isNRIC(a.hint) && !isUUID(a.hint) {
			return bad("invalid_request", "login_hint must be an NRIC in upper case or a UUID in lower case")
		}
		a.subject = singpassSubject(a.hint, !s.cfg.Plain && !s.cfg.OmitNRIC)
		return a, nil
	}
	given := 0
	for _, name := range []string{"login_hint", "login_hint_token", "id_token_hint"} {
		if form.Get(name) != "" {
			a.hint = form.Get(name)
			given++
		}
	}
	if given != 1 { // CIBA Core §7.1
		return bad("invalid_request", "exactly one of login_hint, login_hint_token and id_token_hint must be given")
	}
	a.subject = a.hint
	if form.Get("id_token_hint") != "" {
		var err error
		if a.subject, err = s.ring.subjectOf(a.hint); err != nil {
			return bad("invalid_request", "the id_token_hint was not signed here")
		}
	}
	if v := form.Get("requested_expiry"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n <= 0 {
			return bad("invalid_request", "requested_expiry must be a positive integer")
		}
		a.expires = time.Duration(n) * time.Second
	}
	if acr := strings.Fields(form.Get("acr_values")); len(acr) > 0 {
		a.acr = acr[0]
	}
	return a, nil
}
