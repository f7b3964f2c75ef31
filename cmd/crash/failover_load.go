package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

// traffic is a bank that creates step-ups at a steady rate, and people who approve six of ten and deny four.
type traffic struct {
	*site
	mu       sync.Mutex
	attempts []*attempt
	over     bool
	askers   sync.WaitGroup
}

// attempt is one step-up, and what the bank knows of it.
type attempt struct {
	hint     string
	decision cibatest.Kind
	told     told
	answered time.Time // when the create was
	last     view      // zero: no final state was seen
	gone     bool      // the API does not know it
}

// run creates until end is called.
func (l *traffic) run(ctx context.Context) {
	tick := time.NewTicker(createEvery)
	defer tick.Stop()
	hints := map[string]bool{}
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		a := &attempt{hint: newHint(), decision: cibatest.Approve}
		for hints[a.hint] { // an NRIC has seven digits only
			a.hint = newHint()
		}
		hints[a.hint] = true
		if rand.N(10) < 4 {
			a.decision = cibatest.Deny
		}
		l.op.Script(a.hint, cibatest.Script{Decision: a.decision, After: 3*time.Second + rand.N(34*time.Second), ExpiresIn: promptLives})
		if !l.begin(ctx, n, a) {
			return
		}
	}
}

// begin asks, without waiting for the answer; false when it is over.
func (l *traffic) begin(ctx context.Context, n int, a *attempt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	l.attempts = append(l.attempts, a)
	l.askers.Go(func() {
		t, err := l.bank.ask(ctx, n, question{key: "key-" + a.hint, hint: a.hint, reference: "failover"})
		if err == nil {
			a.told, a.answered = t, time.Now()
		}
	})
	return true
}

// end stops creating and waits until everything that was asked is over.
func (l *traffic) end(ctx context.Context) ([]*attempt, error) {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.askers.Wait()
	deadline := time.Now().Add(promptLives + grace + 10*time.Second)
	var watchers sync.WaitGroup
	next := make(chan *attempt)
	for n := range 16 {
		watchers.Go(func() {
			for a := range next {
				l.watch(ctx, n, a, deadline)
			}
		})
	}
	for _, a := range l.attempts {
		if a.told.id != "" {
			next <- a
		}
	}
	close(next)
	watchers.Wait()
	pause(ctx, 10*time.Second) // webhooks that a failover delayed
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return l.attempts, nil
}

// watch looks until the step-up is final. What two processes do not know, ten times in a row, is gone.
func (l *traffic) watch(ctx context.Context, n int, a *attempt, deadline time.Time) {
	misses := 0
	for ; time.Now().Before(deadline); n++ {
		status, members, err := l.bank.call(ctx, "GET", n, "/v1/step-ups/"+a.told.id, "", nil)
		switch {
		case err == nil && status == 200:
			misses = 0
			if v := viewOf(members); v.final() {
				a.last = v
				return
			}
		case err == nil && status == 404:
			if misses++; misses == 10 {
				a.gone = true
				return
			}
		}
		if !pause(ctx, 300*time.Millisecond) {
			return
		}
	}
}

// pauses are, for each strike, how long the create that waited longest took to be answered with 201.
func pauses(attempts []*attempt, strikes []time.Time) (list []time.Duration) {
	for i, s := range strikes {
		longest := time.Duration(0)
		for _, a := range attempts {
			last := i+1 == len(strikes) || a.answered.Before(strikes[i+1])
			if a.told.status == 201 && a.answered.After(s) && last {
				longest = max(longest, a.told.took)
			}
		}
		list = append(list, longest)
	}
	slices.Sort(list)
	return list
}

// toll is what a scenario cost.
type toll struct {
	scenario
	stepUps  int // creates that were answered
	refused  int // tries that were answered with 503 and repeated by the bank
	right    int // ended as the person answered
	lost     int // unknown: the answer was lost
	unasked  int // unknown: the caller was told so, with 502
	orphaned int // told 201, and unknown later because the auth_req_id was lost
	gone     int // told 201, and no trace of it later
	open     int // never final
	other    int // ended in another way
	twice    int // pushes beyond one for a create
	untrue   int // approved or denied, and the person had not
	changed  int // told by webhook otherwise than the API shows it, or in two ways
	untold   int // final, and no webhook came
	overlaps int
	early    int
	pauses   []time.Duration
}

// count goes through everything that was asked.
func count(sc scenario, attempts []*attempt, l cibatest.Ledger, in *receiver) toll {
	t := toll{scenario: sc, overlaps: l.Overlaps, early: l.Early}
	requests := map[string][]cibatest.Request{}
	for _, r := range l.Requests {
		requests[r.Hint] = append(requests[r.Hint], r)
	}
	came := map[string][]event{}
	events, _ := in.came()
	for _, e := range events {
		came[e.stepUp] = append(came[e.stepUp], e)
	}
	for _, a := range attempts {
		t.stepUps++
		t.refused += a.told.tries["storage_unavailable"]
		t.twice += max(0, l.PushesByHint[a.hint]-1)
		t.add(a, requests[a.hint], came[a.told.id])
	}
	return t
}

func (t *toll) add(a *attempt, requests []cibatest.Request, events []event) {
	reason := a.last.reason
	switch {
	case a.told.status == 502 && (a.gone || reason == initiation):
		t.unasked++
	case a.gone:
		t.gone++
	case !a.last.final():
		t.open++
	case reason == initiation:
		t.orphaned++
	case reason == "result_lost":
		t.lost++
	case a.last.status == "approved" && a.decision == cibatest.Approve, a.last.status == "denied" && a.decision == cibatest.Deny:
		t.right++
	default:
		t.other++
	}
	if a.untrue(requests) {
		t.untrue++
	}
	for _, e := range events {
		if e.typ != "step_up."+a.last.status {
			t.changed++
			break
		}
	}
	if a.last.final() && len(events) == 0 {
		t.untold++
	}
}

const initiation = "initiation_unknown"

// untrue is an approval or a denial that the provider's ledger does not bear out.
func (a *attempt) untrue(requests []cibatest.Request) bool {
	tokens, denied := false, false
	for _, r := range requests {
		tokens = tokens || len(r.Tokens) > 0
		denied = denied || slices.ContainsFunc(r.Polls, func(p cibatest.Poll) bool { return p.Answer == "access_denied" })
	}
	identity, _ := a.last.members["identity"].(map[string]any)
	return a.last.status == "approved" && (!tokens || identity["nric"] != a.hint) || a.last.status == "denied" && !denied
}

// broken is what must not be. Without waiting for replicas, what a failover forgets is no fault of ours but the price.
func (t toll) broken() (list []string) {
	no := func(n int, what string) {
		if n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, what))
		}
	}
	no(t.untrue, "false approvals or denials")
	no(t.overlaps, "overlapping polls")
	no(t.early, "early polls")
	no(t.other, "ended as nobody decided")
	no(t.open, "never final")
	no(t.untold, "never told")
	if t.wait > 0 {
		no(t.twice, "second pushes")
		no(t.gone, "gone after 201")
		no(t.orphaned, "whose auth_req_id was lost after 201")
		no(t.changed, "told in two ways")
	}
	return list
}
