package worker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stepup/ciba"
)

// ended is the final step-up, and how long after its creation it was final.
func (r *rig) ended(t *testing.T, id string) (StepUp, time.Duration) {
	t.Helper()
	v, err := r.Show(t.Context(), "bank", id)
	if err != nil {
		t.Fatalf("Show: %v", err)
	}
	if v.CompletedAt == nil {
		t.Fatalf("not final: %s", asJSON(t, v))
	}
	return v, v.CompletedAt.Sub(v.CreatedAt.Time)
}

// How a step-up ends, by what the token endpoint says: state, reason, when, after
// how many polls, and the webhook that says the same.
func TestEndings(t *testing.T) {
	refused := func(code string) error {
		return &ciba.Refusal{Detail: ciba.Detail{Status: 400, TraceID: "trace-1"}, Code: code}
	}
	cut := &ciba.Ambiguous{Err: errCut}
	for _, c := range []struct {
		name    string
		answers []any
		state   State
		code    string
		at      time.Duration // 0: any time
		polls   int
		alarm   string
	}{
		{"denied", []any{&ciba.Pending{}, refused("access_denied")}, Denied, DeniedByUser, 10 * time.Second, 2, ""},
		{"denied after a lost poll", []any{cut, refused("access_denied")}, Denied, DeniedByUser, 0, 2, ""},
		{"the provider says expired", []any{&ciba.Pending{}, refused("expired_token")}, Expired, ExpiredCode, 10 * time.Second, 2, ""},
		{"expired after a lost poll", []any{cut, refused("expired_token")}, Unknown, ResultLost, 0, 2, ""},
		{"expired after a lost poll and a pending one", []any{cut, &ciba.Pending{}, refused("expired_token")}, Expired, ExpiredCode, 0, 3, ""},
		{"expired after a refused connection", []any{&ciba.Transient{Err: errCut}, refused("expired_token")}, Expired, ExpiredCode, 0, 2, ""},
		{"invalid_grant", []any{&ciba.Pending{}, refused("invalid_grant")}, Unknown, ResultLost, 10 * time.Second, 2, ""},
		{"invalid_request", []any{refused("invalid_request")}, Failed, ProviderRejected, 5 * time.Second, 1, ""},
		{"invalid_request after a lost poll", []any{cut, refused("invalid_request")}, Unknown, ResultLost, 0, 2, ""},
		{"unauthorized_client", []any{refused("unauthorized_client")}, Failed, ProviderMisconfigured, 5 * time.Second, 1, "grant"},
		{"not valid", []any{&ciba.Untrusted{Reason: "signature"}}, Failed, TokenInvalid, 5 * time.Second, 1, "does not verify"},
		{"another person's", []any{&ciba.Untrusted{Mismatch: true}}, Failed, TokenMismatch, 5 * time.Second, 1, "another person or question"},
		// Polls at 5, 10 … 310 s: one due up to 10 s after expires_at is still sent.
		{"our deadline, pending to the end", []any{&ciba.Pending{}}, Expired, ExpiredCode, 310 * time.Second, 62, ""},
		{"our deadline, the last poll lost", append(pendings(61), cut), Unknown, ResultLost, 0, 62, ""},
		{"our deadline, no connection at the end", append(pendings(50), &ciba.Transient{Err: errCut}), Unknown, ResultLost, 0, 0, ""},
		{"late but said", append(pendings(61), someone()), Approved, "", 310 * time.Second, 62, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &logBook{}
			inBubble(t, func(o *Options, _ *Settings) { o.Log = log.logger() }, func(t *testing.T, r *rig) {
				r.provider.provide(nil, c.answers...)
				id := r.asked("k", "S1234567D").ID
				time.Sleep(6 * time.Minute)
				v, at := r.ended(t, id)
				code := ""
				if v.Reason != nil {
					code = v.Reason.Code
				}
				if v.Status != c.state || code != c.code || (v.Identity != nil) != (c.state == Approved) {
					t.Errorf("%s, %s, want %s, %s", v.Status, asJSON(t, v.Reason), c.state, c.code)
				}
				if c.at != 0 {
					near(t, "final", at, c.at)
				}
				if at > 6*time.Minute {
					t.Errorf("final after %v, more than a minute after expires_at", at)
				}
				if n := r.provider.polled(); c.polls != 0 && n != c.polls {
					t.Errorf("%d polls, want %d", n, c.polls)
				}
				if last, ok := c.answers[len(c.answers)-1].(*ciba.Refusal); ok && (v.Reason.ProviderError != last.Code || v.Reason.TraceID != "trace-1" || v.Reason.Message == "") {
					t.Errorf("reason %+v", v.Reason)
				}
				if n := log.alarms(c.alarm); (n > 0) != (c.alarm != "") {
					t.Errorf("%d alarms, want one: %t", n, c.alarm != "")
				}
				hooks := r.receiver.all()
				if len(hooks) != 1 || hooks[0].Type != "step_up."+string(c.state) || hooks[0].Data.Status != c.state || (c.state != Approved && hooks[0].Data.Reason.Code != c.code) {
					t.Errorf("webhooks %+v", hooks)
				}
			})
		})
	}
}

func pendings(n int) (all []any) {
	for range n {
		all = append(all, &ciba.Pending{})
	}
	return all
}

// An ID token is accepted for one step-up only.
func TestSameTokenTwice(t *testing.T) {
	log := &logBook{}
	inBubble(t, func(o *Options, _ *Settings) { o.Log = log.logger() }, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		first := r.asked("k1", "S1234567D")
		time.Sleep(10 * time.Second)
		second := r.asked("k2", "S1234567D")
		time.Sleep(10 * time.Second)
		if v, _ := r.ended(t, first.ID); v.Status != Approved {
			t.Errorf("the first is %s", v.Status)
		}
		v, _ := r.ended(t, second.ID)
		if v.Status != Failed || v.Reason.Code != TokenMismatch || v.Identity != nil {
			t.Errorf("the second is %s", asJSON(t, v))
		}
		if log.alarms("another step-up") != 1 {
			t.Error("no alarm")
		}
		hooks := r.receiver.all()
		if len(hooks) != 2 || hooks[1].Type != "step_up.failed" || hooks[1].Data.Identity != nil {
			t.Errorf("webhooks %+v", hooks)
		}
	})
}

const waiting = "eyJ.the-token-that-waits.sig"

// A success answer that cannot be verified yet is stored sealed before anything
// else, and judged again without another token request.
func TestUnverifiedIsVerifiedLater(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		tokens, judged := 0, 0
		r.provider.provide(nil, func(a Asked) (Identity, error) {
			if a.Raw == "" {
				tokens++
				return Identity{}, &ciba.Unverified{IDToken: waiting, Err: errors.New("key set down")}
			}
			if a.Raw != waiting || a.RawAt.IsZero() {
				t.Errorf("judged with %q of %v", a.Raw, a.RawAt)
			}
			h, err := r.store.load(t.Context(), r.only())
			if err != nil || h.RawAt.IsZero() || strings.Contains(h.prompt, "token-that-waits") {
				t.Fatalf("not stored sealed before it is judged: %v", err)
			}
			if p, err := (&session{held: h, set: &r.set}).openPrompt(); err != nil || p.Raw != waiting {
				t.Errorf("stored as %q, %v", p.Raw, err)
			}
			if judged++; judged < 5 {
				return Identity{}, &ciba.Unverified{IDToken: waiting, Err: errors.New("key set down")}
			}
			return someone(), nil
		})
		id := r.asked("k", "S1234567D").ID
		time.Sleep(2 * time.Minute)
		v, _ := r.ended(t, id)
		if v.Status != Approved || v.Identity == nil {
			t.Errorf("step-up %s", asJSON(t, v))
		}
		if tokens != 1 || judged != 5 {
			t.Errorf("%d token requests and %d judgements, want 1 and 5", tokens, judged)
		}
		if left := r.rdb.Exists(t.Context(), keyPrompt(id)).Val(); left != 0 {
			t.Error("the raw answer outlives the final state")
		}
	})
}

// The stored answer survives the process: the next one judges it, and asks nothing.
func TestUnverifiedSurvivesADeploy(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		tokens := 0
		var up atomic.Bool
		r.provider.provide(nil, func(a Asked) (Identity, error) {
			if a.Raw == "" {
				tokens++
			}
			if a.Raw != waiting || !up.Load() {
				return Identity{}, &ciba.Unverified{IDToken: waiting, Err: errors.New("key set down")}
			}
			return someone(), nil
		})
		id := r.asked("k", "S1234567D").ID
		time.Sleep(20 * time.Second)
		r.nap(time.Minute)
		up.Store(true)
		time.Sleep(20 * time.Second)
		if v, _ := r.ended(t, id); v.Status != Approved || tokens != 1 {
			t.Errorf("%s after %d token requests", v.Status, tokens)
		}
	})
}

// It is tried until a minute after expires_at; then it is unknown: the person may have approved.
func TestUnverifiedToTheEnd(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		tokens := 0
		r.provider.provide(nil, func(a Asked) (Identity, error) {
			if a.Raw == "" {
				tokens++
			}
			return Identity{}, &ciba.Unverified{IDToken: waiting, Err: errors.New("key set down")}
		})
		id := r.asked("k", "S1234567D").ID
		time.Sleep(7 * time.Minute)
		v, at := r.ended(t, id)
		if v.Status != Unknown || v.Reason.Code != ResultLost || tokens != 1 {
			t.Errorf("%s after %d token requests", asJSON(t, v), tokens)
		}
		if late := at - 6*time.Minute; late < 0 || late > 1100*time.Millisecond {
			t.Errorf("final %v after the last minute", late)
		}
	})
}

// only is the id of the one open step-up.
func (r *rig) only() string {
	for n := range r.opts.Shards {
		for _, id := range r.rdb.ZRange(r.t.Context(), keyOpen(n), 0, -1).Val() {
			return id
		}
	}
	r.t.Fatal("no step-up is open")
	return ""
}

// CIBA Core 1.0 §10.1: after an answer that was held for longer than the interval
// the next poll goes out at once; after a faster one, and in doubt, the interval
// counts from the answer.
func TestPollTimes(t *testing.T) {
	for _, c := range []struct {
		holds  time.Duration
		unsent bool
		want   []time.Duration
	}{
		{0, false, []time.Duration{5, 10, 15, 20, 25}},
		{2 * time.Second, false, []time.Duration{5, 12, 19, 26}},
		{6 * time.Second, false, []time.Duration{5, 16, 27, 38}},
		{8 * time.Second, false, []time.Duration{5, 13, 21, 29}},
		{25 * time.Second, false, []time.Duration{5, 30, 55, 80, 105}},
		{8 * time.Second, true, []time.Duration{5, 18, 31, 44}}, // discovery, or a slow dial
	} {
		t.Run(fmt.Sprint(c.holds, c.unsent), func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, r *rig) {
				r.provider.holds, r.provider.unsent = c.holds, c.unsent
				start := time.Now()
				r.asked("k", "S1234567D")
				time.Sleep(2 * time.Minute)
				times := r.provider.times()
				for i, want := range c.want {
					near(t, "poll", times[i].Sub(start), want*time.Second)
				}
				if r.provider.overlaps() != 0 {
					t.Errorf("%d overlapping polls", r.provider.overlaps())
				}
			})
		})
	}
}
