package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"stepup/ciba"
)

// tracebook is a tracer that keeps what spans are told.
type tracebook struct {
	noop.Tracer
	mu  sync.Mutex
	all []*leaf
}

type leaf struct {
	noop.Span
	in   trace.SpanContext
	text string
}

func (b *tracebook) Start(ctx context.Context, name string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &leaf{in: trace.SpanContextFromContext(ctx), text: name}
	b.all = append(b.all, e)
	return trace.ContextWithSpan(ctx, e), e
}

// count is how many spans have that name.
func (b *tracebook) count(name string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.all {
		if first, _, _ := strings.Cut(e.text, " "); first == name {
			n++
		}
	}
	return n
}

func (e *leaf) SpanContext() trace.SpanContext { return e.in }
func (e *leaf) SetAttributes(list ...attribute.KeyValue) {
	for _, a := range list {
		e.text += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
	}
}
func (e *leaf) SetStatus(c codes.Code, words string) { e.text += fmt.Sprintf(" %v: %s", c, words) }
func (e *leaf) End(...trace.SpanEndOption)           { e.text += " ended" }

// A span tells of a final state only when that one was stored: a step-up has one.
func TestFinalSpanTellsWhatIsStored(t *testing.T) {
	for _, c := range []struct {
		state State
		code  string
		err   error
		want  string
	}{
		{Approved, "", nil, "stepup.final stepup.status=approved stepup.reason= ended"},
		{Denied, DeniedByUser, nil, "stepup.final stepup.status=denied stepup.reason=denied_by_user ended"},
		{Unknown, ResultLost, nil, "stepup.final Error: result_lost stepup.status=unknown stepup.reason=result_lost ended"},
		{Approved, "", fmt.Errorf("storing: %w", errFinal), "stepup.final Error: final before ended"},
		{Approved, "", errors.New("canary"), "stepup.final Error: not stored ended"},
	} {
		book := &tracebook{}
		m := instruments{tracer: book}
		_, stored := m.final(sampled(t.Context(), true), &record{State: c.state, Reason: Reason{Code: c.code}})
		if stored(c.err); book.all[0].text != c.want {
			t.Errorf("%s, %v: %q, want %q", c.state, c.err, book.all[0].text, c.want)
		}
	}
}

// A poll is what is sent. To judge an answer in hand once more is none, in traces and metrics alike.
func TestOnlyWhatIsSentIsAPoll(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		book, polls := &tracebook{}, &tally{}
		r.met.tracer, r.met.polls = book, polls
		sent, judged := 0, 0
		r.provider.provide(nil, &ciba.Pending{}, func(a Asked) (Identity, error) {
			if a.Raw == "" {
				sent++
			} else if judged++; judged == 5 {
				return someone(), nil
			}
			return Identity{}, &ciba.Unverified{IDToken: waiting, Err: errors.New("key set down")}
		})
		v, err := r.Ask(sampled(t.Context(), true), Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass",
			Question: Question{Scope: "openid", LoginHint: "S1234567D"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if v, _ := r.ended(t, v.ID); v.Status != Approved || sent != 1 || judged != 5 {
			t.Fatalf("%s after %d answers, judged %d times", v.Status, sent, judged)
		}
		if n := book.count("stepup.poll"); n != 2 || polls.n.Load() != 2 {
			t.Errorf("%d spans and %d polls counted, want 2", n, polls.n.Load())
		}
	})
}

// Redis may refuse to tell what it uses. Then nothing of it is told, for zero would pass for an empty one, and the rest is.
func TestCensusWithoutMemory(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, _ *Settings) { o.Role = RoleAPI })
	if err := r.rdb.Do(t.Context(), "acl", "setuser", "blind", "on", ">blind", "~*", "&*", "+@all", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	opts := r.opts
	blind := redis.NewClient(&redis.Options{Addr: redisAddr, Username: "blind", Password: "blind", DB: r.rdb.(*redis.Client).Options().DB})
	defer blind.Close()
	opts.Store = blind
	w, err := New(opts, r.set)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := memory(t.Context(), blind); err == nil {
		t.Errorf("it tells %+v", u)
	}
	if c, err := w.takeCensus(t.Context()); err != nil || c.usage != (usage{}) {
		t.Errorf("%+v, %v", c, err)
	}
}
