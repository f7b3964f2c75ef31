package worker

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Show is one of the caller's step-ups. Another caller's is not found.
func (w *Worker) Show(ctx context.Context, caller, id string) (StepUp, error) {
	h, err := w.find(ctx, caller, id)
	if err != nil {
		return StepUp{}, err
	}
	return w.show(w.settings.Load(), h)
}

// find loads a caller's step-up with its sealed fields.
func (w *Worker) find(ctx context.Context, caller, id string) (*held, error) {
	notFound := &Error{Code: CodeNotFound}
	if !validID(id, w.opts.Shards) {
		return nil, notFound
	}
	h, err := w.store.load(ctx, id)
	if errors.Is(err, errGone) || err == nil && h.Caller != caller {
		return nil, notFound
	}
	if err != nil {
		return nil, w.storageError(err)
	}
	return h, nil
}

// show opens what a caller may see. A final state is told from what is sealed:
// the result, and when its time is over the tombstone. The plain state, which
// anybody with Redis could edit, is only an index.
func (w *Worker) show(set *Settings, h *held) (StepUp, error) {
	s := &session{held: h, set: set}
	if err := s.unsealFace(); err != nil {
		return StepUp{}, fmt.Errorf("step-up %s: %w", h.ID, err)
	}
	if !h.State.Final() {
		return h.view(s.face, nil), nil
	}
	var res result
	err := set.Sealer.unsealJSON(&h.record, "end", h.Tombstone, &res)
	if err == nil && time.Now().UnixMilli() < res.Until {
		err = s.unseal("result", &res)
	}
	if err != nil {
		return StepUp{}, fmt.Errorf("step-up %s: %w", h.ID, err)
	}
	return h.view(s.face, &res), nil
}

// reread is how often a waiting reader looks by itself, in case a message was lost.
const reread = 5 * time.Second

// Wait is Show, answered as soon as the step-up is final, and at the latest after
// d or when the process drains.
func (w *Worker) Wait(ctx context.Context, caller, id string, d time.Duration) (StepUp, error) {
	end := time.NewTimer(d)
	defer end.Stop()
	told, leave := w.final.join(id)
	defer leave()
	for {
		v, err := w.Show(ctx, caller, id)
		if err != nil || v.Status.Final() {
			return v, err
		}
		again := time.NewTimer(reread)
		select {
		case <-told:
		case <-again.C:
		case <-end.C:
			again.Stop()
			return w.Show(ctx, caller, id)
		case <-w.draining:
			again.Stop()
			return v, nil
		case <-ctx.Done():
			again.Stop()
			return StepUp{}, ctx.Err()
		}
		again.Stop()
	}
}

// Filter narrows a list.
type Filter struct {
	Status    string // empty: every state
	Reference string // empty: every reference
	Limit     int    // 1 to 100
	Cursor    string // from the page before
}

// Page is a part of a list.
type Page struct {
	StepUps    []StepUp `json:"step_ups"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

// listReads bounds the records one page may look at; a page can come out short,
// and its cursor goes on from there.
const listReads = 1000

// List is the caller's own step-ups, newest first.
func (w *Worker) List(ctx context.Context, caller string, f Filter) (Page, error) {
	set := w.settings.Load()
	if !set.Callers[caller].MayList {
		return Page{}, &Error{Code: CodeNotFound}
	}
	from, ok := parseCursor(f.Cursor)
	if !ok {
		return Page{}, &Error{Code: CodeInvalidRequest, Detail: "The request has mistakes.", Fields: []FieldError{{Field: "cursor", Message: "is not a cursor of this list"}}}
	}
	f.Limit = min(max(f.Limit, 1), 100)
	page := Page{StepUps: []StepUp{}}
	for read := 0; read < listReads; {
		marks, err := w.newest(ctx, caller, from, f.Limit)
		if err != nil {
			return Page{}, w.storageError(err)
		}
		for i, m := range marks {
			from = m
			v, keep, err := w.listed(ctx, set, caller, m.id, f)
			if err != nil {
				return Page{}, err
			}
			if !keep {
				continue
			}
			if page.StepUps = append(page.StepUps, v); len(page.StepUps) == f.Limit {
				if i < len(marks)-1 || len(marks) == f.Limit {
					page.NextCursor = from.String()
				}
				return page, nil
			}
		}
		if read += len(marks); len(marks) < f.Limit {
			return page, nil
		}
	}
	page.NextCursor = from.String()
	return page, nil
}

func (w *Worker) listed(ctx context.Context, set *Settings, caller, id string, f Filter) (v StepUp, keep bool, err error) {
	h, err := w.find(ctx, caller, id)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == CodeNotFound {
		return v, false, nil // its time is over
	}
	if err != nil {
		return v, false, err
	}
	if v, err = w.show(set, h); err != nil {
		// One that does not open must not hide the others.
		w.log.Error("step-up left out of a list", "alarm", true, "id", id, "error", err)
		return v, false, nil
	}
	if f.Status != "" && string(v.Status) != f.Status || f.Reference != "" && (v.Reference == nil || *v.Reference != f.Reference) {
		return v, false, nil
	}
	return v, true, nil
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

// newest merges the shards' indexes: the next marks before from, newest first.
func (w *Worker) newest(ctx context.Context, caller string, from mark, limit int) ([]mark, error) {
	cmds := make([]*redis.ZSliceCmd, w.opts.Shards)
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			// Several may share from's millisecond: read past them.
			cmds[n] = p.ZRevRangeByScoreWithScores(ctx, keyList(n, caller), &redis.ZRangeBy{
				Min: "-inf", Max: strconv.FormatInt(from.at, 10), Count: int64(limit + 64)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading a list: %w", err)
	}
	var all []mark
	for _, c := range cmds {
		for _, z := range c.Val() {
			id, _ := z.Member.(string)
			if m := (mark{int64(z.Score), id}); m.before(from) {
				all = append(all, m)
			}
		}
	}
	slices.SortFunc(all, func(a, b mark) int { return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.id, a.id)) })
	return all[:min(limit, len(all))], nil
}
