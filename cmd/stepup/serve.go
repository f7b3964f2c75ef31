package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/sdk/trace"

	"stepup/config"
	"stepup/worker"
)

type serveCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration. deploy/stepup.yaml is a complete one."`
	Role   string `enum:"all,api,worker" default:"all" placeholder:"ROLE" help:"What this process does: all (default), api (answers backends) or worker (polls and delivers)."`
}

func (serveCmd) Help() string {
	return `Takes questions from backends (listen.api), asks the providers and polls them, sends the webhooks, and shows operators how it
fares (listen.admin). Several processes share one Redis; when one dies, the others go on with what it had in hand.

SIGTERM drains: no new step-ups; answers under way are awaited (up to 45 s) and stored; exit 0. A second SIGTERM ends the
process at once. SIGHUP reads keys, secrets, providers and callers again; with a mistake in them the old ones stay in use.

Reads:
  the configuration and every file it names; STEPUP_* variables, which lie over
  listen.*, redis.* and telemetry.* of the file; OTEL_* variables.

Exit codes:
  0  drained
  1  a port is taken, Redis will not do, or it cannot go on: the last line of
     the log says why
  2  wrong usage, or mistakes in the configuration: each is a line of the log

Examples:
  stepup check --config stepup.yaml && stepup serve --config stepup.yaml
  stepup serve --config stepup.yaml --role worker`
}

// collectAt is GOGC where the environment names none: waiting step-ups are many and
// small, so less room for garbage is worth a little CPU.
const collectAt = 75

func (c serveCmd) Run(e *env) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if err := harden(); err != nil {
		e.log.Warn("keys in memory are less well kept", "error", err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	s := &service{path: c.Config, environ: os.Environ(), role: worker.Role(c.Role), log: e.log, reload: hup}
	if err := s.run(e.ctx); err != nil {
		tell(e.log, "stepup cannot go on", err)
		return errors.Join(errTold, err)
	}
	return nil
}

// service is one run of `stepup serve`.
type service struct {
	path    string
	environ []string // lies over the file
	role    worker.Role
	log     *slog.Logger
	reload  <-chan os.Signal      // each one reads the configuration again
	watch   []trace.SpanProcessor // see every span

	now     atomic.Pointer[parts] // in use
	started *config.Config        // of which a reload cannot change the constants
	metrics http.Handler          // for operators
	audit   *worker.Audit
	worker  *worker.Worker
	tasks   redis.UniversalClient // for operators
	keepers keepers
}

// run serves until ctx ends and everything in flight is stored. Ports are taken first and Redis is judged next, so a
// start that cannot succeed has touched nothing.
func (s *service) run(ctx context.Context) error {
	p, err := load(s.path, s.environ, nil)
	if err != nil {
		return err
	}
	s.now.Store(p)
	s.started = p.cfg
	if p.cfg.Development {
		s.log.Warn("DEVELOPMENT MODE: http:// and private addresses are allowed; never use this where real people are asked", "file", s.path)
	}
	if os.Geteuid() == 0 && !p.cfg.Development {
		s.log.Warn("RUNNING AS ROOT: the service needs no rights; start it as a user of its own, who owns the secret files", "file", s.path)
	}
	told, err := startTelemetry(ctx, p.exports, s.role, s.log, s.watch...)
	if err != nil {
		return err
	}
	defer told.end()
	s.metrics = told.page
	if s.log, err = countAlarms(s.log, slices.Collect(maps.Keys(p.cfg.Providers))...); err != nil {
		return err
	}
	doors, err := s.open(p)
	if err != nil {
		return err
	}
	defer doors.close()
	rdb, forget, err := openRedis(ctx, p.cfg.Redis, s.log)
	if err != nil {
		return redisFault(err)
	}
	defer forget()
	s.tasks = rdb.tasks
	if s.audit, err = openAudit(p, s.log); err != nil {
		return err
	}
	defer s.audit.Close()
	if s.worker, err = newWorker(p, rdb, worker.Options{Role: s.role, Audit: s.audit, Log: s.log}); err != nil {
		return err
	}
	if err := s.worker.CheckShards(ctx); err != nil {
		return redisFault(err)
	}
	return s.serve(ctx, doors)
}

func openAudit(p *parts, log *slog.Logger) (*worker.Audit, error) {
	audit, err := worker.OpenAudit(p.cfg.AuditFile, log)
	if err != nil {
		return nil, fmt.Errorf("audit_file: %s cannot be used: %w", p.cfg.AuditFile, err)
	}
	return audit, nil
}

// newWorker makes a worker with what the configuration says of it.
func newWorker(p *parts, rdb clients, o worker.Options) (*worker.Worker, error) {
	o.Store, o.Queue, o.Lease, o.Shards = rdb.store, rdb.queue, rdb.lease, p.cfg.Redis.Shards
	o.MaxInFlight, o.MaxInFlightTotal = p.cfg.Worker.MaxInFlight, p.cfg.Worker.MaxInFlightTotal
	o.WaitReplicas = p.cfg.Redis.WaitReplicas
	return worker.New(o, p.settings)
}

// serve runs the worker and the listeners. The listeners outlive the drain, so that backends are told about it and long
// polls get their answers.
func (s *service) serve(ctx context.Context, doors doors) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var background sync.WaitGroup
	s.keepers = keepers{ctx: ctx, wg: &background, log: s.log, running: map[keeper]context.CancelFunc{}}
	s.keepers.follow(s.now.Load().clients)
	background.Go(func() { s.watchReload(ctx) })
	doors.serve(s, fail)
	s.log.Info("stepup serves", append(doors.addresses(), "role", s.role, "version", buildVersion().version)...)

	err := s.worker.Run(ctx)
	if err != nil { // Redis filled up since it was judged, or went away
		err = redisFault(err)
	}
	if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	fail(nil)
	doors.shutdown()
	background.Wait()
	if err == nil {
		s.log.Info("stepup has drained")
	}
	return err
}

// openRedis connects and judges. forget closes everything.
func openRedis(ctx context.Context, cfg config.Redis, log *slog.Logger) (rdb clients, forget func(), err error) {
	redis.SetLogger(redisLog{log})
	stop := func() {}
	inProcess := cfg.URL == embedded
	if inProcess {
		if cfg.URL, stop, err = startEmbedded(log); err != nil {
			return clients{}, nil, err
		}
	}
	if rdb, err = dialRedis(cfg); err != nil {
		stop()
		return clients{}, nil, err
	}
	forget = func() { _ = rdb.Close(); stop() }
	if inProcess { // it keeps nothing, and has said so
		return rdb, forget, nil
	}
	within, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	warnings, err := judgeRedis(within, rdb.store, cfg.WaitReplicas)
	if err != nil {
		forget()
		return clients{}, nil, err
	}
	for _, w := range warnings {
		log.Warn(w)
	}
	return rdb, forget, nil
}

// redisLog hands go-redis's words to slog.
type redisLog struct{ log *slog.Logger }

func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.WarnContext(ctx, "redis: "+strings.TrimPrefix(fmt.Sprintf(format, args...), "redis: "))
}

// tell logs an error, each mistake of a configuration in a line of its own.
func tell(log *slog.Logger, what string, err error) {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		log.Error(what, "error", err)
		return
	}
	for _, p := range problems {
		log.Error(what, "file", p.File, "line", p.Line, "key", p.Key, "error", p.Text)
	}
}
