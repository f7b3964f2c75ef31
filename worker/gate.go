package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Rate is what a provider allows, in requests a second over all workers. Each
// process sends at the limit divided by the number of live ones, which the beat
// counts. 0: no limit.
type Rate struct {
	Ask    float64 // backchannel authentication requests: pushes
	Answer float64 // token requests: polls
}

const (
	// After an outage everything is due at once. Polls then go out at no more than
	// overSteady times what the step-ups in hand need, or at leastSmoothed a second
	// if that is more: the provider that has just come back sees no storm.
	overSteady    = 2
	leastSmoothed = 2000

	burstTime   = time.Second / 20 // a gate lets through at once what is due in this time
	askPatience = time.Second      // a create waits this long for its turn, then it is refused
	lookAgain   = time.Second      // whoever waits sees a new limit within this time
)

// gate is what all requests of this process to one provider pass.
type gate struct {
	asks, polls *rate.Limiter

	// baton is held by the poll that is next. Whoever waits for it receives it in
	// the order of coming, and nothing is reserved ahead: a limit that changes
	// holds for everybody who waits, and who leaves the queue costs no turn.
	baton chan struct{}

	steady atomic.Int64 // what the step-ups that wait for a poll need, in polls per million seconds
}

// gates holds a gate for each provider's name, also across a Reload.
type gates struct{ byName sync.Map }

func (g *gates) of(provider string) *gate {
	if found, ok := g.byName.Load(provider); ok {
		return found.(*gate)
	}
	fresh := &gate{asks: rate.NewLimiter(rate.Inf, 1), polls: rate.NewLimiter(rate.Inf, 1), baton: make(chan struct{}, 1)}
	fresh.baton <- struct{}{}
	found, _ := g.byName.LoadOrStore(provider, fresh)
	return found.(*gate)
}

// limitTo gives a limiter the limit of now, and a small burst.
func limitTo(l *rate.Limiter, limit rate.Limit) {
	if l.Limit() == limit {
		return
	}
	l.SetLimit(limit)
	l.SetBurst(max(1, int(min(float64(limit), 1e9)*burstTime.Seconds())))
}

// untilTurn is how long it takes until a limiter has a turn to give.
func untilTurn(l *rate.Limiter) time.Duration {
	return max(0, time.Duration((1-l.Tokens())/float64(l.Limit())*float64(time.Second)))
}

// turn waits until a step-up is due and it is its turn to be polled, or too late
// for it. No turn is taken while this process has no lease: else all would hold
// one when the lease comes back, and go out together.
func (w *Worker) turn(ctx context.Context, s *session) (cancelled bool, err error) {
	g := w.gates.of(s.Provider)
	need := int64(1e6 / max(s.Interval, time.Millisecond).Seconds())
	g.steady.Add(need)
	defer g.steady.Add(-need)
	if cancelled, err := w.sleep(s, s.NotBefore); err != nil || cancelled {
		return cancelled, err
	}
	failpoint("poll.due")
	if s.asked.Raw != "" { // an answer in hand costs the token endpoint nothing
		return false, nil
	}
	for {
		if cancelled, err := w.hold(ctx, s); err != nil || cancelled {
			return cancelled, err
		}
		if cancelled, err := w.pass(s, g); err != nil || cancelled {
			return cancelled, err
		}
		if _, ok, _ := w.lease.holder(); ok || s.tooLate() {
			return false, nil
		}
	}
}

// pass waits for the baton and, with it in hand, for the limit.
func (w *Worker) pass(s *session, g *gate) (cancelled bool, err error) {
	select {
	case <-g.baton:
	default:
		held, cancelled, err := w.queueUp(s, g)
		if !held {
			return cancelled, err
		}
	}
	defer func() { g.baton <- struct{}{} }()
	for {
		limitTo(g.polls, w.pollLimit(s, g))
		if g.polls.Allow() || s.tooLate() {
			return false, nil
		}
		if cancelled, err := w.sleep(s, time.Now().Add(min(untilTurn(g.polls), lookAgain))); err != nil || cancelled {
			return cancelled, err
		}
	}
}

// queueUp waits for the baton for as long as a poll may still be sent.
func (w *Worker) queueUp(s *session, g *gate) (held, cancelled bool, err error) {
	late := time.NewTimer(time.Until(s.Expires.Add(lateGrace + time.Millisecond)))
	defer late.Stop()
	select {
	case <-w.draining:
		return false, false, errDrain
	case <-s.signal.told:
		cancelled, err = s.ended()
		return false, cancelled, err
	case <-late.C:
		return false, false, nil
	case <-g.baton:
		return true, false, nil
	}
}

// pollLimit is what this process may send to a step-up's provider now.
func (w *Worker) pollLimit(s *session, g *gate) rate.Limit {
	limit := max(leastSmoothed, overSteady*float64(g.steady.Load())/1e6)
	p, ok := w.settings.Load().Providers[s.Provider]
	if !ok { // no longer configured, and asked to the end as it was
		p = s.set.Providers[s.Provider]
	}
	if p.Rate.Answer > 0 {
		polling, _ := w.lease.alive()
		limit = min(limit, p.Rate.Answer/float64(polling))
	}
	return rate.Limit(limit)
}

// askGate is the gate of a provider's creates, with the limit of now.
func (w *Worker) askGate(provider string, p ProviderSettings) *rate.Limiter {
	l, limit := w.gates.of(provider).asks, rate.Inf
	if p.Rate.Ask > 0 {
		_, asking := w.lease.alive()
		limit = rate.Limit(p.Rate.Ask / float64(asking))
	}
	limitTo(l, limit)
	return l
}

// crowded refuses a create that would wait too long for its turn; nil when it need
// not. It takes no turn: what is refused for another reason costs nobody one.
func (w *Worker) crowded(provider string, p ProviderSettings) error {
	l := w.askGate(provider, p)
	if d := untilTurn(l); d > askPatience {
		return rateUsedUp(d)
	}
	return nil
}

// turnToAsk takes a create's turn and waits for it. An error means that there is
// none, because many came at once, and that nothing was sent.
func (w *Worker) turnToAsk(provider string, p ProviderSettings) error {
	r := w.askGate(provider, p).Reserve()
	d := r.Delay()
	if d == 0 {
		return nil
	}
	if d > askPatience {
		r.Cancel()
		return rateUsedUp(d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.draining:
		r.Cancel()
		return draining()
	case <-timer.C:
		return nil
	}
}

func rateUsedUp(d time.Duration) *Error {
	return &Error{Code: CodeOverloaded, Detail: "The provider's rate is used up. Nothing was sent.", RetryAfter: max(d, time.Second)}
}
