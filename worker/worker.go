// Package worker is the core of stepup: a step-up from the caller's request to
// the signed webhook.
//
// The record in Redis is the truth; an asynq task is only a wake-up. asynq may
// lose, repeat or delay any task, and every step-up still finishes. Every
// transition of a record is one compare-and-set script (store.go). A step-up has
// at most one owner, a process with a live lease (owner.go), and that process
// stays with it: it polls on its own timer and touches Redis only when something
// changes (poll.go). What an answer means is decided by one pure function
// (settle.go). Personal data is stored sealed, beside the record (seal.go). Each
// decision is a line of the audit log; nothing is sent before its line is in the file
// (audit.go).
//
// The package trusts Redis to keep what it acknowledged and a Provider to keep
// its contract; it trusts nothing it reads from a sealed field that does not open.
package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/webhook"
)

// Role says which half of the service a process runs.
type Role string

// The roles. A process of either role holds a lease; only RoleWorker and
// RoleAll poll, deliver and sweep.
const (
	RoleAll    Role = "all"
	RoleAPI    Role = "api"
	RoleWorker Role = "worker"
)

// Options is what a Worker needs for its whole life.
type Options struct {
	// Store, Queue and Lease are three clients of the same Redis: for records,
	// for asynq, and a small pool of its own for the lease, so that a beat never
	// queues behind work. MaxRetries must be -1 on each.
	Store, Queue, Lease redis.UniversalClient
	Shards              int // key slots and poll queues; fixed for the life of the data
	MaxInFlight         int // step-ups this process polls at once, and a few more where the shards fill unevenly
	MaxInFlightTotal    int // step-ups in flight over all workers; beyond it creates are refused
	WaitReplicas        int // replicas that must have the intent, the auth_req_id and the final state; 0: none
	Role                Role
	Log                 *slog.Logger
	Audit               *Audit // nil: no decision is written down
	Operator            bool   // this process does not serve: an operator acts in callers' names

	regular bool // tests: failures back off without jitter
}

func (o *Options) jitter() float64 {
	if o.regular {
		return 0
	}
	return defaultJitter
}

// Settings is what may change while a Worker runs: see Reload.
type Settings struct {
	Providers map[string]ProviderSettings
	Callers   map[string]Caller
	Sealer    *Sealer
	Sender    *webhook.Sender

	PersonInFlight int // pushes to one person at one provider at once
	PersonPerHour  int
	CallerRate     float64 // creates a second of one caller; 0: no limit
	CallerBurst    int

	PersonsPerCaller int // different persons that one caller may ask in an hour; 0: no limit

	ResultTTL       time.Duration // how long a result can be fetched after it is final
	PurgeOnDelivery bool          // the identity goes as soon as every webhook that carries it has it
}

// ProviderSettings is one configured provider.
type ProviderSettings struct {
	Provider Provider
	Interval time.Duration // between polls when the provider names none
	Hold     time.Duration // how long the provider may hold a poll of a process that froze
	Rate     Rate          // what the provider allows
	Paused   bool
}

// Caller is one bank backend.
type Caller struct {
	Providers []string
	MayList   bool
	Paused    bool
	Webhooks  []Webhook
}

// Webhook is one endpoint of a caller.
type Webhook struct {
	Name      string
	Endpoint  webhook.Endpoint
	Events    []string           // types, or prefixes that end in *
	Reference bool               // events carry no personal data; the receiver fetches the result
	Encrypt   *webhook.Recipient // not nil: what is personal in an event can be opened by the receiver alone
	Pull      bool               // nothing is sent: events wait until the caller has fetched and acknowledged them; no Endpoint
}

// Worker is the service: create it with New, run it with Run, ask it with Ask.
type Worker struct {
	opts  Options
	log   *slog.Logger
	store store
	lease *lease
	queue *queue
	met   instruments
	crew  crew
	final hub
	audit *Audit

	settings atomic.Pointer[Settings]
	inFlight atomic.Int64 // over all workers, as last counted
	swept    atomic.Int64 // when the sweeper last got through, Unix ms

	draining chan struct{} // closed when the drain begins
	kept     atomic.Bool   // something could not be released and is still on our name

	mu       sync.Mutex
	sessions map[string]*session
	serving  sync.WaitGroup // handlers, rounds and creates that a drain waits for
	slots    endpointSlots
	gates    gates
	troubles troubles
	pulse    pulse
	hour     hour // for the overview
}

// New prepares a Worker. It does not touch Redis: Run does.
func New(o Options, s Settings) (*Worker, error) {
	if o.Shards < 1 || o.Shards > 64 {
		return nil, fmt.Errorf("shards is %d, want 1 to 64", o.Shards)
	}
	w := &Worker{
		opts: o, log: o.Log, store: store{rdb: o.Store, shards: o.Shards}, lease: newLease(o.Lease, o.Role),
		crew: newCrew(), draining: make(chan struct{}), sessions: map[string]*session{}, pulse: newPulse(),
		audit: cmp.Or(o.Audit, &Audit{}),
	}
	var err error
	if w.met, err = newInstruments(); err != nil {
		return nil, err
	}
	if w.store.replicas, err = newReplicas(o.WaitReplicas, o.Log); err != nil {
		return nil, err
	}
	w.Reload(s)
	w.queue = newQueue(o, w)
	return w, nil
}

// Reload takes new settings into use. What is under way goes on with the old
// ones until its next step.
func (w *Worker) Reload(s Settings) {
	w.settings.Store(&s)
	w.met.begin(context.Background(), &s)
}

// Run works until ctx ends, then drains: no new claims, answers in flight are
// awaited and stored, ownership is let go. It returns when all of that is done.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.CheckShards(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it began
		}
		return err
	}
	forget, err := w.observe()
	if err != nil {
		return err
	}
	defer forget()
	w.swept.Store(time.Now().UnixMilli())
	// The lease outlives ctx: it is needed for as long as the drain takes.
	live, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	beat, stopBeating := context.WithCancel(live)
	defer stopBeating()
	beating := make(chan struct{})
	go func() { defer close(beating); w.keepLease(beat) }()
	background.Go(func() { w.guard(live) })
	background.Go(func() { w.listen(live) })
	background.Go(func() { w.sweep(live) })
	background.Go(func() { w.watchClocks(live) })
	background.Go(func() { w.tell(live) })
	if w.opts.Role != RoleAPI {
		if err := w.queue.start(ctx); err != nil {
			stop()
			close(w.crew.over)
			background.Wait()
			return fmt.Errorf("starting the task servers: %w", err)
		}
	}
	<-ctx.Done()
	w.drain()
	stopBeating() // no beat may come after the goodbye
	<-beating
	if w.InFlight() == 0 && !w.kept.Load() { // else the lease must lapse: something of ours may still be open at the provider
		w.sayGoodbye(live)
	}
	stop()
	close(w.crew.over)
	background.Wait()
	return nil
}

// sayGoodbye ends the lease. Nothing is lost when Redis does not hear it: the lease
// lapses, and what it holds is taken over.
func (w *Worker) sayGoodbye(ctx context.Context) {
	if err := w.persist(ctx, releaseWithin, func() error { return w.lease.goodbye(ctx) }); err != nil {
		w.log.Warn("Redis was not told that this process ends; its lease lapses by itself", "error", err)
	}
}

// drainTime covers the longest answer in flight (40 s) and its bookkeeping.
const drainTime = 45 * time.Second

// drain lets everything in flight end and lets go of the rest.
func (w *Worker) drain() {
	w.mu.Lock()
	close(w.draining)
	w.mu.Unlock()
	w.queue.stop() // no new tasks; those that run see draining
	done := make(chan struct{})
	go func() { w.serving.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(drainTime):
		w.log.Error("drain took too long; what is left is taken over by others", "in_flight", w.InFlight())
	}
	w.queue.shutdown()
}

// Draining reports whether the process is on its way out: creates are refused
// and long polls end.
func (w *Worker) Draining() bool {
	select {
	case <-w.draining:
		return true
	default:
		return false
	}
}

// enter begins something that a drain waits for; false when the drain has begun.
// What enters ends with w.serving.Done.
func (w *Worker) enter() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Draining() {
		return false
	}
	w.serving.Add(1)
	return true
}

// InFlight is how many step-ups this process holds.
func (w *Worker) InFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sessions)
}

// CheckShards makes sure that the data was written with as many shards: with
// another number nothing would be found. An empty Redis is given this number. Run does
// it too; a start that wants to say so before it opens its doors calls it first.
func (w *Worker) CheckShards(ctx context.Context) error {
	if err := w.opts.Store.SetNX(ctx, keyShards, w.opts.Shards, 0).Err(); err != nil {
		return fmt.Errorf("reaching Redis: %w", err)
	}
	return w.CheckData(ctx)
}

// TryShards is CheckShards for who asks whether a start would succeed: what it writes it
// takes away again.
func (w *Worker) TryShards(ctx context.Context) error {
	// A key of its own: without keyReady a process that serves would not be ready.
	key := keyReady + ":" + rand.Text()
	if err := w.opts.Store.Set(ctx, key, "1", time.Minute).Err(); err != nil {
		return fmt.Errorf("reaching Redis: %w", err)
	}
	if err := w.opts.Store.Del(ctx, key).Err(); err != nil { // then it lapses
		return fmt.Errorf("reaching Redis: %w", err)
	}
	if err := w.CheckData(ctx); !errors.Is(err, errNoData) {
		return err
	}
	return nil
}

var errNoData = errors.New("this Redis holds no stepup data; is it the one that the service uses?")

// CheckData is CheckShards for who only looks on: it writes nothing, and a Redis in which
// no service has worked is a mistake.
func (w *Worker) CheckData(ctx context.Context) error {
	want := strconv.Itoa(w.opts.Shards)
	got, err := w.opts.Store.Get(ctx, keyShards).Result()
	if errors.Is(err, redis.Nil) {
		// Redis may have lost its data under a running service, whose lease is then all that tells of it.
		var leases int64
		if leases, err = w.opts.Store.Exists(ctx, keyWorkers).Result(); err == nil && leases == 0 {
			return errNoData
		}
		got = want
	}
	if err != nil {
		return fmt.Errorf("reaching Redis: %w", err)
	}
	if got != want {
		return fmt.Errorf("redis.shards is %s, but the data in this Redis was written with %s; set it back, or start with an empty Redis", want, got)
	}
	return nil
}
