package worker

import (
	"context"
	"net"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// toldActive is how many active tasks a server describes in a heartbeat.
const toldActive = 20

// brief is a hook of asynq's client. Every five seconds asynq writes a description
// of every active task to Redis: with ten thousand step-ups in flight more bytes
// than their polls, and a third of what they weigh. Nothing rests on it; a
// dashboard reads the active tasks from the queue itself, and from here only when
// they started. So the description stops after the first few.
type brief struct{}

// The script's arguments: EVALSHA, hash, number of keys, servers key, workers key,
// ttl, server; then a task and its description, by turns.
const (
	argServers = 3
	argTasks   = 7
)

// DialHook implements redis.Hook.
func (brief) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (brief) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		long, ok := cmd.(*redis.Cmd)
		if !ok || !isHeartbeat(cmd.Args()) {
			return next(ctx, cmd)
		}
		short := redis.NewCmd(ctx, slices.Clip(cmd.Args()[:argTasks+2*toldActive])...)
		err := next(ctx, short)
		long.SetVal(short.Val())
		long.SetErr(short.Err())
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (brief) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// isHeartbeat reports whether these are the arguments of a heartbeat that is too long.
func isHeartbeat(args []any) bool {
	if len(args) <= argTasks+2*toldActive {
		return false
	}
	servers, _ := args[argServers].(string)
	workers, _ := args[argServers+1].(string)
	return strings.HasPrefix(servers, "asynq:servers:") && strings.HasPrefix(workers, "asynq:workers:")
}
