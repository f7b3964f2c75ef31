package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// shifts is what goes into the queues that callers pull from, and out of them.
type shifts []shift

type shift struct {
	in      bool
	webhook string
	event   string
}

// moved compares deliveries with how they stood before.
func moved(before, now []Delivery) (all shifts) {
	waits := func(list []Delivery, i int) bool {
		return i < len(list) && list[i].Pull && list[i].Event != "" && list[i].Status == DeliveryPending
	}
	for i := range now {
		if is := waits(now, i); is != waits(before, i) {
			all = append(all, shift{is, now[i].Webhook, now[i].Event})
		}
	}
	return all
}

// args is how scripts get shifts: the keys of the queues, each with that of its last place,
// and what goes where.
func (all shifts) args(r *record) (keys []string, text string) {
	var b strings.Builder
	for _, m := range all {
		key := keyQueue(r.shard(), r.Caller, m.webhook)
		at := slices.Index(keys, key)
		if at < 0 {
			at = len(keys)
			keys = append(keys, key, keyLastPlace(r.shard(), r.Caller, m.webhook))
		}
		sign := "-"
		if m.in {
			sign = "+"
		}
		fmt.Fprintf(&b, "%s%d %s ", sign, at/2+1, m.event)
	}
	return keys, b.String()
}

// purge is what goes with the last delivery: the identity, once everybody has it.
type purge struct {
	result string // the sealed result without the identity
	fields []any  // sealed fields that go
}

// args is how scripts get a purge.
func (p purge) args(r *record) []any {
	if p.result == "" {
		return []any{0, ""}
	}
	return append([]any{ms(r.Purged), p.result}, p.fields...)
}

// wakeBy is when the sweeper looks at a step-up that has deliveries due; the task comes
// first, this is for when it is lost.
func (r *record) wakeBy() (due bool, wake int64) {
	next, due := r.nextDelivery()
	if !due {
		return false, 0
	}
	return true, (max(0, time.Until(next)) + 5*time.Second).Milliseconds()
}

// round stores what a round of webhooks brought and lets the step-up go. It fails with
// errAcked when the caller acknowledged events meanwhile; wakes then are all of them.
func (s *store) round(ctx context.Context, r *record, op string, p purge, m shifts) (wakes string, err error) {
	due, wake := r.wakeBy()
	failing := int64(0)
	if slices.ContainsFunc(r.Deliveries, func(d Delivery) bool { return d.fails() }) {
		failing = ms(r.Completed)
	}
	queues, moves := m.args(r)
	shard := r.shard()
	keys := []string{keyRecord(r.ID), keyOpen(shard), keyPersonal(r.ID), keyOwned(shard, r.Owner), keyDue(shard), keyFailing(shard, r.Caller)}
	args := []any{op, r.ID, r.Owner, r.Gen, r.deliveries(), flag(due), wake, r.Acked, failing, moves}
	return s.counted(ctx, scriptRound, append(keys, queues...), append(args, p.args(r)...)...)
}

// taken stores that the caller has an event that it pulled; errFence when the step-up
// changed meanwhile. It is only noted when somebody sends: the end of the round stores it.
func (s *store) taken(ctx context.Context, r *record, op string, d *Delivery, p purge) (noted bool, err error) {
	due, wake := r.wakeBy()
	shard := r.shard()
	keys := []string{keyRecord(r.ID), keyOpen(shard), keyPersonal(r.ID), keyDue(shard), keyQueue(shard, r.Caller, d.Webhook)}
	args := []any{op, r.ID, d.Event, acknowledgement(d.Event), r.Owner, r.Gen, r.deliveries(), flag(due), wake}
	word, err := scriptTaken.Run(ctx, s.rdb, keys, append(args, p.args(r)...)...).Text()
	if err != nil {
		return false, fmt.Errorf("writing a step-up: %w", err)
	}
	if word == "noted" {
		return true, nil
	}
	return false, refusedBy(word)
}

// redeliver makes deliveries due again; errFence while somebody is sending.
func (s *store) redeliver(ctx context.Context, r *record, m shifts) (wakes string, err error) {
	if r.Owner != "" { // a round changes the deliveries and leaves the gen
		return "", errFence
	}
	shard := r.shard()
	queues, moves := m.args(r)
	return s.counted(ctx, scriptRedeliver, append([]string{keyRecord(r.ID), keyOpen(shard), keyDue(shard)}, queues...),
		opID(), r.ID, r.Gen, r.deliveries(), (2 * time.Second).Milliseconds(), moves)
}
