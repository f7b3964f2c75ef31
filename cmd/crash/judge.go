package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"stepup/ciba/cibatest"
)

// violation is a broken promise. 0 is what is asked of the program besides the six: that a drain ends with exit code 0.
type violation struct {
	promise int
	text    string
}

func (v violation) String() string { return fmt.Sprintf("promise %d: %s", v.promise, v.text) }

// evidence is what was seen of one step-up, from outside.
type evidence struct {
	hint    string
	ends    []end // in which it may end
	told    told
	shows   []view           // final states, by every process, in the order they were seen
	events  []event          // webhooks of this step-up
	request cibatest.Request // the provider's entry; zero when it was never asked
	pushes  int              // for this hint
	hurried bool             // polls may have come early
}

// write keeps the evidence for whoever looks into a violation.
func (e evidence) write(file string) error {
	shown := []map[string]any{}
	for _, v := range e.shows {
		shown = append(shown, v.members)
	}
	came := []map[string]any{}
	for _, h := range e.events {
		came = append(came, map[string]any{"id": h.id, "at": h.at, "body": h.body})
	}
	text, err := json.MarshalIndent(map[string]any{
		"told":     map[string]any{"status": e.told.status, "code": e.told.code, "before": e.told.tries, "took": e.told.took.String()},
		"provider": e.request, "pushes": e.pushes, "shown": shown, "webhooks": came,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// grace is how long after expires_at a step-up may take to become final, asking the time in which an intent without an
// answer is given up.
const (
	grace  = 60 * time.Second
	asking = 20 * time.Second
)

// judge holds what was seen of one step-up against promises 1 to 5.
func judge(e evidence) (list []violation) {
	no := func(promise int, bad bool, format string, args ...any) {
		if bad {
			list = append(list, violation{promise, fmt.Sprintf(format, args...)})
		}
	}
	no(1, e.pushes > 1, "%d pushes", e.pushes)
	no(2, e.request.Overlaps > 0, "%d overlapping polls", e.request.Overlaps)
	no(2, e.request.Early > 0 && !e.hurried, "%d early polls", e.request.Early)
	if len(e.shows) == 0 {
		return append(list, violation{5, "no final state was seen"})
	}
	last := e.shows[len(e.shows)-1]
	for _, v := range e.shows {
		if v.text() != last.text() {
			no(4, true, "the final state changed from %s to %s", describe(v), describe(last))
			break
		}
	}
	no(3, !slices.Contains(e.ends, last.end()), "ended as %s, want %v", describe(last), e.ends)
	for _, text := range unfounded(e, last) {
		no(3, true, "%s", text)
	}
	no(5, !inTime(last), "final at %v, expires at %v", last.members["completed_at"], last.members["expires_at"])
	no(5, !last.delivered, "the delivery is not over")
	return append(list, judgeEvents(e.events, last)...)
}

func (v view) end() end { return end{v.status, v.reason} }

func describe(v view) string { return fmt.Sprintf("%s %s", v.status, v.reason) }

// unfounded says what of the final state the provider's ledger and the caller's answer do not bear out.
func unfounded(e evidence, last view) (list []string) {
	answered := func(names ...string) bool {
		return slices.ContainsFunc(e.request.Polls, func(p cibatest.Poll) bool { return slices.Contains(names, p.Answer) })
	}
	tokens, expired := len(e.request.Tokens) > 0, answered("expired_token")
	no := func(bad bool, text string) {
		if bad {
			list = append(list, text)
		}
	}
	toldUnknown := e.told.code == "initiation_unknown"
	switch last.status {
	case "approved":
		identity, _ := last.members["identity"].(map[string]any)
		no(!tokens, "approved, but no tokens were handed out")
		no(identity["nric"] != e.hint && identity["uuid"] != e.hint || identity["bound"] != true, "approved by somebody who was not asked")
	case "denied":
		no(!answered("access_denied"), "denied, but the provider did not say so")
	case "expired":
		no(!expired, "expired, but the provider did not say so")
	case "unknown":
		no(last.reason == "result_lost" && !tokens && !expired && !answered("access_denied"), "a result was lost, but the provider had given none")
		no(last.reason == "initiation_unknown" && !toldUnknown, "the initiation is unknown, but the caller was told otherwise")
	}
	no(toldUnknown && last.reason != "initiation_unknown", "the caller was told initiation_unknown")
	no(e.told.status != 201 && !toldUnknown, fmt.Sprintf("the caller was told %d %s", e.told.status, e.told.code))
	return list
}

// inTime: final by expires_at + 60 s; an intent that never got an answer counts from when it is given up.
func inTime(v view) bool {
	at := func(name string) time.Time {
		text, _ := v.members[name].(string)
		t, _ := time.Parse(time.RFC3339, text)
		return t
	}
	deadline := at("expires_at")
	if deadline.IsZero() {
		deadline = at("created_at").Add(asking)
	}
	return !at("completed_at").IsZero() && at("completed_at").Before(deadline.Add(grace))
}

// judgeEvents: every final state is told at least once, always under the same id, in the same bytes, and as the API
// shows it.
func judgeEvents(events []event, last view) (list []violation) {
	no := func(promise int, format string, args ...any) {
		list = append(list, violation{promise, fmt.Sprintf(format, args...)})
	}
	first := map[string]event{} // by type
	for _, e := range events {
		f, again := first[e.typ]
		if !again {
			first[e.typ] = e
			continue
		}
		if f.id != e.id {
			no(5, "%s came under two ids", e.typ)
		}
		if f.body != e.body {
			no(5, "%s came in different bytes", e.typ)
		}
	}
	want := "step_up." + last.status
	if _, ok := first[want]; !ok {
		no(5, "%s never came", want)
	}
	for typ, e := range first {
		switch {
		case typ != want:
			no(4, "%s came, but the API says %s", typ, last.status)
		case viewOf(e.data).text() != last.text():
			no(4, "%s tells it otherwise than the API", typ)
		}
	}
	return list
}
