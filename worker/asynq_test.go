package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"stepup/ciba"
)

// tasksIn is how many tasks of all queues are in a state: a list or a sorted set.
func (w *town) tasksIn(state string) (n int64) {
	ctx, rdb := context.Background(), w.onlooker.opts.Store
	for _, key := range rdb.Keys(ctx, "asynq:*:"+state).Val() {
		n += rdb.LLen(ctx, key).Val() + rdb.ZCard(ctx, key).Val() // the other one is an error, and 0
	}
	return n
}

// ruin does something to every key of asynq that matches.
func (w *town) ruin(t *testing.T, pattern string, how func(key string) error) {
	t.Helper()
	keys := w.onlooker.opts.Store.Keys(t.Context(), pattern).Val()
	if len(keys) == 0 {
		t.Fatalf("no keys %s", pattern)
	}
	for _, key := range keys {
		if err := how(key); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
	}
}

// The tasks are lost or unreadable, whatever state they are in. The
// record is the truth: every step-up finishes and is delivered.
func TestTasksLostOrUnreadable(t *testing.T) {
	t.Parallel()
	for name, ruin := range ruins() {
		t.Run(name, func(t *testing.T) {
			inBigBubble(t, fewAtOnce, func(t *testing.T, w *town) { withoutTasks(t, w, []int{500, 500, 500}, ruin) })
		})
	}
}

// The same on a real Redis.
func TestTasksLostOnARealRedis(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"every key of asynq deleted", "garbage"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withoutTasks(t, newTown(onRedis(t, fewAtOnce)), []int{500}, ruins()[name])
		})
	}
}

// fewAtOnce leaves some step-ups waiting for their turn.
func fewAtOnce(o *Options, _ *Settings) {
	o.MaxInFlight = 4 // eight a shard, because shards fill unevenly
	o.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
}

// ruins are the ways to spoil what asynq keeps.
func ruins() map[string]func(*testing.T, *town) {
	del := func(pattern string) func(*testing.T, *town) {
		return func(t *testing.T, w *town) {
			w.ruin(t, pattern, func(key string) error { return w.onlooker.opts.Store.Del(t.Context(), key).Err() })
		}
	}
	message := func(text string) func(*testing.T, *town) {
		return func(t *testing.T, w *town) {
			w.ruin(t, "asynq:*:t:*", func(key string) error { return w.onlooker.opts.Store.HSet(t.Context(), key, "msg", text).Err() })
		}
	}
	return map[string]func(*testing.T, *town){
		"every key of asynq deleted": del("asynq:*"),
		"tasks deleted, lists left":  del("asynq:*:t:*"),
		"lists deleted, tasks left": func(t *testing.T, w *town) {
			for _, state := range taskStates {
				del("asynq:*:"+state)(t, w)
			}
		},
		"queues forgotten": del("asynq:queues"),
		"garbage":          message("\xff\x00garbage"),
		"empty":            message(""),
		"a task of nobody": message("\x0a\x04poll\x12\x01x\x1a\x01x\x22\x06poll-0"),
	}
}

var taskStates = []string{"pending", "active", "scheduled", "lease"}

// withoutTasks ruins the tasks of step-ups that wait for their turn, that are
// polled and that are to be delivered again.
func withoutTasks(t *testing.T, w *town, hooks []int, ruin func(*testing.T, *town)) {
	w.polledEvery(100*time.Millisecond, Rate{})
	var answered atomic.Bool
	then := func(say func(Asked) (Identity, error)) []any {
		return []any{func(a Asked) (Identity, error) {
			if !answered.Load() {
				return Identity{}, &ciba.Pending{}
			}
			return say(a)
		}}
	}
	no := func(Asked) (Identity, error) { return Identity{}, denial }
	for _, o := range []outcome{
		{name: "deliver", answers: []any{identified, consumed}, state: Approved, hooks: hooks},
		{name: "approve", answers: then(identified), state: Approved},
		{name: "deny", answers: then(no), state: Denied, code: DeniedByUser},
	} {
		o.expires = 5 * time.Minute
		for range 12 {
			w.begin(o, nil).live()
		}
	}
	w.until("tasks in every state", func() bool {
		return w.tasksIn("pending") > 0 && w.tasksIn("active") > 0 && w.tasksIn("scheduled") > 0
	})
	ruin(t, w)
	answered.Store(true)
	w.inTime("everything finished and delivered", func() bool {
		return !slices.ContainsFunc(w.lives, func(x *life) bool { return !x.over() })
	})
	for _, x := range w.lives {
		x.keeps()
	}
	w.until("nothing at work", func() bool { return w.InFlight() == 0 })
	w.leavesNoWork()
}

// inTime is until for what takes sweeps and retries: up to a minute.
func (w *town) inTime(what string, ok func() bool) {
	w.t.Helper()
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			var left []string
			for _, x := range w.lives {
				if !x.over() {
					r, _ := w.onlooker.store.read(context.Background(), x.id)
					left = append(left, fmt.Sprintf("%s %+v", x.key, r))
				}
			}
			w.t.Fatalf("not within a minute: %s; left:\n%s", what, strings.Join(left, "\n"))
		}
	}
}
