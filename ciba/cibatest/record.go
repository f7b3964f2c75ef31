package cibatest

import (
	"time"
)

// poll is one token request on its way through the server.
type poll struct {
	f       *flow
	arrived time.Time
	early   bool
	index   int // in f.polls, Config.Detail only
}

// arrive puts a poll on record before anything is judged.
func (t *tally) arrive(f *flow, now time.Time, detail bool) *poll {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &poll{f: f, arrived: now, early: now.Before(f.due)}
	overlap := f.inFlight > 0
	f.inFlight++
	if p.early {
		f.early++
	}
	if overlap {
		f.overlaps++
	}
	if detail {
		p.index = len(f.polls)
		f.polls = append(f.polls, Poll{Arrived: now, Early: p.early, Overlap: overlap})
	}
	late := time.Duration(-1)
	if f.orderly && !overlap {
		late = max(0, now.Sub(f.due))
	}
	t.poll(now, p.early, overlap, late)
	return p
}

// leave records the answer and from when the next poll is due. It runs before the answer leaves the server's buffer (Raw and
// Truncated flush by themselves), so no client knows the answer earlier than the ledger does.
func (t *tally) leave(p *poll, a answer, now time.Time, detail bool) {
	f := p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight--
	wait := f.interval
	if a.retryAfter > 0 {
		wait = max(wait, time.Duration(a.retryAfter)*time.Second)
	} else if now.Sub(p.arrived) > f.interval {
		wait = 0 // CIBA Core §10.1: the interval passed while the request was held
	}
	if due := now.Add(wait); due.After(f.due) {
		f.due = due
	}
	f.orderly = a.orderly()
	if detail && p.index < len(f.polls) {
		f.polls[p.index].Answered, f.polls[p.index].Answer = now, a.name
	}
	t.answer(f, a, now)
}
