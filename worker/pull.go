package worker

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// EventFilter narrows what a caller pulls.
type EventFilter struct {
	Webhook string // which of the caller's `pull` webhooks; may be empty when there is one
	After   string // Next of the page before; empty: from the oldest that is not acknowledged
	Limit   int    // 1 to 100
}

// Pulled is an event as a caller that pulls gets it.
type Pulled struct {
	Private
	ID      string          `json:"id"`      // what is the webhook-id where events are sent
	Webhook string          `json:"webhook"` // the `pull` webhook's name
	Event   json.RawMessage `json:"event"`   // what is the body where events are sent, byte for byte
}

// Events is a page of what a caller has not acknowledged yet, oldest first.
type Events struct {
	Private
	Events []Pulled `json:"events"`
	Next   string   `json:"next"` // After of the next page; never empty
}

// Events are what waits for a caller at one of its `pull` webhooks. It answers as soon
// as there is one, and at the latest after d or when the process drains. An event comes
// again until it is acknowledged, unless After passes it over.
func (w *Worker) Events(ctx context.Context, caller string, f EventFilter, d time.Duration) (Events, error) {
	hook, err := w.settings.Load().pulled(caller, f.Webhook)
	if err != nil {
		return Events{}, err
	}
	at, ok := parsePlaces(f.After, w.opts.Shards)
	if !ok {
		return Events{}, wrongField("after", "is not a cursor of these events")
	}
	end := time.NewTimer(d)
	defer end.Stop()
	told, leave := w.final.join(queueTopic(caller, hook))
	defer leave()
	for {
		page, err := w.page(ctx, caller, hook, at, min(max(f.Limit, 1), 100))
		if err != nil {
			return Events{}, w.storageError(err)
		}
		if len(page.Events) > 0 || d <= 0 {
			return page, nil
		}
		again := time.NewTimer(reread)
		select {
		case <-told:
		case <-again.C:
		case <-end.C:
			d = 0 // a last look
		case <-w.draining:
			again.Stop()
			return page, nil
		case <-ctx.Done():
			again.Stop()
			return Events{}, ctx.Err()
		}
		again.Stop()
	}
}

// pulled is the name of the `pull` webhook that a caller means. One that is named need not be pulled
// any more: what waits since then can still be had.
func (s *Settings) pulled(caller, name string) (string, error) {
	var names []string
	for _, h := range s.Callers[caller].Webhooks {
		if h.Name == name || name == "" && h.Pull {
			names = append(names, h.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", &Error{Code: CodeNotFound}
	case 1:
		return names[0], nil
	}
	return "", wrongField("webhook", "must say which of your pull webhooks; there are several")
}

// queuedEvent is an event in a queue.
type queuedEvent struct {
	shard int
	at    int64 // its place in the shard's queue
	event string
}

// page reads the next events after at. What does not wait any more is passed over, and at
// moves on behind it; before one that only another process can open it stops, so that the
// next page asks for it again.
func (w *Worker) page(ctx context.Context, caller, hook string, at places, limit int) (Events, error) {
	page := Events{Events: []Pulled{}}
	for {
		found, err := w.queued(ctx, caller, hook, at, limit)
		if err != nil {
			return Events{}, err
		}
		pulled, closed, err := w.openQueued(ctx, caller, hook, found)
		if err != nil {
			return Events{}, err
		}
		for _, q := range found {
			if first, ok := closed[q.shard]; !ok || q.at < first {
				at[q.shard] = q.at
			}
		}
		if page.Events = append(page.Events, pulled...); len(page.Events) > 0 || len(found) < limit || len(closed) > 0 {
			page.Next = at.String()
			return page, nil
		}
	}
}

// queued reads what is in the shards' queues after at, oldest first.
func (w *Worker) queued(ctx context.Context, caller, hook string, at places, limit int) ([]queuedEvent, error) {
	cmds := make([]*redis.ZSliceCmd, w.opts.Shards)
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range cmds {
			cmds[n] = p.ZRangeByScoreWithScores(ctx, keyQueue(n, caller, hook), &redis.ZRangeBy{
				Min: "(" + strconv.FormatInt(at[n], 10), Max: "+inf", Count: int64(limit)})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what waits to be pulled: %w", err)
	}
	var all []queuedEvent
	for n, c := range cmds {
		for _, z := range c.Val() {
			event, _ := z.Member.(string)
			all = append(all, queuedEvent{n, int64(z.Score), event})
		}
	}
	slices.SortFunc(all, func(a, b queuedEvent) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.shard, b.shard)) })
	return all[:min(limit, len(all))], nil
}

// openQueued opens the stored bytes of events. One that does not open must not hide the others;
// closed are the places, by shard, of the first for which this process lacks the seal key.
// The record is read last: whose bytes a purge took meanwhile is no longer pending then.
func (w *Worker) openQueued(ctx context.Context, caller, hook string, found []queuedEvent) (all []Pulled, closed map[int]int64, err error) {
	type reply struct {
		personal, bare *redis.StringCmd
		rec            *redis.MapStringStringCmd
	}
	replies := make([]reply, len(found))
	_, err = w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, q := range found {
			id, _ := stepUpOf(q.event)
			replies[i] = reply{p.HGet(ctx, keyPersonal(id), eventField(q.event)), p.HGet(ctx, keyEvents(id), q.event), p.HGetAll(ctx, keyRecord(id))}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, nil, fmt.Errorf("reading events: %w", err)
	}
	set := w.settings.Load()
	closed = map[int]int64{}
	for i, q := range found {
		c := replies[i]
		for _, err := range []error{c.rec.Err(), c.personal.Err(), c.bare.Err()} {
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, nil, fmt.Errorf("reading an event: %w", err)
			}
		}
		id, _ := stepUpOf(q.event)
		r, ok := decodeRecord(id, c.rec.Val())
		if d := r.pull(q.event); !ok || r.Caller != caller || d == nil || d.Webhook != hook || !d.waits() {
			continue // over: its time, or another process, takes it out of the queue
		}
		body, err := set.Sealer.open(&r, q.event, cmp.Or(c.personal.Val(), c.bare.Val()))
		switch _, before := closed[q.shard]; {
		case err == nil:
		case !errors.Is(err, errNoKey):
			w.log.ErrorContext(ctx, "event left out of what is pulled", "alarm", true, "id", id, "event", q.event, "error", err)
			continue
		case !before:
			closed[q.shard] = q.at
			w.log.WarnContext(ctx, "event left to another process", "id", id, "event", q.event, "error", err)
			continue
		default:
			continue
		}
		all = append(all, Pulled{ID: q.event, Webhook: hook, Event: body})
	}
	return all, closed, nil
}

// pull is the pulled delivery of an event, nil when there is none.
func (r *record) pull(event string) *Delivery {
	for i := range r.Deliveries {
		if d := &r.Deliveries[i]; d.Pull && d.Event == event {
			return d
		}
	}
	return nil
}

// waits reports whether a delivery can be pulled now.
func (d *Delivery) waits() bool {
	return d.Status == DeliveryPending && time.Now().UnixMilli() <= d.Until
}

// Acknowledged says which of the ids are done with.
type Acknowledged struct {
	Acknowledged []string `json:"acknowledged"` // now, or before
	Unknown      []string `json:"unknown"`      // no event that this caller could pull, or its time is over
}

var errBroken = errors.New("a record could not be worked on")

// acknowledgedAtOnce is how many events of one call are ended side by side.
const acknowledgedAtOnce = 16

// Acknowledge ends the delivery of pulled events, as a 2xx does where events are sent.
// Whatever was stored stays so when it fails; a repeat does the rest.
func (w *Worker) Acknowledge(ctx context.Context, caller string, ids []string) (Acknowledged, error) {
	if !w.enter() {
		return Acknowledged{}, draining()
	}
	defer w.serving.Done()
	over := make([]bool, len(ids))
	all, ctx := errgroup.WithContext(ctx) // one that fails stops the others: Redis is away
	all.SetLimit(acknowledgedAtOnce)
	for i, id := range ids {
		all.Go(func() (err error) {
			defer w.caught()
			err = errBroken // unless what follows gets to its end
			over[i], err = w.acknowledge(ctx, caller, id)
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return Acknowledged{}, w.storageError(err)
	}
	done := Acknowledged{Acknowledged: []string{}, Unknown: []string{}}
	for i, id := range ids {
		if over[i] {
			done.Acknowledged = append(done.Acknowledged, id)
		} else {
			done.Unknown = append(done.Unknown, id)
		}
	}
	return done, nil
}

// takenWithin is how long an acknowledgement is tried while Redis is away.
const takenWithin = time.Second

// acknowledge is false for an event that the caller cannot have pulled.
func (w *Worker) acknowledge(ctx context.Context, caller, event string) (bool, error) {
	id, ok := stepUpOf(event)
	if !ok || !validID(id, w.opts.Shards) {
		return false, nil
	}
	set, op := w.settings.Load(), opID()
	for {
		r, err := w.store.read(ctx, id)
		if errors.Is(err, errGone) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		d := r.pull(event)
		switch {
		case r.Caller != caller || d == nil:
			return false, nil
		case d.Status == DeliveryDelivered:
			return true, nil
		case !d.waits():
			return false, nil
		}
		before := slices.Clone(r.Deliveries)
		d.taken(time.Now().UnixMilli())
		noted, p := false, w.purge(set, r)
		err = w.persist(ctx, takenWithin, func() error {
			noted, err = w.store.taken(ctx, r, op, d, p)
			return err
		})
		switch {
		case err == nil:
			w.log.InfoContext(ctx, "event acknowledged", "id", id, "caller", caller, "webhook", d.Webhook, "event", event, "type", d.Type)
			if !noted {
				w.noteRound(ctx, r, before)
			}
			return true, nil
		case errors.Is(err, errGone):
			return false, nil
		case !errors.Is(err, errFence): // it changed meanwhile: look again
			return false, err
		}
	}
}

// places is how far a caller has read the shards' queues.
type places []int64

func (p places) String() string {
	b := make([]byte, 0, 8*len(p))
	for _, at := range p {
		b = binary.AppendUvarint(b, uint64(at))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePlaces reads what String wrote, for as many shards.
func parsePlaces(s string, shards int) (places, bool) {
	p := make(places, shards)
	if s == "" {
		return p, true
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	for n := range p {
		at, size := binary.Uvarint(b)
		if size <= 0 || at > 1<<53 {
			return nil, false
		}
		p[n], b = int64(at), b[size:]
	}
	return p, err == nil && len(b) == 0
}
