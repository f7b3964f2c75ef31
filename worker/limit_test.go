package worker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// fiveBanks are callers bank0 to bank4, each with the bank's webhooks.
func fiveBanks(s *Settings) {
	for i := range 5 {
		s.Callers[fmt.Sprint("bank", i)] = s.Callers["bank"]
	}
}

// Push bombing of one person through five callers.
func TestPersonIsAskedOnceAtATime(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); fiveBanks(s) })
	errs := make([]error, 200)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			_, errs[i] = r.Ask(t.Context(), Request{Caller: fmt.Sprint("bank", i%5), IdempotencyKey: fmt.Sprint(i),
				Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
		})
	}
	all.Wait()
	taken := 0
	for _, err := range errs {
		if err == nil {
			taken++
			continue
		}
		if e := refusedAs(t, "create", err, CodePersonBusy); e.RetryAfter < time.Second || e.RetryAfter > askTime+longestAsk {
			t.Errorf("Retry-After %v", e.RetryAfter)
		}
	}
	if n := r.provider.pushes(); taken != 1 || n != 1 {
		t.Errorf("%d taken and %d pushes, want 1 and 1", taken, n)
	}
	// Somebody else is not this person, and is asked.
	r.asked("else", "S7654321D")
}

// What frees a person and what does not: a prompt that still stands on the phone keeps it.
func TestWhatFreesThePerson(t *testing.T) {
	ended := func(code string) error { return &ciba.Refusal{Code: code} }
	for _, c := range []struct {
		name   string
		answer any // of the first poll
		state  State
		free   bool
	}{
		{"approved", someone(), Approved, true},
		{"denied", ended("access_denied"), Denied, true},
		{"expired", ended("expired_token"), Expired, true},
		{"cancelled", &ciba.Pending{}, Cancelled, false},
		{"unknown", ended("invalid_grant"), Unknown, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, r *rig) {
				r.provider.provide(nil, c.answer, &ciba.Pending{})
				v := r.asked("k", "S1234567D")
				_, err := r.ask("k2", "S1234567D")
				refusedAs(t, "while pending", err, CodePersonBusy)
				if c.state == Cancelled {
					if _, err := r.Cancel(t.Context(), "bank", v.ID); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Second)
				if v, _ = r.Show(t.Context(), "bank", v.ID); v.Status != c.state {
					t.Fatalf("status %s, want %s", v.Status, c.state)
				}
				if c.free {
					r.asked("k3", "S1234567D")
					return
				}
				_, err = r.ask("k3", "S1234567D")
				e := refusedAs(t, "afterwards", err, CodePersonBusy)
				// The prompt lapses by itself at expires_at, and Retry-After says when.
				if left := time.Until(v.ExpiresAt.Time); e.RetryAfter < left || e.RetryAfter > left+2*time.Second {
					t.Errorf("Retry-After %v, the prompt lapses in %v", e.RetryAfter, left)
				}
				time.Sleep(e.RetryAfter)
				r.asked("k4", "S1234567D")
			})
		})
	}
}

func TestPersonPerHour(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour = 3 }, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Refusal{Code: "access_denied"})
		first := time.Now()
		for i := range 3 {
			r.asked(fmt.Sprint(i), "S1234567D")
			time.Sleep(time.Minute)
		}
		r.asked("1", "S1234567D") // a repeat is no push
		_, err := r.ask("over", "S1234567D")
		e := refusedAs(t, "the fourth", err, CodePersonLimited)
		if left := time.Until(first.Add(time.Hour)); e.RetryAfter < left-time.Second || e.RetryAfter > left+time.Second {
			t.Errorf("Retry-After %v, the hour is over in %v", e.RetryAfter, left)
		}
		r.asked("else", "S7654321D")
		r.nap(e.RetryAfter)
		r.asked("over", "S1234567D")
	})
}

// A caller's rate: a burst at once, then one request a time, each told when to come again.
func TestCallerRate(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.CallerRate, s.CallerBurst = 2, 5 }, func(t *testing.T, r *rig) {
		n := 0
		next := func() error { n++; _, err := r.ask(fmt.Sprint(n), fmt.Sprintf("S%07dA", n)); return err }
		for range 5 {
			if err := next(); err != nil {
				t.Fatalf("in the burst: %v", err)
			}
		}
		for range 3 {
			e := refusedAs(t, "after the burst", next(), CodeRateLimited)
			if e.RetryAfter <= 0 || e.RetryAfter > 500*time.Millisecond {
				t.Errorf("Retry-After %v, want up to 500ms", e.RetryAfter)
			}
			if err := next(); err == nil {
				t.Error("a refusal gave room")
			}
			time.Sleep(e.RetryAfter)
			if err := next(); err != nil {
				t.Errorf("after Retry-After: %v", err)
			}
		}
		// Another caller has a rate of its own.
		if _, err := r.Ask(t.Context(), Request{Caller: "other", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S9999999A"}}); err != nil {
			t.Errorf("another caller: %v", err)
		}
		time.Sleep(time.Minute) // the burst is back, and no more than it
		for range 5 {
			if err := next(); err != nil {
				t.Fatalf("in the next burst: %v", err)
			}
		}
		refusedAs(t, "after the next burst", next(), CodeRateLimited)
	})
}

// Different persons of one caller in an hour: whom it asked already it may ask again,
// whom the provider does not know counts too, and another caller has a count of its own.
func TestPersonsPerCaller(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) {
		s.PersonsPerCaller = 3
		s.Callers["other"] = Caller{Providers: []string{"singpass"}}
	}, func(t *testing.T, r *rig) {
		first := time.Now()
		for i := range 3 {
			r.provider.provide(&ciba.Refusal{Code: "unknown_user_id"})
			_, err := r.ask(fmt.Sprint(i), fmt.Sprintf("S000000%dA", i))
			refusedAs(t, "unknown", err, CodeUnknownUser)
			time.Sleep(time.Minute)
		}
		r.provider.provide(nil, &ciba.Pending{})
		r.asked("known", "S0000001A") // in its second minute
		_, err := r.ask("over", "S0000003A")
		e := refusedAs(t, "the fourth person", err, CodeRateLimited)
		if left := time.Until(first.Add(time.Hour)); e.RetryAfter < left-time.Second || e.RetryAfter > left+time.Second {
			t.Errorf("Retry-After %v, the first person's hour is over in %v", e.RetryAfter, left)
		}
		q := Request{Caller: "other", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S0000003A"}}
		if _, err := r.Ask(t.Context(), q); err != nil {
			t.Errorf("another caller: %v", err)
		}
		pushes := r.provider.pushes()
		r.nap(e.RetryAfter)
		q = Request{Caller: "bank", IdempotencyKey: "over", Provider: "singpass", Question: Question{LoginHint: "S0000004A"}}
		if _, err := r.Ask(t.Context(), q); err != nil || r.provider.pushes() != pushes+1 {
			t.Errorf("after Retry-After: %v, %d pushes after %d", err, r.provider.pushes(), pushes)
		}
		_, err = r.ask("one more", "S0000005A") // the place of one only is free
		refusedAs(t, "the next person", err, CodeRateLimited)
	})
}

// A twin that is counted after the first request was answered, and even after the
// step-up is final, keeps nobody busy.
func TestLateTwinKeepsNobodyBusy(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	q := Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}}
	set := r.settings.Load()
	twin := r.newCreate(set, &q) // it found the key free
	r.provider.provide(nil, someone())
	v, err := r.Ask(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	r.settledAs(v.ID, Approved, 1)
	if err := r.limit(t.Context(), set, twin); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Worker.ask(t.Context(), set, twin); err != nil || again.ID != v.ID {
		t.Fatalf("%s, %v", again.ID, err)
	}
	r.asked("k2", "S1234567D")
}

// A create that was taken back is repeated under the same key just before its count
// lapses: the person is busy for as long as the repeat could take.
func TestRepeatOfWhatWasTakenBackKeepsThePerson(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		set := r.settings.Load()
		c := r.newCreate(set, &Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
		count := func() {
			t.Helper()
			if err := r.limit(t.Context(), set, c); err != nil {
				t.Fatal(err)
			}
		}
		count()
		r.uncount(t.Context(), c)
		time.Sleep(askTime - time.Second)
		count()
		time.Sleep(askTime - time.Second) // it may be at the provider all this time
		_, err := r.ask("k2", "S1234567D")
		refusedAs(t, "while the repeat is on its way", err, CodePersonBusy)
		r.uncount(t.Context(), c)
		time.Sleep(askTime)
		r.asked("k2", "S1234567D")
	})
}

// Without Redis nothing is sent, wherever on its way a create meets the gap.
func TestNoRedisNoPush(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.runs()
	gap := &faults{}
	r.rdb.AddHook(gap)
	gap.on.Store(true)
	errs := make([]error, 100)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = r.ask(fmt.Sprint(i), fmt.Sprintf("S%07dA", i)) })
	}
	all.Wait()
	gap.on.Store(false)
	for _, err := range errs {
		if e := refusedAs(t, "without Redis", err, CodeStorageUnavailable); e.RetryAfter <= 0 || errors.Is(err, errCut) {
			t.Errorf("%+v", e)
		}
	}
	if n := r.provider.pushes(); n != 0 {
		t.Errorf("%d pushes, want 0", n)
	}
	// Nothing was sent, so nothing stands in the way afterwards.
	r.asked("7", "S0000007A")
}

// The gap opens after each of the commands of a create before the push.
func TestRedisGoesDuringCreate(t *testing.T) {
	t.Parallel()
	for n := range 3 { // idempotency key, person, intent
		t.Run(fmt.Sprint("after ", n), func(t *testing.T) {
			r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); o.Role = RoleAPI })
			r.runs()
			r.rdb.AddHook(&cutAfter{left: n, only: []string{"get", "evalsha", "eval"}})
			_, err := r.ask("k", "S1234567D")
			refusedAs(t, "create", err, CodeStorageUnavailable)
			if n := r.provider.pushes(); n != 0 {
				t.Errorf("%d pushes, want 0", n)
			}
		})
	}
}

// cutAfter lets so many commands of some kinds through, then none of those.
type cutAfter struct {
	faults
	mu   sync.Mutex
	left int
	only []string
}

func (c *cutAfter) passes(name string) bool {
	if !slices.Contains(c.only, name) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	return c.left >= 0
}

func (c *cutAfter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !c.passes(cmd.Name()) {
			cmd.SetErr(errCut)
			return errCut
		}
		return next(ctx, cmd)
	}
}

// Whoever is told of an answer may ask the person again at once.
func TestToldIsFree(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Refusal{Code: "access_denied"})
		for i := range 5 {
			v := r.asked(fmt.Sprint(i), "S1234567D")
			if v, err := r.Wait(t.Context(), "bank", v.ID, time.Minute); err != nil || v.Status != Denied {
				t.Fatalf("%s, %v", v.Status, err)
			}
		}
	})
}

// A person is the same in every token that speaks of them, and another one at another provider, issuer or by another name.
func TestWhoIsAPerson(t *testing.T) {
	seal, err := ParseSealKeys(NewSealKeys())
	if err != nil {
		t.Fatal(err)
	}
	set := &Settings{Sealer: seal}
	token := func(claims, signature string) *Question {
		part := base64.RawURLEncoding.EncodeToString
		return &Question{IDTokenHint: part([]byte(`{"alg":"ES256"}`)) + "." + part([]byte(claims)) + "." + part([]byte(signature))}
	}
	alice := set.person("sim", token(`{"iss":"https://op.example","sub":"alice","iat":1}`, "one"))
	if again := set.person("sim", token(`{"iat":2,"sub":"alice","iss":"https://op.example"}`, "two")); again != alice {
		t.Error("a new token is a new person")
	}
	seen := map[string]bool{alice: true}
	for _, c := range []struct {
		provider string
		q        *Question
	}{
		{"other", token(`{"iss":"https://op.example","sub":"alice"}`, "one")},
		{"sim", token(`{"iss":"https://op.example","sub":"bob"}`, "one")},
		{"sim", token(`{"iss":"https://op.example/","sub":"alice"}`, "one")},
		{"sim", &Question{LoginHint: "alice"}},
		{"sim", &Question{LoginHint: "bob"}},
		{"sim", &Question{LoginHintToken: "alice"}},
	} {
		who := set.person(c.provider, c.q)
		if seen[who] {
			t.Errorf("%s %+v is somebody else", c.provider, *c.q)
		}
		seen[who] = true
	}
}
