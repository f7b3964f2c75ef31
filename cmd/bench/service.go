package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"time"

	"stepup/ciba/cibatest"
	"stepup/webhook"
	"stepup/worker"
)

// Hints that script themselves: cibatest.ScriptOf.
const (
	nobodyAnswers = 0x03
	approves      = 0x01
)

// Step-ups are told apart by the serial in their hint.
const (
	sideSerial     = 1 << 32 // and up: the approved ones
	baselineSerial = 1 << 33 // and up: of the baseline
	naiveSerial    = 1 << 34
)

// pools of the three Redis clients, as in `stepup serve`.
const (
	storePool = 64
	queuePool = 64
	leasePool = 4
)

// service measures the service.
func (b *bench) service(ctx context.Context) (*column, error) {
	inbox, err := openInbox("")
	if err != nil {
		return nil, fmt.Errorf("starting the webhook receiver: %w", err)
	}
	defer inbox.close()
	w, stop, err := b.start(ctx, inbox)
	if err != nil {
		return nil, fmt.Errorf("starting the service: %w", err)
	}
	c := &column{name: "service", stored: true}
	err = b.measure(ctx, w, inbox, c)
	b.say("drain")
	began := time.Now()
	err = errors.Join(err, stop())
	c.drain = time.Since(began)
	if err != nil {
		return nil, fmt.Errorf("measuring the service: %w", err)
	}
	if _, err := b.cut(ctx); err != nil {
		return nil, err
	}
	c.close(b, bench{})
	return c, nil
}

// collectAt is GOGC as `stepup serve` sets it; the loops that are compared run with Go's own.
const collectAt = 75

// collecting sets GOGC, unless the environment did, and returns what it was.
func collecting(percent int) (before int) {
	if os.Getenv("GOGC") != "" {
		return percent
	}
	return debug.SetGCPercent(percent)
}

// start runs a worker with everything around it as in `stepup serve`.
func (b *bench) start(ctx context.Context, inbox *inbox) (w *worker.Worker, stop func() error, err error) {
	sealer, err := worker.ParseSealKeys(worker.NewSealKeys())
	if err != nil {
		return nil, nil, err
	}
	store, queue, lease := b.store.client(storePool), b.store.client(queuePool), b.store.client(leasePool)
	before := collecting(collectAt)
	closeAll := func() error {
		collecting(before)
		return errors.Join(store.Close(), queue.Close(), lease.Close())
	}
	// Shards fill unevenly, the more so the fewer there are: what is measured must not queue.
	room := b.n*3/2 + 2000
	role := worker.RoleAll
	if b.records {
		role = worker.RoleAPI // the step-ups are there to be listed
	}
	w, err = worker.New(worker.Options{
		Store: store, Queue: queue, Lease: lease, Shards: 8, MaxInFlight: room, MaxInFlightTotal: 2 * room, Role: role,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, worker.Settings{
		Providers: map[string]worker.ProviderSettings{"simulated": {Provider: b.target, Interval: b.interval}},
		Callers: map[string]worker.Caller{"bench": {Providers: []string{"simulated"}, MayList: b.records, Webhooks: []worker.Webhook{{
			Name: "inbox", Events: []string{"step_up.*"}, Endpoint: webhook.Endpoint{URL: inbox.url, Secrets: inbox.secrets},
		}}}},
		Sealer:         sealer,
		Sender:         &webhook.Sender{Client: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}), Timeout: 15 * time.Second},
		PersonInFlight: 1, PersonPerHour: 10, ResultTTL: 15 * time.Minute,
	})
	if err != nil {
		return nil, nil, errors.Join(err, closeAll())
	}
	// The drain is part of the run: it begins with stop, not when ctx ends.
	live, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(live) }()
	stop = func() error {
		cancel()
		return errors.Join(<-ended, closeAll())
	}
	err = until(ctx, "the service gets ready", 20*time.Second, func() (bool, error) {
		select {
		case err := <-ended:
			ended <- nil
			return false, errors.Join(err, errors.New("it ended"))
		default:
			return w.Ready(ctx) == nil, nil
		}
	})
	if err != nil {
		return nil, nil, errors.Join(err, stop())
	}
	return w, stop, nil
}

// measure goes through the parts of the service's column, but for the drain.
func (b *bench) measure(ctx context.Context, w *worker.Worker, inbox *inbox, c *column) error {
	idle, err := b.idle(ctx)
	if err != nil {
		return err
	}
	before, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	b.say("ramp-up: %d step-ups", b.n)
	err = b.ramp(ctx, b.n, func(i int) error {
		return create(ctx, w, cibatest.HintFor(nobodyAnswers, 0, uint64(i)), strconv.Itoa(i))
	})
	if err != nil {
		return err
	}
	b.say("warm-up")
	err = until(ctx, "all step-ups are claimed", time.Minute, func() (bool, error) { return w.InFlight() >= b.n, nil })
	if err != nil {
		return err
	}
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	b.say("steady: %v", b.settings.steady)
	if err := b.profiled(func() error { return b.steady(ctx, c, idle) }); err != nil {
		return err
	}
	after, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	c.weight = after.weight(before, b.n)
	if c.kinds, err = b.store.kinds(ctx); err != nil {
		return err
	}
	if err := b.heapProfile(); err != nil {
		return fmt.Errorf("writing the memory profile: %w", err)
	}
	return b.approvals(ctx, w, inbox, c)
}

// idle is what the service costs when it has nothing to do.
func (b *bench) idle(ctx context.Context) (spent, error) {
	d := min(max(b.settings.steady/3, 2*time.Second), 10*time.Second)
	b.say("idle: %v", d)
	if err := pause(ctx, time.Second); err != nil { // the start is over
		return spent{}, err
	}
	before, err := b.snapshot(ctx)
	if err != nil {
		return spent{}, err
	}
	if err := pause(ctx, d); err != nil {
		return spent{}, err
	}
	after, err := b.snapshot(ctx)
	return after.since(before), err
}

// profiled runs f, with a CPU profile if one was asked for.
func (b *bench) profiled(f func() error) error {
	if b.cpuprofile == "" {
		return f()
	}
	file, err := os.Create(b.cpuprofile)
	if err != nil {
		return fmt.Errorf("writing the CPU profile: %w", err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return errors.Join(fmt.Errorf("writing the CPU profile: %w", err), file.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, file.Close())
}

// heapProfile writes what is on the heap while everything is in flight, if that was asked for.
func (b *bench) heapProfile() error {
	if b.memprofile == "" {
		return nil
	}
	file, err := os.Create(b.memprofile)
	if err != nil {
		return err
	}
	runtime.GC() // the profile is of the last collection
	return errors.Join(pprof.Lookup("heap").WriteTo(file, 0), file.Close())
}

// create asks as a backend would, without the HTTP in front.
func create(ctx context.Context, w *worker.Worker, hint, reference string) error {
	_, err := w.Ask(ctx, worker.Request{
		Caller: "bench", IdempotencyKey: reference, Provider: "simulated", Reference: reference,
		Question: worker.Question{Scope: "openid", LoginHint: hint},
	})
	if err != nil {
		return fmt.Errorf("creating a step-up: %w", err)
	}
	return nil
}

// approvals asks some people more, who approve at their second poll, and waits for their webhooks. The others go on.
func (b *bench) approvals(ctx context.Context, w *worker.Worker, inbox *inbox, c *column) error {
	c.asked = max(20, b.n/20)
	b.say("approvals: %d", c.asked)
	hint := func(i int) string { return cibatest.HintFor(approves, 1, sideSerial+uint64(i)) }
	reference := func(i int) string { return "side-" + strconv.Itoa(i) }
	if err := b.ramp(ctx, c.asked, func(i int) error { return create(ctx, w, hint(i), reference(i)) }); err != nil {
		return err
	}
	err := until(ctx, "all webhooks", 3*b.interval+20*time.Second, func() (bool, error) { return inbox.count() >= c.asked, nil })
	if err != nil && ctx.Err() != nil {
		return err
	}
	at, err := b.target.approved(ctx) // those that are missing are the verdict's
	if err != nil {
		return err
	}
	hints := map[string]string{}
	for i := range c.asked {
		hints[reference(i)] = hint(i)
	}
	c.webhooks = after(at, hints, inbox.took())
	_, err = b.cut(ctx)
	return err
}
