package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"stepup/ciba"
	"stepup/ciba/cibatest"
	"stepup/worker"
)

// engine is a provider in this process that does nothing but keep the ledger: what is left is the cost of the engine. It keeps
// it by the rules of cibatest.
type engine struct {
	interval time.Duration

	mu       sync.Mutex
	flows    map[string]*flow
	ledger   cibatest.Ledger
	late     []time.Duration
	answered map[string]time.Time
}

// flow is one question.
type flow struct {
	hint    string
	pending int // polls until tokens; below 0: nobody answers
	due     time.Time
}

func newEngine(interval time.Duration) *engine {
	e := &engine{interval: interval, flows: map[string]*flow{}}
	e.reset()
	return e
}

func (e *engine) reset() {
	e.ledger = cibatest.Ledger{Since: time.Now(), Answers: map[string]int{}}
	e.late, e.answered = nil, map[string]time.Time{}
}

// Check implements worker.Provider.
func (e *engine) Check(worker.Question) []ciba.FieldError { return nil }

// Ask implements worker.Provider.
func (e *engine) Ask(_ context.Context, q worker.Question) (worker.Asked, error) {
	f := &flow{hint: q.LoginHint, pending: -1}
	if sc, ok := cibatest.ScriptOf(q.LoginHint); ok && len(sc.Polls) == 2 {
		f.pending = sc.Polls[0].Times
	}
	id := rand.Text()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	f.due = now.Add(e.interval)
	e.flows[id] = f
	e.ledger.Pushes++
	return worker.Asked{ID: id, Question: q, Expires: now.Add(expiresIn), Interval: e.interval}, nil
}

// Answer implements worker.Provider.
func (e *engine) Answer(_ context.Context, a worker.Asked) (worker.Identity, error) {
	arrived := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.flows[a.ID]
	if f == nil {
		e.ledger.Refused++
		return worker.Identity{}, &ciba.Refusal{Code: "invalid_grant"}
	}
	e.ledger.Polls++
	if arrived.Before(f.due) { // an overlap too: the other one has just moved due
		e.ledger.Early++
	}
	e.late = append(e.late, max(0, arrived.Sub(f.due)))
	f.due = time.Now().Add(e.interval)
	if f.pending != 0 {
		f.pending--
		e.ledger.Answers[cibatest.Pending.String()]++
		return worker.Identity{}, &ciba.Pending{}
	}
	delete(e.flows, a.ID)
	e.ledger.Tokens++
	e.ledger.Answers[cibatest.Approve.String()]++
	e.answered[f.hint] = time.Now()
	return worker.Identity{Subject: "u=" + f.hint, Bound: true, AMR: []string{}, Fingerprint: sha256.Sum256([]byte(a.ID))}, nil
}

func (e *engine) cut(context.Context) (cibatest.Ledger, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l, late := e.ledger, e.late
	e.reset()
	l.Until = e.ledger.Since
	l.PollsPerSecond = float64(l.Polls) / l.Until.Sub(l.Since).Seconds()
	slices.Sort(late)
	l.Lateness = cibatest.Lateness{Count: len(late), P50: percentile(late, 50), P99: percentile(late, 99), Max: percentile(late, 100)}
	return l, nil
}

func (e *engine) approved(context.Context) (map[string]time.Time, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := make(map[string]time.Time, len(e.answered))
	for hint, t := range e.answered {
		at[hint] = t
	}
	return at, nil
}

func (e *engine) used(context.Context) (consumption, error) { return consumption{}, nil }

func (e *engine) close() {}
