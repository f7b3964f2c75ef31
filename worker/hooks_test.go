package worker

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// cut is a worker's connection to Redis, to be cut.
type cut struct{ off atomic.Bool }

var errNoRedis = errors.New("redis is cut off")

func (c *cut) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *cut) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := c.look(); err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (c *cut) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := c.look(); err != nil {
				cmd.SetErr(err)
				return err
			}
		}
		return next(ctx, cmds)
	}
}

func (c *cut) look() error {
	if c.off.Load() {
		time.Sleep(time.Second) // in bubbles only; asynq does not pause by itself
		return errNoRedis
	}
	return nil
}

// named counts the commands that name a step-up, on the client that keeps the
// records. (asynq's heartbeat names active tasks every few seconds, in bulk.)
type named struct {
	id    atomic.Value // string; unset: nothing is counted
	count atomic.Int64
}

func (n *named) DialHook(next redis.DialHook) redis.DialHook { return next }

func (n *named) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n.look(cmd)
		return next(ctx, cmd)
	}
}

func (n *named) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			n.look(cmd)
		}
		return next(ctx, cmds)
	}
}

func (n *named) look(cmd redis.Cmder) {
	id, _ := n.id.Load().(string)
	for _, a := range cmd.Args() {
		if s, ok := a.(string); ok && id != "" && strings.Contains(s, id) {
			n.count.Add(1)
			return
		}
	}
}
