package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stepup/ciba/cibatest"
)

// verdict is what became of a cell.
type verdict struct {
	cell
	reached    bool
	ended      end // the final state
	violations []violation
	err        error // the harness got no further
	took       time.Duration
	dir        string // its logs, when they are kept
}

func (v verdict) ok() bool { return v.reached && v.err == nil && len(v.violations) == 0 }

// A cell is bounded.
const (
	cellTime = 100 * time.Second
	redisOff = 1500 * time.Millisecond
	frozen   = 6 * time.Second // longer than a lease

	redelivery = 20 * time.Second // much longer than it takes to find out that the sender died
)

// trial is a cell while it runs.
type trial struct {
	cell
	*site
	hint string
	done chan struct{} // closed when the bank knows the final state, or gave up
	told told
	seen []view // final states
	err  error  // of the bank
}

// run runs one cell in a folder of its own.
func (c cell) run(ctx context.Context, k *kit) (v verdict) {
	v = verdict{cell: c, dir: filepath.Join(k.dir, c.slug())}
	began := time.Now()
	defer func() { v.took = time.Since(began) }()
	ctx, cancel := context.WithTimeoutCause(ctx, cellTime, fmt.Errorf("not over after %v", cellTime))
	defer cancel()
	fail := filepath.Join(v.dir, "fail")
	s, err := openSite(ctx, k, v.dir, setup{hold: c.hold(), env: []string{"STEPUP_FAILPOINT=" + c.failpoint(), "STEPUP_FAILPOINT_DIR=" + fail}})
	if err != nil {
		v.err = err
		return v
	}
	defer s.close()
	t := &trial{cell: c, site: s, hint: newHint(), done: make(chan struct{})}
	s.op.Script(t.hint, c.script())
	if v.reached, v.err = t.play(ctx, fail); v.err != nil {
		return v
	}
	e := t.evidence()
	v.violations = judge(e)
	if len(e.shows) > 0 {
		v.ended = e.shows[len(e.shows)-1].end()
	}
	more, err := t.judgeSite()
	v.violations, v.err = append(v.violations, more...), err
	if len(v.violations) > 0 {
		v.err = errors.Join(v.err, e.write(filepath.Join(v.dir, "evidence.json")))
	}
	return v
}

// newHint is an NRIC nobody else has.
func newHint() string {
	nric, _, _ := cibatest.PersonOf(cibatest.HintFor(0xff, 0, rand.Uint64()))
	return nric
}

// play goes through the cell: create, get to the place, do the fault, see the end.
func (t *trial) play(ctx context.Context, fail string) (reached bool, err error) {
	first, second := t.crew[0], t.crew[1]
	early := []*service{first, second}
	if t.after != nothing {
		early = early[:1] // so that it is known who owns the step-up
	}
	if err := t.startAll(ctx, early...); err != nil {
		return false, err
	}
	go t.ask(ctx)
	if t.after != nothing {
		if err := t.pull(ctx, first, second); err != nil {
			return false, err
		}
	}
	hit, err := t.fired(ctx, filepath.Join(fail, "fired"))
	if err != nil || hit == nil {
		return false, err
	}
	release := func() error { return os.WriteFile(filepath.Join(fail, "go"), nil, 0o600) }
	if err := t.strike(ctx, hit, release); err != nil {
		return true, err
	}
	return true, t.see(ctx)
}

// ask is the bank's part, at its own pace.
func (t *trial) ask(ctx context.Context) {
	defer close(t.done)
	told, err := t.bank.ask(ctx, 0, question{key: "key-" + t.hint, hint: t.hint, reference: "crash"})
	t.told, t.err = told, err
	if err != nil || told.id == "" {
		return
	}
	v, err := t.bank.await(ctx, told.id)
	if t.err = err; err == nil {
		t.seen = append(t.seen, v)
	}
}

// pull makes the step-up change hands: its owner, known because it ran alone, drains or dies.
func (t *trial) pull(ctx context.Context, owner, other *service) error {
	err := until(ctx, "the first poll", 20*time.Second, func() bool { return t.op.Ledger().Polls > 0 })
	if err != nil {
		return err
	}
	if err := t.startAll(ctx, other); err != nil {
		return err
	}
	if t.after == terminated {
		owner.signal(syscall.SIGTERM)
		return nil
	}
	owner.kill()
	return t.start(owner)
}

// fired waits for the place to be passed; nil when the step-up is over without.
func (t *trial) fired(ctx context.Context, file string) (*service, error) {
	over := time.Time{}
	for {
		if text, err := os.ReadFile(file); err == nil {
			_, pid, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
			n, err := strconv.Atoi(pid)
			if err != nil {
				return nil, fmt.Errorf("reading what fired: %w", err)
			}
			return t.pidIs(n)
		}
		select {
		case <-t.done:
			if over.IsZero() {
				over = time.Now().Add(3 * time.Second)
			}
		default:
		}
		if !over.IsZero() && time.Now().After(over) {
			return nil, t.err
		}
		if !pause(ctx, 5*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
}

// strike does the fault while hit stands at the place, and release lets it go on where it can.
func (t *trial) strike(ctx context.Context, hit *service, release func() error) error {
	if t.point == "poll.open" { // its request is under way: it counts as open when the provider has it
		if err := until(ctx, "the poll arrives", 5*time.Second, func() bool { return t.op.Ledger().Polls >= t.pass() }); err != nil {
			return err
		}
	}
	switch t.fault {
	case killOne:
		hit.kill()
	case killAll:
		for _, p := range t.crew {
			if p.process != nil {
				p.kill()
			}
		}
		return t.startAll(ctx, t.crew[:]...)
	case killRedis:
		t.redis.kill()
		if err := release(); err != nil {
			return err
		}
		pause(ctx, redisOff)
		return t.redis.start(ctx)
	case sigterm:
		if t.after != terminated { // a second one would end it at once
			hit.signal(syscall.SIGTERM)
		}
		if err := release(); err != nil {
			return err
		}
		if err := hit.drained(ctx); err != nil {
			return err
		}
		return t.startAll(ctx, hit)
	case sigstop:
		hit.freeze()
		if err := release(); err != nil {
			return err
		}
		pause(ctx, frozen)
		hit.thaw()
	}
	return nil
}

// see waits for the end, and then whether it stays: both processes are asked twice.
func (t *trial) see(ctx context.Context) error {
	select {
	case <-t.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if t.err != nil || t.told.id == "" {
		return t.err
	}
	// A webhook whose sender died comes again: only then is it known whether it is the same. It may be that it never
	// comes; that is for the judge.
	n := 0
	_ = until(ctx, "the delivery", redelivery, func() bool {
		v, err := t.bank.show(ctx, n, t.told.id)
		n++
		return err == nil && v.delivered
	})
	if t.after == terminated && (t.fault == killRedis || t.fault == sigstop) {
		if err := t.crew[0].drained(ctx); err != nil {
			return err
		}
	}
	if err := t.startAll(ctx, t.crew[:]...); err != nil {
		return err
	}
	for range 2 {
		for n := range t.crew {
			v, err := t.bank.show(ctx, n, t.told.id)
			if err != nil {
				return err
			}
			t.seen = append(t.seen, v)
		}
		pause(ctx, time.Second) // what is late comes now
	}
	return nil
}

func (t *trial) evidence() evidence {
	e := evidence{hint: t.hint, ends: t.ends(), hurried: t.mayHurry(), told: t.told, shows: t.seen, events: t.in.of(t.told.id)}
	l := t.op.Ledger()
	e.pushes = l.PushesByHint[t.hint]
	if len(l.Requests) > 0 {
		e.request = l.Requests[0]
	}
	return e
}

// judgeSite is promise 6 and what concerns no single step-up.
func (t *trial) judgeSite() (list []violation, err error) {
	t.halt()
	_, uuid, _ := cibatest.PersonOf(t.hint)
	secrets := map[string]string{t.hint: "the login hint", uuid: "the person's UUID", t.apiKey: "the API key", t.in.secret: "the webhook secret"}
	for _, s := range t.op.secrets() {
		secrets[s] = "a token or auth_req_id"
	}
	leaks, err := t.leaks(secrets)
	for _, l := range leaks {
		list = append(list, violation{6, l})
	}
	for _, p := range t.crew {
		if p.notZero > 0 {
			list = append(list, violation{0, "process " + p.name + " did not exit with 0 after SIGTERM"})
		}
	}
	if _, refused := t.in.came(); refused > 0 {
		list = append(list, violation{5, fmt.Sprintf("%d webhooks did not verify", refused)})
	}
	if events, _ := t.in.came(); len(events) != len(t.in.of(t.told.id)) {
		list = append(list, violation{5, "a webhook came for a step-up that the caller was not told of"})
	}
	return list, err
}
