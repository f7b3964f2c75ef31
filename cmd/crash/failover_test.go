package main

import (
	"strings"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

// Each thing that can become of a step-up in a failover is counted as what it is.
func TestToll(t *testing.T) {
	final := func(status, reason string) view {
		return view{status: status, reason: reason, members: map[string]any{"identity": map[string]any{"nric": "me"}}}
	}
	answered := cibatest.Request{Tokens: []time.Time{time.Now()}}
	refused := cibatest.Request{Polls: []cibatest.Poll{{Answer: "access_denied"}}}
	for _, c := range []struct {
		name     string
		attempt  attempt
		requests []cibatest.Request
		events   []string
		want     toll
		broken   string // of a run that waits for replicas
	}{
		{"approved", attempt{decision: cibatest.Approve, last: final("approved", "")}, []cibatest.Request{answered}, []string{"approved"}, toll{right: 1}, ""},
		{"denied", attempt{decision: cibatest.Deny, last: final("denied", "")}, []cibatest.Request{refused}, []string{"denied"}, toll{right: 1}, ""},
		{"approved out of nothing", attempt{decision: cibatest.Approve, last: final("approved", "")}, []cibatest.Request{refused}, []string{"approved"}, toll{right: 1, untrue: 1}, "false"},
		{"denied out of nothing", attempt{decision: cibatest.Approve, last: final("denied", "")}, []cibatest.Request{answered}, []string{"denied"}, toll{other: 1, untrue: 1}, "false"},
		{"approved in the second asking", attempt{decision: cibatest.Approve, last: final("approved", "")}, []cibatest.Request{{}, answered}, []string{"approved"}, toll{right: 1}, ""},
		{"lost answer", attempt{last: final("unknown", "result_lost")}, nil, []string{"unknown"}, toll{lost: 1}, ""},
		{"told with 502", attempt{told: told{status: 502}, last: final("unknown", initiation)}, nil, []string{"unknown"}, toll{unasked: 1}, ""},
		{"told with 201", attempt{told: told{status: 201}, last: final("unknown", initiation)}, nil, []string{"unknown"}, toll{orphaned: 1}, "auth_req_id"},
		{"gone", attempt{told: told{status: 201}, gone: true}, nil, nil, toll{gone: 1}, "gone"},
		{"open", attempt{told: told{status: 201}}, nil, nil, toll{open: 1}, "never final"},
		{"expired", attempt{last: final("expired", "")}, nil, []string{"expired"}, toll{other: 1}, "nobody decided"},
		{"two ways", attempt{last: final("unknown", "result_lost")}, nil, []string{"approved", "unknown"}, toll{lost: 1, changed: 1}, "two ways"},
		{"not told", attempt{last: final("unknown", "result_lost")}, nil, nil, toll{lost: 1, untold: 1}, "never told"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.attempt.hint = "me"
			var events []event
			for _, typ := range c.events {
				events = append(events, event{typ: "step_up." + typ})
			}
			var got toll
			got.add(&c.attempt, c.requests, events)
			if got.String() != c.want.String() {
				t.Errorf("counted as %s\nwant %s", got, c.want)
			}
			got.wait = 1
			if list := strings.Join(got.broken(), ", "); (list != "") != (c.broken != "") || !strings.Contains(list, c.broken) {
				t.Errorf("broken: %q, want %q", list, c.broken)
			}
		})
	}
}
