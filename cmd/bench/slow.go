package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
)

// The load of -slow, on the connections of others.
const (
	slowOnes = 500 // connections
	calmRate = 100 // creates a second, and as many gets
)

// settling is the time in which slow connections open, one after the other, and get old enough to be a burden.
func (s settings) settling() time.Duration { return min(2*time.Second, s.steady/4) }

// slowKind is a way to hold a connection for as long as the server lets one.
type slowKind struct {
	name    string
	opening func(p *program) string // what is sent at once; after it comes a byte each second
	reads   bool                    // takes answers, and so learns at once that the server has hung up
}

// head is a request's beginning; the key is good, as if it were a caller's own backend that is slow.
func head(p *program, line string) string {
	return line + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(p.api, "http://") + "\r\nAuthorization: Bearer " + p.key + "\r\n"
}

// slowKinds begins with nobody.
var slowKinds = []slowKind{
	{name: "without"},
	{"slow headers", func(p *program) string { return head(p, "GET /v1/step-ups/su_00AAAAAAAAAAAAAAAAAAAA") + "X-Slow: " }, true},
	{"slow bodies", func(p *program) string {
		return head(p, "POST /v1/step-ups") + "Idempotency-Key: slow\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n"
	}, true},
	{"never read", func(p *program) string { return strings.Repeat(head(p, "GET /openapi.json")+"\r\n", 16) }, false},
}

// crowd is a number of slow connections.
type crowd struct {
	slowKind
	program *program

	open   atomic.Int64
	closed atomic.Int64 // by the server
}

// hold keeps one connection, and opens another when the server has had enough of it.
func (c *crowd) hold(ctx context.Context, first time.Duration) {
	if pause(ctx, first) != nil {
		return
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(c.program.api, "http://"))
		if err != nil {
			_ = pause(ctx, 100*time.Millisecond)
			continue
		}
		c.open.Add(1)
		c.drip(ctx, conn)
		c.open.Add(-1)
		conn.Close()
		if ctx.Err() == nil {
			c.closed.Add(1)
		}
	}
}

// drip sends the opening and then a byte each second, until the server hangs up.
func (c *crowd) drip(ctx context.Context, conn net.Conn) {
	ended := make(chan struct{})
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if c.reads {
		go func() {
			defer close(ended)
			_, _ = conn.Read(make([]byte, 1)) // an answer is the end too: nobody asks again on this connection
		}()
	} else {
		_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for text := []byte(c.opening(c.program)); ; text = []byte("a") {
		_ = conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := conn.Write(text); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // no room to write is no end
			return
		}
		select {
		case <-ended:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// calm is what others saw beside one kind of slow connection, over all its turns: without any there are several.
type calm struct {
	slowKind
	mu     sync.Mutex
	took   map[string]time.Duration // creates, by hint
	gets   samples
	beyond samples
	late   samples
	least  int64 // slow connections at once
	closed int64
	used   spent // of the last turn
}

// slowTables measures moderate callers beside slow connections, each kind in turn and nobody between them, so that what else changes on the machine
// changes for all.
func (b *bench) slowTables(ctx context.Context) (tables, error) {
	dir, binary, done, err := b.workshop(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	columns := make([]*calm, len(slowKinds))
	for i, kind := range slowKinds {
		columns[i] = &calm{slowKind: kind, took: map[string]time.Duration{}, least: slowOnes}
	}
	var wrong error
	err = b.around(ctx, binary, filepath.Join(dir, "slow"), false, func(p *program, _ *inbox) error {
		k := newBackend(p)
		defer k.http.CloseIdleConnections()
		var turns []*calm
		for _, c := range columns[1:] {
			turns = append(turns, columns[0], c)
		}
		for i, c := range turns {
			if err := b.turn(ctx, p, k, c, uint64(i)<<24); err != nil {
				return err
			}
		}
		if k.found.count() > 0 {
			wrong = fmt.Errorf("others' answers: %s", &k.found)
		}
		return b.held(ctx, columns)
	})
	if err != nil {
		return nil, fmt.Errorf("measuring slow connections: %w", err)
	}
	return tables{b.slowTable(columns)}, errors.Join(b.verdict(nil), wrong)
}

// turn is one turn of a kind.
func (b *bench) turn(ctx context.Context, p *program, k *backend, c *calm, serial uint64) error {
	b.say("others beside %s: %v", c.name, b.settings.steady)
	var slow sync.WaitGroup
	crowded, disperse := context.WithCancel(ctx)
	defer slow.Wait()
	defer disperse()
	these := &crowd{slowKind: c.slowKind, program: p}
	if c.opening != nil {
		for i := range slowOnes {
			slow.Go(func() { these.hold(crowded, time.Duration(i)*b.settling()/2/slowOnes) })
		}
	}
	if err := pause(ctx, b.settling()); err != nil {
		return err
	}
	closed := these.closed.Load()
	counting := make(chan struct{})
	measured, over := context.WithCancel(ctx)
	go func() {
		defer close(counting)
		for pause(measured, 50*time.Millisecond) == nil {
			c.least = min(c.least, these.open.Load())
		}
	}()
	before, err := b.snapshot(ctx)
	if err == nil {
		err = b.others(ctx, k, c, serial)
	}
	over()
	<-counting
	if err != nil {
		return err
	}
	c.closed = these.closed.Load() - closed
	after, err := b.snapshot(ctx)
	c.used = after.since(before)
	return err
}

// others create step-ups and fetch them, at fixed moments.
func (b *bench) others(ctx context.Context, k *backend, c *calm, serial uint64) error {
	hint := func(i int) string { return cibatest.HintFor(approvesAfter, 1, serial+uint64(i)) }
	var last atomic.Pointer[string]
	a, ok := k.create(ctx, hint(1<<20), "first "+strconv.FormatUint(serial, 10))
	if !ok {
		return fmt.Errorf("creating the first step-up: %s", &k.found)
	}
	last.Store(&a.ID)
	began := time.Now()
	getting := make(chan error, 1)
	go func() {
		getting <- fire(ctx, began, arrivals(calmRate, b.settings.steady, serial+1), func(_ int, due time.Time) {
			if _, ok := k.get(ctx, *last.Load(), ""); ok {
				c.gets.add(time.Since(due))
			}
		})
	}()
	err := fire(ctx, began, arrivals(calmRate, b.settings.steady, serial), func(i int, due time.Time) {
		c.late.add(time.Since(due))
		a, ok := k.create(ctx, hint(i), strconv.FormatUint(serial+uint64(i), 10))
		if !ok {
			return
		}
		took := time.Since(due)
		last.Store(&a.ID)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.took[hint(i)] = took
	})
	return errors.Join(err, <-getting)
}

// held takes the provider's own time off the creates.
func (b *bench) held(ctx context.Context, columns []*calm) error {
	held, err := b.target.(*simulator).held(ctx) // configure has looked
	if err != nil {
		return err
	}
	for _, c := range columns {
		for hint, took := range c.took {
			c.beyond.add(took - held[hint])
		}
	}
	_, err = b.cut(ctx)
	return err
}

// Rows of -slow that the report looks up.
const (
	rowSlowCreates = "create beyond the provider p99 ÷ without"
	rowSlowGets    = "get p99 ÷ without"
)

func (b *bench) slowTable(columns []*calm) table {
	t := table{Title: fmt.Sprintf("%d creates and %d gets a second beside %d slow connections, %v for each kind, each after as long without; %s",
		calmRate, calmRate, slowOnes, b.settings.steady, machine())}
	for _, c := range columns {
		t.Columns = append(t.Columns, c.name)
	}
	add := func(name string, digits int, of func(*calm) (float64, bool)) {
		t.Rows = append(t.Rows, rowOf(columns, name, digits, of))
	}
	slow := func(f func(*calm) float64) func(*calm) (float64, bool) {
		return func(c *calm) (float64, bool) { return f(c), c.opening != nil }
	}
	add("slow connections, at least", 0, slow(func(c *calm) float64 { return float64(c.least) }))
	add("closed by the service a second", 1, slow(func(c *calm) float64 { return float64(c.closed) / c.used.seconds }))
	for _, of := range []struct {
		name, ratio string
		all         func(*calm) []time.Duration
	}{
		{"create beyond the provider", rowSlowCreates, func(c *calm) []time.Duration { return c.beyond.sorted() }},
		{"get", rowSlowGets, func(c *calm) []time.Duration { return c.gets.sorted() }},
	} {
		for _, p := range []int{50, 99} {
			add(fmt.Sprintf("%s p%d, ms", of.name, p), 2, func(c *calm) (float64, bool) { return milliseconds(percentile(of.all(c), p)), len(of.all(c)) > 0 })
		}
		without := percentile(of.all(columns[0]), 99)
		add(of.ratio, 2, slow(func(c *calm) float64 { return float64(percentile(of.all(c), 99)) / float64(max(without, 1)) }))
	}
	add("sent late by the load itself p99, ms", 2, func(c *calm) (float64, bool) { return milliseconds(percentile(c.late.sorted(), 99)), true })
	add("CPU, service, % of one core", 0, func(c *calm) (float64, bool) { return 100 * c.used.service.Seconds() / c.used.seconds, true })
	add("busy with other programs, % of the machine", 1, func(c *calm) (float64, bool) { return 100 * c.used.others, c.used.others >= 0 })
	return t
}
