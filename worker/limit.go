package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// limit counts a create against its caller's rate and its person's limits. It
// fails closed: what cannot be counted is not sent. A twin of the same request is no
// second push and no second person.
func (w *Worker) limit(ctx context.Context, set *Settings, c *create) error {
	if set.CallerRate > 0 {
		each := strconv.FormatFloat(1000/set.CallerRate, 'f', 3, 64)
		if err := w.limitCaller(ctx, "Too many creates from this caller.", scriptRate, keyRate(c.Caller), each, max(1, set.CallerBurst)); err != nil {
			return err
		}
	}
	// Whoever tries one number after the other is stopped, also where the provider knows none of them.
	if set.PersonsPerCaller > 0 {
		if err := w.limitCaller(ctx, "This caller asked too many different persons in the last hour.", scriptPersons, keyPersons(c.Caller), c.who, set.PersonsPerCaller); err != nil {
			return err
		}
	}
	return w.limitPerson(ctx, set, c)
}

// limitCaller runs a script that answers with how many ms the caller has to wait.
func (w *Worker) limitCaller(ctx context.Context, refusal string, limit *redis.Script, key string, args ...any) error {
	wait, err := limit.Run(ctx, w.opts.Store, []string{key}, args...).Int64()
	switch {
	case err != nil:
		return w.storageError(fmt.Errorf("counting a caller: %w", err))
	case wait > 0:
		return &Error{Code: CodeRateLimited, Detail: refusal, RetryAfter: time.Duration(wait) * time.Millisecond}
	}
	return nil
}

// limitPerson counts one more push to the person.
func (w *Worker) limitPerson(ctx context.Context, set *Settings, c *create) error {
	// Until the provider says more, the prompt may stand for as long as it could at
	// the most, whatever expiry was requested: the provider may ignore that.
	standing := askTime + longestAsk
	got, err := scriptPerson.Run(ctx, w.opts.Store, []string{c.person},
		c.rec.Member, standing.Milliseconds(), set.PersonInFlight, set.PersonPerHour).Slice()
	if err != nil || len(got) != 2 {
		w.aside(func(ctx context.Context) { w.uncount(ctx, c) }) // perhaps it was counted
		return w.storageError(fmt.Errorf("counting a person: %w", err))
	}
	left, _ := got[1].(int64)
	wait := time.Duration(left) * time.Millisecond
	switch got[0] {
	case "busy":
		return &Error{Code: CodePersonBusy, Detail: "A prompt is, or may still be, on this person's phone. Ask again when it is answered or has lapsed.", RetryAfter: max(wait, time.Second)}
	case "limited":
		return &Error{Code: CodePersonLimited, Detail: "This person was asked too often in the last hour.", RetryAfter: max(wait, time.Second)}
	}
	return nil
}

// uncount takes back, when Redis is there again, what a create that failed may have
// counted; unless a repeat of the request goes on under the same count. A repeat may
// be on its way just now, so the person stays busy for as long as that could take.
func (w *Worker) uncount(ctx context.Context, c *create) {
	err := w.stubborn(ctx, &c.rec, func() error {
		e, err := w.store.idempotent(ctx, c.rec.shard(), c.idem)
		if err != nil || e != nil {
			return err
		}
		return w.stands(ctx, c.person, c.rec.Member, askTime, "unsent")
	})
	if err != nil {
		w.log.WarnContext(ctx, "person limit not freed; it lapses by itself", "id", c.rec.ID, "error", err)
	}
}

// stands notes how long the prompt of a push stands: see the script.
func (w *Worker) stands(ctx context.Context, person, push string, left time.Duration, known string) error {
	return scriptStands.Run(ctx, w.opts.Store, []string{person}, push, left.Milliseconds(), known).Err()
}

// person is a keyed hash of whoever a question is for: the same for everybody who asks
// them at that provider, and no way back. Whoever has two ID tokens of a person has one
// person; who a login_hint_token speaks of is known to the provider alone.
func (s *Settings) person(provider string, q *Question) string {
	if iss, sub, err := ciba.Hinted(q.IDTokenHint); err == nil {
		return s.Sealer.hash("person", provider, "", "", "", iss, sub)
	}
	return s.Sealer.hash("person", provider, q.LoginHint, q.LoginHintToken, q.IDTokenHint)
}

// freePerson takes a push back that was not made.
func (w *Worker) freePerson(ctx context.Context, c *create) {
	if err := w.opts.Store.HDel(ctx, c.person, c.rec.Member).Err(); err != nil {
		w.log.WarnContext(ctx, "person limit not freed; it lapses by itself", "id", c.rec.ID, "error", err)
	}
}

// freeTwin takes back what a twin of a request that is over has counted for a
// second time. A prompt that may still stand on the phone stays counted.
func (w *Worker) freeTwin(ctx context.Context, c *create, first string) {
	r, err := w.store.read(ctx, first)
	switch {
	case errors.Is(err, errGone): // refused: there was no push
		w.freePerson(ctx, c)
	case err == nil && r.State.answered():
		w.freeSlot(ctx, c.person, &c.rec)
	}
}

// freeSlot frees the person for the next push; the push stays counted in its hour.
func (w *Worker) freeSlot(ctx context.Context, person string, r *record) {
	if err := w.stands(ctx, person, r.Member, 0, "answered"); err != nil {
		w.log.WarnContext(ctx, "person limit not freed; it lapses by itself", "id", r.ID, "error", err)
	}
}
