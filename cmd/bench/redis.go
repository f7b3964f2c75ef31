package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/worker/redistest"
)

// redisStore is the Redis of a run.
type redisStore struct {
	url     string
	options *redis.Options
	admin   *redis.Client // for INFO alone
	sent    atomic.Int64  // commands over all clients
	close   func()
}

// openRedis takes the database that the URL names, which must be empty, or starts a redis-server without persistence.
func openRedis(ctx context.Context, url string) (*redisStore, error) {
	if url == "" {
		return ownRedis()
	}
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("-redis is not a redis://, rediss:// or unix:// URL") // err may quote a password
	}
	s := newStore(o)
	s.url = url
	n, err := s.admin.DBSize(ctx).Result()
	if err == nil && n > 0 {
		err = fmt.Errorf("it holds %d keys; give an empty database, it is emptied at the end", n)
	}
	if err != nil {
		s.admin.Close()
		return nil, fmt.Errorf("taking the Redis of -redis: %w", err)
	}
	s.close = func() {
		// The run's context may be over. What is there is ours: it was empty.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.clear(ctx)
		s.admin.Close()
	}
	return s, nil
}

// clear empties the database between two parts of a run.
func (s *redisStore) clear(ctx context.Context) error {
	if err := s.admin.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("emptying Redis: %w", err)
	}
	return nil
}

func ownRedis() (*redisStore, error) {
	dir, err := os.MkdirTemp("", "stepup-bench")
	if err != nil {
		return nil, fmt.Errorf("making a folder for Redis: %w", err)
	}
	addr, stop, err := redistest.Run(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("no -redis was given, and one of our own cannot be had: %w", err)
	}
	s := newStore(&redis.Options{Addr: addr})
	s.url = "redis://" + addr + "/0"
	s.close = func() {
		s.admin.Close()
		stop()
		os.RemoveAll(dir)
	}
	return s, nil
}

func newStore(o *redis.Options) *redisStore {
	o.ContextTimeoutEnabled, o.DialerRetries = true, 2
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	s := &redisStore{options: o}
	s.admin = redis.NewClient(o)
	return s
}

// client makes a Redis client as `stepup serve` does: a command whose reply was lost is never sent again. Its commands are counted.
func (s *redisStore) client(pool int) *redis.Client {
	o := *s.options
	o.MaxRetries, o.PoolSize = -1, pool
	o.ReadBufferSize, o.WriteBufferSize = 4<<10, 4<<10
	c := redis.NewClient(&o)
	c.AddHook(counter{&s.sent})
	return c
}

// counter is a hook that counts what is sent.
type counter struct{ sent *atomic.Int64 }

func (c counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.sent.Add(1)
		return next(ctx, cmd)
	}
}

func (c counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.sent.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}
