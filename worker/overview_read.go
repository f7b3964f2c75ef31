package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	failingMost = 20 // step-ups that an overview names
	lapsedMost  = 10 // leases that lapsed in the last hour
)

// view is what an overview is made of.
type view struct {
	sums    *census
	ahead   time.Duration // Redis's clock before ours
	roster  []Process
	told    []told
	overdue time.Duration
	failing int64
	records []*record // of step-ups that fail, latest first
	minutes map[int64]*minute
}

// look reads it, in a few round trips of commands that cost the same however much is in flight.
func (w *Worker) look(ctx context.Context) (v view, err error) {
	clock, roster, err := w.lease.roster(ctx)
	if err != nil {
		return v, err
	}
	v.roster, v.ahead = roster, time.Until(time.UnixMilli(clock))
	lists, err := w.standing(ctx, clock, &v)
	if err != nil {
		return v, err
	}
	if v.sums, err = w.summed(ctx, clock, &v); err != nil {
		return v, err
	}
	if v.records, err = w.failed(ctx, lists); err != nil {
		return v, err
	}
	v.minutes, err = w.hour.read(ctx, w)
	return v, err
}

// lookAlone is what this process knows without Redis.
func (w *Worker) lookAlone() view {
	t := w.telling()
	here := w.lease.own()
	here.Owns = int64(w.InFlight())
	here.describe(&t)
	return view{sums: &census{}, roster: []Process{here}, told: []told{t}, minutes: w.pulse.all()}
}

// own is this process as its lease knows it.
func (l *lease) own() Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Process{Lease: l.id, Role: roleOf(string(l.role)), Here: true, Left: leaseTime - since(l.beat)}
}

// roster is everybody who holds a lease, and then whoever lost one lately, the latest first;
// and the time by Redis's clock.
func (l *lease) roster(ctx context.Context) (clock int64, all []Process, err error) {
	got, err := scriptRoster.Run(ctx, l.rdb, []string{keyWorkers}).Slice()
	if err != nil {
		return 0, nil, fmt.Errorf("reading the leases: %w", err)
	}
	clock, _ = got[0].(int64)
	me := l.own().Lease
	lapsed := 0
	list := strs(got[1])
	for i := len(list) - 2; i >= 0; i -= 2 { // the latest first
		until, _ := strconv.ParseFloat(list[i+1], 64)
		p := Process{Lease: list[i], Role: roleOf(list[i]), Here: list[i] == me, Left: time.Duration(int64(until)-clock) * time.Millisecond}
		if p.Left < 0 {
			if lapsed++; until <= 1 || lapsed > lapsedMost { // it said goodbye
				continue
			}
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Process) int {
		return cmp.Or(cmp.Compare(min(b.Left, 0), min(a.Left, 0)), cmp.Compare(a.Lease, b.Lease))
	})
	return clock, all, nil
}

// roleOf is the role that a lease's id names.
func roleOf(lease string) Role {
	return map[string]Role{"w": RoleWorker, "a": RoleAPI, "b": RoleAll}[lease[:min(1, len(lease))]]
}

// describe adds what a process told of itself.
func (p *Process) describe(t *told) {
	p.Host, p.PID, p.Began = t.Host, t.PID, time.UnixMilli(t.Began)
}

// list is one of the keys of a caller's step-ups that fail, and how many are on it.
type list struct {
	key    string
	length *redis.IntCmd
}

// standing reads the sums: what the processes own and told, what is overdue, what fails. It
// returns the lists on which step-ups fail.
func (w *Worker) standing(ctx context.Context, clock int64, v *view) ([]list, error) {
	owned, leases := make([][]*redis.IntCmd, len(v.roster)), []string{keyTold("")}
	for i := range v.roster {
		leases = append(leases, keyTold(v.roster[i].Lease))
	}
	var lists []list
	var told *redis.SliceCmd
	first := make([]*redis.ZSliceCmd, w.opts.Shards)
	recent := strconv.FormatInt(clock-keepRecord.Milliseconds(), 10) // of older ones the records are gone
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		told = p.MGet(ctx, leases...)
		for n := range first {
			first[n] = p.ZRangeWithScores(ctx, keyOpen(n), 0, 0)
			for i := range v.roster {
				owned[i] = append(owned[i], p.SCard(ctx, keyOwned(n, v.roster[i].Lease)))
			}
			for caller := range w.settings.Load().Callers {
				key := keyFailing(n, caller)
				lists = append(lists, list{key, p.ZCount(ctx, key, recent, "+inf")})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the overview: %w", err)
	}
	for i := range v.roster {
		for _, n := range owned[i] {
			v.roster[i].Owns += n.Val()
		}
		v.hear(&v.roster[i], told.Val()[i+1])
	}
	for _, f := range first {
		for _, z := range f.Val() {
			v.overdue = max(v.overdue, time.Duration(clock-int64(z.Score))*time.Millisecond)
		}
	}
	for _, l := range lists {
		v.failing += l.length.Val()
	}
	return slices.DeleteFunc(lists, func(l list) bool { return l.length.Val() == 0 }), nil
}

// hear takes in what a process told of itself; nothing when it is silent, or another
// version's.
func (v *view) hear(p *Process, text any) {
	var t told
	if s, _ := text.(string); s == "" || json.Unmarshal([]byte(s), &t) != nil {
		return
	}
	p.describe(&t)
	v.told = append(v.told, t)
}

// failed reads the records of the step-ups that became final last, of those that fail.
func (w *Worker) failed(ctx context.Context, lists []list) ([]*record, error) {
	if len(lists) == 0 {
		return nil, nil
	}
	latest := make([]*redis.ZSliceCmd, len(lists))
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, l := range lists {
			latest[i] = p.ZRevRangeWithScores(ctx, l.key, 0, failingMost-1)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what fails: %w", err)
	}
	var marks []redis.Z
	for _, l := range latest {
		marks = append(marks, l.Val()...)
	}
	slices.SortFunc(marks, func(a, b redis.Z) int { return cmp.Compare(b.Score, a.Score) })
	var ids []string
	for _, z := range marks[:min(failingMost, len(marks))] {
		id, _ := z.Member.(string)
		ids = append(ids, id)
	}
	return w.store.records(ctx, ids)
}

// records are those of several step-ups, in one round trip, without those that are gone.
func (s *store) records(ctx context.Context, ids []string) (all []*record, err error) {
	replies := make([]*redis.MapStringStringCmd, len(ids))
	_, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.HGetAll(ctx, keyRecord(id))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading step-ups: %w", err)
	}
	for i, id := range ids {
		if r, ok := decodeRecord(id, replies[i].Val()); ok {
			all = append(all, &r)
		}
	}
	return all, nil
}

// hour is what was counted in the last hour, as it was read. Minutes that are over hardly
// change, so they are read again once a minute only.
type hour struct {
	mu      sync.Mutex
	minutes map[int64]*minute
	whole   time.Time // when all of it was read
}

func (h *hour) read(ctx context.Context, w *Worker) (map[int64]*minute, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	last := now.Unix() / 60
	first := last - 2
	if now.Sub(h.whole) > time.Minute {
		first = last - 59
	}
	fresh, err := w.minutesTold(ctx, first, last)
	if err != nil {
		return nil, err
	}
	if first == last-59 {
		h.minutes, h.whole = fresh, now
	}
	maps.Copy(h.minutes, fresh)
	return maps.Clone(h.minutes), nil
}
