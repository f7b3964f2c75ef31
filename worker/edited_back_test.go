package worker

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// backup is all that a Redis held, tasks and leases included: each brings one key back.
type backup []func(context.Context, redis.Pipeliner)

func backupOf(t *testing.T, rdb redis.UniversalClient) (all backup) {
	t.Helper()
	ctx := t.Context()
	for _, key := range rdb.Keys(ctx, "*").Val() {
		var back func(context.Context, redis.Pipeliner)
		switch kind := rdb.Type(ctx, key).Val(); kind {
		case "string":
			v := rdb.Get(ctx, key).Val()
			back = func(ctx context.Context, p redis.Pipeliner) { p.Set(ctx, key, v, 0) }
		case "hash":
			v := rdb.HGetAll(ctx, key).Val()
			back = func(ctx context.Context, p redis.Pipeliner) { p.HSet(ctx, key, v) }
		case "list":
			v := rdb.LRange(ctx, key, 0, -1).Val()
			back = func(ctx context.Context, p redis.Pipeliner) { p.RPush(ctx, key, v) }
		case "set":
			v := rdb.SMembers(ctx, key).Val()
			back = func(ctx context.Context, p redis.Pipeliner) { p.SAdd(ctx, key, v) }
		case "zset":
			v := rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
			back = func(ctx context.Context, p redis.Pipeliner) { p.ZAdd(ctx, key, v...) }
		default:
			t.Fatalf("key %s is a %s", key, kind)
		}
		ttl := rdb.PTTL(ctx, key).Val()
		all = append(all, func(ctx context.Context, p redis.Pipeliner) {
			back(ctx, p)
			if ttl > 0 {
				p.PExpire(ctx, key, ttl)
			}
		})
	}
	if len(all) < 10 {
		t.Fatalf("a backup of %d keys", len(all))
	}
	return all
}

// restore replaces all that a Redis holds by the backup.
func (b backup) restore(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	_, err := rdb.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		p.FlushDB(t.Context())
		for _, back := range b {
			back(t.Context(), p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A backup of the whole Redis is put back, under a worker that runs or between two
// that do. What was decided meanwhile may be told as unknown, for the provider says
// it once; nobody who refused, let it lapse or was cancelled is told of as somebody
// who approved, and nobody is asked again.
func TestBackupNeverApproves(t *testing.T) {
	t.Parallel()
	wait := func(n int, then ...any) []any { return append(slices.Repeat([]any{&ciba.Pending{}}, n), then...) }
	lives := []outcome{
		{name: "approves at once", answers: []any{identified, consumed}, state: Approved},
		{name: "approves later", answers: wait(6, identified, consumed), state: Approved, hooks: []int{500, 500}},
		{name: "refuses at once", answers: []any{denial, consumed}, state: Denied, hooks: []int{500, 500, 500, 500, 500}},
		{name: "refuses later", answers: wait(6, denial, consumed), state: Denied},
		{name: "lets it lapse", answers: wait(1), state: Expired, expires: 12 * time.Second},
		{name: "is cancelled", answers: wait(1), state: Cancelled, cancel: "here"},
		{name: "is somebody else", answers: wait(3, &ciba.Untrusted{Mismatch: true}, consumed), state: Failed},
	}
	for name, c := range map[string]struct {
		taken, back time.Duration
		stopped     bool
	}{
		"all pending, back when some are final":      {taken: time.Second, back: 9 * time.Second},
		"all pending, back when all are final":       {taken: time.Second, back: time.Minute},
		"some pending, back when all are final":      {taken: 9 * time.Second, back: time.Minute},
		"none pending, back after results have gone": {taken: time.Minute, back: 20 * time.Minute, stopped: true},
		"all pending, back between two workers":      {taken: time.Second, back: time.Minute, stopped: true},
		"some pending, back between two workers":     {taken: 9 * time.Second, back: 30 * time.Second, stopped: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBigBubble(t, calm, func(t *testing.T, w *town) {
				rdb := w.onlooker.opts.Store
				for _, o := range lives {
					x := w.begin(o, nil)
					go x.live()
				}
				time.Sleep(c.taken)
				b := backupOf(t, rdb)
				if c.stopped {
					time.Sleep(min(c.back, time.Minute) - c.taken)
					w.stop()
					time.Sleep(c.back - min(c.back, time.Minute))
					b.restore(t, rdb)
					w.another()
				} else {
					time.Sleep(c.back - c.taken)
					b.restore(t, rdb)
				}
				for range 10 {
					time.Sleep(15 * time.Second)
					w.wantTruth(t)
				}
				for _, x := range w.lives {
					if n := x.person.pushes(); n != 1 || !x.over() {
						t.Errorf("one who %s: %d pushes, want 1; over: %t", x, n, x.over())
					}
				}
			})
		})
	}
}

// wantTruth holds what is told of everybody against what they did.
func (w *town) wantTruth(t *testing.T) {
	t.Helper()
	for _, x := range w.lives {
		check := func(way string, v StepUp) {
			t.Helper()
			forgotten := x.state == Cancelled && v.Status == Expired
			if !forgotten && !slices.Contains([]State{Pending, Unknown, x.state}, v.Status) || v.Identity != nil && (x.state != Approved || *v.Identity.NRIC != x.hint) {
				t.Errorf("%s says of one who %s: %s", way, x, asJSON(t, v))
			}
		}
		v, err := w.onlooker.Show(t.Context(), "bank", x.id)
		if err != nil {
			t.Errorf("one who %s: %v", x, err)
		}
		check("show", v)
		if v, err := w.onlooker.Ask(t.Context(), x.request()); err == nil {
			check("a repeat", v)
		}
		for _, g := range x.desk.of(x.id) {
			check("a webhook", g.Data)
		}
	}
}
