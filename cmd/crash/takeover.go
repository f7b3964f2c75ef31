package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"stepup/ciba/cibatest"
)

const (
	takeoverSize = 1000
	holding      = 10 * time.Second // how long the provider holds answers
	holdSetting  = 12 * time.Second // and what the service is told
	frozenLong   = 20 * time.Second // past the lease and past hold
)

// loss of a process, one way or the other.
type removal struct {
	name, title, text string
	held, hold        time.Duration
	remove            func(context.Context, *service)
}

func takeoverPart(ctx context.Context, k *kit, _ settings, progress io.Writer) (func(origin) string, bool, error) {
	return removal{
		name: "takeover", title: "A process killed with step-ups in flight",
		text: "kill -9 of one of two processes. The pause counts from the kill to the next poll, by the other process. Afterwards everybody approves.",
		remove: func(_ context.Context, p *service) {
			p.kill()
		},
	}.run(ctx, k, progress)
}

func frozenPart(ctx context.Context, k *kit, _ settings, progress io.Writer) (func(origin) string, bool, error) {
	return removal{
		name: "frozen", title: "A process frozen past its lease while the provider holds answers",
		text: fmt.Sprintf("SIGSTOP to one of two processes for %v, then SIGCONT. The provider holds each poll for %v; `hold` is %v. The pause counts from the SIGSTOP. Afterwards everybody approves.", frozenLong, holding, holdSetting),
		held: holding, hold: holdSetting,
		remove: func(ctx context.Context, p *service) {
			p.freeze()
			pause(ctx, frozenLong)
			p.thaw()
		},
	}.run(ctx, k, progress)
}

// run takes one process away from under the step-ups in flight and watches who polls next.
func (r removal) run(ctx context.Context, k *kit, progress io.Writer) (func(origin) string, bool, error) {
	say := func(format string, args ...any) { fmt.Fprintf(progress, r.name+": "+format+"\n", args...) }
	s, err := openStorm(ctx, k, r.name, r.held, r.hold)
	if err != nil {
		return nil, false, err
	}
	defer s.close()
	list, err := s.crowd(ctx, takeoverSize, func(i int) string { return cibatest.HintFor(nobodyAnswers, 0, uint64(i)) })
	if err != nil {
		return nil, false, err
	}
	say("%d step-ups", len(list))
	interval := pollEvery * time.Second
	err = until(ctx, "each step-up is polled", 2*interval+r.held+30*time.Second, func() bool { return len(s.op.sent()) == len(list) })
	if err != nil {
		return nil, false, err
	}
	victim, heir := s.crew[0], s.crew[1]
	at := time.Now()
	r.remove(ctx, victim)
	aim := max(interval, r.hold) + pickup
	// Long enough for every step-up to be polled again, and twice.
	pause(ctx, time.Until(at.Add(aim+2*(interval+r.held))))
	owned, pauses := inherited(s.op.sent(), at, victim.kid, heir.kid)
	say("%d were the victim's, %d were polled again after %v", owned, len(pauses), pauses)

	s.op.approveAll()
	if err := s.settle(ctx, list, 3*interval+r.held+20*time.Second); err != nil {
		return nil, false, err
	}
	found, err := s.judgeAll(ctx, list, heir)
	if err != nil {
		return nil, false, err
	}
	l := s.op.Ledger()
	if len(pauses) < owned {
		found = append(found, violation{5, fmt.Sprintf("%d step-ups were not polled again", owned-len(pauses))})
	}
	if pauses.max() > aim+time.Second {
		found = append(found, violation{5, fmt.Sprintf("a pause of %v, want %v", pauses.max(), aim)})
	}
	figures := []figure{
		{"step-ups in flight, polled every 5 s", len(list)},
		{"of the process that was lost", owned},
		{"polled again by the other", len(pauses)},
		{"pause p50 / p99 / max", pauses},
		{"aim: max(interval, hold) + 3 s", aim},
		{"overlapping polls", l.Overlaps},
		{"early polls", l.Early},
		{"approved afterwards, with a webhook", approvals(s)},
	}
	return func(o origin) string { return stormSection(o, r.title, r.text, figures, found) }, len(found) == 0, nil
}

// inherited counts what the victim had polled last, and how long until the heir polled it.
func inherited(sent map[string][]send, at time.Time, victim, heir string) (owned int, pauses spread) {
	for _, polls := range sent {
		last := ""
		for _, p := range polls {
			switch {
			case !p.at.After(at):
				last = p.kid
			case last == victim && p.kid == heir:
				pauses = append(pauses, p.at.Sub(at))
				last = ""
			}
		}
		for i := len(polls) - 1; i >= 0; i-- {
			if !polls[i].at.After(at) {
				if polls[i].kid == victim {
					owned++
				}
				break
			}
		}
	}
	return owned, pauses
}

// approveAll answers for everybody who is being asked.
func (p *provider) approveAll() {
	for _, r := range p.Ledger().Requests {
		_ = p.Approve(r.AuthReqID) // those that have ended stay as they are
	}
}

func approvals(s *site) int {
	told := map[string]bool{}
	events, _ := s.in.came()
	for _, e := range events {
		if e.typ == "step_up.approved" {
			told[e.stepUp] = true
		}
	}
	return len(told)
}
