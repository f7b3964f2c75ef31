package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

// healthy is what is seen of a step-up that was approved and of which nothing is wrong.
func healthy() evidence {
	members := func() map[string]any {
		return map[string]any{
			"id": "su_1", "status": "approved", "created_at": "2026-11-21T02:03:04.000Z", "expires_at": "2026-11-21T02:04:04.000Z",
			"completed_at": "2026-11-21T02:03:06.000Z", "reason": nil, "identity": map[string]any{"nric": "S1234567D", "bound": true},
			"deliveries": []any{map[string]any{"status": "delivered"}},
		}
	}
	tell := event{id: "evt_1", body: "{}", typ: "step_up.approved", stepUp: "su_1", data: members()}
	delete(tell.data, "deliveries")
	return evidence{
		hint: "S1234567D", ends: []end{{"approved", ""}}, told: told{status: 201, id: "su_1"},
		shows:  []view{viewOf(members()), viewOf(members()), viewOf(members()), viewOf(members())},
		events: []event{tell, tell}, pushes: 1,
		request: cibatest.Request{Tokens: []time.Time{time.Now()}, Polls: []cibatest.Poll{{Answer: "authorization_pending"}, {Answer: "tokens"}}},
	}
}

// become makes everybody tell another final state.
func (e *evidence) become(status, reason string) {
	edit := func(m map[string]any) {
		m["status"], m["identity"] = status, nil
		if reason != "" {
			m["reason"] = map[string]any{"code": reason}
		}
	}
	for i := range e.shows {
		edit(e.shows[i].members)
		e.shows[i].status, e.shows[i].reason = status, reason
	}
	for i := range e.events {
		edit(e.events[i].data)
		e.events[i].typ = "step_up." + status
	}
	e.ends = []end{{status, reason}}
}

func (e *evidence) answers(names ...string) {
	e.request.Polls, e.request.Tokens = nil, nil
	for _, n := range names {
		e.request.Polls = append(e.request.Polls, cibatest.Poll{Answer: n})
		if n == "tokens" {
			e.request.Tokens = []time.Time{time.Now()}
		}
	}
}

// TestJudge: what is as it should be is not blamed, and each broken promise is seen for itself.
func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(*evidence)
		want  []int // promises
	}{
		"approved": {func(*evidence) {}, nil},
		"denied": {func(e *evidence) {
			e.become("denied", "denied_by_user")
			e.answers("authorization_pending", "access_denied")
		}, nil},
		"expired": {func(e *evidence) { e.become("expired", "expired"); e.answers("expired_token") }, nil},
		"lost":    {func(e *evidence) { e.become("unknown", "result_lost") }, nil},
		"unknown initiation": {func(e *evidence) {
			e.become("unknown", "initiation_unknown")
			e.told = told{status: 502, code: "initiation_unknown", id: "su_1"}
			e.request, e.pushes = cibatest.Request{}, 0
		}, nil},

		"two pushes":          {func(e *evidence) { e.pushes = 2 }, []int{1}},
		"overlap":             {func(e *evidence) { e.request.Overlaps = 1 }, []int{2}},
		"early poll":          {func(e *evidence) { e.request.Early = 1 }, []int{2}},
		"early, where it may": {func(e *evidence) { e.request.Early, e.hurried = 1, true }, nil},
		"no tokens":           {func(e *evidence) { e.answers("authorization_pending") }, []int{3}},
		"not the wanted end":  {func(e *evidence) { e.ends = []end{{"denied", "denied_by_user"}} }, []int{3}},
		"another person":      {func(e *evidence) { e.hint = "S7654321X" }, []int{3}},
		"denied by nobody":    {func(e *evidence) { e.become("denied", "denied_by_user"); e.answers("invalid_grant") }, []int{3}},
		"expired for nobody":  {func(e *evidence) { e.become("expired", "expired"); e.answers("authorization_pending") }, []int{3}},
		"nothing was lost":    {func(e *evidence) { e.become("unknown", "result_lost"); e.answers("authorization_pending") }, []int{3}},
		"told 201, unknown":   {func(e *evidence) { e.become("unknown", "initiation_unknown") }, []int{3}},
		"told 502, approved":  {func(e *evidence) { e.told.status, e.told.code = 502, "initiation_unknown" }, []int{3}},
		"refused to caller":   {func(e *evidence) { e.told.status, e.told.code = 422, "unknown_user" }, []int{3}},
		"state changed":       {func(e *evidence) { e.shows[0].members["status"] = "unknown" }, []int{4}},
		"member changed":      {func(e *evidence) { e.shows[3].members["completed_at"] = "2026-11-21T02:03:07.000Z" }, []int{4, 4}},
		"webhook disagrees":   {func(e *evidence) { e.events[0].data["completed_at"] = "x" }, []int{4}},
		"two final webhooks":  {func(e *evidence) { e.events[1].typ = "step_up.unknown" }, []int{4}},
		"never final":         {func(e *evidence) { e.shows = nil }, []int{5}},
		"final too late":      {func(e *evidence) { e.all("completed_at", "2026-11-21T02:05:05.000Z") }, []int{5}},
		"intent too late":     {func(e *evidence) { e.all("expires_at", nil); e.all("completed_at", "2026-11-21T02:04:25.000Z") }, []int{5}},
		"delivery not over":   {func(e *evidence) { e.shows[3].delivered = false }, []int{5}},
		"no webhook":          {func(e *evidence) { e.events = nil }, []int{5}},
		"another webhook-id":  {func(e *evidence) { e.events[1].id = "evt_2" }, []int{5}},
		"other bytes":         {func(e *evidence) { e.events[1].body = "{ }" }, []int{5}},
		"everything at once":  {func(e *evidence) { e.pushes, e.request.Early, e.request.Overlaps, e.events = 3, 1, 1, nil }, []int{1, 2, 2, 5}},
		"webhook of the past": {func(e *evidence) { e.become("unknown", "result_lost"); e.events[1].typ = "step_up.approved" }, []int{4}},
	} {
		t.Run(name, func(t *testing.T) {
			e := healthy()
			test.spoil(&e)
			var got []int
			found := judge(e)
			for _, v := range found {
				got = append(got, v.promise)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("broken promises %v, want %v: %v", got, test.want, found)
			}
		})
	}
}

func (e *evidence) all(member string, value any) {
	for _, v := range e.shows {
		v.members[member] = value
	}
	for i := range e.events {
		e.events[i].data[member] = value
	}
}

// TestMatrix: the rows are as many as promised, and every exception names cells that exist.
func TestMatrix(t *testing.T) {
	all := cells()
	points, names := map[string]bool{}, map[string]bool{}
	for _, c := range all {
		points[c.point], names[c.row.String()] = true, true
	}
	if len(points) < 18 || len(all) != len(names)*len(outcomes)*len(faults) {
		t.Errorf("%d places, %d rows and %d cells", len(points), len(names), len(all))
	}
	for _, u := range unreachable {
		if !points[u.point] {
			t.Errorf("no row has the place %s", u.point)
		}
	}
	for _, l := range losses {
		for _, name := range l.at {
			if !names[name] {
				t.Errorf("no row is called %s", name)
			}
		}
	}
	if got := len(quick()); got != len(rows()) {
		t.Errorf("quick runs %d cells for %d rows", got, len(rows()))
	}
}

// TestMayLose: nothing may be lost but what a death takes with it.
func TestMayLose(t *testing.T) {
	for name, want := range map[string]string{
		"poll.answered, last / approve / kill -9 one": "result_lost",
		"final.store / 5xx / kill -9 all":             "result_lost",
		"ask.answered / deny / kill -9 one":           "initiation_unknown",
		"poll.answered / approve / kill -9 one":       "",
		"ask.begin / approve / kill -9 all":           "",
		"ask.stored / approve / kill -9 one":          "",
		"final.stored / approve / kill -9 one":        "",
		"poll.answered, last / approve / SIGSTOP":     "",
		"poll.answered, last / expire / SIGSTOP":      "result_lost",
		"final.store / approve / kill -9 Redis":       "",
		"final.store / approve / SIGTERM":             "",
	} {
		i := slices.IndexFunc(cells(), func(c cell) bool { return c.String() == name })
		if i < 0 {
			t.Errorf("there is no cell %s", name)
			continue
		}
		if got, _ := cells()[i].mayLose(); got != want {
			t.Errorf("%s may lose %q, want %q", name, got, want)
		}
	}
}

// TestReport: a run replaces its own section and leaves everything else as it was.
func TestReport(t *testing.T) {
	text := []byte("# Ours\n\nby hand\n")
	text = withSection(text, "matrix", "## A\n\nold")
	text = withSection(text, "rolling", "## B")
	text = append(text, "\nby hand, too\n"...)
	text = withSection(text, "matrix", "## A\n\nnew")
	want := "# Ours\n\nby hand\n\n<!-- made by cmd/crash: matrix -->\n## A\n\nnew\n<!-- end of matrix -->\n\n<!-- made by cmd/crash: rolling -->\n## B\n<!-- end of rolling -->\n\nby hand, too\n"
	if string(text) != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}

// TestSection: the table counts what was without violation, and says what was not.
func TestSection(t *testing.T) {
	var results []verdict
	for _, c := range cells() {
		if _, no := c.unreachable(); !no {
			results = append(results, verdict{cell: c, reached: true})
		}
	}
	results[0].violations = []violation{{1, "2 pushes"}}
	results[1].reached = false
	results[len(results)-1].err = fmt.Errorf("no Redis")
	got := matrixSection(results, origin{version: "abc", command: "crash", took: time.Minute})
	for _, want := range []string{
		"| `ask.begin` | 2/4 | 4/4 | 4/4 | 4/4 | 4/4 |", "| `final.token` | 2/2, – 2 |", "| 3/4 |\n\n",
		"* ask.begin / approve / kill -9 one: promise 1: 2 pushes", "* ask.begin / deny / kill -9 one: the place was not passed", "not judged: no Redis",
		"1 with violations, 1 whose place was not passed, 1 that could not be judged",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the section lacks %q:\n%s", want, got)
		}
	}
}

// TestFlags: what cannot be run is refused before anything is built.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-parts", "matrix,none"}, {"-only", "("}, {"-at-once", "0"}, {"-deliveries", "0"}, {"matrix"}, {"-what"}} {
		if code := command(t.Context(), args, t.Output(), t.Output()); code != 2 {
			t.Errorf("%v: exit code %d, want 2", args, code)
		}
	}
	if code := command(t.Context(), []string{"-h"}, t.Output(), t.Output()); code != 0 {
		t.Errorf("-h: exit code %d", code)
	}
}
