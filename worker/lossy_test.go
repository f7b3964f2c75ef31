package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// The two ways to lose a command: it never reached Redis, or its reply never came back.
const (
	before = "before"
	after  = "after"
)

var errLostCommand = errors.New("the connection broke")

// loss is one command that is lost, counted among those of one step-up.
type loss struct {
	class string // of the clients that count: records or tasks
	when  string // before or after it was executed
	at    int    // the at-th command, from 1; 0: none

	mu    sync.Mutex
	names []string // what the step-up is known by: its idempotency key, its person, its id
	seen  int
	lost  string // which command it was; empty: none yet
}

// counts reports whether this command is the one to be lost.
func (l *loss) counts(cmds []redis.Cmder, h *lossy, label, when string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Looked at by every client: one learns the id and another counts.
	if !l.isNamed(cmds, h.class == tasks && when == after) || l.lost != "" || l.class != h.class || l.when != when {
		return false
	}
	if l.seen++; l.seen != l.at {
		return false
	}
	l.lost = label
	return true
}

func (l *loss) isNamed(cmds []redis.Cmder, replies bool) bool {
	for _, cmd := range cmds {
		args := printed(cmd.Args())
		for _, name := range l.names {
			if strings.Contains(args, name) {
				l.learn(args)
				return true
			}
			if c, ok := cmd.(*redis.Cmd); ok && replies && strings.Contains(printed([]any{c.Val()}), name) {
				return true
			}
		}
	}
	return false
}

// learn finds the step-up's id in a command that names it otherwise.
func (l *loss) learn(args string) {
	long := len(newID(0))
	if i := strings.Index(args, "su_"); i >= 0 && len(args) >= i+long {
		if id := args[i : i+long]; validID(id, 64) && !slices.Contains(l.names, id) {
			l.names = append(l.names, id)
		}
	}
}

func (l *loss) what() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// printed is arguments or replies as one text.
func printed(args []any) string {
	var b strings.Builder
	for _, a := range args {
		switch v := a.(type) {
		case string:
			b.WriteString(v)
		case []byte:
			b.Write(v)
		default:
			fmt.Fprint(&b, v)
		}
		b.WriteByte(' ')
	}
	return b.String()
}

// The classes of clients: those of the store and the lease, and asynq's. Of
// asynq's commands those are not counted that are about all active tasks at once,
// and replies that bring the task are.
const (
	records = "records"
	tasks   = "tasks"
)

// lossy is a client of a worker, on which commands are lost.
type lossy struct {
	class string

	mu     sync.Mutex
	losses []*loss
}

func (h *lossy) lose(l *loss) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.losses = append(h.losses, l)
}

func (h *lossy) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *lossy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.pass([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (h *lossy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.pass(cmds, func() error { return next(ctx, cmds) })
	}
}

func (h *lossy) pass(cmds []redis.Cmder, next func() error) error {
	label := labelOf(cmds)
	if h.class == tasks && (strings.HasPrefix(label, "zadd") || strings.Contains(printed(cmds[0].Args()), "asynq:workers")) {
		return next() // leases and heartbeats of every active task
	}
	if h.loses(cmds, before, label) {
		return lost(cmds)
	}
	err := next()
	if h.loses(cmds, after, label) {
		return lost(cmds)
	}
	return err
}

func (h *lossy) loses(cmds []redis.Cmder, when, label string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	hit := false
	for _, l := range h.losses {
		if l.counts(cmds, h, label, when) {
			hit = true
		}
	}
	return hit
}

func lost(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		cmd.SetErr(errLostCommand)
	}
	return errLostCommand
}

// scriptNames are our scripts by their hash.
var scriptNames = sync.OnceValue(func() map[string]string {
	names := map[string]string{}
	files, err := scriptFiles.ReadDir("scripts")
	if err != nil {
		panic(err) // embedded at build
	}
	for _, f := range files {
		if name := strings.TrimSuffix(f.Name(), ".lua"); name != "prelude" {
			names[script(name).Hash()] = name
		}
	}
	return names
})

// labelOf is a name for people: our script's, or the command and its first key
// without what is different in every run.
func labelOf(cmds []redis.Cmder) string {
	var parts []string
	for _, cmd := range cmds {
		args := cmd.Args()
		name, key := cmd.Name(), ""
		if strings.HasPrefix(name, "eval") && len(args) > 3 {
			sha, _ := args[1].(string)
			if ours := scriptNames()[sha]; ours != "" {
				parts = append(parts, ours)
				continue
			}
			key, _ = args[3].(string)
		} else if len(args) > 1 {
			key, _ = args[1].(string)
		}
		if _, rest, ok := strings.Cut(key, "}:"); ok {
			key, _, _ = strings.Cut(rest, ":")
		}
		parts = append(parts, name+" "+key)
	}
	return strings.Join(parts, ", ")
}
