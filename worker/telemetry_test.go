package worker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"stepup/ciba"
	"stepup/webhook"
)

// What all processes hold is counted: what has work left, what nobody polls, what fails, who lives.
func TestCensus(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour = 100 }, func(t *testing.T, r *rig) {
		expect := func(when string, want census) {
			t.Helper()
			got, err := r.takeCensus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got.usage = (usage{}); *got != want {
				t.Errorf("%s: %+v, want %+v", when, *got, want)
			}
		}
		expect("nothing", census{workers: 1})
		for i := range 10 {
			r.asked(fmt.Sprint("pending", i), fmt.Sprintf("S%07dA", i))
		}
		time.Sleep(7 * time.Second)
		expect("all are polled", census{open: 10, workers: 1})

		// The receiver is down: these are final, and not delivered.
		r.receiver.status = make([]int, 1000)
		for i := range r.receiver.status {
			r.receiver.status[i] = 503
		}
		r.provider.provide(nil, denial)
		for i := range 3 {
			r.asked(fmt.Sprint("denied", i), fmt.Sprintf("S%07dB", i))
		}
		time.Sleep(20 * time.Second)
		if got, err := r.takeCensus(t.Context()); err != nil || got.failing == 0 || got.open != got.failing || got.unowned != 0 {
			t.Errorf("a receiver is down: %+v, %v", got, err)
		}

		// Who asks often costs Redis nothing more, and gets no old figures when it is away.
		var l lately
		first := l.read(t.Context(), r.Worker)
		if again := l.read(t.Context(), r.Worker); first.census == nil || again.census != first.census || first.checks["redis"] != 1 {
			t.Errorf("read twice at once: %+v, %+v", first, again)
		}
		time.Sleep(standFor)
		if again := l.read(t.Context(), r.Worker); again.census == first.census {
			t.Error("an old reading is told")
		}
		r.cut.off.Store(true)
		time.Sleep(standFor)
		if s := l.read(t.Context(), r.Worker); s.census != nil || s.checks["redis"] != 0 || s.checks["drain"] != 1 {
			t.Errorf("without Redis: %+v", s)
		}
		r.cut.off.Store(false)
	})
}

// A step-up whose worker died, or that nobody claimed, is told while nobody polls it.
func TestCensusOfTheUnowned(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour = 100 }, func(t *testing.T, r *rig) {
		for i := range 5 {
			r.asked(fmt.Sprint("held", i), fmt.Sprintf("S%07dA", i))
		}
		time.Sleep(7 * time.Second)
		watcher := r.beside(RoleAPI)
		defer watcher.stop()
		time.Sleep(6 * time.Second)
		look := func() census {
			t.Helper()
			c, err := watcher.takeCensus(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return *c
		}
		if c := look(); c.unowned != 0 || c.workers != 1 || c.open != 5 {
			t.Errorf("while all are polled: %+v", c)
		}
		r.cut.off.Store(true) // the only worker
		time.Sleep(8 * time.Second)
		if c := look(); c.unowned != 5 || c.workers != 0 || c.open != 5 {
			t.Errorf("the worker is dead: %+v", c)
		}
		if _, err := watcher.ask("new", "S0000009Z"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if c := look(); c.unowned != 5 || c.open != 6 {
			t.Errorf("one more, whose first poll is not due yet: %+v", c)
		}
		time.Sleep(5 * time.Second)
		if c := look(); c.unowned != 6 || c.oldest < 4*time.Second || c.oldest > 10*time.Second {
			t.Errorf("nobody claimed it: %+v", c)
		}
		r.cut.off.Store(false)
		time.Sleep(20 * time.Second)
		if c := look(); c.unowned != 0 || c.workers != 1 || c.oldest != 0 {
			t.Errorf("the worker is back: %+v", c)
		}
	})
}

// On a real Redis: its memory is told, and where more wait than are looked at, the rest counts too.
func TestCensusOfMany(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, _ *Settings) { o.Role = RoleAPI })
	r.until("it lives", func() bool { _, ok, _ := r.lease.holder(); return ok })
	const n = 3 * looksAt
	for i := range n {
		rec := record{ID: newID(1), Caller: "bank", Provider: "singpass", State: Pending, Created: time.Now()}
		fields := rec.fields()
		if err := r.rdb.HSet(t.Context(), keyRecord(rec.ID), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		due := time.Now().Add(time.Duration(i%50) * time.Second).UnixMilli() // as sweepers leave it
		if err := r.rdb.ZAdd(t.Context(), keyOpen(1), redis.Z{Score: float64(due), Member: rec.ID}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.takeCensus(t.Context())
	if err != nil || c.open != n || c.unowned != n || c.workers != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if c != nil && c.used < 1<<19 {
		t.Errorf("memory: %+v", c.usage)
	}
}

// provider with a clock of its own.
type skewed struct {
	Provider
	ahead atomic.Int64
}

func (s *skewed) Skew() (time.Duration, time.Time) {
	return time.Duration(s.ahead.Load()), time.Now()
}

// Clocks that differ are told, and not again and again.
func TestClocksThatDiffer(t *testing.T) {
	var said logBook
	peer := &skewed{}
	inBubble(t, func(o *Options, s *Settings) {
		o.Log = slog.New(slog.NewTextHandler(&said, nil))
		p := s.Providers["singpass"]
		peer.Provider = p.Provider
		p.Provider = peer
		s.Providers["singpass"] = p
	}, func(t *testing.T, r *rig) {
		const warning = "the clock of a peer differs"
		time.Sleep(2 * time.Minute)
		if n := said.count(warning); n != 0 {
			t.Errorf("%d warnings while all clocks agree", n)
		}
		peer.ahead.Store(int64(-7 * time.Second))
		time.Sleep(5 * time.Minute)
		if n := said.count(warning); n != 1 || said.count("peer=singpass ahead_ms=-7000") != 1 {
			t.Errorf("%d warnings in five minutes: %s", n, said.String())
		}
		time.Sleep(10 * time.Minute)
		if n := said.count(warning); n != 2 {
			t.Errorf("%d warnings in a quarter of an hour", n)
		}
		if got := r.ahead(t.Context()); got["singpass"] != -7*time.Second || got[peerRedis].Abs() > time.Second || len(got) != 2 {
			t.Errorf("clocks: %v", got)
		}
	})
}

// sampled is a context in a trace that is kept, or that is not.
func sampled(ctx context.Context, kept bool) context.Context {
	c := trace.SpanContextConfig{TraceID: trace.TraceID{1, 2}, SpanID: trace.SpanID{3, 4}}
	if kept {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(c))
}

const sampledParent = "00-01020000000000000000000000000000-0304000000000000-01"

// The record keeps the trace where it is sampled, in a field that leaves the record small, and whoever takes the step-up finds
// it there.
func TestTraceIsKept(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour = 100 }, func(t *testing.T, r *rig) {
		ask := func(ctx context.Context, key string) string {
			t.Helper()
			v, err := r.Ask(ctx, Request{Caller: "bank", IdempotencyKey: key, Provider: "singpass", Question: Question{Scope: "openid", LoginHint: key}})
			if err != nil {
				t.Fatal(err)
			}
			return v.ID
		}
		kept, dropped, none := ask(sampled(t.Context(), true), "S0000001A"), ask(sampled(t.Context(), false), "S0000002A"), ask(t.Context(), "S0000003A")
		tp := func(id string) string { return r.rdb.HGet(t.Context(), keyRecord(id), "tp").Val() }
		if tp(kept) != sampledParent || tp(dropped) != "" || tp(none) != "" {
			t.Errorf("kept %q, %q, %q", tp(kept), tp(dropped), tp(none))
		}
		time.Sleep(7 * time.Second)
		twin := r.another()
		defer twin.stop()
		time.Sleep(6 * time.Second)
		r.cut.off.Store(true)
		time.Sleep(20 * time.Second)
		s := twin.running(kept)
		if s == nil || !s.takenOver || s.Trace != sampledParent || len(s.polling) == 0 {
			t.Fatalf("after a takeover: %+v", s)
		}
		if s := twin.running(none); s == nil || s.Trace != "" || s.polling != nil {
			t.Errorf("without a trace: %+v", s)
		}
		r.cut.off.Store(false)
		r.provider.provide(nil, &ciba.Refusal{Code: "access_denied"})
		time.Sleep(30 * time.Second)
		if tp(kept) != sampledParent {
			t.Errorf("once it is final: %q", tp(kept))
		}
	})
}

// Whoever edits the record leads nobody astray.
func TestParseTrace(t *testing.T) {
	sc, ok := parseTrace(sampledParent)
	if !ok || traceOf(trace.ContextWithSpanContext(t.Context(), sc)) != sampledParent || !sc.IsRemote() {
		t.Errorf("%v, %v", sc, ok)
	}
	for _, bad := range []string{
		"", "00", strings.Repeat("0", 55), strings.TrimSuffix(sampledParent, "1") + "0", strings.Replace(sampledParent, "00-", "01-", 1),
		strings.Replace(sampledParent, "0102", "010g", 1), "00-00000000000000000000000000000000-0304000000000000-01",
		"00-01020000000000000000000000000000-0000000000000000-01", sampledParent + "-x", strings.ToUpper(sampledParent[:54]) + "S",
	} {
		if sc, ok := parseTrace(bad); ok {
			t.Errorf("%q is %v", bad, sc)
		}
	}
}

// A traced step-up's record stays as small as the others'.
func TestTracedRecordIsSmall(t *testing.T) {
	t.Parallel()
	weigh := func(trace string) int64 {
		s := pendingRecord(t)
		if trace != "" {
			s.must("hset", s.rdb.HSet(t.Context(), keyRecord(s.ID), "tp", trace).Err())
		}
		if enc := s.rdb.ObjectEncoding(t.Context(), keyRecord(s.ID)).Val(); enc != "listpack" {
			t.Errorf("it is a %s", enc)
		}
		return s.rdb.MemoryUsage(t.Context(), keyRecord(s.ID)).Val()
	}
	if more := weigh(sampledParent) - weigh(""); more > 96 {
		t.Errorf("its trace weighs %d bytes", more)
	}
}

// A webhook's delay is told once an event, however often it is sent again.
func TestTookBefore(t *testing.T) {
	d := Delivery{}
	for i, a := range []attempt{{Status: 503, Why: webhook.ReasonStatus}, {Status: 200}, {Status: 500, Why: webhook.ReasonStatus}} {
		if got, want := d.tookBefore(), i == 2; got != want {
			t.Errorf("after %d attempts: %v", i, got)
		}
		d.log(a)
	}
}
