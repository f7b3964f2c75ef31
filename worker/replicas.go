package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// A master that dies takes with it what its replicas do not have yet. For three
// writes that is dear: the intent (its loss is a second push), the auth_req_id (its
// loss is a prompt whose answer nobody fetches) and the final state (the provider
// says it once). With Options.WaitReplicas each of them is followed by WAIT, on the
// same connection, because WAIT speaks of what its own connection wrote.
const (
	waitOnce    = 300 * time.Millisecond // for one WAIT; it holds a connection that long
	waitLongest = 10 * time.Second       // in all, for what the provider said
	waitPause   = 100 * time.Millisecond // before the second try; it grows to two seconds
	waitIntents = 32                     // intents that wait at once, so that they leave connections to the rest
)

var errUnconfirmed = errors.New("too few replicas confirmed the write")

// replicas makes writes wait for replicas. Nil waits for none.
type replicas struct {
	want        int
	longest     time.Duration
	log         *slog.Logger
	unconfirmed metric.Int64Counter
	intents     chan struct{}
}

func newReplicas(want int, log *slog.Logger) (*replicas, error) {
	if want <= 0 {
		return nil, nil
	}
	r := &replicas{want: want, longest: waitLongest, log: log, intents: make(chan struct{}, waitIntents)}
	var err error
	r.unconfirmed, err = otel.Meter("stepup").Int64Counter("stepup.replicas.unconfirmed",
		metric.WithDescription("Writes that too few replicas confirmed in time, by what was written."))
	if err != nil {
		return nil, err
	}
	for _, what := range []string{writesIntent, writesHandle, writesFinal} { // the first one is then seen as an increase
		r.unconfirmed.Add(context.Background(), 0, written(what))
	}
	return r, nil
}

// intent runs the script that puts an intent on record. An intent that is not
// confirmed in time must not be sent: errUnconfirmed.
func (s *store) intent(ctx context.Context, shard int, keys []string, args ...any) (entry string, err error) {
	if s.replicas == nil {
		return scriptBegin.Run(ctx, s.rdb, keys, args...).Text()
	}
	full := time.NewTimer(waitOnce)
	defer full.Stop()
	select {
	case s.replicas.intents <- struct{}{}:
		defer func() { <-s.replicas.intents }()
	case <-full.C:
		return "", errUnconfirmed // nothing was written
	}
	cmd, err := s.confirmed(ctx, shard, scriptBegin, keys, args)
	entry, failed := cmd.Text()
	if failed != nil || err == nil || entry != "" { // what was there before need not be kept
		return entry, failed
	}
	s.replicas.count(ctx, writesIntent)
	return "", err
}

// learnt runs a script that stores what the provider said and will not say again.
// Too few confirmations do not stop it: the whole of it is repeated (the operation
// id makes that safe, and a new master that lacks the write gets it), and after ten
// seconds the service goes on all the same. To tell the bank what may be lost with
// a machine that still lives beats silence about what is known.
func (s *store) learnt(ctx context.Context, what string, shard int, sc *redis.Script, keys []string, args ...any) error {
	if s.replicas == nil {
		return s.status(ctx, sc, keys, args...)
	}
	began := time.Now()
	for pause := waitPause; ; pause = min(2*pause, 2*time.Second) {
		cmd, err := s.confirmed(ctx, shard, sc, keys, args)
		word, failed := cmd.Text()
		switch {
		case failed != nil:
			return fmt.Errorf("writing a step-up: %w", failed)
		case err == nil || word != "ok": // what was refused need not be kept
			return refusedBy(word)
		case time.Since(began)+pause+waitOnce > s.replicas.longest:
			s.replicas.count(ctx, what)
			s.replicas.log.Error("a write that cannot be had again is on too few replicas; going on without them",
				"alarm", true, "write", what, "wait_replicas", s.replicas.want)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("writing a step-up: %w", ctx.Err())
		case <-time.After(pause):
		}
	}
}

func (r *replicas) count(ctx context.Context, what string) {
	r.unconfirmed.Add(ctx, 1, written(what))
}

// The writes that cannot be had again.
const (
	writesIntent = "intent"
	writesHandle = "auth_req_id"
	writesFinal  = "final"
)

func written(what string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("write", what))
}

// confirmed runs a script and waits for replicas. The script's own fault, if any,
// is in the command; the error says that replicas are missing.
func (s *store) confirmed(ctx context.Context, shard int, sc *redis.Script, keys []string, args []any) (*redis.Cmd, error) {
	send := sc.EvalSha
	for moves := 0; ; {
		cmd, err := s.waited(ctx, keyWaited(shard), func(p redis.Pipeliner) *redis.Cmd { return send(ctx, p, keys, args...) })
		failed := cmd.Err()
		switch {
		case redis.HasErrorPrefix(failed, "NOSCRIPT"):
			send = sc.Eval
			continue
		case failed != nil && s.stale(ctx) && redis.HasErrorPrefix(failed, "MOVED") && moves < 3:
			// The node executed nothing. Where the slot went is known in a moment.
			moves++
			<-time.After(waitPause)
			continue
		}
		return cmd, err
	}
}

// waited sends a command and WAIT in one pipeline over one connection. A repeat of
// a script writes nothing, and WAIT after nothing is content with any replica: the
// small write in between makes it wait for everything before.
func (s *store) waited(ctx context.Context, key string, send func(redis.Pipeliner) *redis.Cmd) (*redis.Cmd, error) {
	node := s.rdb
	if c, ok := node.(*redis.ClusterClient); ok {
		// A cluster's pipeline is split by key, and WAIT has none.
		master, err := c.MasterForKey(ctx, key)
		if err != nil {
			cmd := redis.NewCmd(ctx)
			cmd.SetErr(err)
			return cmd, nil
		}
		node = master
	}
	var cmd, wait *redis.Cmd
	_, _ = node.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		cmd = send(p)
		p.Set(ctx, key, "1", time.Minute)
		wait = p.Do(ctx, "wait", s.replicas.want, waitOnce.Milliseconds())
		return nil
	})
	if n, err := wait.Int(); err != nil || n < s.replicas.want {
		return cmd, errUnconfirmed
	}
	return cmd, nil
}

// stale has a cluster client look again for who is master; false without a cluster.
func (s *store) stale(ctx context.Context) bool {
	c, ok := s.rdb.(*redis.ClusterClient)
	if ok {
		c.ReloadState(ctx)
	}
	return ok
}
