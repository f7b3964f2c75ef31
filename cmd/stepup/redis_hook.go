package main

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// afterFailure is how long asynq's fetching loops are held after an error. They do not wait by themselves: at maxmemory
// nine idle servers send 35,000 commands a second.
const afterFailure = 250 * time.Millisecond

// pauseAfterFailure is a hook of the queue's client: a script that failed comes back a little later. NOSCRIPT is no
// failure, the script is sent in full next.
type pauseAfterFailure struct{}

func (pauseAfterFailure) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (pauseAfterFailure) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if failedScript(cmd, err) {
			select {
			case <-ctx.Done():
			case <-time.After(afterFailure):
			}
		}
		return err
	}
}

func (pauseAfterFailure) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func failedScript(cmd redis.Cmder, err error) bool {
	return err != nil && err != redis.Nil && strings.EqualFold(cmd.Name(), "evalsha") && !redis.HasErrorPrefix(err, "NOSCRIPT")
}
