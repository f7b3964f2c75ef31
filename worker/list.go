package worker

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Filter narrows a list.
type Filter struct {
	Private
	Status    string // empty: every state
	Reference string // empty: every reference
	Limit     int    // 1 to 100
	Cursor    string // from the page before
}

// Page is a part of a list.
type Page struct {
	Private
	StepUps    []StepUp `json:"step_ups"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

const (
	listReads = 1000 // records that one page may look at; it can come out short, and its cursor goes on from there
	listBatch = 100  // records read in one round trip where a filter may pass over many
)

// List is the caller's own step-ups, newest first. References have an index of their
// own; a status is looked for among all.
func (w *Worker) List(ctx context.Context, caller string, f Filter) (Page, error) {
	set := w.settings.Load()
	if !set.Callers[caller].MayList {
		return Page{}, &Error{Code: CodeNotFound}
	}
	from, ok := parseCursor(f.Cursor)
	if !ok {
		return Page{}, wrongField("cursor", "is not a cursor of this list")
	}
	f.Limit = min(max(f.Limit, 1), 100)
	batch := f.Limit
	if f.Status != "" || f.Reference != "" {
		batch = listBatch
	}
	list := func(shard int) string { return keyList(shard, caller) }
	if f.Reference != "" {
		hash := set.reference(caller, f.Reference)
		list = func(shard int) string { return keyReferences(shard, caller, hash) }
	}
	page := Page{StepUps: []StepUp{}}
	for range listReads / batch {
		found, err := w.listed(ctx, list, from, batch, f.Status)
		if err != nil {
			return Page{}, w.storageError(err)
		}
		for i, one := range found {
			from = one.mark
			v, ok := w.matches(set, one.held, caller, f)
			if !ok {
				continue
			}
			if page.StepUps = append(page.StepUps, v); len(page.StepUps) == f.Limit {
				if i < len(found)-1 || len(found) == batch {
					page.NextCursor = from.String()
				}
				return page, nil
			}
		}
		if len(found) < batch {
			return page, nil
		}
	}
	page.NextCursor = from.String()
	return page, nil
}

// entry is a place of a list and what is there; nil when its time is over, or its state
// is not the one that is looked for.
type entry struct {
	mark
	held *held
}

// listed reads the next entries before from. Few may have the status, so it looks at the
// states alone first; what they say is only an index.
func (w *Worker) listed(ctx context.Context, list func(shard int) string, from mark, limit int, status string) ([]entry, error) {
	marks, err := w.newest(ctx, list, from, limit)
	if err != nil {
		return nil, err
	}
	var states []State
	if status != "" {
		if states, err = w.store.states(ctx, marks); err != nil {
			return nil, err
		}
	}
	entries, at, ids := make([]entry, len(marks)), []int{}, []string{}
	for i, m := range marks {
		entries[i].mark = m
		if states == nil || string(states[i].seen()) == status {
			at, ids = append(at, i), append(ids, m.id)
		}
	}
	all, err := w.store.loadAll(ctx, ids)
	if err != nil {
		return nil, err
	}
	for n, i := range at {
		entries[i].held = all[n]
	}
	return entries, nil
}

// matches is the step-up as its caller sees it, if it is theirs and passes the filter.
func (w *Worker) matches(set *Settings, h *held, caller string, f Filter) (StepUp, bool) {
	if h == nil || h.Caller != caller {
		return StepUp{}, false
	}
	v, err := w.show(set, h)
	if err != nil {
		// One that does not open must not hide the others.
		w.log.Error("step-up left out of a list", "alarm", true, "id", h.ID, "error", err)
		return StepUp{}, false
	}
	return v, (f.Status == "" || string(v.Status) == f.Status) && (f.Reference == "" || v.Reference != nil && *v.Reference == f.Reference)
}

// mark is a place in a caller's list.
type mark struct {
	at int64 // created, ms
	id string
}

func (m mark) String() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(m.at, 10) + " " + m.id))
}

func (m mark) before(n mark) bool { return m.at < n.at || m.at == n.at && m.id < n.id }

func parseCursor(s string) (mark, bool) {
	if s == "" {
		return mark{at: 1 << 52}, true
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return mark{}, false
	}
	at, id, ok := strings.Cut(string(b), " ")
	n, err := strconv.ParseInt(at, 10, 64)
	return mark{n, id}, ok && err == nil
}

// newest merges the shards' lists: the next marks before from, newest first.
func (w *Worker) newest(ctx context.Context, list func(shard int) string, from mark, limit int) ([]mark, error) {
	all, err := w.marks(ctx, func(p redis.Pipeliner, shard int) *redis.ZSliceCmd {
		return p.ZRevRangeByScoreWithScores(ctx, list(shard), &redis.ZRangeBy{
			Min: "-inf", Max: strconv.FormatInt(from.at, 10), Count: int64(limit) + sameInstant})
	})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(m mark) bool { return !m.before(from) })
	slices.SortFunc(all, func(a, b mark) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.id, a.id)) })
	return all[:min(limit, len(all))], nil
}

// sameInstant is how many of a list may share the millisecond that a page begins at: a
// page reads past them. Nobody creates 64 in one, in one shard.
const sameInstant = 64

// marks reads the places of a list from every shard, in one round trip.
func (w *Worker) marks(ctx context.Context, read func(p redis.Pipeliner, shard int) *redis.ZSliceCmd) (all []mark, err error) {
	cmds := make([]*redis.ZSliceCmd, w.opts.Shards)
	_, err = w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = read(p, n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	for _, c := range cmds {
		for _, z := range c.Val() {
			id, _ := z.Member.(string)
			all = append(all, mark{int64(z.Score), id})
		}
	}
	return all, nil
}
