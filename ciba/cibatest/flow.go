package cibatest

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

// forgetAfter is how long past its expiry a flow is still known when the ledger keeps no detail.
const forgetAfter = 2 * time.Minute

// flow is one auth_req_id from /bc-auth to its last answer. Fields above mu never change.
type flow struct {
	id, client string
	ask        ask
	pushed     time.Time
	scripted   bool          // the script ends by itself
	answered   chan struct{} // closed when the person has answered

	mu       sync.Mutex
	expires  time.Time
	steps    []Step // what is left of the script
	decision Kind   // Pending, Approve or Deny
	decided  time.Time
	decides  decision
	spent    bool // the one final answer was given: invalid_grant from here on
	expired  bool // expired_token was told
	interval time.Duration
	due      time.Time // the next poll should not arrive before
	orderly  bool      // and lateness counts from there
	inFlight int

	overlaps, early int
	polls           []Poll // Config.Detail only
	tokens          []time.Time
}

// decision is one that comes by itself.
type decision struct {
	kind Kind
	at   time.Time
}

// decide records the person's answer, or with Expire that they let the time pass, and lets held polls go.
func (f *flow) decide(kind Kind, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.spent || f.decision != Pending:
		return errAnswered
	case !now.Before(f.expires):
		return errExpired
	}
	f.decided = now
	if f.decision = kind; kind == Expire {
		f.decision, f.expires = Pending, now
	}
	close(f.answered)
	return nil
}

// next takes the step that answers a poll now. It does not wait.
func (f *flow) next(now time.Time) Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spent {
		return Step{Kind: Fail, Status: 400, Code: "invalid_grant"}
	}
	if !now.Before(f.expires) {
		return Step{Kind: Expire}
	}
	step := Step{}
	if len(f.steps) > 0 {
		step = f.steps[0]
		if f.steps[0].Times--; f.steps[0].Times <= 0 {
			f.steps = f.steps[1:]
		}
	}
	return step
}

// verdict is the person's answer, or Pending, or Expire.
func (f *flow) verdict(now time.Time) Kind {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !now.Before(f.expires):
		return Expire
	case f.decision == Pending && f.decides.kind != Pending && !now.Before(f.decides.at):
		f.decision, f.decided = f.decides.kind, f.decides.at
		close(f.answered)
	}
	return f.decision
}

// settle lets exactly one poll have the final answer. (Expiry is told as often as asked, and is final the first time.)
func (f *flow) settle(kind Kind, now time.Time) (won bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spent {
		return false
	}
	switch {
	case kind == Expire:
		if now.Before(f.expires) {
			f.expires = now
		}
		won, f.expired = !f.expired, true
		return won
	case kind == Deny:
		f.spent = true
	case kind.givesTokens():
		f.spent = true
		f.tokens = append(f.tokens, now)
	}
	return true
}

// choice is what the person did, "" for nothing. The caller holds the lock.
func (f *flow) choice() string {
	switch {
	case f.decided.IsZero():
		return ""
	case f.decision == Pending:
		return Expire.String()
	}
	return f.decision.String()
}

// slowDown is CIBA Core §11: 5 s more for this and every later poll.
func (f *flow) slowDown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interval += 5 * time.Second
}

// live: a poll has no final answer yet.
func (f *flow) live(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.spent && now.Before(f.expires)
}

// changesBy is the next moment at which the answer may change by itself.
func (f *flow) changesBy() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.decides.kind != Pending && f.decides.at.Before(f.expires) {
		return f.decides.at
	}
	return f.expires
}

// prompts tells whether the phone shows this: it waits for its person, and its script will not answer for them.
func (f *flow) prompts(now time.Time) (expires time.Time, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.expires, !f.scripted && !f.spent && f.decision == Pending && now.Before(f.expires)
}

// flows holds every flow, in shards so that polls do not queue on one lock.
type flows struct {
	keep   bool // forget none
	shards [64]flowShard
}

type flowShard struct {
	mu    sync.RWMutex
	byID  map[string]*flow
	swept time.Time
}

var idSeed = maphash.MakeSeed()

func (fs *flows) shard(id string) *flowShard {
	return &fs.shards[maphash.String(idSeed, id)%uint64(len(fs.shards))]
}

func (fs *flows) find(id string) *flow {
	sh := fs.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.byID[id]
}

// add also forgets what is long over in the same shard, so no goroutine has to.
func (fs *flows) add(f *flow) {
	sh := fs.shard(f.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.byID == nil {
		sh.byID, sh.swept = map[string]*flow{}, f.pushed
	}
	sh.byID[f.id] = f
	if fs.keep || f.pushed.Sub(sh.swept) < 30*time.Second {
		return
	}
	sh.swept = f.pushed
	for id, old := range sh.byID {
		old.mu.Lock()
		if old.inFlight == 0 && f.pushed.After(old.expires.Add(forgetAfter)) {
			delete(sh.byID, id)
		}
		old.mu.Unlock()
	}
}

// all is every flow in the order of the pushes.
func (fs *flows) all() []*flow {
	var list []*flow
	for i := range fs.shards {
		sh := &fs.shards[i]
		sh.mu.RLock()
		for _, f := range sh.byID {
			list = append(list, f)
		}
		sh.mu.RUnlock()
	}
	slices.SortFunc(list, func(a, b *flow) int { return a.pushed.Compare(b.pushed) })
	return list
}

func (fs *flows) open(now time.Time) (n int) {
	for i := range fs.shards {
		sh := &fs.shards[i]
		sh.mu.RLock()
		for _, f := range sh.byID {
			f.mu.Lock()
			if !f.spent && now.Before(f.expires) {
				n++
			}
			f.mu.Unlock()
		}
		sh.mu.RUnlock()
	}
	return n
}

// detail copies the ledger's long parts.
func (fs *flows) detail() (pushes map[string]int, requests []Request) {
	pushes = map[string]int{}
	for _, f := range fs.all() {
		f.mu.Lock()
		requests = append(requests, Request{
			AuthReqID: f.id, Hint: f.ask.hint, ClientID: f.client, Pushed: f.pushed, ExpiresAt: f.expires,
			Decision: f.choice(), Decided: f.decided, Polls: slices.Clone(f.polls), Overlaps: f.overlaps, Early: f.early, Tokens: slices.Clone(f.tokens),
		})
		f.mu.Unlock()
		pushes[f.ask.hint]++
	}
	return pushes, requests
}

// reset forgets what is over. A poll in flight keeps its entry (arrive holds its index).
func (fs *flows) reset(now time.Time) {
	for i := range fs.shards {
		sh := &fs.shards[i]
		sh.mu.Lock()
		for id, f := range sh.byID {
			f.mu.Lock()
			if f.inFlight == 0 {
				if f.spent || !now.Before(f.expires) {
					delete(sh.byID, id)
				}
				f.polls, f.overlaps, f.early = nil, 0, 0
			}
			f.mu.Unlock()
		}
		sh.mu.Unlock()
	}
}
