package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"stepup/ciba/cibatest"
)

// flow is one step-up, or a create that is refused, with words of its own everywhere.
type flow struct {
	name     string
	provider string // empty: singpass
	script   cibatest.Script
	hooks    []http.HandlerFunc // how the full webhook is answered before it is taken
	members  map[string]any     // of the body, instead of an NRIC for login_hint
	act      string             // done to it while it is pending
	want     string             // the final status, or a problem's code
}

// word is a fresh one that no provider, webhook or log may tell but where it is known.
func (c *cage) word(what string, known ...string) string {
	return c.add(what[:1]+rand.Text(), what, known...)
}

// person is somebody's NRIC.
func (c *cage) person() string {
	var serial [8]byte
	_, _ = rand.Read(serial[:]) // never fails
	nric, _, _ := cibatest.PersonOf(cibatest.HintFor(0x7f, 0, uint64(serial[0])<<40|uint64(serial[1])<<32|uint64(serial[2])<<24|uint64(serial[3])<<16|uint64(serial[4])<<8|uint64(serial[5])))
	_, uuid, _ := cibatest.PersonOf(nric)
	c.add(nric, "an NRIC", append([]string{inProvider}, mine...)...)
	c.add(uuid, "a person's UUID", mine...)
	return nric
}

// says answers as a provider or receiver that tells more than it should.
func (c *cage) says(status int, format string, about ...any) http.HandlerFunc {
	text := fmt.Sprintf(format, append(about, c.word("what a stranger answered"))...)
	return func(w http.ResponseWriter, _ *http.Request) {
		kind := "application/json"
		if text[0] == '<' {
			kind = "text/html"
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Location", "http://127.0.0.1:1/"+text[len(text)-20:])
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}

const (
	oauthError = `{"error":%q,"error_description":"%s and %s"}`
	tokens     = `{"token_type":"Bearer","id_token":%q,"access_token":"%s"}`
	page       = "<!DOCTYPE html><title>%s and %s</title>"
)

func cutOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// compact is a token that nobody signed, with a word wherever a part has room for one.
func (c *cage) compact(parts ...string) string {
	for i, part := range parts {
		if strings.Contains(part, "%s") {
			part = fmt.Sprintf(part, c.word("a word in a false token"))
		}
		parts[i] = base64.RawURLEncoding.EncodeToString([]byte(part))
	}
	return strings.Join(parts, ".")
}

// flows are every way that a step-up can go.
func (c *cage) flows() []flow {
	person := "somebody"
	raw := func(status int, format string, about ...any) cibatest.Step {
		return cibatest.Step{Kind: cibatest.Raw, Do: c.says(status, format, about...)}
	}
	named := cibatest.Step{Kind: cibatest.Approve, Claims: func(m map[string]any) {
		m["name"] = c.word("a name", append(mine, inProvider)...) // in an id_token_hint
		m["email"] = c.word("an e-mail address", append(mine, inProvider)...) + "@bank.example"
	}}
	claims := func(kind cibatest.Kind, name string, value any) cibatest.Step {
		return cibatest.Step{Kind: kind, Claims: func(m map[string]any) { m["name"], m[name] = c.word("the name of somebody else"), value }}
	}
	polls := func(steps ...cibatest.Step) cibatest.Script { return cibatest.Script{Polls: steps} }
	auth := func(s cibatest.Step) cibatest.Script { return cibatest.Script{Auth: s} }
	kind := func(k cibatest.Kind) cibatest.Step { return cibatest.Step{Kind: k} }
	return []flow{
		{name: "approved, hooks fail", script: polls(kind(cibatest.Pending), named), want: "approved",
			hooks: []http.HandlerFunc{c.says(500, page, person), c.says(302, page, person), cutOff}},
		{name: "approved, hook stopped", script: polls(named), want: "approved", hooks: []http.HandlerFunc{c.says(410, page, person)}},
		{name: "token waits for its key", provider: "late", script: polls(named), want: "pending"},
		{name: "denied", script: polls(kind(cibatest.Pending), kind(cibatest.Deny)), want: "denied"},
		{name: "denied in many words", script: polls(raw(400, oauthError, "access_denied", person)), want: "denied"},
		{name: "expired", script: cibatest.Script{ExpiresIn: 3e9}, want: "expired"},
		{name: "cancelled", act: "cancel", want: "cancelled"},
		{name: "broken encryption", script: polls(raw(200, tokens, c.compact(`{"alg":"ECDH-ES+A256KW","enc":"A256CBC-HS512","kid":"%s"}`, "", c.word("a part of a token"), "iv", "tag"))), want: "failed"},
		{name: "not encrypted", script: polls(raw(200, tokens, c.compact(`{"alg":"ES256","kid":"%s"}`, `{"sub":"%s"}`, "signature"))), want: "failed"},
		{name: "somebody else's token", script: polls(claims(cibatest.OtherPerson, "nonce", c.word("a nonce"))), want: "failed"},
		{name: "wrong audience", script: polls(claims(cibatest.Approve, "aud", c.word("a foreign audience"))), want: "failed"},
		{name: "wrong issuer", script: polls(claims(cibatest.Approve, "iss", "https://"+c.word("a foreign issuer"))), want: "failed"},
		{name: "broken subject", script: polls(claims(cibatest.Approve, "sub", "s="+c.word("a broken subject"))), want: "failed"},
		{name: "broken time", script: polls(claims(cibatest.Approve, "exp", c.word("a broken time"))), want: "failed"},
		{name: "no token", script: polls(raw(200, tokens, "nothing like one")), want: "failed"},
		{name: "answer lost", script: polls(kind(cibatest.Lost)), want: "unknown"},
		{name: "answer cut", script: polls(kind(cibatest.Truncated)), want: "unknown"},
		{name: "poll refused", script: polls(raw(500, page, person), raw(400, oauthError, c.word("a code of theirs"), person)), want: "unknown"},
		{name: "not JSON", script: polls(raw(200, page, person), kind(cibatest.Deny)), want: "denied"},

		{name: "unknown user", script: auth(raw(400, oauthError, "unknown_user_id", person)), want: "unknown_user"},
		{name: "not eligible", script: auth(raw(403, oauthError, "access_denied", person)), want: "not_eligible"},
		{name: "rejected", script: auth(raw(400, oauthError, c.word("a code of theirs"), person)), want: "provider_rejected"},
		{name: "not accepted", script: auth(raw(401, oauthError, "invalid_client", person)), want: "provider_error"},
		{name: "provider busy", script: auth(raw(429, oauthError, "busy", person)), want: "provider_unavailable"},
		{name: "provider fails", script: auth(raw(500, oauthError, "SERVER_SIDE_ERROR", person)), want: "initiation_unknown"},
		{name: "provider's page", script: auth(raw(200, page, person)), want: "initiation_unknown"},
		{name: "provider redirects", script: auth(raw(307, page, person)), want: "initiation_unknown"},
		{name: "provider cut off", script: auth(kind(cibatest.Cut)), want: "initiation_unknown"},
		{name: "broken auth_req_id", script: cibatest.Script{Ack: map[string]any{"auth_req_id": "not shaped " + c.word("a broken auth_req_id")}}, want: "initiation_unknown"},

		{name: "everything", provider: "standard", want: "approved", script: polls(kind(cibatest.Pending), named), members: map[string]any{
			"login_hint_token": c.word("a login_hint_token", append(mine, inProvider)...), "binding_message": c.word("a binding message", inProvider),
			"user_code": c.word("a user code", inProvider), "acr_values": c.word("an acr value", append(mine, inProvider)...), "requested_expiry": 60}},
		{name: "everything, cut off", provider: "standard", want: "initiation_unknown", script: auth(kind(cibatest.Cut)), members: map[string]any{
			"login_hint": c.word("a login hint", inProvider) + "@bank.example", "binding_message": c.word("a binding message", inProvider), "user_code": c.word("a user code", inProvider)}},
		{name: "everything, not taken", provider: "singpass", want: "invalid_request", members: map[string]any{
			"login_hint_token": c.word("a login_hint_token"), "binding_message": c.word("a binding message"), "user_code": c.word("a user code")}},
	}
}
