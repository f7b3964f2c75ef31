package worker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
)

// crowd is a provider of many people, each with a script and a ledger of their own.
type crowd struct {
	mu     sync.Mutex
	people map[string]*scripted
}

func (c *crowd) person(hint string) *scripted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.people[hint]
}

func (c *crowd) Check(Question) []ciba.FieldError { return nil }

func (c *crowd) Ask(ctx context.Context, q Question) (Asked, error) {
	return c.person(q.LoginHint).Ask(ctx, q)
}

func (c *crowd) Answer(ctx context.Context, a Asked) (Identity, error) {
	return c.person(a.Question.LoginHint).Answer(ctx, a)
}

// desk is a bank's endpoint that keeps what came by step-up.
type desk struct {
	t       testing.TB
	secrets []webhook.Secret

	mu   sync.Mutex
	plan map[string][]int // by reference: the status of each attempt; then 200
	got  map[string][]attempted
}

// ackLost is the status of an attempt that was taken and whose answer got lost.
const ackLost = 0

type attempted struct {
	received
	status int
}

func (d *desk) RoundTrip(q *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(q.Body)
	q.Body.Close()
	if err := webhook.Verify(q.Header, body, webhook.Keys(d.secrets), time.Now()); err != nil {
		d.t.Errorf("webhook does not verify: %v", err)
	}
	a := attempted{received{at: time.Now(), id: q.Header.Get("webhook-id"), body: body}, http.StatusOK}
	if err := json.Unmarshal(body, &a.event); err != nil {
		d.t.Errorf("webhook body: %v", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ref := ""
	if a.Data.Reference != nil {
		ref = *a.Data.Reference
	}
	if plan := d.plan[ref]; len(plan) > 0 {
		a.status, d.plan[ref] = plan[0], plan[1:]
	}
	d.got[a.Data.ID] = append(d.got[a.Data.ID], a)
	if a.status == ackLost {
		return nil, errCut
	}
	return &http.Response{StatusCode: a.status, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
}

func (d *desk) of(id string) []attempted {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.got[id])
}

// outcome is what becomes of a step-up when nothing fails.
type outcome struct {
	name    string
	answers []any
	state   State
	code    string
	cancel  string // "here" or "elsewhere": the process that the caller asks to cancel
	hooks   []int  // statuses of the first webhook attempts
	expires time.Duration
}

var consumed = &ciba.Refusal{Code: "invalid_grant"} // what a provider says of an answer it gave before

// outcomes are the ways a step-up can go, with a provider that gives its answer once.
func outcomes() []outcome {
	yes := identified // by the hint
	return []outcome{
		{name: "approve", answers: []any{&ciba.Pending{}, yes, consumed}, state: Approved},
		{name: "deny", answers: []any{&ciba.Pending{}, denial, consumed}, state: Denied, code: DeniedByUser},
		{name: "expire", answers: []any{&ciba.Pending{}}, state: Expired, code: ExpiredCode, expires: 12 * time.Second},
		{name: "slow_down, then approve", answers: []any{&ciba.SlowDown{}, &ciba.Pending{}, yes, consumed}, state: Approved},
		{name: "approve, webhook 500", answers: []any{yes, consumed}, state: Approved, hooks: []int{500}},
		{name: "cancel", answers: []any{&ciba.Pending{}}, state: Cancelled, code: CancelledCode, cancel: "here"},
		{name: "cancel elsewhere", answers: []any{&ciba.Pending{}}, state: Cancelled, code: CancelledCode, cancel: "elsewhere"},
	}
}

// identified is who a question was about.
func identified(a Asked) (Identity, error) {
	who := someone()
	who.NRIC, who.Fingerprint = &a.Question.LoginHint, sha256.Sum256([]byte(a.Question.LoginHint))
	return who, nil
}

const (
	lifeInterval = 2 * time.Second
	lifeExpires  = time.Minute // if the outcome says nothing else
)

// town is a worker, a process that only answers the API, a crowd and a bank's
// desk; onlooker reads Redis by a connection of its own, on which nothing fails.
type town struct {
	*rig
	crowd    *crowd
	desk     *desk
	edge     *rig
	onlooker *Worker
	lives    []*life
}

// newTown changes a rig into a town.
func newTown(r *rig) *town {
	w := &town{rig: r, crowd: &crowd{people: map[string]*scripted{}},
		desk: &desk{t: r.t, secrets: r.receiver.secrets, plan: map[string][]int{}, got: map[string][]attempted{}}}
	r.set.Providers = map[string]ProviderSettings{"singpass": {Provider: w.crowd, Interval: lifeInterval}}
	r.set.Sender = &webhook.Sender{Client: &http.Client{Transport: w.desk}, Timeout: r.set.Sender.Timeout}
	r.Reload(r.set)
	opts := r.opts
	opts.Role = RoleAPI
	c := redis.NewClient(r.rdb.(*redis.Client).Options())
	r.t.Cleanup(func() { c.Close() })
	opts.Store, opts.Queue, opts.Lease = c, c, c
	var err error
	if w.onlooker, err = New(opts, r.set); err != nil {
		r.t.Fatal(err)
	}
	return w
}

// life is one step-up from the bank's request to the last webhook.
type life struct {
	*town
	outcome
	loss   *loss
	key    string
	hint   string
	person *scripted
	id     string
	told   error // what the bank was told in the end instead of a step-up
}

// begin makes a life known to the provider and the bank.
func (w *town) begin(o outcome, l *loss) *life {
	n := len(w.lives)
	x := &life{town: w, outcome: o, loss: l, key: fmt.Sprintf("life-%d", n), hint: fmt.Sprintf("S%07dA", n),
		person: &scripted{expires: cmp.Or(o.expires, lifeExpires), answers: slices.Clone(o.answers)}}
	w.crowd.mu.Lock()
	w.crowd.people[x.hint] = x.person
	w.crowd.mu.Unlock()
	w.desk.mu.Lock()
	w.desk.plan["ref-"+x.key] = slices.Clone(o.hooks)
	w.desk.mu.Unlock()
	if l != nil {
		q := x.request()
		c := w.newCreate(w.settings.Load(), &q)
		l.names = []string{c.idem, c.person}
	}
	w.lives = append(w.lives, x)
	return x
}

func (x *life) request() Request {
	return Request{Caller: "bank", IdempotencyKey: x.key, Provider: "singpass", Question: Question{LoginHint: x.hint}, Reference: "ref-" + x.key}
}

// live is what the bank does: it creates, and repeats with the same key for as
// long as it is told to; then it waits for the webhook, or cancels.
func (x *life) live() {
	v, err := x.patiently(func() (StepUp, error) { return x.Ask(context.Background(), x.request()) })
	if x.id = v.ID; err != nil {
		x.told = err
		if e, ok := errors.AsType[*Error](err); ok {
			x.id = e.ID
		}
		return
	}
	by := x.rig
	switch x.cancel {
	case "":
		return
	case "elsewhere":
		by = x.edge
	}
	time.Sleep(3 * time.Second) // in bubbles only
	_, err = x.patiently(func() (StepUp, error) { return by.Cancel(context.Background(), "bank", x.id) })
	if err != nil && !isCode(err, CodeAlreadyFinal) {
		x.t.Errorf("%s: cancel: %v", x, err)
	}
}

// patiently repeats a call for as long as its answer says that it may be repeated.
func (x *life) patiently(call func() (StepUp, error)) (StepUp, error) {
	for n := 0; ; n++ {
		v, err := call()
		e, ok := errors.AsType[*Error](err)
		if !ok || e.RetryAfter == 0 || n == 60 {
			return v, err
		}
		time.Sleep(e.RetryAfter) // in bubbles only
	}
}

func (x *life) String() string {
	if x.loss == nil || x.loss.at == 0 {
		return x.outcome.name
	}
	return fmt.Sprintf("%s, %s lost %s it was executed (command %d)", x.outcome.name, x.loss.what(), x.loss.when, x.loss.at)
}

// over reports whether the step-up is final and delivered.
func (x *life) over() bool {
	v, err := x.onlooker.Show(context.Background(), "bank", x.id)
	return x.id != "" && err == nil && v.Status.Final() &&
		!slices.ContainsFunc(v.Deliveries, func(d DeliveryView) bool { return d.Status == DeliveryPending })
}

// keeps checks the promises.
func (x *life) keeps() {
	t := x.t
	v, err := x.onlooker.Show(context.Background(), "bank", x.id)
	if err != nil {
		t.Errorf("%s: shown as %v (the bank was told %v)", x, err, x.told)
		return
	}
	code := ""
	if v.Reason != nil {
		code = v.Reason.Code
	}
	if v.Status != x.state || code != x.code {
		t.Errorf("%s: ended as %s %s, want %s %s", x, v.Status, code, x.state, x.code)
	}
	if n := x.person.pushes(); n != 1 || x.told != nil {
		t.Errorf("%s: %d pushes; the bank was told %v", x, n, x.told)
	}
	limit := v.CreatedAt.Add(time.Minute)
	if v.ExpiresAt != nil {
		limit = v.ExpiresAt.Add(time.Minute)
	}
	if v.CompletedAt == nil || v.CompletedAt.After(limit) {
		t.Errorf("%s: final at %v, want it by %v", x, v.CompletedAt, limit)
	}
	if (v.Identity != nil) != (v.Status == Approved) || v.Identity != nil && *v.Identity.NRIC != x.hint {
		t.Errorf("%s: identity %+v", x, v.Identity)
	}
	x.keepsPace(v.CreatedAt.Time)
	x.keepsDelivery(v)
}

// keepsPace: no two polls at once, and none earlier than the interval.
func (x *life) keepsPace(created time.Time) {
	if n := x.person.overlaps(); n != 0 {
		x.t.Errorf("%s: %d overlapping polls", x, n)
	}
	least, last := x.settings.Load().Providers["singpass"].Interval, created
	for i, at := range x.person.times() {
		if at.Sub(last) < least {
			x.t.Errorf("%s: poll %d came %v after the last, want %v", x, i+1, at.Sub(last), least)
		}
		if last = at; i < len(x.answers) {
			if _, slower := x.answers[i].(*ciba.SlowDown); slower {
				least += slowDownStep
			}
		}
	}
}

// keepsDelivery: at least one webhook, always the same one, and it says what the API says.
func (x *life) keepsDelivery(v StepUp) {
	got := x.desk.of(x.id)
	if len(got) <= len(x.hooks) {
		x.t.Errorf("%s: %d webhooks", x, len(got))
		return
	}
	taken := false
	for _, g := range got {
		taken = taken || g.status == http.StatusOK
		if g.id != got[0].id || !bytes.Equal(g.body, got[0].body) {
			x.t.Errorf("%s: the webhooks differ", x)
		}
	}
	if g := got[0]; !taken || g.Type != "step_up."+string(v.Status) || g.Data.Status != v.Status || (g.Data.Identity != nil) != (v.Identity != nil) {
		x.t.Errorf("%s: webhook %s, the API says %s; taken %t", x, g.Type, v.Status, taken)
	}
	if v.Deliveries[0].Status != DeliveryDelivered {
		x.t.Errorf("%s: delivery %s", x, v.Deliveries[0].Status)
	}
}

// busyUntil is how long the person counts as busy; zero: not at all.
func (x *life) busyUntil() time.Time {
	q := x.request()
	c := x.newCreate(x.settings.Load(), &q)
	var at, till int64
	push := x.onlooker.opts.Store.HGet(context.Background(), c.person, c.rec.Member).Val()
	if n, _ := fmt.Sscan(push, &at, &till); n != 2 || till == 0 {
		return time.Time{}
	}
	return time.UnixMilli(till)
}

// leavesNothing: nothing is at work any more, and every key of ours that is no
// index of the service lapses by itself.
func (w *town) leavesNothing() {
	w.t.Helper()
	w.leavesNoWork()
	ctx := context.Background()
	rdb := w.onlooker.opts.Store
	for _, key := range rdb.Keys(ctx, prefix+"*").Val() {
		index := key == keyShards || key == keyWorkers || strings.HasSuffix(key, ":owners")
		if rdb.PTTL(ctx, key).Val() == -1 && !index {
			w.t.Errorf("%s lapses never", key)
		}
	}
}

// leavesNoWork: nothing is in flight, open, owned or held any more.
func (w *town) leavesNoWork() {
	w.t.Helper()
	ctx := context.Background()
	rdb := w.onlooker.opts.Store
	busy := rdb.Keys(ctx, prefix+"*:owned:*").Val()
	for n := range w.opts.Shards {
		for _, key := range []string{keyDue(n), keyOpen(n)} {
			if rdb.Exists(ctx, key).Val() != 0 {
				busy = append(busy, key)
			}
		}
	}
	if n := w.InFlight(); n != 0 || len(busy) != 0 {
		w.t.Errorf("%d sessions are left; not empty: %v", n, busy)
	}
}
