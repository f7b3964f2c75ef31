package worker

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua
var scriptFiles embed.FS

func script(name string) *redis.Script { return afterPrelude(readScript(name)) }

// afterPrelude gives a script what every script begins with, and the two values it shares with this program.
func afterPrelude(lua string) *redis.Script {
	shared := fmt.Sprintf("local keep, topic = %d, '%s'\n", keepRecord.Milliseconds(), finalTopic)
	return redis.NewScript(shared + readScript("prelude") + lua)
}

func readScript(name string) string {
	b, err := scriptFiles.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // embedded at build
	}
	return string(b)
}

var (
	scriptBegin     = script("begin")
	scriptAsked     = script("asked")
	scriptDrop      = script("drop")
	scriptClaim     = script("claim")
	scriptRelease   = script("release")
	scriptNote      = script("note")
	scriptFinal     = script("final")
	scriptRound     = script("round")
	scriptRedeliver = script("redeliver")
	scriptTaken     = script("acknowledge")
	scriptWake      = script("wake")
	scriptBeat      = script("beat")
	scriptPerson    = script("person")
	scriptStands    = script("stands")
	scriptRate      = script("rate")
	scriptPersons   = script("persons")
	scriptLeases    = script("leases")
	scriptOverdue   = script("overdue")
	scriptRoster    = script("roster")
)

// How long things are kept.
const (
	keepIdem     = 24 * time.Hour
	keepEvents   = 24 * time.Hour                 // a delivery is given up after that
	keepRecord   = keepEvents + 2*time.Hour       // the tombstone outlives its deliveries and the idempotency key
	keepPersonal = 10 * time.Minute               // after expires_at, while pending
	keepUsed     = time.Hour                      // hashes of ID tokens that were accepted
	askTime      = 15*time.Second + 5*time.Second // /bc-auth and its bookkeeping; longer means the process died
	longestAsk   = time.Hour                      // the latest possible expiry: the longest expires_in that is believed
)

// The ways a transition can be refused. They are answers, not faults.
var (
	errFence = errors.New("another worker owns the step-up")
	errFinal = errors.New("the step-up is final")
	errGone  = errors.New("no such step-up")
	errAcked = errors.New("an event was acknowledged in the meantime")
)

// store is the Redis side: every transition of a step-up is one script, a
// compare-and-set on (owner, gen) or on the state. Each write is known by an
// operation id, or by what it writes, so a script that is repeated after a lost
// reply answers the same again.
type store struct {
	rdb      redis.UniversalClient
	shards   int
	replicas *replicas
}

// held is a step-up as a claim found it: the record, and what is sealed still sealed.
type held struct {
	record
	prompt   string
	personal map[string]string
	events   map[string]string
}

// opID is long enough to be told apart from the step-up's other operations, and short
// because every record holds some.
func opID() string { return rand.Text()[:13] }

// status runs a script that answers with one word.
func (s *store) status(ctx context.Context, sc *redis.Script, keys []string, args ...any) error {
	word, err := sc.Run(ctx, s.rdb, keys, args...).Text()
	if err != nil {
		return fmt.Errorf("writing a step-up: %w", err)
	}
	return refusedBy(word)
}

func refusedBy(word string) error {
	switch word {
	case "ok":
		return nil
	case "final":
		return errFinal
	case "gone", "done":
		return errGone
	case "acked":
		return errAcked
	}
	return errFence
}

// counted runs a script that answers with a word and a wake number.
func (s *store) counted(ctx context.Context, sc *redis.Script, keys []string, args ...any) (wakes string, err error) {
	got, err := sc.Run(ctx, s.rdb, keys, args...).StringSlice()
	if err != nil || len(got) != 2 {
		return "", fmt.Errorf("writing a step-up: %w", err)
	}
	return got[1], refusedBy(got[0])
}

// existing is what an idempotency key stands for. In Redis it is one string: the id,
// the fingerprint and, when there is one, the sealed answer, with spaces between.
type existing struct{ id, fingerprint, answer string }

func (e existing) String() string {
	if e.answer == "" {
		return e.id + " " + e.fingerprint
	}
	return e.id + " " + e.fingerprint + " " + e.answer
}

func parseExisting(entry string) *existing {
	id, rest, _ := strings.Cut(entry, " ")
	fingerprint, answer, _ := strings.Cut(rest, " ")
	return &existing{id, fingerprint, answer}
}

// begin puts the intent on record and on the lists, unless the idempotency key is taken.
func (s *store) begin(ctx context.Context, r *record, idem, fingerprint, sealed string, lists []string) (*existing, error) {
	shard := r.shard()
	args := append([]any{r.ID, existing{id: r.ID, fingerprint: fingerprint}.String(), sealed, askTime.Milliseconds(), keepIdem.Milliseconds(),
		(askTime + keepPersonal).Milliseconds(), ms(r.Created), keepRecord.Milliseconds()}, r.fields()...)
	keys := append([]string{keyRecord(r.ID), keyOpen(shard), keyPrompt(r.ID), keyIdem(shard, idem)}, lists...)
	entry, err := s.intent(ctx, shard, keys, args...)
	if err != nil {
		return nil, fmt.Errorf("writing the intent: %w", err)
	}
	if entry == "" {
		return nil, nil
	}
	return parseExisting(entry), nil
}

// idempotent is what the key stands for, nil when it is free.
func (s *store) idempotent(ctx context.Context, shard int, idem string) (*existing, error) {
	entry, err := s.rdb.Get(ctx, keyIdem(shard, idem)).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the idempotency key: %w", err)
	}
	return parseExisting(entry), nil
}

// asked records that the provider took the question, and the answer to the caller,
// which is sealed and so never the same twice: a repeat is known by it.
func (s *store) asked(ctx context.Context, r *record, idem string, e existing, sealed string) error {
	return s.learnt(ctx, writesHandle, r.shard(), scriptAsked, []string{keyRecord(r.ID), keyOpen(r.shard()), keyPrompt(r.ID), keyIdem(r.shard(), idem)},
		e.String(), r.ID, (2 * time.Second).Milliseconds(), (max(0, time.Until(r.Expires)) + keepPersonal).Milliseconds(), ms(r.Expires), r.Interval.Milliseconds(), msUp(r.NotBefore), sealed)
}

// drop takes an intent back that was never sent. The answer of e, when there is one,
// is given again to repeats of the request; otherwise the key is free.
func (s *store) drop(ctx context.Context, r *record, idem string, lists []string, e existing) error {
	shard := r.shard()
	entry := ""
	if e.answer != "" {
		entry = e.String()
	}
	keys := append([]string{keyRecord(r.ID), keyOpen(shard), keyPrompt(r.ID), keyIdem(shard, idem)}, lists...)
	return s.status(ctx, scriptDrop, keys, r.ID, entry)
}

// takeover is what a claim from a dead owner brings along.
type takeover struct {
	died      bool
	notBefore time.Time
}

// claim takes a step-up for me, expecting the fence that r shows.
func (s *store) claim(ctx context.Context, op string, r *record, me string, over takeover) (*held, error) {
	shard := r.shard()
	keys := []string{keyRecord(r.ID), keyOpen(shard), keyPersonal(r.ID), keyEvents(r.ID), keyOwned(shard, me), keyOwned(shard, r.Owner),
		keyDue(shard), keyPrompt(r.ID), keyOwners(shard)}
	wake := verifyGrace + 30*time.Second
	if !r.State.Final() {
		wake += max(0, time.Until(r.Expires))
	}
	got, err := scriptClaim.Run(ctx, s.rdb, keys, op, r.ID, me, r.Owner, r.Gen, wake.Milliseconds(), msUp(over.notBefore), flag(over.died)).Slice()
	if err != nil {
		return nil, fmt.Errorf("claiming a step-up: %w", err)
	}
	if word, _ := got[0].(string); len(got) != 5 {
		return nil, refusedBy(word)
	}
	h := &held{personal: pairs(got[3]), events: pairs(got[4])}
	h.prompt, _ = got[2].(string)
	var ok bool
	if h.record, ok = decodeRecord(r.ID, pairs(got[1])); !ok {
		return nil, errGone
	}
	return h, nil
}

// pairs is the answer of an HGETALL inside a script.
func pairs(v any) map[string]string {
	list, _ := v.([]any)
	if len(list) == 0 {
		return nil
	}
	m := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		k, _ := list[i].(string)
		m[k], _ = list[i+1].(string)
	}
	return m
}

// pace is the part of a record that outlives a change of owner.
func (r *record) pace() []any {
	return []any{r.Interval.Milliseconds(), msUp(r.NotBefore), flag(r.Ambiguous), ms(r.PendingAt)}
}

// release lets a step-up go; the wake number that comes back is for the task that wakes it next.
func (s *store) release(ctx context.Context, r *record, op string) (wakes string, err error) {
	shard := r.shard()
	return s.counted(ctx, scriptRelease, []string{keyRecord(r.ID), keyOpen(shard), keyOwned(shard, r.Owner)},
		append([]any{op, r.ID, r.Owner, r.Gen}, r.pace()...)...)
}

// note stores what an owner learnt while it goes on.
func (s *store) note(ctx context.Context, r *record, op, sealed string) error {
	args := append([]any{op, r.ID, r.Owner, r.Gen}, r.pace()...)
	return s.status(ctx, scriptNote, []string{keyRecord(r.ID), keyPrompt(r.ID)}, append(args, ms(r.RawAt), sealed)...)
}

// ending is a final state with everything that is stored in the same step.
type ending struct {
	passes   bool          // approved and denied pass the fence
	personal []any         // sealed fields that go with the result
	keep     time.Duration // how long
	events   []any         // sealed bodies without an identity
}

// final stores the one final state.
func (s *store) final(ctx context.Context, r *record, op string, e ending) error {
	fields := r.finalFields()
	queues, moves := moved(nil, r.Deliveries).args(r)
	args := append([]any{op, r.ID, r.Owner, r.Gen, flag(e.passes), (15 * time.Second).Milliseconds(),
		e.keep.Milliseconds(), (keepEvents + clockGrace).Milliseconds(), keepRecord.Milliseconds(), moves, len(fields)}, fields...)
	args = append(append(args, len(e.personal)), e.personal...)
	shard := r.shard()
	keys := []string{keyRecord(r.ID), keyOpen(shard), keyPersonal(r.ID), keyEvents(r.ID), keyOwned(shard, r.Owner), keyDue(shard), keyPrompt(r.ID)}
	return s.learnt(ctx, writesFinal, shard, scriptFinal, append(keys, queues...), append(args, e.events...)...)
}

// woken is what a wake-up found.
type woken struct {
	number string // for the task's id; "0": there is nothing to wake, or another sweeper was first
	state  State
	gone   bool // there is no such step-up, or it is not the dead owner's
	row    int  // how often in a row it was woken and nobody took it
	late   bool // long past its expiry
}

// wake counts one wake-up. deadOwner is empty when the wake-by time passed.
func (s *store) wake(ctx context.Context, id, deadOwner string) (woken, error) {
	shard, _ := shardOf(id)
	got, err := scriptWake.Run(ctx, s.rdb, []string{keyRecord(id), keyOpen(shard), keyDue(shard)},
		opID(), id, deadOwner, (orphanGrace + time.Second).Milliseconds()).StringSlice()
	if err != nil || len(got) != 4 {
		return woken{}, fmt.Errorf("waking a step-up: %w", err)
	}
	v := woken{number: got[0], state: State(got[1]), gone: got[1] == "gone", late: got[3] == "1"}
	v.row, _ = strconv.Atoi(got[2])
	return v, nil
}

// read is the record alone.
func (s *store) read(ctx context.Context, id string) (*record, error) {
	h, err := s.rdb.HGetAll(ctx, keyRecord(id)).Result()
	if err != nil {
		return nil, fmt.Errorf("reading a step-up: %w", err)
	}
	r, ok := decodeRecord(id, h)
	if !ok {
		return nil, errGone
	}
	return &r, nil
}

// load is a record with what is sealed.
func (s *store) load(ctx context.Context, id string) (*held, error) {
	all, err := s.loadAll(ctx, []string{id})
	if err == nil && all[0] == nil {
		err = errGone
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// states are the states of several; "" is that of one that is gone.
func (s *store) states(ctx context.Context, marks []mark) ([]State, error) {
	replies := make([]*redis.StringCmd, len(marks))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, m := range marks {
			replies[i] = p.HGet(ctx, keyRecord(m.id), "st")
		}
		return nil
	})
	all := make([]State, len(marks))
	for i, c := range replies {
		for _, err := range []error{err, c.Err()} {
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, fmt.Errorf("reading the states of step-ups: %w", err)
			}
		}
		all[i] = State(c.Val())
	}
	return all, nil
}

// loadAll is load for several in one round trip; nil stands for one that is gone. What
// a final state takes away is read before the record, and what it brings after it.
func (s *store) loadAll(ctx context.Context, ids []string) ([]*held, error) {
	type reply struct {
		prompt        *redis.StringCmd
		rec, personal *redis.MapStringStringCmd
	}
	replies := make([]reply, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = reply{p.Get(ctx, keyPrompt(id)), p.HGetAll(ctx, keyRecord(id)), p.HGetAll(ctx, keyPersonal(id))}
		}
		return nil
	})
	all := make([]*held, len(ids))
	for i, id := range ids {
		c := replies[i]
		for _, err := range []error{err, c.prompt.Err(), c.rec.Err(), c.personal.Err()} {
			if err != nil && !errors.Is(err, redis.Nil) { // no prompt: it is final
				return nil, fmt.Errorf("reading a step-up: %w", err)
			}
		}
		if r, ok := decodeRecord(id, c.rec.Val()); ok {
			all[i] = &held{record: r, prompt: c.prompt.Val(), personal: c.personal.Val()}
		}
	}
	return all, nil
}
