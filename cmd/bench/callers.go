package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

// The load of -callers.
const (
	createRate = 500 // a second
	readers    = 200 // long polls at once
	heldFor    = 50 * time.Millisecond
	quarters   = 4 // moments at which memory is told
)

// approvesAfter is the hint of somebody who approves so many seconds after the push.
const approvesAfter = 0x10

// edge is the HTTP edge under load, measured from outside: one column.
type edge struct {
	name    string
	program *program
	backend *backend
	inbox   *inbox
	rate    int
	serial  uint64 // of its first person
	answer  int    // seconds until a person approves

	offers chan offer // a step-up for a reader that has none

	mu       sync.Mutex
	hints    map[string]string    // by reference
	answered map[string]time.Time // creates, by hint
	told     map[string]time.Time // final answers to readers, by hint
	took     map[string]time.Duration
	late     samples // how late the load itself was

	memory []memory
	used   spent // in the second half
	rest   memory
	warned *faults
	seen   timing
}

// memory of the service at a moment.
type memory struct {
	at        time.Time
	rss, live int64
	inFlight  int
}

// timing is what came out, each sorted.
type timing struct {
	held, beyond, readers, webhooks []time.Duration
}

type offer struct{ id, hint string }

// callersTables measures the edge over plain HTTP/1.1, as from a proxy beside it, and over TLS with HTTP/2.
func (b *bench) callersTables(ctx context.Context) (tables, error) {
	dir, binary, done, err := b.workshop(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var columns []*edge
	for i, name := range []string{"HTTP/1.1", "TLS and HTTP/2"} {
		b.say("%s: %d creates a second for %v, %d readers", name, createRate, b.settings.steady, readers)
		e := &edge{name: name, rate: createRate, serial: uint64(i) << 24, answer: max(1, int(b.interval.Seconds())-1)}
		if err := b.measureEdge(ctx, e, binary, filepath.Join(dir, strconv.Itoa(i)), i == 1); err != nil {
			return nil, fmt.Errorf("measuring %s: %w", name, err)
		}
		columns = append(columns, e)
	}
	err = b.verdict(nil)
	for _, e := range columns {
		err = errors.Join(err, e.judge())
	}
	return tables{b.edgeTable(columns)}, err
}

// workshop has the program and room for what it writes.
func (b *bench) workshop(ctx context.Context) (dir, binary string, done func(), err error) {
	if dir, err = os.MkdirTemp("", "stepup-bench"); err != nil {
		return "", "", nil, fmt.Errorf("making a folder for the service: %w", err)
	}
	done = func() { os.RemoveAll(dir) }
	if binary, err = buildProgram(ctx, b.settings, dir); err != nil {
		done()
		return "", "", nil, err
	}
	return dir, binary, done, nil
}

// around starts a receiver and the service, does what is given and stops both.
func (b *bench) around(ctx context.Context, binary, dir string, secure bool, do func(*program, *inbox) error) error {
	in, err := openInbox("")
	if err != nil {
		return fmt.Errorf("starting the webhook receiver: %w", err)
	}
	defer in.close()
	return b.serving(ctx, binary, dir, secure, []*account{{name: "bench", inbox: in}}, func(p *program) error { return do(p, in) })
}

// serving starts the service with these callers, does what is given and stops it.
func (b *bench) serving(ctx context.Context, binary, dir string, secure bool, accounts []*account, do func(*program) error) (err error) {
	defer collecting(collecting(400)) // the load is not what is measured: it leaves the cores to the others
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making a folder for the service: %w", err)
	}
	if b.program, err = b.startProgram(ctx, binary, dir, accounts, secure); err != nil {
		return err
	}
	err = errors.Join(do(b.program), b.program.stop())
	b.program = nil
	return err
}

func (b *bench) measureEdge(ctx context.Context, e *edge, binary, dir string, secure bool) error {
	return b.around(ctx, binary, dir, secure, func(p *program, in *inbox) error {
		e.program, e.inbox, e.backend = p, in, newBackend(p)
		defer e.backend.http.CloseIdleConnections()
		e.offers = make(chan offer)
		e.hints, e.answered, e.told, e.took = map[string]string{}, map[string]time.Time{}, map[string]time.Time{}, map[string]time.Duration{}
		if _, err := b.cut(ctx); err != nil {
			return err
		}
		if err := b.drive(ctx, e); err != nil {
			return err
		}
		return b.reckon(ctx, e)
	})
}

// drive is the load and what follows from it, until the last step-up is final and told.
func (b *bench) drive(ctx context.Context, e *edge) error {
	e.memory = []memory{{at: time.Now(), rss: e.program.rss()}}
	began := time.Now()
	watched := make(chan error, 1)
	go func() { watched <- b.watch(ctx, e, began) }()
	var reading sync.WaitGroup
	for i := range readers {
		reading.Go(func() { e.read(ctx, began.Add(time.Duration(i)*b.interval/readers)) })
	}
	at := arrivals(e.rate, b.settings.steady, e.serial)
	err := fire(ctx, began, at, func(i int, due time.Time) { e.create(ctx, i, due) })
	close(e.offers)
	reading.Wait()
	if err = errors.Join(err, <-watched); err != nil {
		return err
	}
	err = until(ctx, "all webhooks", 2*b.interval+20*time.Second, func() (bool, error) { return e.inbox.count() >= len(e.answered), nil })
	if ctx.Err() != nil {
		return err
	}
	e.rest = memory{at: time.Now(), rss: e.program.rss()} // what did not come is judged later
	return nil
}

// create is one that was due at a moment, answered or not.
func (e *edge) create(ctx context.Context, i int, due time.Time) {
	hint, reference := cibatest.HintFor(approvesAfter, uint16(e.answer), e.serial+uint64(i)), e.name+" "+strconv.Itoa(i)
	e.late.add(time.Since(due))
	a, ok := e.backend.create(ctx, hint, reference)
	now := time.Now()
	if !ok {
		return
	}
	e.mu.Lock()
	e.hints[reference], e.answered[hint], e.took[hint] = hint, now, now.Sub(due)
	e.mu.Unlock()
	select {
	case e.offers <- offer{a.ID, hint}:
	default: // every reader has one
	}
}

// read follows one step-up after the other to its end. Readers begin one after the other, so that their answers do not come all at once.
func (e *edge) read(ctx context.Context, begin time.Time) {
	if pause(ctx, time.Until(begin)) != nil {
		return
	}
	for o := range e.offers {
		a, ok := e.backend.get(ctx, o.id, "?wait=30s")
		now := time.Now()
		if ok && a.Status != "approved" {
			e.backend.found.add("long poll ends " + a.Status)
		}
		e.mu.Lock()
		e.told[o.hint] = now
		e.mu.Unlock()
	}
}

// watch looks at the service's memory each second, or twenty times in a shorter run, and at everybody's CPU in the second half, when as many step-ups
// end as begin.
func (b *bench) watch(ctx context.Context, e *edge, began time.Time) error {
	const looks = 20
	var half snapshot
	for i := 1; i <= looks; i++ {
		if err := pause(ctx, time.Until(began.Add(b.settings.steady*time.Duration(i)/looks))); err != nil {
			return err
		}
		if i%(looks/quarters) == 0 {
			e.memory = append(e.memory, memory{at: time.Now(), rss: e.program.rss()})
		}
		if i != looks/2 && i != looks {
			continue
		}
		now, err := b.snapshot(ctx)
		if err != nil {
			return err
		}
		if i == looks {
			e.used = now.since(half)
		}
		half = now
	}
	return nil
}

// reckon puts together what the provider, the receiver and the readers saw of each step-up.
func (b *bench) reckon(ctx context.Context, e *edge) error {
	sim := b.target.(*simulator) // configure has looked
	held, err := sim.held(ctx)
	if err != nil {
		return err
	}
	approved, err := sim.approved(ctx)
	if err != nil {
		return err
	}
	if _, err := b.cut(ctx); err != nil {
		return err
	}
	v := &e.seen
	for _, hint := range e.hints {
		v.held = append(v.held, held[hint])
		v.beyond = append(v.beyond, e.took[hint]-held[hint])
		// Clocks are this machine's, read in two processes; JSON keeps no monotonic part.
		at := approved[hint]
		if told, ok := e.told[hint]; ok && !at.IsZero() {
			v.readers = append(v.readers, told.Round(0).Sub(at.Round(0)))
		}
	}
	v.webhooks = after(approved, e.hints, e.inbox.took())
	v.held, v.beyond, v.readers = sorted(v.held), sorted(v.beyond), sorted(v.readers)
	heap, err := e.program.heap()
	if err != nil {
		return err
	}
	for i := range e.memory {
		m := &e.memory[i]
		m.live = liveAt(heap, m.at.Sub(e.program.began))
		m.inFlight = e.inFlight(m.at, approved)
	}
	e.warned, err = e.program.warned()
	return err
}

// inFlight counts the step-ups that were answered and not approved at a moment.
func (e *edge) inFlight(at time.Time, approved map[string]time.Time) (n int) {
	for hint, created := range e.answered {
		if end := approved[hint]; created.Before(at) && (end.IsZero() || end.After(at.Round(0))) {
			n++
		}
	}
	return n
}

// judge says what must not have happened.
func (e *edge) judge() error {
	var errs []error
	if e.backend.found.count() > 0 {
		errs = append(errs, fmt.Errorf("%s: %s", e.name, &e.backend.found))
	}
	if e.warned.count() > 0 {
		errs = append(errs, fmt.Errorf("%s: the service complained: %s", e.name, e.warned))
	}
	if missing := len(e.answered) - len(e.seen.webhooks); missing > 0 {
		errs = append(errs, fmt.Errorf("%s: %d of %d webhooks did not come", e.name, missing, len(e.answered)))
	}
	return errors.Join(errs...)
}
