package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"stepup/ciba/cibatest"
)

// row is a place on the way of a step-up at which a fault strikes. The points in the program are named by package worker.
type row struct {
	point    string
	decisive bool    // at the pass that brings the final answer, not at the first
	after    trigger // what must happen for the place to be passed at all
	slow     bool    // it is passed only when the pace changes
	late     bool    // the step-up is not asked about again before it: an expiry need not be waited for
}

// trigger is what the program does to get a process to a place that is not on every step-up's way.
type trigger int

const (
	nothing    trigger = iota
	terminated         // SIGTERM to the owner
	killed             // kill -9 to the owner
)

func rows() []row {
	return []row{
		{point: "ask.begin"}, {point: "ask.send"}, {point: "ask.answered"}, {point: "ask.stored"}, {point: "ask.queued"},
		{point: "take.claim"}, {point: "take.claimed"},
		{point: "poll.wait"}, {point: "poll.due"}, {point: "poll.send"}, {point: "poll.open"}, {point: "poll.answered"},
		{point: "poll.send", decisive: true, late: true}, {point: "poll.open", decisive: true, late: true},
		{point: "poll.answered", decisive: true, late: true},
		{point: "note.store", slow: true}, {point: "note.stored", slow: true},
		{point: "final.token", late: true}, {point: "final.store", late: true}, {point: "final.stored", late: true},
		{point: "round.send", late: true}, {point: "round.sent", late: true}, {point: "round.stored", late: true},
		{point: "release.store", after: terminated}, {point: "release.stored", after: terminated},
		{point: "wake.counted", after: killed},
	}
}

func (r row) String() string {
	if r.decisive {
		return r.point + ", last"
	}
	return r.point
}

// outcome is what the person and the provider do.
type outcome string

const (
	approve outcome = "approve" // after one pending answer
	deny    outcome = "deny"    // after one pending answer
	expire  outcome = "expire"  // nobody answers
	trouble outcome = "5xx"     // 500 twice, then approve
)

var outcomes = []outcome{approve, deny, expire, trouble}

// fault is what is done while a process stands at the place.
type fault string

const (
	killOne   fault = "kill -9 one"
	killAll   fault = "kill -9 all"
	killRedis fault = "kill -9 Redis"
	sigterm   fault = "SIGTERM"
	sigstop   fault = "SIGSTOP"
)

var faults = []fault{killOne, killAll, killRedis, sigterm, sigstop}

// cell is one run.
type cell struct {
	row
	outcome
	fault
}

func (c cell) String() string { return fmt.Sprintf("%s / %s / %s", c.row, c.outcome, c.fault) }

// slug is the name of the cell's folder.
func (c cell) slug() string {
	return strings.NewReplacer(" / ", "_", ", ", "-", " -9 ", "-", " ", "-").Replace(c.String())
}

// pass is the pass of the point at which the fault strikes.
func (c cell) pass() int {
	switch {
	case !c.decisive:
		return 1
	case c.outcome == trouble:
		return 3
	}
	return 2
}

// failpoint is the value of STEPUP_FAILPOINT.
func (c cell) failpoint() string { return fmt.Sprintf("%s:%d", c.point, c.pass()) }

// script is what the provider does.
func (c cell) script() cibatest.Script {
	first := cibatest.Step{Kind: cibatest.Pending}
	switch {
	case c.outcome == trouble:
		first = cibatest.Step{Kind: cibatest.Fail, Times: 2}
	case c.slow:
		first = cibatest.Step{Kind: cibatest.SlowDown}
	}
	answer := map[outcome]cibatest.Kind{approve: cibatest.Approve, deny: cibatest.Deny, expire: cibatest.Expire, trouble: cibatest.Approve}[c.outcome]
	s := cibatest.Script{Polls: []cibatest.Step{first}, ExpiresIn: 40 * time.Second}
	switch {
	case c.outcome == expire && !c.late:
		// Whoever takes over after a death must get to ask while the request lives: only then is an expiry certain.
		s.ExpiresIn = map[bool]time.Duration{false: 15 * time.Second, true: 26 * time.Second}[c.slow || c.after != nothing]
	case c.after != nothing:
		// The person answers when the step-up has changed hands.
		s.Decision, s.After = answer, 8*time.Second
	default:
		s.Polls = append(s.Polls, cibatest.Step{Kind: answer})
	}
	return s
}

// hold is how long the provider is said to hold polls: more than nothing where a frozen process could meet its successor.
func (c cell) hold() time.Duration {
	if c.fault == sigstop {
		return 2 * time.Second
	}
	return 0
}

// unreachable are cells whose place is not on the way, by design.
var unreachable = []struct {
	point    string
	outcomes []outcome
	why      string
}{
	{"final.token", []outcome{deny, expire}, "only an approval brings an ID token"},
}

func (c cell) unreachable() (why string, yes bool) {
	for _, u := range unreachable {
		if u.point == c.point && slices.Contains(u.outcomes, c.outcome) {
			return u.why, true
		}
	}
	return "", false
}

// end is a final state.
type end struct{ status, reason string }

// want is how the step-up ends when nothing is lost.
func (o outcome) want() end {
	switch o {
	case deny:
		return end{"denied", "denied_by_user"}
	case expire:
		return end{"expired", "expired"}
	}
	return end{"approved", ""}
}

// loss is a place at which a fault takes an answer away that cannot be had again. Everywhere else the step-up must end as
// if nothing had been.
type loss struct {
	at       []string // rows
	faults   []fault
	outcomes []outcome // nil: all
	reason   string    // of the unknown
	why      string
}

var losses = []loss{
	{[]string{"ask.send", "ask.answered"}, []fault{killOne, killAll}, nil, "initiation_unknown",
		"the process died between the intent and the provider's answer to it: nobody knows whether the person was asked"},
	{[]string{"poll.open, last", "poll.answered, last", "final.token", "final.store"}, []fault{killOne, killAll}, nil, "result_lost",
		"the process died with the answer, which the provider gives once"},
	{[]string{"poll.send, last"}, []fault{killOne, killAll, sigstop}, []outcome{expire}, "result_lost",
		"an expiry told to whoever took over may be the echo of an answer that was lost"},
	{[]string{"poll.open, last", "poll.answered, last", "final.store"}, []fault{sigstop}, []outcome{expire}, "result_lost",
		"an expiry told to whoever took over may be the echo of an answer that was lost"},
}

// hurries are cells in which a poll may come early: a slow_down died with the process that heard it before it could be
// stored, and nobody else can know of it.
var hurries = struct {
	at       string
	faults   []fault
	outcomes []outcome
	why      string
}{"note.store", []fault{killOne, killAll, sigstop}, []outcome{approve, deny, expire},
	"a slow_down that died with the process that heard it is not known to its successor"}

func (c cell) mayHurry() bool {
	return c.row.String() == hurries.at && slices.Contains(hurries.faults, c.fault) && slices.Contains(hurries.outcomes, c.outcome)
}

// mayLose is the reason with which the cell's step-up may end as unknown.
func (c cell) mayLose() (reason string, yes bool) {
	for _, l := range losses {
		if slices.Contains(l.at, c.row.String()) && slices.Contains(l.faults, c.fault) && (l.outcomes == nil || slices.Contains(l.outcomes, c.outcome)) {
			return l.reason, true
		}
	}
	return "", false
}

// ends are the states in which the cell's step-up may end.
func (c cell) ends() []end {
	list := []end{c.want()}
	if reason, ok := c.mayLose(); ok {
		list = append(list, end{"unknown", reason})
	}
	return list
}

// cells is the whole matrix.
func cells() (list []cell) {
	for _, r := range rows() {
		for _, f := range faults {
			for _, o := range outcomes {
				list = append(list, cell{r, o, f})
			}
		}
	}
	return list
}
