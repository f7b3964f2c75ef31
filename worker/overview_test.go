package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
)

// overview is what the operators' page shows, where it must be whole.
func (r *rig) overview() Overview {
	r.t.Helper()
	o, err := r.Overview(r.t.Context())
	if err != nil || !o.Whole {
		r.t.Fatalf("overview, whole %t: %v", o.Whole, err)
	}
	return o
}

// forOther asks a person in the name of the second caller.
func (r *rig) forOther(key, hint string) {
	r.t.Helper()
	_, err := r.Ask(r.t.Context(), Request{Caller: "other", IdempotencyKey: key, Provider: "singpass", Question: Question{LoginHint: hint}})
	if err != nil {
		r.t.Fatalf("Ask: %v", err)
	}
}

// One hour as its operators see it, from any of the processes: step-ups in flight, a
// webhook that fails, and its recovery.
func TestOverview(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		other := r.another()
		defer other.stop()
		began := time.Now()
		for i := range 3 {
			r.asked(fmt.Sprint("k", i), fmt.Sprintf("S%07dA", i))
			time.Sleep(time.Second)
		}
		r.forOther("k", "S1234567D")
		time.Sleep(2 * tellEvery)
		o := other.overview()
		want := []Holding{{"singpass", "bank", 3, began}, {"singpass", "other", 1, began.Add(3 * time.Second)}}
		if fmt.Sprint(o.Held) != fmt.Sprint(want) || o.InFlight != 4 || o.MostInFlight != 1000 || o.Overdue != 0 {
			t.Errorf("in flight %d of %d, overdue %v: %v, want %v", o.InFlight, o.MostInFlight, o.Overdue, o.Held, want)
		}
		if len(o.Workers) != 2 || o.Workers[0].Owns+o.Workers[1].Owns != 4 || o.Workers[0].Here == o.Workers[1].Here {
			t.Errorf("workers %+v", o.Workers)
		}
		for _, p := range o.Workers {
			if p.Role != RoleAll || p.PID == 0 || p.Left < 2*time.Second || p.Began.IsZero() {
				t.Errorf("worker %+v", p)
			}
		}
		p := o.Providers[0]
		if p.Name != "singpass" || !p.Configured || p.Asks.Count != 4 || p.Asks.Failing != 0 || p.Asks.Last.Word != "taken" {
			t.Errorf("provider %+v", p)
		}
		if p.Polls.Count < 4 || p.Polls.Last.Word != "pending" || p.Polls.Half != 5*time.Millisecond {
			t.Errorf("polls %+v, the last %+v", p.Polls, p.Polls.Last)
		}

		r.receiver.mu.Lock()
		r.receiver.status = []int{500, 503, 500, 500, 500, 500, 500, 500, 500, 500}
		r.receiver.mu.Unlock()
		r.provider.provide(nil, someone(), denial)
		time.Sleep(8 * time.Second)
		o = r.overview()
		if o.InFlight != 0 || len(o.Held) != 0 || o.FailingStepUps != 3 || len(o.Failing) != 3 || len(o.Endpoints) != 1 {
			t.Fatalf("%d in flight %v, %d fail, endpoints %+v", o.InFlight, o.Held, o.FailingStepUps, o.Endpoints)
		}
		f := o.Failing[0]
		if f.Caller != "bank" || f.Webhook != "ledger" || f.Status != DeliveryPending || f.Attempts < 2 || f.LastStatus != 500 ||
			f.Reason != "status" || !f.Resendable || !f.Next.After(o.At.Add(-time.Second)) || !strings.HasPrefix(f.Type, "step_up.") {
			t.Errorf("failing %+v", f)
		}
		e := o.Endpoints[0]
		if e.Caller != "bank" || e.Webhook != "ledger" || e.Failures < 3 || e.LastStatus != 500 || !e.LastTaken.IsZero() || o.At.Sub(e.Since) > time.Minute {
			t.Errorf("endpoint %+v", e)
		}

		time.Sleep(2 * time.Minute)
		o = other.overview()
		if o.FailingStepUps != 0 || len(o.Failing) != 0 || len(o.Endpoints) != 0 {
			t.Errorf("after the endpoint's recovery: %d fail, %+v, %+v", o.FailingStepUps, o.Failing, o.Endpoints)
		}
		sum, states := Rates{}, map[State]int{}
		for _, m := range o.Minutes {
			sum.Created, sum.Delivered, sum.Failed = sum.Created+m.Created, sum.Delivered+m.Delivered, sum.Failed+m.Failed
			for s, n := range m.Finals {
				states[s] += n
			}
		}
		if len(o.Minutes) != 60 || sum.Created != 4 || sum.Delivered != 3 || sum.Failed != 10 || states[Approved]+states[Failed]+states[Denied] != 4 {
			t.Errorf("%d minutes: %+v, %v", len(o.Minutes), sum, states)
		}
	})
}

// What nobody will deliver any more stays on the list, and says whether it can be sent again.
func TestOverviewNamesWhatIsUndelivered(t *testing.T) {
	never := func(_ *Options, s *Settings) { s.ResultTTL = time.Minute }
	inBubble(t, never, func(t *testing.T, r *rig) {
		r.receiver.mu.Lock()
		for range 100 {
			r.receiver.status = append(r.receiver.status, http.StatusBadGateway)
		}
		r.receiver.mu.Unlock()
		r.provider.provide(nil, someone())
		r.asked("k", "S1234567D")
		time.Sleep(3 * time.Minute)
		o := r.overview()
		if len(o.Failing) != 2 || o.FailingStepUps != 1 {
			t.Fatalf("%d fail: %+v", o.FailingStepUps, o.Failing)
		}
		identity, follower := o.Failing[0], o.Failing[1]
		if identity.Status != DeliveryUndelivered || identity.Resendable || !identity.Next.IsZero() {
			t.Errorf("the identity, whose time is over: %+v", identity)
		}
		if follower.Type != typeExpired || follower.Status != DeliveryPending || !follower.Resendable {
			t.Errorf("what follows it: %+v", follower)
		}
		if given := sumOf(o, func(m Rates) int { return m.GivenUp }); given != 1 {
			t.Errorf("%d given up, want 1", given)
		}
	})
}

func sumOf(o Overview, what func(Rates) int) (sum int) {
	for _, m := range o.Minutes {
		sum += what(m)
	}
	return sum
}

// A process that dies is shown with what nobody has taken over from it yet; one that says
// goodbye is not shown.
func TestOverviewShowsLapsedLeases(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		dies, leaves := r.another(), r.another()
		time.Sleep(10 * time.Second)
		leaves.stop()
		id, _, _ := dies.lease.holder()
		dies.cut.off.Store(true)
		time.Sleep(30 * time.Second)
		o := r.overview()
		if len(o.Workers) != 2 || !o.Workers[0].Here || o.Workers[1].Lease != id || o.Workers[1].Left > -20*time.Second || o.Workers[1].Owns != 0 || o.Workers[1].Role != RoleAll {
			t.Errorf("workers %+v; %s died", o.Workers, id)
		}
		dies.cut.off.Store(false)
		time.Sleep(10 * time.Second) // it lives on, under another id
		if o = r.overview(); len(o.Workers) != 3 || o.Workers[2].Lease != id {
			t.Errorf("workers %+v", o.Workers)
		}
		dies.stop()
		if o = r.overview(); len(o.Workers) != 2 {
			t.Errorf("workers %+v", o.Workers)
		}
	})
}

// Without Redis the overview is what the process itself knows, and it comes soon.
func TestOverviewWithoutRedis(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.asked("k", "S1234567D")
		time.Sleep(10 * time.Second)
		r.provider.provide(nil, &ciba.Transient{Err: errors.New("no connection")})
		r.cut.off.Store(true)
		r.inFlight.Store(7) // as last counted over all processes
		time.Sleep(20 * time.Second)
		o, err := r.Overview(t.Context())
		if err == nil || o.Whole || o.InFlight != 1 || len(o.Held) != 1 || len(o.Workers) != 1 || o.Workers[0].Owns != 1 || o.Workers[0].Left > 0 {
			t.Errorf("%v: %+v", err, o)
		}
		if sumOf(o, func(m Rates) int { return m.Created }) != 1 || len(o.Providers) != 1 || o.Providers[0].Asks.Count != 1 {
			t.Errorf("its own counts: %+v", o.Providers)
		}
		r.cut.off.Store(false)
		time.Sleep(20 * time.Second)
		if o := r.overview(); o.Providers[0].Polls.Failing == 0 || o.Providers[0].Polls.Last.Word != "transient" {
			t.Errorf("polls %+v, the last %+v", o.Providers[0].Polls, o.Providers[0].Polls.Last)
		}
	})
}

// metered counts the commands of a client.
type metered struct{ n atomic.Int64 }

func (c *metered) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *metered) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.n.Add(1); return next(ctx, cmd) }
}

func (c *metered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.n.Add(int64(len(cmds))); return next(ctx, cmds) }
}

// However much is in flight, an overview costs the same commands, and each costs Redis the
// same: none of them reads a whole list.
func TestOverviewCostsTheSameHoweverMuchIsInFlight(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, _ *Settings) { o.Role = RoleAPI }) // nobody wakes what is made up here
	r.runs()
	commands := func() int64 {
		w, err := New(r.opts, r.set)
		if err != nil {
			t.Fatal(err)
		}
		var count metered
		client := redis.NewClient(r.rdb.(*redis.Client).Options())
		t.Cleanup(func() { client.Close() })
		client.AddHook(&count)
		w.opts.Store = client
		if _, err := w.Overview(t.Context()); err != nil {
			t.Fatal(err)
		}
		return count.n.Load()
	}
	before := commands()
	id, _, _ := r.lease.holder()
	for n := range r.opts.Shards {
		var open []redis.Z
		var owned []any
		for i := range 10_000 {
			open = append(open, redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: fmt.Sprint("x", i)})
			owned = append(owned, fmt.Sprint("x", i))
		}
		r.rdb.ZAdd(t.Context(), keyOpen(n), open...)
		r.rdb.SAdd(t.Context(), keyOwned(n, id), owned...)
	}
	began := time.Now()
	after := commands()
	t.Logf("%d commands, %v", after, time.Since(began))
	if after != before {
		t.Errorf("%d commands with 20,000 in flight, %d with none", after, before)
	}
}

// How answers are classed: what says something of the person alone is no failure.
func TestAnswersOfProviders(t *testing.T) {
	for _, tt := range []struct {
		err     error
		word    string
		failing bool
	}{
		{nil, "taken", false},
		{&ciba.Pending{}, "pending", false},
		{&ciba.SlowDown{}, "slow_down", false},
		{&ciba.Refusal{Code: "access_denied"}, "refused", false},
		{&ciba.Refusal{Code: "unknown_user_id"}, "refused", false},
		{&ciba.Refusal{Code: "invalid_client"}, "refused", true},
		{&ciba.Refusal{Code: "invalid_grant"}, "refused", true},
		{&ciba.Transient{}, "transient", true},
		{&ciba.Ambiguous{}, "ambiguous", true},
		{&ciba.Untrusted{}, "untrusted", true},
		{&ciba.Unverified{}, "unverified", true},
		{errors.New("?"), "ambiguous", true},
	} {
		if a := answerOfProvider(tt.err); a.Word != tt.word || a.Failing != tt.failing {
			t.Errorf("%T: %+v, want %s, failing %t", tt.err, a, tt.word, tt.failing)
		}
	}
	var all took
	if all.share(0.5) != 0 {
		t.Error("nothing took no time")
	}
	for range 90 {
		all.add(20*time.Millisecond, false)
	}
	for range 10 {
		all.add(time.Minute, true)
	}
	if all.count() != 100 || all.Failing != 10 || all.share(0.5) != 25*time.Millisecond || all.share(0.95) != time.Minute {
		t.Errorf("%+v: half within %v, most within %v", all, all.share(0.5), all.share(0.95))
	}
}

// Several processes remember an endpoint: the latest of them knows.
func TestEndpointsAsProcessesRememberThem(t *testing.T) {
	set := Settings{Callers: map[string]Caller{"bank": {Webhooks: []Webhook{{Name: "ledger"}}}}}
	at := func(state endpointState) told {
		state.Caller, state.Webhook = "bank", cmp.Or(state.Webhook, "ledger")
		return told{Endpoints: []*endpointState{&state}}
	}
	waits := Failing{Caller: "bank", Webhook: "ledger", Status: DeliveryPending, Since: time.UnixMilli(50), LastStatus: 502, Reason: "status"}
	for _, tt := range []struct {
		name  string
		told  []told
		waits []Failing
		want  string
	}{
		{"fails", []told{at(endpointState{Bad: 300, Since: 100, Row: 4, Status: 500, Why: "status"})}, nil, "since 100, 4 in a row, 500"},
		{"fails for both", []told{at(endpointState{Bad: 300, Since: 100, Row: 4, Status: 500}), at(endpointState{Bad: 400, Since: 200, Row: 2})}, nil, "since 100, 6 in a row, 0"},
		{"another had success meanwhile", []told{at(endpointState{Bad: 300, Since: 100, Row: 4, Status: 500}), at(endpointState{OK: 200})}, nil, "since 200, 4 in a row, 500"},
		{"another had success since", []told{at(endpointState{Bad: 300, Since: 100, Row: 4}), at(endpointState{OK: 400})}, []Failing{waits}, ""},
		{"nobody remembers", nil, []Failing{waits, waits}, "since 50, 0 in a row, 502"},
		{"given up long ago", nil, []Failing{{Caller: "bank", Webhook: "ledger", Status: DeliveryUndelivered}}, ""},
		{"edited", []told{{Endpoints: []*endpointState{nil}}}, nil, ""},
		{"configured no more", []told{at(endpointState{Webhook: "former", Bad: 300, Since: 100, Row: 4})}, nil, ""},
		{"configured no more, and waited for", []told{at(endpointState{Webhook: "former", Bad: 300, Since: 100, Row: 4})},
			[]Failing{{Caller: "bank", Webhook: "former", Status: DeliveryPending, Since: time.UnixMilli(50)}}, "since 50, 0 in a row, 0"},
	} {
		o := Overview{Failing: tt.waits}
		o.endpoints(&set, tt.told)
		got := ""
		for _, e := range o.Endpoints {
			got += fmt.Sprintf("since %d, %d in a row, %d", e.Since.UnixMilli(), e.Failures, e.LastStatus)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A provider or an endpoint that was sent nothing for a day may be configured no more: it is forgotten.
func TestSilenceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse()
		p.answered("former", wayAsk, time.Second, nil)
		p.attempted("bank", "former", webhook.Attempt{Outcome: webhook.Failed, Status: 500})
		time.Sleep(23 * time.Hour)
		p.answered("singpass", wayAsk, time.Second, nil)
		p.attempted("bank", "ledger", webhook.Attempt{Outcome: webhook.Delivered, Status: 200})
		for after, want := range []int{2, 1} {
			last, endpoints := p.lately()
			if len(last) != want || len(endpoints) != want || want == 1 && (last[0].Provider != "singpass" || endpoints[0].Webhook != "ledger") {
				t.Errorf("%d hours after: %+v, %+v", 23+2*after, last, endpoints)
			}
			time.Sleep(2 * time.Hour)
		}
	})
}

// Nothing of what is told to Redis for the overview, and nothing that it shows, is personal.
func TestOverviewNamesNobody(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.receiver.mu.Lock()
		r.receiver.status = []int{500, 500, 500, 500, 500, 500, 500}
		r.receiver.mu.Unlock()
		r.provider.provide(nil, &ciba.Pending{}, someone())
		v := r.asked("canary-key", "S1234567D")
		time.Sleep(20 * time.Second)
		var all strings.Builder
		for _, key := range r.rdb.Keys(t.Context(), prefix+"{w}:*").Val() {
			switch r.rdb.Type(t.Context(), key).Val() {
			case "string":
				all.WriteString(r.rdb.Get(t.Context(), key).Val())
			case "hash":
				fmt.Fprint(&all, r.rdb.HGetAll(t.Context(), key).Val())
			}
		}
		o := r.overview()
		in, err := r.Inspect(t.Context(), v.ID)
		text, _ := json.Marshal(in)
		fmt.Fprintf(&all, "%+v %s", o, text)
		if err != nil || len(in.Attempts) == 0 || len(o.Failing) == 0 {
			t.Fatalf("%v: %+v", err, in)
		}
		for _, canary := range []string{"S1234567D", "canary", "auth-req-secret", "ref-", "bank.example"} {
			if strings.Contains(all.String(), canary) {
				t.Errorf("%q is in %s", canary, all.String())
			}
		}
	})
}
