package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unique"
)

// errNoProvider: this process's configuration lacks the record's provider.
var errNoProvider = errors.New("the provider is not in this process's configuration")

// orphanGrace is how long after its expiry a step-up is left to a process that
// knows its provider. Then it ends all the same.
const orphanGrace = 45 * time.Second

// take claims a step-up for this process and opens what it needs to ask for its
// answer. What this process cannot ask for is left to others.
func (w *Worker) take(ctx context.Context, id string) (*session, error) {
	if w.Draining() {
		return nil, errDrain
	}
	if w.running(id) != nil {
		return nil, errFence
	}
	h, err := w.store.load(ctx, id)
	if err != nil {
		return nil, err
	}
	r, set := &h.record, w.settings.Load()
	if r.State == Asking {
		return nil, w.giveUpAsking(ctx, set, h)
	}
	if !r.State.Final() && time.Since(r.Expires) < orphanGrace {
		if err := set.lacks(h); err != nil {
			return nil, err
		}
	}
	return w.own(ctx, set, r)
}

// own claims a step-up as r shows it.
func (w *Worker) own(ctx context.Context, set *Settings, r *record) (*session, error) {
	over, err := w.overtake(ctx, set, r)
	if err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, leaseTime)
	defer cancel()
	me, err := w.lease.await(within)
	if err != nil {
		return nil, fmt.Errorf("waiting for the lease: %w", err)
	}
	failpoint("take.claim")
	h, err := w.store.claim(ctx, opID(), r, me, over)
	failpoint("take.claimed")
	if err != nil {
		return nil, err
	}
	_, known := set.Providers[r.Provider]
	s := &session{held: h, set: set, takenOver: over.died, lost: !known, signal: newSignal()}
	if over.died && r.Owner != "" {
		s.owed = slowDownStep
	}
	if err := w.unseal(s); err != nil && !(s.State.Final() && errors.Is(err, errNoKey)) { // a delivery needs no more than its event
		w.alarm(ctx, "sealed fields of a step-up are missing or do not open", s)
		s.lost = true
	}
	w.remember(s)
	if over.died {
		w.log.WarnContext(ctx, "step-up taken over from a process that died, or whose claim was forgotten", "id", h.ID, "former_owner", r.Owner)
	}
	return s, nil
}

// lacks says what this configuration lacks to ask for a pending step-up's answer.
// Such a step-up is left to another process: nothing is claimed, so that nothing is
// let go again in a circle. A webhook is not among it: renaming one must not stop
// the polls (see conclude).
func (s *Settings) lacks(h *held) error {
	if _, ok := s.Providers[h.Provider]; !ok {
		return errNoProvider
	}
	if _, err := s.Sealer.open(&h.record, fieldPrompt, h.prompt); errors.Is(err, errNoKey) {
		return err
	}
	return nil
}

// unclaimedFor is how long after its next poll was due, and one interval, a step-up
// that nobody owns may have lain for good reasons.
const unclaimedFor = 3 * time.Second

// overtake looks at the owner the record names. A live one is left alone. After
// a dead one, nobody polls before a request that it left open at the provider
// must have ended: its last possible send, plus the longer of interval and hold.
// Where nobody owns what should have been polled long ago, or at all after a fault
// of Redis, Redis may have forgotten the claim of a process that polls still, and
// will stop when it notices. Both need a process that is steady: after a gap of
// Redis others first renew.
func (w *Worker) overtake(ctx context.Context, set *Settings, r *record) (takeover, error) {
	within := max(r.Interval, set.Providers[r.Provider].Hold)
	if r.Owner == "" {
		patience := r.Interval + unclaimedFor
		if w.lease.doubtful() {
			patience = 0
		}
		polling, _ := w.lease.alive()
		if r.State.Final() || polling == 1 || time.Since(r.NotBefore) < patience {
			return takeover{}, nil
		}
		if err := w.lease.settle(ctx); err != nil {
			return takeover{}, err
		}
		notBefore := time.Now().Add(within)
		if notBefore.After(r.Expires) { // one poll must be left
			notBefore = r.Expires
		}
		return takeover{true, notBefore}, nil
	}
	o, err := w.lease.judge(ctx, r.Owner)
	if err != nil {
		return takeover{}, err
	}
	if !o.dead {
		return takeover{}, errFence
	}
	if err := w.lease.settle(ctx); err != nil {
		return takeover{}, err
	}
	if r.State.Final() {
		return takeover{}, nil
	}
	return takeover{true, o.lastBeat.Add(sendWithin + within)}, nil
}

// unseal opens what a session needs and sets its pace.
func (w *Worker) unseal(s *session) error {
	if s.State.Final() {
		return s.unsealFace() // deliveries open their own
	}
	p, err := s.openPrompt()
	if err != nil {
		return err
	}
	if p.ID == "" { // as it was before it was asked: somebody put it back
		return errTampered
	}
	s.face, s.held.prompt = p.face, "" // ten thousand that wait keep one copy of it
	s.asked = Asked{ID: p.ID, Question: p.Question, Created: s.Created, Expires: s.Expires, Interval: s.Interval, Raw: p.Raw, RawAt: s.RawAt}
	s.pace = pace{interval: s.Interval, expires: s.Expires, jitter: w.opts.jitter()}
	return nil
}

// giveUpAsking ends an intent whose process died before it stored what /bc-auth
// said: nobody knows whether the person was asked, and it is never asked again.
func (w *Worker) giveUpAsking(ctx context.Context, set *Settings, h *held) error {
	if time.Since(h.Created) < askTime {
		return errFence
	}
	s := &session{held: h, set: set, signal: newSignal()}
	ctx = w.met.join(ctx, s, time.Now())
	if err := s.unsealFace(); errors.Is(err, errNoKey) {
		return err // left to a process that has it
	} else if err != nil {
		w.alarm(ctx, "sealed fields of a step-up are missing or do not open", s)
	}
	if err := w.finish(ctx, s, verdict{state: Unknown, reason: Reason{Code: InitiationUnknown}}, nil); err != nil {
		return fmt.Errorf("ending an intent: %w", err)
	}
	w.wakeDelivery(ctx, &s.record)
	return errGone // nothing is left to do for a poll
}

// openPrompt opens what is personal of a step-up that is not final.
func (s *session) openPrompt() (p prompt, err error) {
	err = s.set.Sealer.unsealJSON(&s.record, fieldPrompt, s.held.prompt, &p)
	return p, err
}

// unsealFace opens only what callers gave; missing is not a fault.
func (s *session) unsealFace() error {
	if s.held.prompt != "" {
		p, err := s.openPrompt()
		s.face, s.asked.Question = p.face, p.Question
		return err
	}
	if s.personal["face"] != "" {
		return s.unseal("face", &s.face)
	}
	return nil
}

func (w *Worker) remember(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[s.ID], s.under = s, s.Owner
	if !s.State.Final() {
		s.place, s.since = unique.Make(place{s.Provider, s.Caller}), ms(s.Created)
	}
}

// ended notes that a session's step-up is final: it is in flight no more.
func (w *Worker) ended(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.place = unique.Handle[place]{}
}

func (w *Worker) forget(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sessions[s.ID] == s {
		delete(w.sessions, s.ID)
	}
}

// holds notes under which id a session is held, "" when it is being let go.
func (w *Worker) holds(s *session, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.under = id
}

// running is the session of a step-up that this process holds, nil when it does not.
func (w *Worker) running(id string) *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sessions[id]
}
