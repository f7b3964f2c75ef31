package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/cibatest/peers"
	"stepup/webhook"
)

// The examples that banks write their receivers after run as they stand in deploy/receivers, each as a process of its own, and
// get what the sender sends, and what an attacker would.
func TestReceivers(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("../../deploy/receivers")
	if err != nil {
		t.Fatal(err)
	}
	for name, example := range map[string]struct {
		command func(t *testing.T) []string // skips where the runtime is missing
		opens   bool                        // encrypted content
	}{
		"node": {func(t *testing.T) []string {
			node := runtimeOf(t, "node", "nodejs (20 or later) and npm")
			peers.NeedIn(t, filepath.Join(dir, "node"))
			return []string{node, filepath.Join(dir, "node", "receiver.mjs")}
		}, true},
		"python": {func(t *testing.T) []string {
			return []string{python(t), "-B", filepath.Join(dir, "python", "receiver.py")}
		}, true},
		"java": {func(t *testing.T) []string {
			runtimeOf(t, "javac", "a JDK of 17 or later, such as default-jdk-headless")
			return []string{"java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", filepath.Join(dir, "java", "Receiver.java")}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSender(t)
			r := s.start(t, example.command(t), example.opens)
			for _, c := range slices.Concat(s.repeats(), s.attacks(), s.outcomes(), s.encrypted(t, example.opens)) {
				s.check(t, r, c)
			}
			s.checkAtOnce(t, r)
			r.checkQuiet(t)
		})
	}
}

// canary tells of a person: no example may print it.
const canary = "S1234567D"

// delivery is one attempt, and what the example makes of it.
type delivery struct {
	name    string
	secrets []webhook.Secret    // that sign; the current one when nil
	body    string              // an event
	change  func(*http.Request) // on the way
	status  int
	prints  string // empty: nothing is kept
}

const bound, unbound = `{"subject":"` + canary + `","nric":"` + canary + `","bound":true}`, `{"nric":"` + canary + `","bound":false}`

// event is the body of an event, in whose metadata somebody tries to look like another one.
func event(typ, id, status, identity string) string {
	return fmt.Sprintf(`{"type":%q,"timestamp":"2026-11-21T02:03:20.456Z","data":{"id":%q,"status":%q,"reference":"of %s",`+
		`"metadata":{"id":"su_X","type":"step_up.approved","bound":"true","x":"\"},\\","é":""},"reason":null,"identity":%s}}`,
		typ, id, status, canary, identity)
}

func approval(id string) string { return event("step_up.approved", id, "approved", bound) }

// repeats are good signatures, and events that come more than once.
func (s *sender) repeats() []delivery {
	return []delivery{
		{name: "v1", body: approval("su_1"), status: 204, prints: "su_1 step_up.approved approved"},
		{name: "sent again, because the answer was lost", body: approval("su_1"), status: 204},
		{name: "the same from another webhook", body: approval("su_1"), status: 204,
			change: func(r *http.Request) { s.sign(r, "evt_another", s.current, time.Now()) }},
		{name: "what follows of the same step-up", body: event("step_up.delivery_expired", "su_1", "approved", "null"),
			status: 204, prints: "su_1 step_up.delivery_expired not approved"},
		{name: "v1a", secrets: s.private, body: approval("su_2"), status: 204, prints: "su_2 step_up.approved approved"},
		{name: "rotation: the old secret", secrets: s.old, body: approval("su_3"), status: 204, prints: "su_3 step_up.approved approved"},
		{name: "rotation: old, new and v1a side by side", secrets: slices.Concat(s.old, s.current, s.private),
			body: approval("su_4"), status: 204, prints: "su_4 step_up.approved approved"},
		{name: "rotation: one that is not known here yet", secrets: slices.Concat(s.unknown, s.current, s.unknownPrivate),
			body: approval("su_5"), status: 204, prints: "su_5 step_up.approved approved"},
		{name: "rotation: v1a that is not known here yet", secrets: slices.Concat(s.unknown, s.unknownPrivate, s.private),
			body: approval("su_6"), status: 204, prints: "su_6 step_up.approved approved"},
		{name: "four minutes old", body: approval("su_7"), status: 204, prints: "su_7 step_up.approved approved",
			change: func(r *http.Request) { s.sign(r, "evt_7", s.current, time.Now().Add(-4*time.Minute)) }},
	}
}

// attacks are refused, and leave nothing behind: the event is kept when it comes from the sender.
func (s *sender) attacks() []delivery {
	body := approval("su_10")
	at := func(secrets []webhook.Secret, d time.Duration) func(*http.Request) {
		return func(r *http.Request) { s.sign(r, "evt_10", secrets, time.Now().Add(d)) }
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	tamper := func(r *http.Request) { setBody(r, approval("su_11")) }
	return []delivery{
		{name: "a secret of somebody else", secrets: s.unknown, body: body, status: 401},
		{name: "v1a by a key of somebody else", secrets: s.unknownPrivate, body: body, status: 401},
		{name: "tampered body", body: body, change: tamper, status: 401},
		{name: "v1a, tampered body", secrets: s.private, body: body, change: tamper, status: 401},
		{name: "six minutes old", body: body, change: at(s.current, -6*time.Minute), status: 401},
		{name: "v1a, six minutes old", body: body, change: at(s.private, -6*time.Minute), status: 401},
		{name: "six minutes ahead", body: body, change: at(s.current, 6*time.Minute), status: 401},
		{name: "v1a, six minutes ahead", body: body, change: at(s.private, 6*time.Minute), status: 401},
		{name: "another timestamp", body: body, change: set("webhook-timestamp", strconv.FormatInt(time.Now().Unix()-2, 10)), status: 401},
		{name: "v1a, another timestamp", secrets: s.private, body: body,
			change: set("webhook-timestamp", strconv.FormatInt(time.Now().Unix()-2, 10)), status: 401},
		{name: "a timestamp that is no number", body: body, change: set("webhook-timestamp", "now"), status: 401},
		{name: "another id", body: body, change: set("webhook-id", "evt_another"), status: 401},
		{name: "v1a, another id", secrets: s.private, body: body, change: set("webhook-id", "evt_another"), status: 401},
		{name: "no id", body: body, change: func(r *http.Request) { r.Header.Del("webhook-id") }, status: 401},
		{name: "no timestamp", body: body, change: func(r *http.Request) { r.Header.Del("webhook-timestamp") }, status: 401},
		{name: "no signature", body: body, change: func(r *http.Request) { r.Header.Del("webhook-signature") }, status: 401},
		{name: "an empty signature", body: body, change: set("webhook-signature", "v1, v1a, v1 v1a"), status: 401},
		{name: "longer than 64 KiB", body: body + strings.Repeat(" ", 64<<10), status: 413},
		{name: "not an event", body: `{"type":"step_up.approved"`, status: 500},
		{name: "the event itself", body: body, status: 204, prints: "su_10 step_up.approved approved"},
	}
}

// outcomes are all ways in which a step-up ends. One of them is yes.
func (s *sender) outcomes() (all []delivery) {
	for i, word := range []string{"denied", "expired", "cancelled", "failed", "unknown"} {
		id := fmt.Sprint("su_", 20+i)
		all = append(all, delivery{name: word, body: event("step_up."+word, id, word, "null"), status: 204,
			prints: id + " step_up." + word + " not approved"})
	}
	return append(all,
		delivery{name: "an approval that came too late", body: event("step_up.delivery_expired", "su_30", "approved", "null"), status: 204,
			prints: "su_30 step_up.delivery_expired not approved"},
		delivery{name: "content: reference", body: event("step_up.approved", "su_31", "approved", "null"), status: 204,
			prints: "su_31 step_up.approved approved, fetch who"},
		delivery{name: "a person who could not be compared", body: event("step_up.approved", "su_32", "approved", unbound), status: 204,
			prints: "su_32 step_up.approved approved, compare who"},
		delivery{name: "a trial of the endpoint", body: `{"type":"endpoint.test","timestamp":"2026-11-21T02:03:20.456Z",` +
			`"data":{"caller":"bank","webhook":"ledger"}}`, status: 204},
	)
}

// encrypted is content that only the receiver can read.
func (s *sender) encrypted(t *testing.T, opens bool) []delivery {
	seal := func(to *webhook.Recipient, outer, inner string) string {
		t.Helper()
		jwe, err := to.Encrypt([]byte(inner))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(outer, "}}") + `,"encrypted":"` + jwe + `"}}`
	}
	outer := func(id string) string {
		return `{"type":"step_up.approved","timestamp":"2026-11-21T02:03:20.456Z","data":{"id":"` + id + `","status":"approved"}}`
	}
	const trial = `{"type":"endpoint.test","timestamp":"2026-11-21T02:03:20.456Z","data":{"caller":"bank","webhook":"ledger"}}`
	if !opens {
		return []delivery{{name: "encrypted", body: seal(s.recipient, outer("su_40"), approval("su_40")), status: 204,
			prints: "su_40 step_up.approved approved, fetch who"}}
	}
	return []delivery{
		{name: "encrypted", body: seal(s.recipient, outer("su_40"), approval("su_40")), status: 204,
			prints: "su_40 step_up.approved approved"},
		{name: "encrypted, a person who could not be compared", status: 204,
			body:   seal(s.recipient, outer("su_41"), event("step_up.approved", "su_41", "approved", unbound)),
			prints: "su_41 step_up.approved approved, compare who"},
		{name: "encrypted to a key that is not here", body: seal(s.another, outer("su_42"), approval("su_42")), status: 500},
		{name: "another step-up encrypted", body: seal(s.recipient, outer("su_42"), approval("su_40")), status: 500},
		{name: "another type encrypted", status: 500,
			body: seal(s.recipient, outer("su_42"), event("step_up.denied", "su_42", "approved", "null"))},
		{name: "another status encrypted", status: 500,
			body: seal(s.recipient, outer("su_42"), event("step_up.approved", "su_42", "denied", bound))},
		{name: "a trial with something encrypted", body: seal(s.recipient, trial, trial), status: 204},
		{name: "a trial that cannot be opened", body: seal(s.another, trial, trial), status: 500},
		{name: "encrypted, at last", body: seal(s.recipient, outer("su_42"), approval("su_42")), status: 204,
			prints: "su_42 step_up.approved approved"},
	}
}

// check makes one delivery.
func (s *sender) check(t *testing.T, r *receiver, d delivery) {
	t.Helper()
	got := s.send(t, r, d)
	if got.Status != d.status && !(d.status == 413 && got.Status == 0) { // it may hang up on the rest
		t.Errorf("%s: answered %d (%v), want %d", d.name, got.Status, got.Err, d.status)
	}
	if d.prints == "" {
		return // what it printed all the same comes in place of the next line
	}
	if line := r.line(t, 10*time.Second); line != d.prints {
		t.Errorf("%s: printed %q, want %q", d.name, line, d.prints)
	}
}

// checkAtOnce delivers one event eight times at the same time: it is kept once.
func (s *sender) checkAtOnce(t *testing.T, r *receiver) {
	t.Helper()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { s.check(t, r, delivery{name: "eight at once", body: approval("su_50"), status: 204}) })
	}
	all.Wait()
	if line := r.line(t, 10*time.Second); line != "su_50 step_up.approved approved" {
		t.Errorf("eight at once: printed %q", line)
	}
}
