package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

// The task types. A task's payload is the step-up's id and nothing else.
const (
	taskPoll    = "poll"
	taskDeliver = "deliver"
)

// leastDeliverWorkers is how many later deliveries one process runs side by side at least.
const leastDeliverWorkers = 256

// deliverWorkers is how many: when every endpoint of the configuration hangs and has all
// the sends that it may have, those of a new one find a place at once.
func deliverWorkers(set *Settings) int {
	endpoints := 1
	for _, c := range set.Callers {
		endpoints += len(c.Webhooks)
	}
	return max(leastDeliverWorkers, endpoints*endpointSends)
}

// queue is the asynq side: one server a shard, so that one server's heartbeat
// never blocks Redis for long, and a server of its own for later deliveries, so
// that neither starves the other.
type queue struct {
	client  *asynq.Client
	polls   []*asynq.Server
	deliver *asynq.Server
	worker  *Worker
}

func newQueue(o Options, w *Worker) *queue {
	o.Queue.AddHook(brief{})
	q := &queue{client: asynq.NewClientFromRedisClient(o.Queue), worker: w}
	if o.Role == RoleAPI {
		return q
	}
	// Shards fill unevenly, by chance: four standard deviations on top.
	mean := float64(o.MaxInFlight) / float64(o.Shards)
	share := int(math.Ceil(mean + 4*math.Sqrt(mean)))
	for n := range o.Shards {
		q.polls = append(q.polls, asynq.NewServerFromRedisClient(o.Queue, serverConfig(o.Log, pollQueue(n), share)))
	}
	cfg := serverConfig(o.Log, deliverName, deliverWorkers(w.settings.Load()))
	// asynq keeps whole seconds; a delivery is due within two.
	cfg.DelayedTaskCheckInterval, cfg.TaskCheckInterval = 500*time.Millisecond, 250*time.Millisecond
	q.deliver = asynq.NewServerFromRedisClient(o.Queue, cfg)
	return q
}

func serverConfig(log *slog.Logger, name string, concurrency int) asynq.Config {
	return asynq.Config{
		Concurrency: concurrency,
		Queues:      map[string]int{name: 1},
		// The drain has ended before: see Worker.drain.
		ShutdownTimeout: 10 * time.Second,
		Logger:          asynqLog{log.With("queue", name)},
		LogLevel:        asynq.WarnLevel,
	}
}

// apart is the time between the starts of two servers. Every server writes all its
// active tasks to Redis every five seconds; apart, ten thousand of them are a
// short stop each time instead of one that every poll feels.
const apart = 100 * time.Millisecond

// start starts the servers, until ctx ends.
func (q *queue) start(ctx context.Context) error {
	for _, s := range append([]*asynq.Server{q.deliver}, q.polls...) {
		if err := s.Start(asynq.HandlerFunc(q.handle)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(apart):
		}
	}
	return nil
}

// handle runs one task. It always returns nil, so that no error text reaches
// Redis, and never uses asynq's context: asynq cancels it by its own deadline, by
// 30 s of Redis trouble and from asynqmon, and none of that may cut a send.
func (q *queue) handle(_ context.Context, t *asynq.Task) error {
	if id := string(t.Payload()); validID(id, q.worker.opts.Shards) {
		q.worker.work(context.Background(), id)
	} else {
		q.worker.log.Error("a task names no step-up", "alarm", true, "type", t.Type())
	}
	return nil
}

func validID(id string, shards int) bool {
	n, ok := shardOf(id)
	return ok && n < shards
}

// stop takes no new tasks.
func (q *queue) stop() { q.each((*asynq.Server).Stop) }

// shutdown ends the servers.
func (q *queue) shutdown() { q.each((*asynq.Server).Shutdown) }

func (q *queue) each(f func(*asynq.Server)) {
	var wg sync.WaitGroup
	for _, s := range append(q.polls, q.deliver) {
		if s != nil {
			wg.Go(func() { f(s) })
		}
	}
	wg.Wait()
}

// wake queues the task that takes a step-up on: a poll while it is pending, a
// delivery when it is final. A task that is lost is made good by the sweeper.
//
// The TaskID carries a wake number, because an orphaned active task keeps its
// TaskID taken and can be neither run nor deleted.
func (q *queue) wake(ctx context.Context, id, wakes string, st State, at time.Time) error {
	shard, _ := shardOf(id)
	name, typ := pollQueue(shard), taskPoll
	if st.Final() {
		name, typ = deliverName, taskDeliver
	}
	opts := []asynq.Option{asynq.Queue(name), asynq.TaskID(id + ":" + wakes), asynq.MaxRetry(0), asynq.Timeout(24 * time.Hour)}
	if time.Until(at) > 0 {
		// asynq keeps whole seconds and truncates: never before the time.
		opts = append(opts, asynq.ProcessAt(at.Truncate(time.Second).Add(time.Second)))
	}
	_, err := q.client.EnqueueContext(ctx, asynq.NewTask(typ, []byte(id)), opts...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) && !errors.Is(err, asynq.ErrDuplicateTask) {
		return fmt.Errorf("queueing a task: %w", err)
	}
	return nil
}

// asynqLog hands asynq's words to slog.
type asynqLog struct{ log *slog.Logger }

// longestLine keeps a list of ten thousand tasks, which asynq writes while Redis is
// away, from filling the log.
const longestLine = 300

func (l asynqLog) say(level slog.Level, args []any) {
	text := strings.TrimSpace(fmt.Sprint(args...))
	if strings.Contains(text, "cannot decode message") {
		// asynq's own recovery of this queue stands still; the sweeper does not need it.
		l.log.Error("asynq: a task's message in this queue cannot be decoded; step-ups still finish, but delete the task", "alarm", true)
		return
	}
	if len(text) > longestLine {
		text = strings.ToValidUTF8(text[:longestLine], "") + "…"
	}
	l.log.Log(context.Background(), level, "asynq: "+text)
}

func (l asynqLog) Debug(args ...any) { l.say(slog.LevelDebug, args) }
func (l asynqLog) Info(args ...any)  { l.say(slog.LevelInfo, args) }
func (l asynqLog) Warn(args ...any)  { l.say(slog.LevelWarn, args) }
func (l asynqLog) Error(args ...any) { l.say(slog.LevelError, args) }

// Fatal would end the process; asynq calls it where it cannot reach Redis at
// start, and Run has reached it by then.
func (l asynqLog) Fatal(args ...any) { l.say(slog.LevelError, args) }
