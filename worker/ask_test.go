package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba"
)

// The same key and body, one after the other: the first answer, and one push.
func TestRepeatIsAnsweredAsTheFirst(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	first := r.asked("k", "S1234567D")
	for range 3 {
		if got := r.asked("k", "S1234567D"); asJSON(t, got) != asJSON(t, first) {
			t.Errorf("repeat:\n got %s\nwant %s", asJSON(t, got), asJSON(t, first))
		}
	}
	if n := r.provider.pushes(); n != 1 {
		t.Errorf("%d pushes, want 1", n)
	}
}

// The same key a hundred times at once.
func TestHundredTwinsPushOnce(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	ids := make([]string, 100)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			v, err := r.ask("k", "S1234567D")
			if e, ok := errors.AsType[*Error](err); ok && e.Code == CodeInProgress && e.RetryAfter == time.Second {
				return
			}
			if err != nil {
				t.Errorf("twin: %v", err)
			}
			ids[i] = v.ID
		})
	}
	all.Wait()
	want := r.asked("k", "S1234567D").ID
	told := 0
	for _, id := range ids {
		if id != "" {
			told++
		}
		if id != "" && id != want {
			t.Errorf("a twin got %s, another %s", id, want)
		}
	}
	if told == 0 {
		t.Error("no twin got the step-up")
	}
	if n := r.provider.pushes(); n != 1 {
		t.Errorf("%d pushes, want 1", n)
	}
}

func TestKeyWithAnotherBody(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	q := Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Reference: "ref",
		Question: Question{Scope: "openid", LoginHint: "S1234567D"}, Metadata: map[string]string{"k": "v"}}
	if _, err := r.Ask(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Request){
		"hint":      func(q *Request) { q.Question.LoginHint = "S7654321D" },
		"scope":     func(q *Request) { q.Question.Scope = "openid profile" },
		"reference": func(q *Request) { q.Reference = "ref2" },
		"metadata":  func(q *Request) { q.Metadata = map[string]string{"k": "w"} },
		"expiry":    func(q *Request) { q.Question.RequestedExpiry = 60 },
	} {
		other := q
		change(&other)
		_, err := r.Ask(t.Context(), other)
		refusedAs(t, "another "+what, err, CodeKeyReused)
	}
	// The key is the caller's own: another caller may use the same one.
	q.Caller, q.Question.LoginHint = "other", "S7654321D"
	if _, err := r.Ask(t.Context(), q); err != nil {
		t.Errorf("another caller's key: %v", err)
	}
	if n := r.provider.pushes(); n != 2 {
		t.Errorf("%d pushes, want 2", n)
	}
}

// 422 and 502 are remembered: the same answer again, and no second push.
func TestRefusalIsRemembered(t *testing.T) {
	t.Parallel()
	for code, refusal := range map[string]error{
		CodeUnknownUser:      &ciba.Refusal{Code: "unknown_user_id"},
		CodeNotEligible:      &ciba.Refusal{Code: "access_denied"},
		CodeProviderRejected: &ciba.Refusal{Code: "invalid_scope"},
		CodeProviderError:    &ciba.Refusal{Code: "invalid_client"},
	} {
		t.Run(code, func(t *testing.T) {
			r := onRedis(t, fast)
			r.provider.provide(refusal)
			_, err := r.ask("k", "S1234567D")
			first := refusedAs(t, "first", err, code)
			r.provider.provide(nil)
			_, err = r.ask("k", "S1234567D")
			if again := refusedAs(t, "repeat", err, code); again.Detail != first.Detail || first.ID != "" || again.ID != "" {
				t.Errorf("first %+v, repeat %+v", first, again)
			}
			if n := r.provider.pushes(); n != 1 {
				t.Errorf("%d pushes, want 1", n)
			}
			// There is no step-up and no webhook, and the person is free.
			if page, err := r.List(t.Context(), "bank", Filter{Limit: 10}); err != nil || len(page.StepUps) != 0 {
				t.Errorf("list %+v, %v", page, err)
			}
			r.asked("k2", "S1234567D")
			if hooks := r.receiver.all(); len(hooks) != 0 {
				t.Errorf("webhook %s", hooks[0].body)
			}
		})
	}
}

// 503 says that nothing was sent: the key is free, and so is the person.
func TestUnavailableFreesKeyAndPerson(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); s.PersonPerHour = 1 })
	r.provider.provide(&ciba.Transient{RetryAfter: 9 * time.Second})
	_, err := r.ask("k", "S1234567D")
	if e := refusedAs(t, "unavailable", err, CodeProviderUnavailable); e.RetryAfter != 9*time.Second {
		t.Errorf("Retry-After %v, want 9s", e.RetryAfter)
	}
	r.provider.provide(nil)
	r.asked("k", "S1234567D")
	if n := r.provider.pushes(); n != 2 {
		t.Errorf("%d tries, want 2", n)
	}
}

// A repeat that comes after the end is still answered as the create was, for 24 h,
// also when what was sealed is gone and when not every webhook got the event.
func TestRepeatAfterTheEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.newStreet(Webhook{Name: "all", Events: []string{"step_up.*"}}, Webhook{Name: "no", Events: []string{"step_up.denied"}})
		r.provider.provide(nil, someone())
		first := r.asked("k", "S1234567D")
		time.Sleep(time.Minute)
		for _, after := range []time.Duration{time.Minute, 23 * time.Hour} {
			if until := time.Until(first.CreatedAt.Add(after)); until > 0 {
				r.nap(until)
			}
			again, err := r.ask("k", "S1234567D")
			if err != nil || asJSON(t, again) != asJSON(t, first) {
				t.Errorf("repeat after %v: %v\n got %s\nwant %s", after, err, asJSON(t, again), asJSON(t, first))
			}
		}
		if n := r.provider.pushes(); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
	})
}

// Nobody knows whether the person was asked: final at once, told by webhook, and never asked again.
func TestInitiationUnknown(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.provider.provide(&ciba.Ambiguous{Err: errCut})
	_, err := r.ask("k", "S1234567D")
	first := refusedAs(t, "create", err, CodeInitiationUnknown)
	v := r.settledAs(first.ID, Unknown, 1)
	if v.Reason == nil || v.Reason.Code != InitiationUnknown || v.Reason.Message == "" || v.ExpiresAt != nil {
		t.Errorf("step-up %s", asJSON(t, v))
	}
	hook := r.receiver.all()[0]
	if hook.Type != "step_up.unknown" || hook.Data.ID != first.ID || hook.Data.Reason.Code != InitiationUnknown || *hook.Data.Reference != "ref-k" {
		t.Errorf("webhook %s", hook.body)
	}
	r.provider.provide(nil)
	_, err = r.ask("k", "S1234567D")
	if again := refusedAs(t, "repeat", err, CodeInitiationUnknown); again.ID != first.ID || again.Detail != first.Detail {
		t.Errorf("first %+v, repeat %+v", first, again)
	}
	if n := r.provider.pushes(); n != 1 || r.provider.polled() != 0 {
		t.Errorf("%d pushes and %d polls, want 1 and 0", n, r.provider.polled())
	}
}

func TestCreateIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	for _, c := range []struct {
		name   string
		set    func(*Settings)
		change func(*Request)
		code   string
		field  string
	}{
		{name: "provider paused", set: func(s *Settings) {
			p := s.Providers["singpass"]
			p.Paused = true
			s.Providers = map[string]ProviderSettings{"singpass": p}
		}, code: CodePaused},
		{name: "caller paused", set: func(s *Settings) {
			s.Callers = map[string]Caller{"bank": {Providers: []string{"singpass"}, Paused: true}}
		}, code: CodePaused},
		{name: "provider unknown", change: func(q *Request) { q.Provider = "sgid" }, code: CodeInvalidRequest, field: "provider"},
		{name: "provider of others", set: func(s *Settings) {
			s.Callers = map[string]Caller{"bank": {Providers: []string{"sgid"}}}
		}, code: CodeInvalidRequest, field: "provider"},
		{name: "question", change: func(q *Request) { q.Question.LoginHint = "" }, code: CodeInvalidRequest, field: "login_hint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := r.set
			if c.set != nil {
				c.set(&set)
			}
			r.Reload(set)
			defer r.Reload(r.set)
			q := Request{Caller: "bank", IdempotencyKey: c.name, Provider: "singpass", Question: Question{LoginHint: "S1234567D"}}
			if c.change != nil {
				c.change(&q)
			}
			_, err := r.Ask(t.Context(), q)
			e := refusedAs(t, c.name, err, c.code)
			if c.field != "" && (len(e.Fields) != 1 || e.Fields[0].Field != c.field) {
				t.Errorf("fields %+v, want %s", e.Fields, c.field)
			}
			if c.code == CodePaused && e.RetryAfter <= 0 {
				t.Error("paused without Retry-After")
			}
		})
	}
	if n := r.provider.pushes(); n != 0 {
		t.Errorf("%d pushes, want 0", n)
	}
	// What fits exactly is taken, and the refusals held neither keys nor the person.
	q := Request{Caller: "bank", IdempotencyKey: "question", Provider: "singpass", Question: Question{LoginHint: "S1234567D"},
		Reference: strings.Repeat("é", 128), Metadata: map[string]string{"k": strings.Repeat("v", 2047)}}
	v, err := r.Ask(t.Context(), q)
	if err != nil || v.Reference == nil || *v.Reference != q.Reference || v.Metadata["k"] != q.Metadata["k"] {
		t.Errorf("the largest: %v", err)
	}
}

// Beyond what may be in flight over all workers, creates are refused; repeats are not.
func TestOverloaded(t *testing.T) {
	inBubble(t, func(o *Options, _ *Settings) { o.MaxInFlightTotal = 3 }, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{})
		for i := range 3 {
			r.asked(fmt.Sprint(i), fmt.Sprintf("S000000%dA", i))
		}
		time.Sleep(3 * time.Second) // counted each second
		_, err := r.ask("over", "S0000009A")
		if e := refusedAs(t, "the fourth", err, CodeOverloaded); e.RetryAfter <= 0 {
			t.Error("overloaded without Retry-After")
		}
		r.asked("0", "S0000000A")
		if n := r.provider.pushes(); n != 3 {
			t.Errorf("%d pushes, want 3", n)
		}
		time.Sleep(6 * time.Minute) // all expired
		r.asked("over", "S0000009A")
	})
}

// slowAsk is a provider whose /bc-auth takes a while, and is then asked on.
type slowAsk struct {
	*scripted
	begun, goOn chan struct{}
}

func (p slowAsk) Ask(ctx context.Context, q Question) (Asked, error) {
	p.begun <- struct{}{}
	<-p.goOn
	if err := ctx.Err(); err != nil {
		return Asked{}, &ciba.Ambiguous{Err: err}
	}
	return p.scripted.Ask(ctx, q)
}

// A caller that goes away in the middle of /bc-auth changes nothing: the person
// is asked, the answer is polled for and the bank hears of it.
func TestCallerThatGoesAway(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	slow := slowAsk{r.provider, make(chan struct{}), make(chan struct{})}
	set := r.set
	set.Providers = map[string]ProviderSettings{"singpass": {Provider: slow, Interval: 30 * time.Millisecond}}
	r.Reload(set)
	r.provider.provide(nil, &ciba.Pending{}, someone())
	ctx, leave := context.WithCancel(t.Context())
	var v StepUp
	var asking sync.WaitGroup
	asking.Go(func() {
		v, _ = r.Ask(ctx, Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
	})
	<-slow.begun
	if _, err := r.Ask(t.Context(), Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}}); err == nil {
		t.Error("a repeat during the push was answered")
	} else {
		refusedAs(t, "repeat during the push", err, CodeInProgress)
	}
	leave()
	close(slow.goOn)
	asking.Wait()
	r.settledAs(v.ID, Approved, 1)
	if n := r.provider.pushes(); n != 1 {
		t.Errorf("%d pushes, want 1", n)
	}
}

// A process that was frozen between the intent and the sending asks nobody: others may have
// taken it for dead meanwhile, and told so.
func TestFrozenBeforeSendingAsksNobody(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		set := r.settings.Load()
		c := r.newCreate(set, &Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
		if err := r.limit(t.Context(), set, c); err != nil {
			t.Fatal(err)
		}
		sealed := set.Sealer.sealJSON(&c.rec, fieldPrompt, prompt{Question: c.Question})
		began := time.Now()
		if _, err := r.store.begin(t.Context(), &c.rec, c.idem, c.fingerprint, sealed, c.lists); err != nil {
			t.Fatal(err)
		}
		time.Sleep(askWithin + time.Millisecond)
		refusedAs(t, "too late", r.clearToAsk(set, c, began), CodeStorageUnavailable)
		time.Sleep(askTime)
		if _, err := r.store.read(t.Context(), c.rec.ID); !errors.Is(err, errGone) || r.provider.pushes() != 0 {
			t.Errorf("the intent: %v; %d pushes", err, r.provider.pushes())
		}
		r.asked("k", "S1234567D") // key and person are free again
	})
}
