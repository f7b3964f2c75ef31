package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Request is what a caller posts. Its form is the edge's to judge; what the caller may
// do and what the provider takes is judged by Ask.
type Request struct {
	Unsaid
	Caller         string
	IdempotencyKey string
	Provider       string
	Question       Question
	Reference      string            // at most 128 characters
	Metadata       map[string]string // at most 16 keys, 2 KiB
}

// answered is what an idempotency key keeps, sealed: a refusal, or what the answer
// to the request was made of besides the request itself, which a repeat brings again.
type answered struct {
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail,omitempty"`

	Created int64    `json:"c,omitempty"` // ms
	Expires int64    `json:"e,omitempty"` // ms
	Hooks   []string `json:"w,omitempty"`
}

// Ask creates a step-up: it puts the intent on record, sends it to the provider
// once, and records what came of it. A refusal is an *Error; a repeat of the same
// request is answered as the first was and sends nothing.
//
// From the moment the intent is on record, Ask no longer depends on ctx: a caller
// that goes away changes nothing for the person who is being asked.
func (w *Worker) Ask(ctx context.Context, q Request) (StepUp, error) {
	set := w.settings.Load()
	c := w.newCreate(set, &q)
	if !w.enter() {
		return StepUp{}, w.refused(c, draining())
	}
	defer w.serving.Done()
	if e, err := w.store.idempotent(ctx, c.rec.shard(), c.idem); err != nil {
		return StepUp{}, w.refused(c, w.storageError(err))
	} else if e != nil {
		return w.again(ctx, set, c, e)
	}
	if err := w.admit(set, &q); err != nil {
		return StepUp{}, w.refused(c, err)
	}
	if err := w.limit(ctx, set, c); err != nil {
		return StepUp{}, w.refused(c, err)
	}
	return w.ask(context.WithoutCancel(ctx), set, c)
}

// create is one create request on its way.
type create struct {
	*Request
	rec         record
	who         string   // keyed hash of the person
	person      string   // key of the person's limit
	idem        string   // keyed hash of caller and key
	fingerprint string   // keyed hash of the body
	lists       []string // keys of the caller's lists that it goes on
	known       bool     // its provider is configured
	begun       bool     // its intent is on record
}

func (w *Worker) newCreate(set *Settings, q *Request) *create {
	idem := set.Sealer.hash("idem", q.Caller, q.IdempotencyKey)
	body, _ := json.Marshal([]any{q.Provider, q.Question, q.Reference, q.Metadata}) // plain data; maps are sorted
	c := &create{Request: q, idem: idem, fingerprint: set.Sealer.hash("body", string(body)), who: set.person(q.Provider, &q.Question)}
	c.person = keyPerson(w.opts.Shards, q.Provider, c.who)
	c.rec = record{
		ID: newID(shardFor(w.opts.Shards, idem)), Caller: q.Caller, Provider: q.Provider, State: Asking,
		Created: time.Now().Truncate(time.Millisecond), Interval: set.Providers[q.Provider].Interval,
		Member: idem[:8],
	}
	_, c.known = set.Providers[q.Provider]
	caller := set.Callers[q.Caller]
	for _, h := range caller.Webhooks {
		c.rec.Hooks = append(c.rec.Hooks, h.Name)
	}
	if caller.MayList { // nobody else would ever read it
		c.lists = []string{keyList(c.rec.shard(), q.Caller)}
		if q.Reference != "" {
			c.lists = append(c.lists, keyReferences(c.rec.shard(), q.Caller, set.reference(q.Caller, q.Reference)))
		}
	}
	return c
}

// reference is a keyed hash, by which a caller finds its step-ups.
func (s *Settings) reference(caller, reference string) string {
	return s.Sealer.hash("reference", caller, reference)
}

// admit refuses what needs no look at Redis.
func (w *Worker) admit(set *Settings, q *Request) error {
	caller := set.Callers[q.Caller]
	p, ok := set.Providers[q.Provider]
	switch {
	case !ok || !slices.Contains(caller.Providers, q.Provider):
		return &Error{Code: CodeInvalidRequest, Detail: "The request has mistakes.", Fields: []FieldError{{Field: "provider", Message: "is not a provider this caller may use"}}}
	case p.Paused || caller.Paused:
		return &Error{Code: CodePaused, Detail: "Step-ups are paused by an operator. Nothing was sent.", RetryAfter: 30 * time.Second}
	case w.audit.fault() != nil:
		return auditDown() // its line could not be written either
	case w.inFlight.Load() >= int64(w.opts.MaxInFlightTotal):
		return &Error{Code: CodeOverloaded, Detail: "Too many step-ups are in flight. Nothing was sent.", RetryAfter: 5 * time.Second}
	}
	if fields := p.Provider.Check(q.Question); len(fields) > 0 {
		return &Error{Code: CodeInvalidRequest, Detail: "The request has mistakes.", Fields: fields}
	}
	return w.crowded(q.Provider, p)
}

// ask puts the intent on record and sends it. If we die after the first write,
// the intent ends as initiation_unknown; before it, nothing was sent.
func (w *Worker) ask(ctx context.Context, set *Settings, c *create) (StepUp, error) {
	ctx, span := w.met.ask(ctx, &c.rec)
	defer span.End()
	c.rec.Trace = traceOf(ctx)
	p := prompt{face: face{Reference: c.Reference, Metadata: c.Metadata}, Question: c.Question}
	failpoint("ask.begin")
	began := time.Now()
	sealed := set.Sealer.sealJSON(&c.rec, fieldPrompt, p)
	var e *existing
	err := w.persist(ctx, beginWithin, func() (err error) {
		e, err = w.store.begin(ctx, &c.rec, c.idem, c.fingerprint, sealed, c.lists)
		return err
	})
	if err != nil {
		return StepUp{}, w.unsent(c, w.storageError(err))
	}
	if e != nil { // a twin of this request was faster
		w.freeTwin(ctx, c, e.id)
		return w.again(ctx, set, c, e)
	}
	c.begun = true
	if err := w.clearToAsk(set, c, began); err != nil {
		return StepUp{}, err
	}
	sent := time.Now()
	asked, err := set.Providers[c.Provider].Provider.Ask(ctx, c.Question)
	w.pulse.answered(c.Provider, wayAsk, time.Since(sent), err)
	failpoint("ask.answered")
	if err != nil {
		return StepUp{}, w.notAsked(ctx, set, c, p.face, err)
	}
	w.audit.note(c.decision(whatSent))
	r := &c.rec
	r.Expires = asked.Expires
	if asked.Interval > 0 {
		r.Interval = asked.Interval
	}
	r.NotBefore = time.Now().Add(r.Interval) // several providers answer an immediate poll with slow_down
	p.ID = asked.ID
	sealed, entry := set.Sealer.sealJSON(r, fieldPrompt, p), c.entry(set, answered{Created: ms(r.Created), Expires: ms(r.Expires), Hooks: r.Hooks})
	if err := w.stubborn(ctx, r, func() error { return w.store.asked(ctx, r, c.idem, entry, sealed) }); err != nil {
		w.log.ErrorContext(ctx, "a push was sent but its auth_req_id could not be stored", "alarm", true, "id", r.ID, "error", err)
		return StepUp{}, &Error{Code: CodeInitiationUnknown, Detail: reasonText[InitiationUnknown], ID: r.ID}
	}
	r.State = Pending
	failpoint("ask.stored")
	w.concludeAsk(ctx, c)
	failpoint("ask.queued")
	return r.view(p.face, nil), nil
}

const (
	beginWithin = 2 * time.Second          // how long writing the intent is tried while Redis falters
	askWithin   = askTime - 15*time.Second // how long after it the provider may be asked: the sweeper must not end what is being sent
)

// clearToAsk is all that comes between the intent and the sending: the provider's rate, the
// audit log, and a look at the clock, because a process that was frozen here may have been
// taken for dead. What is not clear is taken back.
func (w *Worker) clearToAsk(set *Settings, c *create, began time.Time) error {
	if err := w.turnToAsk(c.Provider, set.Providers[c.Provider]); err != nil {
		return w.unsent(c, err)
	}
	if w.audit.write(c.decision(whatAsk)) != nil {
		return w.unsent(c, auditDown())
	}
	failpoint("ask.send")
	if since(began) > askWithin {
		return w.unsent(c, storageDown())
	}
	return nil
}

// unsent takes an intent back that nothing was sent for, and notes why.
func (w *Worker) unsent(c *create, err error) error {
	w.takeBack(c)
	return w.refused(c, err)
}

// takeBack undoes an intent that may have been written: nothing is sent from here
// on. The caller does not wait for it; until it is done, a repeat under the same
// key is told that the first is still being answered.
func (w *Worker) takeBack(c *create) {
	w.aside(func(ctx context.Context) {
		r := &c.rec
		if err := w.stubborn(ctx, r, func() error { return w.store.drop(ctx, r, c.idem, c.lists, existing{}) }); err != nil {
			w.log.WarnContext(ctx, "intent not taken back; it will end as unknown", "id", r.ID, "error", err)
			return
		}
		w.uncount(ctx, c)
	})
}

// concludeAsk does what may be lost: if we die here, the sweeper wakes the step-up.
func (w *Worker) concludeAsk(ctx context.Context, c *create) {
	r := &c.rec
	if err := w.queue.wake(ctx, r.ID, "0", Pending, time.Time{}); err != nil {
		w.log.WarnContext(ctx, "step-up not queued; the sweeper will wake it", "id", r.ID, "error", err)
	}
	if err := w.stands(ctx, c.person, r.Member, max(0, time.Until(r.Expires))+time.Second, "sent"); err != nil {
		w.log.WarnContext(ctx, "person limit keeps its first guess", "id", r.ID, "error", err)
	}
	w.met.created.Add(ctx, 1, ofProvider(r.Provider))
	w.pulse.created()
	w.log.InfoContext(ctx, "step-up asked", "id", r.ID, "caller", r.Caller, "provider", r.Provider, "expires_at", r.Expires, "took_ms", time.Since(r.Created).Milliseconds())
}

// notAsked ends a create that the provider did not take, or nobody knows whether
// it did.
func (w *Worker) notAsked(ctx context.Context, set *Settings, c *create, f face, err error) error {
	e, asked, keep, alarm := refusedAsk(err)
	r := &c.rec
	if alarm != "" {
		w.log.ErrorContext(ctx, alarm, "alarm", true, "provider", r.Provider)
	}
	w.log.WarnContext(ctx, "step-up not taken by the provider", "id", r.ID, "caller", r.Caller, "provider", r.Provider, "code", e.Code, "error", err)
	if asked {
		e.ID = r.ID
		s := &session{held: &held{record: *r}, set: set, face: f, asked: Asked{Question: c.Question}, signal: newSignal()}
		v := verdict{state: Unknown, reason: Reason{Code: InitiationUnknown}}
		if err := w.finish(ctx, s, v, nil); err != nil {
			w.log.ErrorContext(ctx, "unknown initiation not stored; the sweeper will end it", "id", r.ID, "error", err)
		}
		w.wakeDelivery(ctx, &s.record)
		return e
	}
	var entry existing
	if keep {
		entry = c.entry(set, answered{Code: e.Code, Detail: e.Detail})
	}
	if err := w.stubborn(ctx, r, func() error { return w.store.drop(ctx, r, c.idem, c.lists, entry) }); err != nil {
		w.log.ErrorContext(ctx, "refused intent not dropped; it will end as unknown", "alarm", true, "id", r.ID, "error", err)
	}
	w.freePerson(ctx, c) // only now: until here a twin counts under the same push
	return w.refused(c, e)
}

// again answers a repeat of a request: the same body gets the first answer, and
// never a second push.
func (w *Worker) again(ctx context.Context, set *Settings, c *create, e *existing) (StepUp, error) {
	if e.fingerprint != c.fingerprint {
		return StepUp{}, w.refused(c, &Error{Code: CodeKeyReused, Detail: "This Idempotency-Key was used with another body."})
	}
	if e.answer != "" {
		return c.firstAnswer(set, e)
	}
	busy := &Error{Code: CodeInProgress, Detail: "The first request with this Idempotency-Key is still being answered.", RetryAfter: time.Second}
	r, err := w.store.read(ctx, e.id)
	switch {
	case errors.Is(err, errGone):
		return StepUp{}, busy // refused this very moment
	case err != nil:
		return StepUp{}, w.storageError(err)
	case r.Reason.Code == InitiationUnknown:
		return StepUp{}, &Error{Code: CodeInitiationUnknown, Detail: reasonText[InitiationUnknown], ID: e.id}
	}
	return StepUp{}, busy
}

// fieldAnswer binds an answer to its key, so that one key's answer is no other's.
func (c *create) fieldAnswer() string { return "answer:" + c.idem + ":" + c.fingerprint }

// entry is what the idempotency key keeps from now on.
func (c *create) entry(set *Settings, a answered) existing {
	return existing{c.rec.ID, c.fingerprint, set.Sealer.sealJSON(&c.rec, c.fieldAnswer(), a)}
}

// firstAnswer gives the answer again that the first of these requests got.
func (c *create) firstAnswer(set *Settings, e *existing) (StepUp, error) {
	first := record{ID: e.id, Caller: c.Caller, Provider: c.Provider, State: Pending}
	var a answered
	if err := set.Sealer.unsealJSON(&first, c.fieldAnswer(), e.answer, &a); err != nil {
		return StepUp{}, fmt.Errorf("the answer of an idempotency key: %w", err)
	}
	if a.Code != "" {
		return StepUp{}, &Error{Code: a.Code, Detail: a.Detail}
	}
	first.Created, first.Expires, first.Hooks = time.UnixMilli(a.Created), time.UnixMilli(a.Expires), a.Hooks
	return first.view(face{Reference: c.Reference, Metadata: c.Metadata}, nil), nil
}

// storageError is what a caller is told of a Redis fault; the cause is logged.
func (w *Worker) storageError(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // the caller went away
	}
	w.log.Debug("Redis does not answer", "error", err) // the lease says it once, and when it is over
	return storageDown()
}
