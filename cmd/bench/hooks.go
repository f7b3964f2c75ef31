package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"stepup/ciba/cibatest"
	"stepup/webhook"
)

// calmly is how many step-ups a second are created where deliveries are not to wait for each other.
const calmly = 200

// sending is one way in which deliveries are made, by the service and then by the plain sender: one column of -webhooks.
type sending struct {
	name       string
	none       bool // no webhook at all: what is left is what an approval costs
	asymmetric bool // signed by v1a too
	sealed     bool

	bytes int // of an event

	flood     spent           // from the first approval to the last delivery
	approvals float64         // a second, in the middle of it
	rate      float64         // deliveries a second, from the first approval to the last delivery
	flooded   []time.Duration // from approval to webhook
	calm      []time.Duration // the same at a steady rate
	missing   int

	plain     sent // as fast as it can
	plainRate float64
	plainCalm []time.Duration // from when it was due
	failed    int
}

func sendings() []*sending {
	return []*sending{
		{name: "no webhook", none: true},
		{name: "v1"},
		{name: "v1 and v1a", asymmetric: true},
		{name: "v1 and v1a, encrypted", asymmetric: true, sealed: true},
	}
}

// webhookTables measures deliveries, and the plain sender to the same receiver just after.
func (b *bench) webhookTables(ctx context.Context) (tables, error) {
	dir, binary, done, err := b.workshop(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	columns := sendings()
	for i, c := range columns {
		if err := b.measureSending(ctx, c, binary, filepath.Join(dir, strconv.Itoa(i)), uint64(i)<<24); err != nil {
			return nil, fmt.Errorf("measuring deliveries, %s: %w", c.name, err)
		}
		if err := b.store.clear(ctx); err != nil {
			return nil, err
		}
	}
	err = b.verdict(nil)
	for _, c := range columns {
		if c.missing > 0 || c.failed > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %d webhooks did not come, %d of the plain sender's were refused", c.name, c.missing, c.failed))
		}
	}
	return tables{b.sendingTable(columns)}, err
}

func (b *bench) measureSending(ctx context.Context, c *sending, binary, dir string, serial uint64) error {
	more := ""
	if c.asymmetric {
		more, _ = webhook.NewKeyPair()
	}
	in, err := openInbox(more)
	if err != nil {
		return fmt.Errorf("starting the webhook receiver: %w", err)
	}
	defer in.close()
	a := &account{name: "bench", inbox: in, sealed: c.sealed}
	if c.none {
		a.inbox = nil
	}
	err = b.serving(ctx, binary, dir, false, []*account{a}, func(p *program) error {
		k := newBackend(p)
		defer k.http.CloseIdleConnections()
		if err := b.floodOf(ctx, c, k, in, serial); err != nil || c.none {
			return err
		}
		return b.calmOf(ctx, c, k, in, serial+1<<20)
	})
	if err != nil || c.none {
		return err
	}
	return b.plainOf(ctx, c, in)
}

// awaited are the step-ups of a part: the hint of each by what its webhook is told apart by.
type awaited struct {
	c  *sending
	mu sync.Mutex
	of map[string]string
}

func newAwaited(c *sending) *awaited { return &awaited{c: c, of: map[string]string{}} }

// create asks for a step-up of somebody who approves after so many seconds.
func (w *awaited) create(ctx context.Context, k *backend, after int, serial uint64) error {
	hint, mark := cibatest.HintFor(approvesAfter, uint16(max(1, after)), serial), strconv.FormatUint(serial, 10)
	a, ok := k.create(ctx, hint, mark)
	if !ok {
		return fmt.Errorf("creating a step-up: %s", &k.found)
	}
	if w.c.sealed {
		mark = a.ID
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of[mark] = hint
	return nil
}

// floodOf lets everybody approve at once, so that approvals come as fast as polls can be answered.
func (b *bench) floodOf(ctx context.Context, c *sending, k *backend, in *inbox, serial uint64) error {
	b.say("%s: %d step-ups, approved all at once", c.name, b.n)
	all := newAwaited(c)
	// Everybody has been polled once more when the first one approves.
	opens := time.Now().Add(b.rampTime(b.n) + b.interval)
	err := b.ramp(ctx, b.n, func(i int) error {
		return all.create(ctx, k, int(time.Until(opens)/time.Second)+1, serial+uint64(i))
	})
	if err != nil {
		return err
	}
	if time.Now().After(opens) {
		return fmt.Errorf("creating %d step-ups took so long that the first had been approved; -n must be smaller, or the machine less busy", b.n)
	}
	if err := pause(ctx, time.Until(opens)); err != nil {
		return err
	}
	before, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	over := func() (bool, error) { return in.count() >= b.n, nil }
	if c.none {
		over = func() (bool, error) { return b.answered(ctx, b.n) }
	}
	err = until(ctx, "all webhooks", 2*b.interval+time.Duration(b.n)*10*time.Millisecond, over)
	if ctx.Err() != nil {
		return err
	}
	last, err := b.snapshot(ctx) // what did not come is judged later
	if err != nil {
		return err
	}
	approved, err := b.target.approved(ctx)
	if err != nil {
		return err
	}
	came := in.took()
	c.flood, c.approvals, c.rate = last.since(before), middle(approved), whole(approved, came)
	c.flooded = after(approved, all.of, came)
	if !c.none {
		c.missing += b.n - len(c.flooded)
	}
	in.forget()
	_, err = b.cut(ctx)
	return err
}

// answered says whether so many people's approvals have been handed out. It asks the provider now and then, which has other things to do.
func (b *bench) answered(ctx context.Context, n int) (bool, error) {
	if err := pause(ctx, 200*time.Millisecond); err != nil {
		return false, err
	}
	tokens, err := b.target.(*simulator).tokens(ctx) // configure has looked
	return tokens >= n, err
}

// inOrder are the moments of a map.
func inOrder(at map[string]time.Time) []time.Time {
	return slices.SortedFunc(maps.Values(at), time.Time.Compare)
}

// middle is how many a second there were in the middle nine tenths.
func middle(at map[string]time.Time) float64 {
	all := inOrder(at)
	if len(all) < 20 {
		return 0
	}
	all = all[len(all)/20 : len(all)-len(all)/20]
	return float64(len(all)-1) / max(time.Nanosecond, all[len(all)-1].Sub(all[0])).Seconds()
}

// whole is how many a second were received, from the first that began to the last that came.
func whole(began, came map[string]time.Time) float64 {
	from, to := inOrder(began), inOrder(came)
	if len(from) == 0 || len(to) == 0 {
		return 0
	}
	return float64(len(to)) / max(time.Nanosecond, to[len(to)-1].Round(0).Sub(from[0].Round(0))).Seconds()
}

// calmOf creates step-ups at a steady rate, at fixed moments.
func (b *bench) calmOf(ctx context.Context, c *sending, k *backend, in *inbox, serial uint64) error {
	b.say("%s: %d a second for %v", c.name, calmly, b.settings.steady)
	all := newAwaited(c)
	at := arrivals(calmly, b.settings.steady, serial)
	var failed samples
	err := fire(ctx, time.Now(), at, func(i int, _ time.Time) {
		if all.create(ctx, k, int(b.interval/time.Second)-1, serial+uint64(i)) != nil {
			failed.add(0)
		}
	})
	if err != nil {
		return err
	}
	if n := len(failed.sorted()); n > 0 {
		return fmt.Errorf("%d of %d creates failed: %s", n, len(at), &k.found)
	}
	err = until(ctx, "all webhooks", 2*b.interval+20*time.Second, func() (bool, error) { return in.count() >= len(at), nil })
	if ctx.Err() != nil {
		return err
	}
	approved, err := b.target.approved(ctx)
	if err != nil {
		return err
	}
	c.calm = after(approved, all.of, in.took())
	c.missing += len(at) - len(c.calm)
	_, err = b.cut(ctx)
	return err
}

// plainOf lets the plain sender send the same bytes to the same receiver, as fast as it can and then at the same rate.
func (b *bench) plainOf(ctx context.Context, c *sending, in *inbox) error {
	b.say("%s: the plain sender", c.name)
	defer collecting(collecting(400)) // as while the service was sending
	e := in.last()
	c.bytes = len(e.body)
	o := order{URL: in.url, Secrets: in.secret, Body: e.body, Mark: e.mark, For: b.settings.steady / 2}
	in.forget()
	var err error
	if c.plain, err = plainly(ctx, o, b.errs); err != nil {
		return err
	}
	c.plainRate = whole(c.plain.Due, in.took())
	in.forget()
	o.Rate, o.For = calmly, b.settings.steady
	calm, err := plainly(ctx, o, b.errs)
	if err != nil {
		return err
	}
	marks := map[string]string{}
	for mark := range calm.Due {
		marks[mark] = mark
	}
	c.plainCalm = after(calm.Due, marks, in.took())
	c.failed = c.plain.Failed + calm.Failed
	return nil
}
