package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"stepup/worker/redistest"
)

// The masters of Sentinel and Cluster die under load, and what is lost with them is counted.

// death is how a master goes.
type death string

const (
	killed9 death = "kill -9"
	cutOff  death = "kill -9, replicas cut off 0.5 s before"
	stopped death = "SIGSTOP, later resumed"
)

// scenario is one row of the section.
type scenario struct {
	set   string // sentinel or cluster
	death death
	wait  int // redis.wait_replicas
	times int
}

func (s scenario) String() string {
	return fmt.Sprintf("%s / %s / wait_replicas %d", s.set, s.death, s.wait)
}

var scenarios = []scenario{
	{"sentinel", killed9, 0, 5}, {"sentinel", killed9, 1, 5},
	{"sentinel", cutOff, 0, 5}, {"sentinel", cutOff, 1, 5},
	{"sentinel", stopped, 0, 2}, {"sentinel", stopped, 1, 2},
	{"cluster", killed9, 0, 3}, {"cluster", killed9, 1, 3},
	{"cluster", cutOff, 0, 3}, {"cluster", cutOff, 1, 3},
}

// Load and patience. A person answers after 3 to 37 s, so that 200 step-ups are in flight.
const (
	createEvery  = 100 * time.Millisecond
	warmUp       = 20 * time.Second
	promptLives  = 60 * time.Second
	cutFor       = 500 * time.Millisecond
	afterwards   = 5 * time.Second // with the new master, before the old one is back
	failoverTime = 8 * time.Minute // for a scenario
)

// atOnce is how many scenarios run side by side, each with a Redis, a provider and processes of its own.
const atOnce = 2

func failoverPart(ctx context.Context, k *kit, s settings, progress io.Writer) (func(origin) string, bool, error) {
	chosen := slices.DeleteFunc(slices.Clone(scenarios), func(sc scenario) bool { return !s.only.MatchString(sc.String()) })
	rows, errs := make([]toll, len(chosen)), make([]error, len(chosen))
	var running sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for i, sc := range chosen {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			if rows[i], errs[i] = sc.run(ctx, k); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", sc, errs[i])
				return
			}
			fmt.Fprintf(progress, "failover: %s: %s\n", sc, rows[i])
		})
	}
	running.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, false, err
	}
	kept := !slices.ContainsFunc(rows, func(t toll) bool { return len(t.broken()) > 0 })
	return func(o origin) string { return failoverSection(rows, o) }, kept, nil
}

// run lets masters die under load, in a folder of its own.
func (sc scenario) run(ctx context.Context, k *kit) (t toll, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, failoverTime, fmt.Errorf("not over after %v", failoverTime))
	defer cancel()
	dir := filepath.Join(k.dir, "failover-"+strings.Join(strings.FieldsFunc(sc.String(), func(r rune) bool { return r < '0' || r > '9' && r < 'A' }), "-"))
	set, stop, err := openSet(sc.set, filepath.Join(dir, "set"))
	if err != nil {
		return t, err
	}
	defer stop()
	s, err := openSite(ctx, k, dir, setup{redisURL: set.url(), env: []string{fmt.Sprintf("STEPUP_REDIS_WAIT_REPLICAS=%d", sc.wait)}})
	if err != nil {
		return t, err
	}
	defer s.close()
	if err := s.startAll(ctx, s.crew[:]...); err != nil {
		return t, err
	}
	l := &traffic{site: s}
	go l.run(ctx)
	if !pause(ctx, warmUp) {
		return t, context.Cause(ctx)
	}
	var strikes []time.Time
	for n := range sc.times {
		strikes = append(strikes, time.Now())
		if err := sc.strike(ctx, set, n); err != nil {
			return t, err
		}
	}
	asked, err := l.end(ctx)
	if err != nil {
		return t, err
	}
	t = count(sc, asked, s.op.Ledger(), s.in)
	t.pauses = pauses(asked, strikes)
	return t, nil
}

// strike ends one master, waits for its successor and brings it back as a replica.
func (sc scenario) strike(ctx context.Context, set redisSet, n int) error {
	old := set.master(ctx, n)
	if old == nil {
		return fmt.Errorf("there is no master")
	}
	switch sc.death {
	case cutOff:
		if err := cut(ctx, old, set.nodes()); err != nil {
			return err
		}
	case killed9:
		old.Kill()
	case stopped:
		old.Freeze()
	}
	err := until(ctx, "a new master", 40*time.Second, func() bool {
		m := set.master(ctx, n)
		return m != nil && m != old
	})
	pause(ctx, afterwards)
	if sc.death == stopped {
		old.Thaw()
	} else if restart := old.Restart(); err == nil {
		err = restart
	}
	if err != nil {
		return err
	}
	if err := set.whole(time.Minute); err != nil {
		return err
	}
	pause(ctx, afterwards)
	return ctx.Err()
}

// cut is a network that fails a moment before the machine: what the master acknowledges meanwhile, no replica has.
func cut(ctx context.Context, master *redistest.Node, nodes []*redistest.Node) error {
	for _, n := range nodes {
		if n.Follows(ctx, master) {
			n.Freeze()
			defer n.Thaw()
		}
	}
	c := master.Client()
	defer c.Close()
	// A frozen replica would find in its socket what was sent to it: the link goes as well.
	err := c.ClientKillByFilter(ctx, "type", "replica").Err()
	pause(ctx, cutFor)
	master.Kill()
	return err
}

// redisSet is a Redis of several processes.
type redisSet interface {
	url() string
	// master is the n-th to be struck: of a cluster, masters that keep step-ups and leases in turn.
	master(ctx context.Context, n int) *redistest.Node
	nodes() []*redistest.Node
	whole(within time.Duration) error
}

func openSet(kind, dir string) (redisSet, func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	disk := []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	if kind == "cluster" {
		c, stop, err := redistest.RunCluster(dir, disk...)
		return clusterSet{c}, stop, err
	}
	s, stop, err := redistest.RunSentinels(dir, disk...)
	return sentinelSet{s}, stop, err
}

type sentinelSet struct{ *redistest.Sentinels }

func (s sentinelSet) url() string {
	return "redis-sentinel://" + strings.Join(s.Addrs, ",") + "/" + s.Name
}
func (s sentinelSet) master(ctx context.Context, _ int) *redistest.Node { return s.Master(ctx) }
func (s sentinelSet) nodes() []*redistest.Node                          { return s.Nodes }
func (s sentinelSet) whole(within time.Duration) error                  { return s.Whole(within) }

type clusterSet struct{ *redistest.Cluster }

func (c clusterSet) url() string { return "redis-cluster://" + strings.Join(c.Addrs(), ",") }
func (c clusterSet) master(ctx context.Context, n int) *redistest.Node {
	return c.Holder(ctx, []string{"{poll-0}", "{w}", "{poll-1}"}[n%3])
}
func (c clusterSet) nodes() []*redistest.Node         { return c.Nodes }
func (c clusterSet) whole(within time.Duration) error { return c.Whole(within) }
