package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"stepup/ciba/cibatest/peers"
	"stepup/worker/api/apitest"
)

// The main job between programs that nobody here wrote. npm oidc-provider is the provider: private_key_jwt with ES256, ID
// tokens signed ES256 and encrypted ECDH-ES+A256KW, with both content encryptions. curl is the bank's backend, a real
// Redis keeps everything, npm standardwebhooks and its Go sibling judge what the bank is told, and npm jose opens what is
// encrypted.
func TestInterop(t *testing.T) {
	t.Parallel()
	s := startSite(t, "A256CBC-HS512", "A256GCM")
	t.Run("from", func(t *testing.T) {
		for _, provider := range s.names() {
			t.Run(provider, func(t *testing.T) {
				t.Parallel()
				for name, way := range map[string]func(*testing.T, *person){
					"approved": approved, "denied": denied, "expired": expired, "unknown user": unknownUser,
				} {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						way(t, s.person(t, provider))
					})
				}
			})
		}
	})
	s.stop(t)
	s.wantSilence(t)
}

func approved(t *testing.T, p *person) {
	const card, phone = "urn:stepup:peers:card", "urn:stepup:peers:phone"
	p.ask(t, map[string]any{"acr_values": card + " " + phone, "binding_message": "Pay 100 to Bob"})
	p.awaitPending(t)
	p.peer.Approve(p.hint)
	data := p.wantTold(t, "approved", "")

	identity := object(t, "identity", data["identity"])
	wantMembers(t, "identity", identity, map[string]any{
		"subject": p.hint, "bound": true, "nric": nil, "uuid": nil, "foreign_id": nil, "country": nil,
		"acr": card, "amr": []any{"swk", "user"},
	}, "auth_time", "issued_at", "claims")
	for _, name := range []string{"auth_time", "issued_at"} {
		if at := instant(t, identity, name); time.Since(at).Abs() > time.Minute {
			t.Errorf("identity.%s is %v, want about now", name, at)
		}
	}
	claims := object(t, "claims", identity["claims"])
	if claims["sub"] != p.hint || claims["iss"] != p.peer.Issuer || claims["aud"] != "bank" {
		t.Errorf("claims sub %v, iss %v, aud %v", claims["sub"], claims["iss"], claims["aud"])
	}
	if life := instant(t, data, "result_expires_at").Sub(instant(t, data, "completed_at")); life != 15*time.Minute {
		t.Errorf("the result can be fetched for %v, want result_ttl's default", life)
	}

	p.wantSameAnswer(t) // also once the step-up is final
	p.wantPolls(t, "authorization_pending", "")
}

func denied(t *testing.T, p *person) {
	p.ask(t, nil)
	p.awaitPending(t)
	p.peer.Deny(p.hint)
	p.wantTold(t, "denied", "denied_by_user")
	p.wantPolls(t, "authorization_pending", "access_denied")
}

func expired(t *testing.T, p *person) {
	p.ask(t, map[string]any{"requested_expiry": 3})
	data := p.wantTold(t, "expired", "expired")
	// expires_in counts whole seconds from when the provider took the request.
	if life := instant(t, data, "expires_at").Sub(instant(t, data, "created_at")); life < 3*time.Second || life > 8*time.Second {
		t.Errorf("expires %v after creation, want the 3 s that were asked for", life)
	}
	p.wantPolls(t, "authorization_pending", "expired_token", "authorization_pending")
}

// The provider refuses at once, so there is nothing to wait for: no step-up, no push, no webhook.
func unknownUser(t *testing.T, p *person) {
	p.hint = "nobody-" + p.hint
	first := p.create(t, nil)
	if first.status != http.StatusUnprocessableEntity || first.header.Get("Content-Type") != "application/problem+json" {
		t.Fatalf("status %d, %s, want 422 and a problem", first.status, first.header.Get("Content-Type"))
	}
	problem := decode(t, "problem", first.body)
	if problem["code"] != "unknown_user" || problem["status"] != 422.0 || problem["id"] != nil {
		t.Errorf("problem %s", first.body)
	}
	if strings.Contains(string(first.body), p.hint) {
		t.Error("the problem repeats the login hint")
	}
	p.wantSameAnswer(t)
	if seen := p.peer.Seen(p.hint); len(seen.Pushes)+len(seen.Polls) != 0 {
		t.Errorf("%d pushes, %d polls, want none", len(seen.Pushes), len(seen.Polls))
	}
}

// ask creates the step-up and wants it pending.
func (p *person) ask(t *testing.T, more map[string]any) {
	t.Helper()
	created := p.create(t, more)
	if created.status != http.StatusCreated {
		t.Fatalf("create: status %d: %s", created.status, created.body)
	}
	v := decode(t, "step-up", created.body)
	p.id, _ = v["id"].(string)
	if at := created.header.Get("Location"); p.id == "" || at != "/v1/step-ups/"+p.id {
		t.Errorf("id %q at Location %q", p.id, at)
	}
	if v["status"] != "pending" || v["identity"] != nil || v["reason"] != nil || v["completed_at"] != nil {
		t.Errorf("created as %s", created.body)
	}
	p.wantSameAnswer(t)
}

// wantSameAnswer repeats the create under the same Idempotency-Key.
func (p *person) wantSameAnswer(t *testing.T) {
	t.Helper()
	first := p.first
	again := p.create(t, p.asked)
	if again.status != first.status || string(again.body) != string(first.body) {
		t.Errorf("repeated: %d %s\nfirst: %d %s", again.status, again.body, first.status, first.body)
	}
}

// awaitPending waits until a poll was answered "not yet"; the question then lies in Redis, and nothing of it in the clear.
func (p *person) awaitPending(t *testing.T) {
	t.Helper()
	await(t, "a first poll", func() bool { return len(p.peer.Seen(p.hint).Polls) > 0 })
	p.wantSealed(t, p.id)
}

// wantTold wants the step-up to end as status, the API and the one webhook to say so alike, and others' libraries to
// vouch for the webhook. It returns the webhook's data.
func (p *person) wantTold(t *testing.T, status, reason string) map[string]any {
	t.Helper()
	final := decode(t, "step-up", p.get(t, "?wait=20s"))
	var told post
	select {
	case told = <-p.posts:
	case <-time.After(30 * time.Second):
		t.Fatalf("no webhook for a step-up that is %v", final["status"])
	}
	wantVerified(t, p.secrets, p.public, told)

	event := decode(t, "event", told.body)
	wantMembers(t, "event", event, map[string]any{"type": "step_up." + status}, "timestamp", "data")
	data := object(t, "data", event["data"])
	wantMembers(t, "data", data, map[string]any{
		"id": p.id, "status": status, "provider": p.provider, "reference": p.reference,
		"metadata": map[string]any{"order": p.order}, "identity_purged_at": nil,
	}, "created_at", "expires_at", "completed_at", "reason", "identity", "result_expires_at")
	created, completed, sent := instant(t, data, "created_at"), instant(t, data, "completed_at"), instant(t, event, "timestamp")
	if completed.Before(created) || sent.Before(completed) || time.Since(sent).Abs() > time.Minute {
		t.Errorf("created %v, completed %v, event of %v", created, completed, sent)
	}
	if reason == "" {
		if data["reason"] != nil {
			t.Errorf("reason %v, want null", data["reason"])
		}
	} else {
		r := object(t, "reason", data["reason"])
		wantMembers(t, "reason", r, map[string]any{"code": reason}, "message", "provider_error", "trace_id")
		if r["message"] == "" || data["identity"] != nil {
			t.Errorf("reason %v, identity %v; want a message and no identity", r, data["identity"])
		}
	}

	delete(final, "deliveries")
	if !reflect.DeepEqual(final, data) {
		t.Errorf("the API says\n%v\nthe webhook\n%v", final, data)
	}
	await(t, "the delivery on record", func() bool {
		deliveries := fmt.Sprint(decode(t, "step-up", p.get(t, ""))["deliveries"])
		const once = "map[attempts:1 last_status:204 next_attempt_at:<nil> status:delivered webhook:"
		return deliveries == "["+once+"ledger] "+once+"sealed]]"
	})
	p.wantEncrypted(t, told.body, data)
	return data
}

// wantEncrypted wants the other receiver to have been told the same, for npm jose alone to read: what it opens is the plain
// webhook's event byte for byte, and around it stands nothing of the person or of what the bank said.
func (p *person) wantEncrypted(t *testing.T, plain []byte, data map[string]any) {
	t.Helper()
	var told post
	select {
	case told = <-p.inbox.about(p.id):
	case <-time.After(30 * time.Second):
		t.Fatal("no encrypted webhook")
	}
	wantVerified(t, p.secrets, p.public, told)
	event := decode(t, "encrypted event", told.body)
	around := object(t, "data", event["data"])
	token, _ := around["encrypted"].(string)
	if got, err := peers.Open(t, p.receiver, token); err != nil || string(got) != string(plain) {
		t.Errorf("npm jose opens\n%s, %v\nwant\n%s", got, err, plain)
	}
	want := maps.Clone(data)
	want["identity"], want["reference"], want["metadata"], want["encrypted"] = nil, nil, map[string]any{}, token
	if !reflect.DeepEqual(around, want) {
		t.Errorf("around what is encrypted stands\n%v, want\n%v", around, want)
	}
}

// wantVerified wants both libraries to accept the webhook with each active secret alone, and to refuse a changed byte.
func wantVerified(t *testing.T, secrets []string, public string, told post) {
	t.Helper()
	if id := told.header.Get("webhook-id"); !strings.HasPrefix(id, "evt_") {
		t.Errorf("webhook-id %q", id)
	}
	if err := apitest.CheckWebhook(told.header, told.body); err != nil {
		t.Errorf("the webhook is not as documented: %v", err)
	}
	if got := told.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	changed := []byte(strings.Replace(string(told.body), `"id":"su_`, `"id":"sv_`, 1))
	if slices.Equal(changed, told.body) {
		t.Fatalf("found no byte to change in %s", told.body)
	}
	for i, secret := range secrets {
		theirs, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatalf("secret %d: %v", i, err)
		}
		if err := theirs.Verify(told.body, told.header); err != nil {
			t.Errorf("secret %d: Go standardwebhooks: %v", i, err)
		}
		if err := peers.Verify(t, secret, told.header, told.body); err != nil {
			t.Errorf("secret %d: npm standardwebhooks: %v", i, err)
		}
		if theirs.Verify(changed, told.header) == nil {
			t.Errorf("secret %d: Go standardwebhooks accepts a changed byte", i)
		}
		if peers.Verify(t, secret, told.header, changed) == nil {
			t.Errorf("secret %d: npm standardwebhooks accepts a changed byte", i)
		}
	}
	if err := peers.Verify(t, public, told.header, told.body); err != nil {
		t.Errorf("v1a: Node's crypto: %v", err)
	}
	if peers.Verify(t, public, told.header, changed) == nil {
		t.Error("v1a: Node's crypto accepts a changed byte")
	}
}

// wantPolls holds what the provider witnessed against the promises: one push; polls that never overlap, each at least an
// interval after the answer before it (CIBA 10.1); all of them answered with before, except the last, which has one of last.
func (p *person) wantPolls(t *testing.T, before string, last ...string) {
	t.Helper()
	const interval, tolerance = time.Second, 5 * time.Millisecond // both ends round to the millisecond
	seen := p.peer.Seen(p.hint)
	if len(seen.Pushes) != 1 || len(seen.Polls) == 0 {
		t.Fatalf("%d pushes and %d polls, want one push and some polls", len(seen.Pushes), len(seen.Polls))
	}
	answered := seen.Pushes[0]
	for i, poll := range seen.Polls {
		if gap := poll.At.Sub(answered); gap < interval-tolerance {
			t.Errorf("poll %d came %v after the answer before it", i, gap)
		}
		answered = poll.Done
		p.watchFor(poll.AuthReqID, "auth_req_id")
		if final := i == len(seen.Polls)-1; !final && poll.Error != before || final && !slices.Contains(last, poll.Error) {
			t.Errorf("poll %d of %d was answered %d %q", i+1, len(seen.Polls), poll.Status, poll.Error)
		}
	}
}

// wantMembers wants exactly these members: fixed with their values, and others.
func wantMembers(t *testing.T, what string, got, fixed map[string]any, others ...string) {
	t.Helper()
	names := slices.Sorted(maps.Keys(got))
	if want := slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(fixed)), others...))); !slices.Equal(names, want) {
		t.Errorf("%s has %q, want %q", what, names, want)
	}
	for name, want := range fixed {
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s.%s is %#v, want %#v", what, name, got[name], want)
		}
	}
}

func decode(t *testing.T, what string, body []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v: %s", what, err, body)
	}
	return v
}

func object(t *testing.T, what string, v any) map[string]any {
	t.Helper()
	o, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is %v, want an object", what, v)
	}
	return o
}

// instant reads a member that is a time.
func instant(t *testing.T, v map[string]any, name string) time.Time {
	t.Helper()
	text, _ := v[name].(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || !strings.HasSuffix(text, "Z") {
		t.Errorf("%s is %q, want RFC 3339 in UTC", name, text)
	}
	return at
}
