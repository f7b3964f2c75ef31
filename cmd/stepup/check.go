package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/config"
	"stepup/worker"
)

type checkCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration."`
	Online bool   `help:"Also reach Redis and every provider: discovery and key set."`
}

func (checkCmd) Help() string {
	return `Loads everything that serve would load and prints every mistake with its file, line and remedy. Nothing is sent and nothing
is changed, so it can be run beside the service, before SIGHUP.

Reads:
  the configuration and every file it names; STEPUP_* variables. With --online
  also Redis, where a key is written and taken away again, and each provider's
  discovery document and key set.

Exit codes:
  0  serve will start
  1  with --online: something could not be reached, or Redis will not do
  2  wrong usage, or mistakes in the configuration

Examples:
  stepup check --config stepup.yaml
  stepup check --config stepup.yaml --online`
}

func (c checkCmd) Run(e *env) error {
	p, err := load(c.Config, os.Environ(), nil)
	if problems, ok := errors.AsType[config.Problems](err); ok {
		for _, one := range problems {
			fmt.Fprintln(e.stdout, one)
		}
		fmt.Fprintf(e.stdout, "%s: %s\n", c.Config, count(len(problems), "mistake"))
		return errors.Join(errTold, problems)
	}
	if err != nil {
		return err
	}
	if p.cfg.Development {
		fmt.Fprintf(e.stdout, "%s: development: true; not for real people\n", c.Config)
	}
	if c.Online && !c.online(e, p) {
		return errTold
	}
	fmt.Fprintf(e.stdout, "%s: good: %s, %s\n", c.Config, count(len(p.cfg.Providers), "provider"), count(len(p.cfg.Callers), "caller"))
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// online tries what serve needs of others, side by side, and prints a line for each.
func (c checkCmd) online(e *env, p *parts) bool {
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Second)
	defer cancel()
	tries := map[string]func() reached{"redis.url": func() reached { return reachRedis(ctx, p) }}
	for name, client := range p.clients {
		tries["providers."+name] = func() reached { return reachProvider(ctx, client) }
	}
	results := map[string]reached{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, try := range tries {
		wg.Go(func() {
			r := try()
			mu.Lock()
			defer mu.Unlock()
			results[name] = r
		})
	}
	wg.Wait()
	good := true
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		for _, w := range r.warnings {
			fmt.Fprintf(e.stdout, "%s: %s: warning: %s\n", c.Config, name, w)
		}
		if r.err != nil {
			good = false
			fmt.Fprintf(e.stdout, "%s: %s: %v\n", c.Config, name, r.err)
		} else {
			fmt.Fprintf(e.stdout, "%s: %s: %s\n", c.Config, name, cmp.Or(r.instead, "reached"))
		}
	}
	return good
}

// reached is what came of one try: what serve would warn about, and why it would not do.
type reached struct {
	warnings []string
	instead  string // of having been reached
	err      error
}

func reachProvider(ctx context.Context, client *ciba.Client) (r reached) {
	r.err = client.Ready(ctx)
	if client.LeakedKeys() > 0 {
		r.warnings = append(r.warnings, leakedKeys)
	}
	return r
}

// reachRedis connects, judges and writes as serve does, and leaves nothing behind.
func reachRedis(ctx context.Context, p *parts) (r reached) {
	cfg := p.cfg.Redis
	if cfg.URL == embedded {
		return reached{instead: "embedded, nothing to reach"}
	}
	redis.SetLogger(redisLog{slog.New(slog.DiscardHandler)}) // the error says it all
	rdb, err := dialRedis(cfg)
	if err != nil {
		return reached{err: err}
	}
	defer rdb.Close()
	r.warnings, err = judgeRedis(ctx, rdb.store, cfg.WaitReplicas)
	if err == nil {
		err = tryShards(ctx, p, rdb)
	}
	r.err = redisRemedy(err)
	return r
}

// tryShards makes a worker, which does not run.
func tryShards(ctx context.Context, p *parts, rdb clients) error {
	w, err := newWorker(p, rdb, worker.Options{Role: worker.RoleAPI, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return w.TryShards(ctx)
}
