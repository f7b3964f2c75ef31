package worker

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// News is what became of a step-up, as operators see it: nothing personal. The state is the
// plain one, an index; what a caller is told is read from the sealed result.
type News struct {
	At                   time.Time
	ID, Caller, Provider string

	What   string        // created, a final State, or a webhook's turn: delivered, failing, stopped, undelivered
	Took   time.Duration // of a final state since it was created; of the last attempt
	Reason string        // of a final state that is not approved; why the last attempt failed, a word of package webhook

	// Of a webhook's turn only.
	Webhook  string
	Attempts int
	Status   int       // of the last answer; 0: nothing answered
	Next     time.Time // of the next attempt; zero: there is none
}

// What there is beside the final states.
const (
	NewsCreated = "created"
	NewsFailing = "failing"
)

const (
	lookEvery = time.Second
	// lookShare bounds what following costs: after a look that took long, the next waits so
	// many times as long.
	lookShare = 20
	// lookSlack is how much older than the look before something may be and still be news:
	// times are by the clocks of the processes, which differ (clockSkew).
	lookSlack = clockSkew + time.Second
	// lookKeep is how long one that is over is remembered, so that it is told once. One that is
	// sent again after that is judged by its times, so it is far longer than lookSlack: also the
	// clock of a process that is off by more than is allowed must not make old things news.
	lookKeep   = 3 * time.Minute
	lookBatch  = 500 // records in one round trip
	finalsMost = 100 // messages taken at once
)

// Follow tells what becomes of step-ups, of one caller's or, where caller is empty, of
// everybody's: a batch at least every few seconds, which may be empty, until ctx ends. What
// happens after the first batch without an error is told; that batch is empty. An error says
// that Redis did not answer; what was missed is told when it does again, as far as Redis
// still knows it.
//
// It only reads, and costs nobody anything who does not follow: what has work left stands
// in `open` with a time that every step moves, so a look compares the times with those of
// the look before and reads what differs. What comes and goes between two looks is heard
// of by its message. The first look notes how each open one stands: the clocks differ, so what
// happens in the first seconds is known by what differs and not by when it was. With 100,000
// open that is 200 round trips with a second of work in all, once.
func (w *Worker) Follow(ctx context.Context, caller string) iter.Seq2[[]News, error] {
	return func(yield func([]News, error) bool) {
		sub := w.opts.Store.Subscribe(ctx, finalTopic)
		defer sub.Close()
		// The first look is taken when messages come, so that nothing falls between the two. Where
		// this fails, the channel below tries again.
		_, _ = sub.ReceiveTimeout(ctx, lookEvery)
		f := follower{w: w, caller: caller, known: map[string]*followed{}}
		next := time.NewTimer(0)
		defer next.Stop()
		for {
			var news []News
			var err error
			heard := sub.Channel()
			if f.after.IsZero() {
				heard = nil // not what happened before the first look
			}
			select {
			case <-ctx.Done():
				return
			case <-next.C:
				begun, first := time.Now(), f.after.IsZero()
				pause := lookEvery
				if news, err = f.look(ctx); err == nil && !first { // the first reads more than any other
					pause = max(pause, lookShare*time.Since(begun))
				}
				next.Reset(pause)
			case m, ok := <-heard:
				if !ok {
					return
				}
				news, err = f.finals(ctx, m, heard)
			}
			if ctx.Err() != nil || !yield(news, err) {
				return
			}
		}
	}
}

// follower is what one that follows knows.
type follower struct {
	w      *Worker
	caller string
	known  map[string]*followed
	now    time.Time // of the last look, by Redis's clock
	after  time.Time // of one that is met now, only what is later is news; zero before the first look
}

// followed is what was read of a step-up: what differs from it is news.
type followed struct {
	score          int64             // in `open`, when its record was last read
	created, final bool              // noted
	turns          map[string]string // noted of each event: its status and attempts
	over           time.Time         // since when nothing more is awaited
}

// look reads what changed since the look before; the first one reads all, and tells nothing.
// Where that fails, what it noted stays, and the next one is the first again.
func (f *follower) look(ctx context.Context) ([]News, error) {
	now, err := f.w.opts.Store.Time(ctx).Result() // before the lists, so that nothing falls between two looks
	if err != nil {
		return nil, fmt.Errorf("reading Redis's clock: %w", err)
	}
	marks, err := f.w.marks(ctx, func(p redis.Pipeliner, shard int) *redis.ZSliceCmd {
		return p.ZRangeWithScores(ctx, keyOpen(shard), 0, -1)
	})
	if err != nil {
		return nil, err
	}
	f.now = now
	scores := make(map[string]int64, len(marks))
	for _, m := range marks {
		scores[m.id] = m.at
	}
	news, err := f.read(ctx, f.changed(scores), scores)
	if err == nil {
		f.after = now.Add(-lookSlack)
		maps.DeleteFunc(f.known, func(_ string, k *followed) bool { return !k.over.IsZero() && now.Sub(k.over) > lookKeep })
	}
	return news, err
}

// changed are those whose record says something new: their time moved, or they have left.
func (f *follower) changed(scores map[string]int64) (ids []string) {
	for id, score := range scores {
		if k := f.known[id]; k == nil || k.score != score {
			ids = append(ids, id)
		}
	}
	for id, k := range f.known {
		if _, open := scores[id]; !open && k.over.IsZero() {
			ids = append(ids, id)
		}
	}
	return ids
}

// finals reads those that became final, at once.
func (f *follower) finals(ctx context.Context, m *redis.Message, more <-chan *redis.Message) ([]News, error) {
	ids := map[string]bool{}
	for m != nil {
		if _, ok := shardOf(m.Payload); ok { // queues' topics come here too
			ids[m.Payload] = true
		}
		if m = nil; len(ids) < finalsMost {
			select {
			case m = <-more:
			default:
			}
		}
	}
	return f.read(ctx, slices.Collect(maps.Keys(ids)), nil)
}

// read tells what is new of some, oldest first.
func (f *follower) read(ctx context.Context, ids []string, scores map[string]int64) (news []News, err error) {
	for batch := range slices.Chunk(ids, lookBatch) {
		records, err := f.w.store.records(ctx, batch)
		if err != nil {
			return news, err
		}
		there := map[string]bool{}
		for _, r := range records {
			there[r.ID] = true
			news = append(news, f.take(r, scores)...)
		}
		for _, id := range batch {
			if !there[id] { // taken back, or lost with Redis
				delete(f.known, id)
			}
		}
	}
	slices.SortStableFunc(news, func(a, b News) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return news, nil
}

// take notes what a record says, and returns what of it is news.
func (f *follower) take(r *record, scores map[string]int64) []News {
	k, after := f.known[r.ID], time.Time{}
	if k == nil {
		k, after = &followed{}, f.after
		f.known[r.ID] = k
	}
	if score, ok := scores[r.ID]; ok {
		k.score = score
	}
	news := k.news(r, f.now, after, f.after)
	if f.after.IsZero() || f.caller != "" && f.caller != r.Caller {
		return nil
	}
	return news
}

// news is what the record says that was not noted before, unless it is older than after, which
// is zero for a step-up that was read before. What is given up late was so since last.
func (k *followed) news(r *record, now, after, last time.Time) (all []News) {
	tell := func(at time.Time, n News) {
		if !at.Before(after) {
			n.At, n.ID, n.Caller, n.Provider = at, r.ID, r.Caller, r.Provider
			all = append(all, n)
		}
	}
	if !k.created && r.State != Asking {
		k.created = true
		tell(r.Created, News{What: NewsCreated})
	}
	if !r.State.Final() {
		return all
	}
	if !k.final {
		k.final = true
		tell(r.Completed, News{What: string(r.State), Took: r.Completed.Sub(r.Created), Reason: r.Reason.Code})
	}
	k.over = time.Time{}
	waits := false
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		waits = waits || d.Status == DeliveryPending
		turn := string(d.Status) + strconv.Itoa(d.Attempts)
		if k.turns[d.Event] == turn {
			continue
		}
		if k.turns == nil {
			k.turns = map[string]string{}
		}
		k.turns[d.Event] = turn
		n, at := d.turn()
		if at.IsZero() {
			at = r.Completed
		}
		if d.Status == DeliveryUndelivered && after.IsZero() && at.Before(last) {
			at = last
		}
		if n.What != "" {
			tell(at, n)
		}
	}
	if !waits {
		k.over = now
	}
	return all
}

// turn is what became of the last attempt, and when; What is empty before the first one. One
// that was given up was so at its end or later. One whose bytes were missing has no end: all that
// is known is the attempt before, and at is zero where there was none.
func (d *Delivery) turn() (n News, at time.Time) {
	n = News{What: string(d.Status), Webhook: d.Webhook, Attempts: d.Attempts}
	if len(d.Log) > 0 {
		last := d.Log[len(d.Log)-1]
		n.Status, n.Reason, n.Took = last.Status, last.Why, time.Duration(last.Took)*time.Millisecond
		at = time.UnixMilli(last.At).Add(n.Took)
	}
	switch {
	case d.Status == DeliveryPending && d.Tries == 0:
		n.What = ""
	case d.Status == DeliveryPending:
		n.What, n.Next = NewsFailing, time.UnixMilli(d.Next)
	case d.Status == DeliveryUndelivered && d.Until != 0:
		at = time.UnixMilli(d.Until)
	}
	return n, at
}
