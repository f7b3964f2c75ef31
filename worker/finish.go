package worker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// secondThought is how long an unknown out of an invalid_grant waits after a
// takeover, so that the approval which the former owner may hold wins.
const secondThought = 5 * time.Second

// clockGrace keeps sealed fields a little longer than they are shown, because
// Redis's clock and ours differ.
const clockGrace = 5 * time.Second

// finish stores the one final state, with the sealed result and the events'
// bodies, in one step. Only then are webhooks sent. If we die before, the next
// owner learns the answer again or tells that it was lost; if we die after, the
// sweeper finds the deliveries due.
func (w *Worker) finish(ctx context.Context, s *session, v verdict, identity *Identity) error {
	if s.takenOver && v.state == Unknown && v.reason.ProviderError == "invalid_grant" {
		s.NotBefore = time.Now().Add(s.Interval) // for whoever asks again, if we are drained meanwhile
		cancelled, err := w.sleep(s, time.Now().Add(secondThought))
		if err != nil {
			return err
		}
		if cancelled {
			v = verdict{state: Cancelled, reason: Reason{Code: CancelledCode}}
		}
	}
	if identity != nil {
		failpoint("final.token")
		mine, err := w.useToken(ctx, s, identity)
		if err != nil {
			return err
		}
		if !mine {
			w.alarm(ctx, "the provider's ID token was accepted before, for another step-up", s)
			v, identity = verdict{state: Failed, reason: Reason{Code: TokenMismatch}}, nil
		}
	}
	freed := w.freeAnswered(ctx, s, v.state)
	w.renew(s)
	before := s.record
	e := w.conclude(s, v, identity)
	ctx, stored := w.met.final(ctx, &s.record)
	op := opID()
	failpoint("final.store")
	err := w.stubborn(ctx, &before, func() error { return w.store.final(ctx, &s.record, op, e) })
	stored(err)
	failpoint("final.stored")
	if err != nil {
		s.record = before
	}
	over := errors.Is(err, errFinal)
	if identity != nil && (over || errors.Is(err, errGone)) {
		w.met.discarded.Add(ctx, 1, ofProvider(s.Provider))
	}
	if over {
		return w.settled(ctx, s)
	}
	if err != nil {
		return err
	}
	s.personal, s.events = asMap(e.personal), asMap(e.events)
	w.concluded(ctx, s)
	if !freed && s.State.answered() {
		w.freeSlot(ctx, s.personKey(w.opts.Shards), &s.record)
	}
	return nil
}

// freeWithin is how long a final state waits for the person's free slot.
const freeWithin = 250 * time.Millisecond

// freeAnswered frees the person before anybody is told of the answer: whoever is told may
// ask again at once. It is false where that did not work, or nothing was answered.
func (w *Worker) freeAnswered(ctx context.Context, s *session, state State) bool {
	if !state.answered() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, freeWithin)
	defer cancel()
	return w.stands(ctx, s.personKey(w.opts.Shards), s.Member, 0, "answered") == nil
}

// personKey is the key of the limit of whom the step-up asks.
func (s *session) personKey(shards int) string {
	return keyPerson(shards, s.Provider, s.set.person(s.Provider, &s.asked.Question))
}

// asMap is field and value pairs as a map.
func asMap(list []any) map[string]string {
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i].(string)] = list[i+1].(string)
	}
	return m
}

// useToken marks the ID token as accepted for this step-up; false when another
// step-up had it.
func (w *Worker) useToken(ctx context.Context, s *session, identity *Identity) (bool, error) {
	hash := s.set.Sealer.hash("token", string(identity.Fingerprint[:]))
	key := keyUsed(shardFor(w.opts.Shards, hash), hash)
	mine := true
	err := w.stubborn(ctx, &s.record, func() error {
		ok, err := w.opts.Store.SetNX(ctx, key, s.ID, keepUsed).Result()
		if err != nil || ok {
			return err
		}
		holder, err := w.opts.Store.Get(ctx, key).Result()
		mine = holder == s.ID
		return err
	})
	return mine, err
}

// conclude turns a verdict into the record, the sealed result and the sealed events.
func (w *Worker) conclude(s *session, v verdict, identity *Identity) ending {
	r, set := &s.record, s.set
	r.State, r.Reason, r.Completed = v.state, v.reason, time.Now().Truncate(time.Millisecond)
	res := result{State: v.state, Identity: identity, Completed: ms(r.Completed), Until: ms(r.Completed.Add(set.ResultTTL))}
	if v.reason.Code != "" {
		reason := v.reason
		reason.Message = reasonText[reason.Code]
		res.Reason = &reason
	}
	r.Tombstone = set.Sealer.sealJSON(r, "end", result{State: res.State, Reason: res.Reason, Completed: res.Completed, Until: res.Until})
	e := ending{
		passes:   v.state == Approved || v.state == Denied,
		personal: []any{"face", set.Sealer.sealJSON(r, "face", s.face), "result", set.Sealer.sealJSON(r, "result", res)},
		keep:     set.ResultTTL + clockGrace,
	}
	r.Deliveries = nil
	for _, hook := range set.Callers[r.Caller].Webhooks {
		w.address(s, &e, hook, &res)
	}
	// A webhook that the step-up was created with and that this configuration lacks
	// is still owed its event. What it may hold is not known, so nothing personal;
	// it is sent when the webhook is back, or ends as undelivered for all to see.
	for _, name := range r.Hooks {
		if _, ok := set.hook(r.Caller, name); !ok {
			w.address(s, &e, Webhook{Name: name, Events: []string{"*"}, Reference: true}, &res)
		}
	}
	return e
}

// address writes one webhook's event, and its follower, as the bytes that every
// attempt will send.
func (w *Worker) address(s *session, e *ending, hook Webhook, res *result) {
	r, set := &s.record, s.set
	typ := "step_up." + string(r.State)
	if !wants(hook.Events, typ) {
		return
	}
	d := Delivery{Webhook: hook.Name, Event: newEventID(r.ID), Type: typ, Status: DeliveryPending, Next: ms(r.Completed)}
	data := r.view(s.face, res)
	if hook.Reference {
		data = bare(data)
	}
	body := event{typ, Time{r.Completed}, data}.body()
	if d.Personal = data.Identity != nil; hook.Encrypt != nil {
		body = w.encrypted(r, hook, event{typ, Time{r.Completed}, bare(data)}, body)
	}
	if d.Personal {
		d.Until = ms(r.Completed.Add(set.ResultTTL))
		e.personal = append(e.personal, eventField(d.Event), set.Sealer.seal(r, d.Event, body))
		if wants(hook.Events, typeExpired) {
			d.Follower = newEventID(r.ID)
			follower := event{typeExpired, Time{r.Completed.Add(set.ResultTTL)}, bare(data)}.body()
			e.events = append(e.events, d.Follower, set.Sealer.seal(r, d.Follower, follower))
		}
	} else {
		d.Until = ms(r.Completed.Add(keepEvents))
		e.events = append(e.events, d.Event, set.Sealer.seal(r, d.Event, body))
	}
	if hook.Pull {
		d.wait()
	}
	r.Deliveries = append(r.Deliveries, d)
}

// encrypted is an event of which only the receiver can open what is personal. It is
// made before anything is stored: the identity lies in Redis for nobody else but
// those who may fetch it by the API.
func (w *Worker) encrypted(r *record, hook Webhook, outer event, full []byte) []byte {
	jwe, err := hook.Encrypt.Encrypt(full)
	if err != nil { // the key was judged when it was read; the receiver still learns the state
		w.log.Error("an event is told without what is personal: it could not be encrypted", "alarm", true,
			"id", r.ID, "caller", r.Caller, "webhook", hook.Name, "error", err)
	}
	outer.Data.Encrypted = jwe
	return outer.body()
}

// typeExpired is the event that follows an identity which could not be delivered in time.
const typeExpired = "step_up.delivery_expired"

func eventField(id string) string { return "ev:" + id }

// bare is a step-up without anything personal.
func bare(v StepUp) StepUp {
	v.Identity, v.Reference, v.Metadata = nil, nil, map[string]string{}
	return v
}

// settled is what to do when somebody else stored the final state: deliver it,
// if the step-up is still ours.
func (w *Worker) settled(ctx context.Context, s *session) error {
	found, err := w.store.load(ctx, s.ID)
	if err == nil && (found.Owner != s.Owner || found.Gen != s.Gen) {
		return errLost
	}
	if err != nil {
		return err
	}
	events, err := w.opts.Store.HGetAll(ctx, keyEvents(s.ID)).Result()
	if err != nil {
		return fmt.Errorf("reading events: %w", err)
	}
	found.events = events
	s.held = found
	return nil
}

// concluded is what follows a final state and may be lost: counters, the log
// line, the audit line.
func (w *Worker) concluded(ctx context.Context, s *session) {
	w.met.finals.Add(ctx, 1, ofState(s.Provider, s.State))
	w.pulse.final(s.State)
	w.log.InfoContext(ctx, "step-up final", "id", s.ID, "caller", s.Caller, "provider", s.Provider, "status", s.State,
		"reason", s.Reason.Code, "provider_trace_id", s.Reason.TraceID, "took_ms", s.Completed.Sub(s.Created).Milliseconds())
	w.noteFinal(s)
}
