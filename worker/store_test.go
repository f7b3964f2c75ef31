package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// stored is a store on the package's redis-server, with a record in it.
type stored struct {
	store
	t *testing.T
	record
}

func newStored(t *testing.T) *stored {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: redisAddr, DB: 15, MaxRetries: -1, MaintNotificationsConfig: noMaintenance()})
	t.Cleanup(func() { c.Close() })
	s := &stored{store: store{rdb: c, shards: 2}, t: t}
	s.record = record{ID: newID(1), Caller: "bank", Provider: "singpass", State: Asking, Created: time.Now(), Interval: 5 * time.Second,
		Member: "m", Hooks: []string{"ledger", "audit"}}
	if e, err := s.begin(t.Context(), &s.record, s.ID, "fp", "sealed", s.lists()); e != nil || err != nil {
		t.Fatalf("begin: %v %v", e, err)
	}
	return s
}

// lists are the caller's, by age and by a reference.
func (s *stored) lists() []string {
	return []string{keyList(1, s.Caller), keyReferences(1, s.Caller, "ref")}
}

// listedOn is how many of its lists hold the record.
func (s *stored) listedOn() (n int) {
	for _, key := range s.lists() {
		if s.rdb.ZScore(s.t.Context(), key, s.ID).Err() == nil {
			n++
		}
	}
	return n
}

// pendingRecord is a record that a provider took.
func pendingRecord(t *testing.T) *stored {
	t.Helper()
	s := newStored(t)
	s.Expires = time.Now().Add(5 * time.Minute)
	if err := s.asked(t.Context(), &s.record, s.ID, s.answer(), "sealed with the handle"); err != nil {
		t.Fatalf("asked: %v", err)
	}
	s.State = Pending
	return s
}

// answer is what the idempotency key keeps from asked on: no two are the same.
func (s *stored) answer() existing { return existing{s.ID, "fp", "sealed answer " + opID()} }

func (s *stored) must(what string, err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

func (s *stored) refuses(what string, got, want error) {
	s.t.Helper()
	if !errors.Is(got, want) {
		s.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (s *stored) now() *record {
	s.t.Helper()
	r, err := s.read(s.t.Context(), s.ID)
	s.must("read", err)
	return r
}

func (s *stored) claimed(me string) *held {
	s.t.Helper()
	h, err := s.claim(s.t.Context(), opID(), s.now(), me, takeover{})
	s.must("claim", err)
	return h
}

// end is a final state as finish writes it.
func end(r record, st State) (*record, ending) {
	r.State, r.Completed = st, time.Now()
	return &r, ending{passes: st == Approved || st == Denied, personal: []any{"result", "sealed"}, keep: time.Hour}
}

func TestClaimIsForOne(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	before := s.now()
	h := s.claimed("w1")
	if h.Owner != "w1" || h.Gen != 2 || h.prompt != "sealed with the handle" {
		t.Fatalf("claimed as %+v", h.record)
	}
	_, err := s.claim(t.Context(), opID(), before, "w2", takeover{})
	s.refuses("a claim with the old fence", err, errFence)
	_, err = s.claim(t.Context(), opID(), s.now(), "w2", takeover{})
	s.must("a claim from an owner known to be dead", err)
	if r := s.now(); r.Owner != "w2" || r.Gen != 3 {
		t.Fatalf("taken over as %+v", r)
	}
	for owner, want := range map[string]bool{"w1": false, "w2": true} {
		if in, _ := s.rdb.SIsMember(t.Context(), keyOwned(1, owner), s.ID).Result(); in != want {
			t.Errorf("in the owned set of %s: %t", owner, in)
		}
	}
}

func TestTakeoverIsAmbiguousAndWaits(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	s.claimed("w1")
	wait := time.Now().Add(7 * time.Second).Truncate(time.Millisecond)
	h, err := s.claim(t.Context(), opID(), s.now(), "w2", takeover{died: true, notBefore: wait})
	s.must("claim", err)
	if !h.Ambiguous || !h.NotBefore.Equal(wait) {
		t.Fatalf("taken over as %+v", h.record)
	}
	// A pace that is slower already stays.
	h, err = s.claim(t.Context(), opID(), s.now(), "w3", takeover{died: true, notBefore: wait.Add(-time.Second)})
	s.must("claim", err)
	if !h.NotBefore.Equal(wait) {
		t.Errorf("not before %v, want %v", h.NotBefore, wait)
	}
}

// Everything an owner writes names the fence; whoever lost it changes nothing.
func TestAFormerOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	old := s.claimed("w1").record
	s.claimed("w2")
	before, _ := s.rdb.HGetAll(t.Context(), keyRecord(s.ID)).Result()

	_, err := s.release(t.Context(), &old, opID())
	s.refuses("release", err, errFence)
	s.refuses("note", s.note(t.Context(), &old, opID(), "raw"), errFence)
	_, err = s.round(t.Context(), &old, opID(), purge{}, nil)
	s.refuses("round", err, errFence)
	for _, st := range []State{Expired, Failed, Unknown, Cancelled} {
		r, e := end(old, st)
		s.refuses("final "+string(st), s.final(t.Context(), r, opID(), e), errFence)
	}
	after, _ := s.rdb.HGetAll(t.Context(), keyRecord(s.ID)).Result()
	for k, v := range before {
		if after[k] != v {
			t.Errorf("field %s changed from %q to %q", k, v, after[k])
		}
	}
}

// The provider says approved or denied once, to whoever asks: that passes the fence, while nothing is final.
func TestOnlyThePersonsWordPassesTheFence(t *testing.T) {
	t.Parallel()
	for _, st := range []State{Approved, Denied} {
		s := pendingRecord(t)
		old := s.claimed("w1").record
		s.claimed("w2")
		r, e := end(old, st)
		s.must("final", s.final(t.Context(), r, opID(), e))
		for _, again := range []State{Approved, Denied, Expired, Unknown} {
			r, e := end(*s.now(), again)
			s.refuses("a second final state", s.final(t.Context(), r, opID(), e), errFinal)
		}
		if got := s.now().State; got != st {
			t.Errorf("state %s, want %s", got, st)
		}
	}
}

// A script that is repeated after its reply was lost answers the same and does nothing twice.
func TestScriptsAnswerARepeatTheSame(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := newStored(t)
	s.Expires = time.Now().Add(time.Minute)
	op, answer := opID(), s.answer()
	s.must("asked", s.asked(ctx, &s.record, s.ID, answer, "sealed with the handle"))
	s.must("asked again", s.asked(ctx, &s.record, s.ID, answer, "sealed with the handle"))

	args := []any{op + "c", s.ID, "w1", "", 1, 1000, 0, "0"}
	keys := []string{keyRecord(s.ID), keyOpen(1), keyPersonal(s.ID), keyEvents(s.ID), keyOwned(1, "w1"), keyOwned(1, ""), keyDue(1), keyPrompt(s.ID), keyOwners(1)}
	for range 2 {
		got, err := scriptClaim.Run(ctx, s.rdb, keys, args...).Slice()
		if err != nil || got[0] != "ok" {
			t.Fatalf("claim: %v %v", got, err)
		}
	}
	mine := s.now()
	if mine.Gen != 2 {
		t.Fatalf("gen %d after a repeated claim, want 2", mine.Gen)
	}
	for range 2 {
		s.must("note", s.note(ctx, mine, op+"n", "raw"))
	}
	mine.Deliveries = []Delivery{{Webhook: "ledger", Event: "evt_1", Status: DeliveryPending, Next: 1, Until: 2}}
	r, e := end(*mine, Approved)
	for range 2 {
		s.must("final", s.final(ctx, r, op+"f", e))
	}
	first, err := s.round(ctx, r, op+"r", purge{}, nil)
	s.must("round", err)
	second, err := s.round(ctx, r, op+"r", purge{}, nil)
	s.must("round again", err)
	if first != second {
		t.Errorf("wake numbers %s and %s", first, second)
	}
	ack := []any{op + "a", s.ID, "evt_1", "evt_1@1", "", 2, "[]", 0, 0, 0, ""}
	for i := range 2 {
		got, err := scriptTaken.Run(ctx, s.rdb, []string{keyRecord(s.ID), keyOpen(1), keyPersonal(s.ID), keyDue(1), keyQueue(1, "bank", "inbox")}, ack...).Text()
		if err != nil || got != "ok" {
			t.Fatalf("acknowledge %d: %v %v", i, got, err)
		}
	}
	rel := []any{op + "x", s.ID, 3, "[]", 1000, ""}
	for i := range 2 {
		got, err := scriptRedeliver.Run(ctx, s.rdb, []string{keyRecord(s.ID), keyOpen(1), keyDue(1)}, rel...).StringSlice()
		if err != nil || got[0] != "ok" {
			t.Fatalf("redeliver %d: %v %v", i, got, err)
		}
	}
	if got := s.now(); got.Gen != 4 || got.State != Approved {
		t.Errorf("ended as %+v", got)
	}
}

func TestBeginRepeatedIsItsOwnTwin(t *testing.T) {
	t.Parallel()
	s := newStored(t)
	other := s.record
	other.ID = newID(1)
	e, err := s.begin(t.Context(), &other, s.ID, "fp2", "x", s.lists())
	s.must("begin", err)
	if e == nil || e.id != s.ID || e.fingerprint != "fp" {
		t.Fatalf("a taken key answers %+v", e)
	}
	if n, _ := s.rdb.Exists(t.Context(), keyRecord(other.ID), keyPrompt(other.ID)).Result(); n != 0 {
		t.Error("the twin left keys behind")
	}
}

func TestDropTakesAnIntentBackOnlyBeforeItWasAsked(t *testing.T) {
	t.Parallel()
	s := newStored(t)
	answer := s.answer()
	if n := s.listedOn(); n != 2 {
		t.Errorf("on %d lists, want 2", n)
	}
	s.must("drop", s.drop(t.Context(), &s.record, s.ID, s.lists(), answer))
	s.must("drop repeated", s.drop(t.Context(), &s.record, s.ID, s.lists(), answer))
	if n := s.listedOn(); n != 0 {
		t.Errorf("still on %d lists", n)
	}
	if e, err := s.idempotent(t.Context(), 1, s.ID); err != nil || e == nil || *e != answer {
		t.Errorf("the key answers %+v, %v", e, err)
	}
	p := pendingRecord(t)
	p.refuses("drop of a pending step-up", p.drop(t.Context(), &p.record, p.ID, p.lists(), existing{}), errFinal)
}

func TestOneSweeperWakes(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	s.claimed("w1")
	wake := func(deadOwner string) woken {
		v, err := s.wake(t.Context(), s.ID, deadOwner)
		s.must("wake", err)
		return v
	}
	if first, second := wake("w1"), wake("w1"); first.number == "0" || first.state != Pending || first.row != 1 || second.number != "0" {
		t.Errorf("woken as %+v and %+v, want one wake-up", first, second)
	}
	// Not overdue, so not woken; overdue, woken once.
	if v := wake(""); v.number != "0" {
		t.Errorf("woken before its time: %+v", v)
	}
	s.rdb.ZAdd(t.Context(), keyOpen(1), redis.Z{Score: 1, Member: s.ID})
	if a, b := wake(""), wake(""); a.number == "0" || a.row != 2 || b.number != "0" {
		t.Errorf("overdue: woken as %+v and %+v", a, b)
	}
}

func TestReleaseKeepsThePace(t *testing.T) {
	t.Parallel()
	s := pendingRecord(t)
	r := s.claimed("w1").record
	r.Interval, r.Ambiguous = 15*time.Second, true
	r.NotBefore, r.PendingAt = time.UnixMilli(1800000000001), time.UnixMilli(1700000000001)
	_, err := s.release(t.Context(), &r, opID())
	s.must("release", err)
	got := s.now()
	if got.Owner != "" || got.Interval != r.Interval || !got.Ambiguous || !got.NotBefore.Equal(r.NotBefore) || !got.PendingAt.Equal(r.PendingAt) {
		t.Errorf("released as %+v", got)
	}
	if in, err := s.rdb.SIsMember(t.Context(), keyOwned(1, "w1"), s.ID).Result(); in || err != nil {
		t.Errorf("still in the owned set: %t, %v", in, err)
	}
}

// The reply to asked can be lost while a worker claims the step-up already: the
// repeat still learns that it went through.
func TestAskedIsKnownAfterAClaim(t *testing.T) {
	t.Parallel()
	s := newStored(t)
	s.Expires = time.Now().Add(time.Minute)
	answer := s.answer()
	s.must("asked", s.asked(t.Context(), &s.record, s.ID, answer, "sealed with the handle"))
	s.claimed("w1")
	s.must("asked again", s.asked(t.Context(), &s.record, s.ID, answer, "sealed with the handle"))
	s.refuses("asked by another operation", s.asked(t.Context(), &s.record, s.ID, s.answer(), "sealed with the handle"), errFinal)
	if r := s.now(); r.Owner != "w1" || r.Gen != 2 {
		t.Errorf("the repeat changed the record: %+v", r)
	}
}

// What is let go after a fault is ambiguous for whoever comes next: an answer may
// have been lost with this process.
func TestAFaultLeavesTheStepUpAmbiguous(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	v := r.asked("k", "S1234567D")
	r.stop()
	rec, err := r.store.read(t.Context(), v.ID)
	if err != nil {
		t.Fatal(err)
	}
	h, err := r.store.claim(t.Context(), opID(), rec, "w9", takeover{})
	if err != nil || h.Ambiguous {
		t.Fatalf("claimed as %+v, %v", h, err)
	}
	s := &session{held: h}
	s.PendingAt = time.Now()
	r.leave(t.Context(), s, errors.New("a write that gave up"))
	got, err := r.store.read(t.Context(), v.ID)
	if err != nil || !got.Ambiguous || !got.PendingAt.IsZero() {
		t.Errorf("let go as %+v, %v", got, err)
	}
}

// What outlived its record leaves the lists with the next create, a thousand at a time: more
// would hold Redis up. What is young stays.
func TestListsForgetTheOld(t *testing.T) {
	t.Parallel()
	s := newStored(t)
	lists := []string{keyList(1, s.ID), keyReferences(1, s.ID, "ref")} // nobody else's
	old := float64(ms(time.Now().Add(-keepRecord - time.Minute)))
	for _, key := range lists {
		var all []redis.Z
		for range 1500 {
			all = append(all, redis.Z{Score: old, Member: newID(1)})
		}
		s.must("zadd", s.rdb.ZAdd(t.Context(), key, append(all, redis.Z{Score: float64(ms(time.Now())), Member: "young"})...).Err())
	}
	for _, left := range []int64{500 + 2, 3, 4} { // the young one, and each create
		r := s.record
		r.ID = newID(1)
		_, err := s.begin(t.Context(), &r, r.ID, "fp", "sealed", lists)
		s.must("begin", err)
		for _, key := range lists {
			if n := s.rdb.ZCard(t.Context(), key).Val(); n != left || s.rdb.ZScore(t.Context(), key, "young").Err() != nil {
				t.Errorf("%d in the list, want %d", n, left)
			}
		}
	}
}
