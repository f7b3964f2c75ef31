package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
)

// Hints that script themselves: cibatest.ScriptOf.
const (
	nobodyAnswers = 0x03
	approvesAfter = 0x10 // so many seconds after the push
)

// pollEvery is the provider's interval in storms, in seconds.
const pollEvery = 5

// pickup is what it may take from the moment a step-up may be polled again until somebody does.
const pickup = 3 * time.Second

// openStorm starts a site with both processes. A provider that holds answers is told to the service as one that does.
func openStorm(ctx context.Context, k *kit, name string, held, hold time.Duration) (*site, error) {
	s, err := openSite(ctx, k, filepath.Join(k.dir, name), setup{hold: hold, provider: func(c *cibatest.Config) {
		c.Interval, c.Hold, c.ExpiresIn = pollEvery, held, 10*time.Minute
	}})
	if err != nil {
		return nil, err
	}
	if err := s.startAll(ctx, s.crew[:]...); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// asked is one step-up of a storm.
type asked struct {
	hint string
	told told
}

// crowd creates n step-ups, many at a time, at both processes in turn.
func (s *site) crowd(ctx context.Context, n int, hint func(i int) string) ([]asked, error) {
	const atOnce = 16
	list, errs := make([]asked, n), make([]error, atOnce)
	var next atomic.Int64
	var bankers sync.WaitGroup
	for b := range atOnce {
		bankers.Go(func() {
			for errs[b] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				list[i].hint = hint(i)
				list[i].told, errs[b] = s.bank.ask(ctx, i, question{key: "key-" + list[i].hint, hint: list[i].hint, reference: "storm"})
			}
		})
	}
	bankers.Wait()
	return list, errors.Join(errs...)
}

// settle waits until a webhook has come for each step-up; those that are missing are the judge's.
func (s *site) settle(ctx context.Context, list []asked, within time.Duration) error {
	want := map[string]bool{}
	for _, a := range list {
		want[a.told.id] = true
	}
	err := until(ctx, "webhooks", within, func() bool {
		events, _ := s.in.came()
		for _, e := range events {
			delete(want, e.stepUp)
		}
		return len(want) == 0
	})
	if ctx.Err() != nil {
		return err
	}
	return nil
}

// judgeAll holds every step-up against the promises, and the site's files too.
func (s *site) judgeAll(ctx context.Context, list []asked, process *service) (found []violation, err error) {
	requests := map[string]cibatest.Request{}
	ledger := s.op.Ledger()
	for _, r := range ledger.Requests {
		requests[r.Hint] = r
	}
	events, _ := s.in.came()
	of := map[string][]event{}
	for _, e := range events {
		of[e.stepUp] = append(of[e.stepUp], e)
	}
	n := slices.Index(s.crew[:], process)
	for _, a := range list {
		e := evidence{hint: a.hint, ends: []end{approve.want()}, told: a.told, events: of[a.told.id], request: requests[a.hint], pushes: ledger.PushesByHint[a.hint]}
		var v view
		_ = until(ctx, "the delivery", redelivery, func() bool { // some are on their way
			v, err = s.bank.show(ctx, n, a.told.id)
			return err != nil || v.delivered
		})
		if err != nil {
			return nil, err
		}
		if v.final() {
			e.shows = append(e.shows, v)
		}
		for _, b := range judge(e) {
			found = append(found, violation{b.promise, a.told.id + ": " + b.text})
		}
	}
	return found, nil
}

// spread is percentiles of durations.
type spread []time.Duration

func (s spread) String() string {
	if len(s) == 0 {
		return "–"
	}
	s = slices.Sorted(slices.Values(s))
	at := func(p float64) string { return fmt.Sprintf("%.2f s", s[int(p*float64(len(s)-1))].Seconds()) }
	return at(0.5) + " / " + at(0.99) + " / " + at(1)
}

// max is 0 for none.
func (s spread) max() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}

// figure is one line of a storm's table.
type figure struct {
	name  string
	value any
}

// stormSection is a storm's part of the report.
func stormSection(o origin, title, text string, figures []figure, found []violation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n\n%s\n\n| | |\n|---|---|\n", title, o, strings.TrimSpace(text))
	for _, f := range figures {
		fmt.Fprintf(&b, "| %s | %v |\n", f.name, f.value)
	}
	if len(found) == 0 {
		b.WriteString("\nViolations: none.\n")
		return b.String()
	}
	fmt.Fprintf(&b, "\n%d violations:\n\n", len(found))
	for i, v := range found {
		if i == 20 {
			b.WriteString("* and so on\n")
			break
		}
		fmt.Fprintf(&b, "* %s\n", v)
	}
	return b.String()
}
