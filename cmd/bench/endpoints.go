package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
)

// The load of -endpoints: as many callers, each with a webhook at an address of its own, and a number of step-ups a second over all of them.
const (
	endpoints = 50
	sharedBy  = 200
)

// turns are how many there are of each kind, alternating. Short ones are a look, which one of each is enough for.
func (s settings) turns() int {
	if s.steady < 5*time.Second {
		return 1
	}
	return 3
}

// misbehaviour is how one of the endpoints is bad.
type misbehaviour struct {
	name  string
	serve http.HandlerFunc
}

// misbehaviours are the bad endpoints' ways. followed counts the requests that a redirect has led to.
func misbehaviours(followed *atomic.Int64) []misbehaviour {
	return []misbehaviour{
		{"hung", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}},
		{"redirecting", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				followed.Add(1)
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			out := http.NewResponseController(w)
			for r.Context().Err() == nil { // a byte now and then holds a sender longer than many at once
				if _, err := w.Write([]byte("a")); err != nil || out.Flush() != nil {
					return
				}
				_ = pause(r.Context(), 50*time.Millisecond)
			}
		}},
	}
}

// street is all endpoints over one turn, or what several turns came to: one column of -endpoints.
type street struct {
	name string
	bad  bool // some misbehave

	told    []time.Duration // from approval to webhook, at those that never misbehave
	missing int
	came    []int64 // requests at the bad ones, by misbehaviour
	used    spent
	late    samples // how late the load itself was
}

// endpointTables measures deliveries to many endpoints, without and with bad ones among them, in turns, so that what else changes on the machine
// changes for both. Each turn has a service of its own on an empty Redis: what one turn left undelivered is not the next one's.
func (b *bench) endpointTables(ctx context.Context) (tables, error) {
	dir, binary, done, err := b.workshop(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var followed atomic.Int64
	sums := []*street{{name: "without"}, {name: "with bad ones", bad: true}}
	columns := append([]*street{}, sums...)
	for i := range 2 * b.turns() {
		s := &street{name: fmt.Sprintf("%s, turn %d", sums[i%2].name, i/2+1), bad: sums[i%2].bad}
		if err := b.turnOf(ctx, s, binary, filepath.Join(dir, strconv.Itoa(i)), uint64(i)<<24, misbehaviours(&followed)); err != nil {
			return nil, fmt.Errorf("measuring endpoints, %s: %w", s.name, err)
		}
		columns = append(columns, s)
		sums[i%2].add(s)
	}
	err = b.verdict(nil)
	for _, s := range sums {
		if s.missing > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %d webhooks of good endpoints did not come", s.name, s.missing))
		}
	}
	if n := followed.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d redirects were followed", n))
	}
	return tables{b.endpointTable(columns, misbehaviours(nil))}, err
}

// add makes a turn part of a sum.
func (s *street) add(turn *street) {
	s.told = sorted(append(s.told, turn.told...))
	s.missing += turn.missing
}

// turnOf is one turn.
func (b *bench) turnOf(ctx context.Context, s *street, binary, dir string, serial uint64, bad []misbehaviour) error {
	b.say("%s: %d a second at %d endpoints for %v", s.name, sharedBy, endpoints, b.settings.steady)
	var accounts []*account
	requests := make([]atomic.Int64, len(bad))
	for i := range endpoints {
		in, err := openInbox("")
		if err != nil {
			return fmt.Errorf("starting a webhook receiver: %w", err)
		}
		defer in.close()
		if s.bad && i < len(bad) {
			in.bad.Store(new(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests[i].Add(1)
				bad[i].serve(w, r)
			})))
		}
		accounts = append(accounts, &account{name: fmt.Sprintf("bank%d", i), inbox: in})
	}
	err := b.serving(ctx, binary, dir, false, accounts, func(p *program) error {
		defer func() { // whoever hangs would only make the drain longer
			for _, a := range accounts[:len(bad)] {
				a.inbox.close()
			}
		}()
		return b.deliverAll(ctx, s, p, accounts, len(bad), serial)
	})
	for i := range requests {
		s.came = append(s.came, requests[i].Load())
	}
	return errors.Join(err, b.store.clear(ctx))
}

// deliverAll is a turn's load. The first approvals are not counted: connections are new, and a bad endpoint's sends have yet to pile up.
func (b *bench) deliverAll(ctx context.Context, s *street, p *program, accounts []*account, bad int, serial uint64) error {
	k := newBackend(p)
	defer k.http.CloseIdleConnections()
	banks := make([]*backend, len(accounts))
	for i, a := range accounts {
		banks[i] = k.as(a.key)
	}
	warm := b.settings.steady / 2
	at := arrivals(sharedBy, warm+b.settings.steady, serial)
	var mu sync.Mutex
	hints := map[string]string{}
	began := time.Now()
	half := make(chan error, 1)
	var before snapshot
	go func() {
		err := pause(ctx, time.Until(began.Add(warm)))
		if err == nil {
			before, err = b.snapshot(ctx)
		}
		half <- err
	}()
	err := fire(ctx, began, at, func(i int, due time.Time) {
		s.late.add(time.Since(due))
		bank := i % len(accounts)
		hint, reference := cibatest.HintFor(approvesAfter, uint16(max(1, int(b.interval.Seconds())-1)), serial+uint64(i)), strconv.FormatUint(serial+uint64(i), 10)
		_, ok := banks[bank].create(ctx, hint, reference)
		if !ok || bank < bad || at[i] < warm {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		hints[reference] = hint
	})
	if err = errors.Join(err, <-half); err != nil {
		return err
	}
	for _, k := range banks {
		if k.found.count() > 0 {
			return fmt.Errorf("creating step-ups: %s", &k.found)
		}
	}
	last, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	s.used = last.since(before)
	return b.gather(ctx, s, accounts[bad:], hints)
}

// gather waits for the webhooks of the good endpoints.
func (b *bench) gather(ctx context.Context, s *street, good []*account, hints map[string]string) error {
	came := map[string]time.Time{}
	err := until(ctx, "all webhooks", 2*b.interval+20*time.Second, func() (bool, error) {
		missing := len(hints)
		for _, a := range good {
			for mark, at := range a.inbox.took() {
				if came[mark] = at; hints[mark] != "" {
					missing--
				}
			}
		}
		return missing == 0, nil
	})
	if ctx.Err() != nil {
		return err
	}
	approved, err := b.target.approved(ctx) // what did not come is judged later
	if err != nil {
		return err
	}
	s.told = after(approved, hints, came)
	s.missing = len(hints) - len(s.told)
	_, err = b.cut(ctx)
	return err
}

// Rows of -endpoints that the report looks up.
const rowBesideBad = "approval to webhook at good endpoints p99 ÷ without"

func (b *bench) endpointTable(columns []*street, bad []misbehaviour) table {
	t := table{Title: fmt.Sprintf("%d callers with a webhook each, %d step-ups a second over all of them, %v a turn after %v to warm up; three endpoints misbehave in every other turn, and the figures are of the other %d; %s",
		endpoints, sharedBy, b.settings.steady, b.settings.steady/2, endpoints-len(bad), machine())}
	for _, s := range columns {
		t.Columns = append(t.Columns, s.name)
	}
	add := func(name string, digits int, of func(*street) (float64, bool)) {
		t.Rows = append(t.Rows, rowOf(columns, name, digits, of))
	}
	add("webhooks", 0, func(s *street) (float64, bool) { return float64(len(s.told)), true })
	add(rowMissing, 0, func(s *street) (float64, bool) { return float64(s.missing), true })
	for _, p := range []int{50, 90, 99} {
		add(fmt.Sprintf("approval to webhook at good endpoints p%d, ms", p), 2, func(s *street) (float64, bool) { return milliseconds(percentile(s.told, p)), true })
	}
	for _, p := range []int{50, 99} {
		without := max(1, percentile(columns[0].told, p))
		add(fmt.Sprintf("approval to webhook at good endpoints p%d ÷ without", p), 2, func(s *street) (float64, bool) {
			return float64(percentile(s.told, p)) / float64(without), s == columns[1]
		})
	}
	for i, m := range bad {
		add("requests at the one that is "+m.name, 0, func(s *street) (float64, bool) {
			if !s.bad || s.came == nil {
				return 0, false
			}
			return float64(s.came[i]), true
		})
	}
	add("sent late by the load itself p99, ms", 2, func(s *street) (float64, bool) { return milliseconds(percentile(s.late.sorted(), 99)), s.came != nil })
	add("CPU, service, % of one core", 0, func(s *street) (float64, bool) {
		return 100 * s.used.service.Seconds() / max(1e-9, s.used.seconds), s.came != nil
	})
	add("CPU, Redis, % of one core", 0, func(s *street) (float64, bool) {
		return 100 * s.used.redis.Seconds() / max(1e-9, s.used.seconds), s.came != nil
	})
	add("busy with other programs, % of the machine", 1, func(s *street) (float64, bool) { return 100 * s.used.others, s.came != nil && s.used.others >= 0 })
	return t
}
