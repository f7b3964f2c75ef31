package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stepup/ciba/cibatest"
)

// moment is where a delivery is when the process that sends it dies.
type moment string

const (
	held     moment = "the receiver has the event and holds its answer"
	leaving  moment = "the receiver answers at this moment"
	unstored moment = "the answer was read and is not stored"
)

// again is what it may take from the death until the receiver has the event again.
const again = 8 * time.Second

// delays lie between the moment and the kill. A sender hangs up on who holds longer than 15 s.
var delays = map[moment][]time.Duration{
	held:     {0, time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second},
	leaving:  {0, 20 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 200 * time.Microsecond},
	unstored: {0, time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second},
}

// blow is one death in the middle of a delivery.
type blow struct {
	number int
	moment
	delay time.Duration
	alone bool // the process has no other beside it and is started again at once
}

// blows are n deaths: every moment, with and without another process, and each time the next delay.
func blows(n int) (list []blow) {
	moments := []moment{held, unstored, held, unstored, leaving}
	had := map[blow]int{}
	for i := range n {
		c := blow{moment: moments[i%len(moments)], alone: i/len(moments)%2 == 1}
		had[c]++
		of := delays[c.moment]
		list = append(list, blow{i + 1, c.moment, of[(had[c]-1)%len(of)], c.alone})
	}
	return list
}

func (c blow) String() string {
	return fmt.Sprintf("%d: %s, %s, after %v", c.number, c.moment, c.shape(), c.delay)
}

func (c blow) shape() string {
	if c.alone {
		return "started again"
	}
	return "another goes on"
}

// outage is what became of a blow.
type outage struct {
	blow
	gap time.Duration // from the death until the receiver had the event again; 0: it did not come again
	verdict
}

// run does one death on a site of its own.
func (c blow) run(ctx context.Context, k *kit) (o outage) {
	o = outage{blow: c, verdict: verdict{dir: filepath.Join(k.dir, fmt.Sprintf("delivery-%d", c.number))}}
	began := time.Now()
	defer func() { o.took = time.Since(began) }()
	ctx, cancel := context.WithTimeoutCause(ctx, cellTime, fmt.Errorf("not over after %v", cellTime))
	defer cancel()
	var env []string
	fail := filepath.Join(o.dir, "fail")
	if c.moment == unstored {
		env = []string{"STEPUP_FAILPOINT=round.sent", "STEPUP_FAILPOINT_DIR=" + fail}
	}
	s, err := openSite(ctx, k, o.dir, setup{env: env})
	if err != nil {
		o.err = err
		return o
	}
	defer s.close()
	t := &trial{cell: cell{outcome: approve}, site: s, hint: newHint(), done: make(chan struct{})}
	s.op.Script(t.hint, cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Pending}, {Kind: cibatest.Approve}}, ExpiresIn: time.Minute})
	died, err := t.dieDelivering(ctx, c, fail)
	if err != nil {
		o.err = err
		return o
	}
	o.reached = true
	if o.err = t.see(ctx); o.err != nil {
		return o
	}
	e := t.evidence()
	o.ended = e.shows[len(e.shows)-1].end()
	var late []violation
	o.gap, late = judgeBlow(c.moment, e.events, died)
	more, err := t.judgeSite()
	o.violations, o.err = append(append(judge(e), late...), more...), err
	if len(o.violations) > 0 {
		_ = e.write(filepath.Join(o.dir, "evidence.json")) // the violations are told all the same
	}
	return o
}

// dieDelivering creates a step-up, lets its first delivery get to the moment and kills the process that sends it.
func (t *trial) dieDelivering(ctx context.Context, c blow, fail string) (died time.Time, err error) {
	arrived := make(chan struct{})
	t.in.meet = func(ctx context.Context, n int) {
		if n > 0 {
			return
		}
		close(arrived)
		if c.moment == held {
			<-ctx.Done() // until the sender is gone
		}
	}
	crew := t.crew[:]
	if c.alone {
		crew = crew[:1]
		t.bank.urls = t.bank.urls[:1]
	}
	if err := t.startAll(ctx, crew...); err != nil {
		return died, err
	}
	go t.ask(ctx)
	select {
	case <-arrived:
	case <-ctx.Done():
		return died, context.Cause(ctx)
	}
	if c.moment == unstored {
		if p, err := t.fired(ctx, filepath.Join(fail, "fired")); err != nil || p == nil {
			return died, fmt.Errorf("no process stands before the write: %w", err)
		}
	}
	sender, err := t.lastPolled()
	if err != nil {
		return died, err
	}
	pause(ctx, c.delay)
	died = time.Now()
	sender.kill()
	if c.alone {
		err = t.start(sender)
	}
	return died, err
}

// lastPolled is the process that got the answer: it delivers, too.
func (t *trial) lastPolled() (*service, error) {
	for _, sends := range t.op.sent() {
		for _, p := range t.crew {
			if p.kid == sends[len(sends)-1].kid {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("nobody has polled")
}

// judgeBlow is what is asked of a delivery whose sender died: that the receiver has it again soon, and that it was answered in the end. Where the
// answer was on its way, it may have been stored in time.
func judgeBlow(m moment, events []event, died time.Time) (gap time.Duration, list []violation) {
	taken := false
	for _, e := range events {
		taken = taken || e.answered
		if gap == 0 && e.at.After(died) {
			gap = e.at.Sub(died)
		}
	}
	if !taken {
		list = append(list, violation{5, "no delivery was answered with 2xx"})
	}
	if gap == 0 && m != leaving {
		list = append(list, violation{5, "the event did not come again"})
	}
	if gap > again {
		list = append(list, violation{5, fmt.Sprintf("the event came again after %v, want %v", gap.Round(time.Millisecond), again)})
	}
	return gap, list
}

// deliveriesPart kills senders in the middle of deliveries.
func deliveriesPart(ctx context.Context, k *kit, s settings, progress io.Writer) (func(origin) string, bool, error) {
	var results []outage
	sideBySide(ctx, blows(s.deliveries), s.atOnce, func(c blow) outage {
		o := c.run(ctx, k)
		if o.ok() && os.RemoveAll(o.dir) == nil {
			o.dir = ""
		}
		return o
	}, func(o outage) {
		results = append(results, o)
		fmt.Fprintf(progress, "%4d/%d  %s\n", len(results), s.deliveries, o)
	})
	if ctx.Err() != nil {
		return nil, false, context.Cause(ctx)
	}
	found, figures := tally(results)
	text := fmt.Sprintf(`kill -9 of the process that sends a webhook, %d times, each on a site of its own (as in the matrix), 0 to 5 s after the moment that is named: either another
process goes on, or it was the only one and is started again. What the receiver had each time, the API and all that was written is held against the promises: one final state,
answered with 2xx at least once, under one webhook-id, in the same bytes. "Again" counts from the kill to the next arrival, at most %v. Where the answer was on its way, the
dead process may have stored it: then nothing comes again.`, s.deliveries, again)
	return func(o origin) string {
		return stormSection(o, "A process killed in mid-delivery", text, figures, found)
	}, len(found) == 0, nil
}

// tally is the part in numbers.
func tally(results []outage) (found []violation, figures []figure) {
	var all spread
	count := map[string]int{}
	gaps := map[string]spread{}
	for _, o := range results {
		for _, v := range o.violations {
			found = append(found, violation{v.promise, o.blow.String() + ": " + v.text})
		}
		if o.err != nil {
			found = append(found, violation{0, o.blow.String() + ": not judged: " + o.err.Error()})
			continue
		}
		row := string(o.moment) + "; " + o.shape()
		count[row]++
		if o.gap > 0 {
			gaps[row], all = append(gaps[row], o.gap), append(all, o.gap)
		}
	}
	for _, m := range []moment{held, leaving, unstored} {
		for _, alone := range []bool{false, true} {
			row := string(m) + "; " + blow{alone: alone}.shape()
			figures = append(figures, figure{row + ": kills, came again; again p50 / p99 / max", fmt.Sprintf("%d, %d; %v", count[row], len(gaps[row]), gaps[row])})
		}
	}
	return found, append(figures, figure{"all: kills, came again; again p50 / p99 / max", fmt.Sprintf("%d, %d; %v", len(results), len(all), all)})
}

// String is the line of progress.
func (o outage) String() string {
	text := fmt.Sprintf("%-90s %5.1f s  again after %5.2f s", o.blow, o.took.Seconds(), o.gap.Seconds())
	if o.err != nil {
		text += "  FAILED: " + o.err.Error()
	}
	for _, b := range o.violations {
		text += "\n           VIOLATION of " + b.String()
	}
	if o.dir != "" {
		text += "\n           logs: " + o.dir
	}
	return strings.TrimSpace(text)
}
