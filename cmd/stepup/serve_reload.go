package main

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"stepup/ciba"
	"stepup/config"
)

// watchReload reads the configuration again whenever it is told to, until ctx ends.
func (s *service) watchReload(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reload:
			s.reloadOnce()
		}
	}
}

// reloadOnce takes the configuration's new state into use, or keeps the old one and tells every mistake.
func (s *service) reloadOnce() {
	old := s.now.Load()
	fresh, err := load(s.path, s.environ, old)
	if err != nil {
		tell(s.log, "reload refused, the old configuration stays in use", err)
		s.reopenAudit(old.cfg.AuditFile) // which may have been moved away all the same
		return
	}
	if !s.reopenAudit(fresh.cfg.AuditFile) {
		return
	}
	if fixed(fresh.cfg) != fixed(s.started) {
		s.log.Warn("addresses, TLS on a listener or none, redis.*, worker.* or telemetry.* differ from what runs; they take effect at the next start")
	}
	s.worker.Reload(fresh.settings)
	s.now.Store(fresh)
	s.keepers.follow(fresh.clients)
	s.log.Info("reloaded", "providers", len(fresh.cfg.Providers), "callers", len(fresh.cfg.Callers))
}

// reopenAudit lets go of an audit file that was moved away, or takes another one into use.
func (s *service) reopenAudit(path string) bool {
	err := s.audit.Reopen(path)
	if err != nil {
		s.log.Error("audit_file cannot be opened again; the one in use stays in use, and so does the old configuration", "alarm", true, "file", path, "error", err)
	}
	return err == nil
}

// constants are what a running process cannot change.
type constants struct {
	api, public, admin, redis, user, redisFiles string
	apiTLS, adminTLS                            bool
	shards, replicas                            int
	worker                                      config.Worker
	telemetry                                   config.Telemetry
}

func fixed(c *config.Config) constants {
	r := c.Redis
	files := bytes.Join([][]byte{r.Password.Bytes(), r.SentinelPassword.Bytes(), r.TLS.CA, r.TLS.Cert, r.TLS.Key.Bytes()}, []byte{0})
	return constants{
		c.Listen.API, c.Listen.Public, c.Listen.Admin, r.URL, r.Username, string(files),
		c.Listen.TLS.Cert != nil, c.Listen.AdminTLS.Cert != nil, r.Shards, r.WaitReplicas, c.Worker, c.Telemetry,
	}
}

// keeper is one provider's client that is kept ready.
type keeper struct {
	name   string
	client *ciba.Client
}

// keepers keep the endpoints and keys of every provider in hand, so that the first answer needs no fetch. A provider that
// is down stops nothing.
type keepers struct {
	ctx     context.Context
	wg      *sync.WaitGroup
	log     *slog.Logger
	running map[keeper]context.CancelFunc
}

// follow starts keepers for new clients and ends those of clients that are gone.
func (ks *keepers) follow(clients map[string]*ciba.Client) {
	wanted := map[keeper]bool{}
	for name, c := range clients {
		k := keeper{name, c}
		wanted[k] = true
		if ks.running[k] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ks.ctx)
		ks.running[k] = stop
		ks.wg.Go(func() { k.keep(ctx, ks.log.With("provider", name)) })
	}
	for k, stop := range ks.running {
		if !wanted[k] {
			stop()
			delete(ks.running, k)
		}
	}
}

const (
	refreshEvery = time.Hour        // as long as Singpass asks to cache
	refreshAgain = time.Minute      // after a refresh that failed
	retryAtMost  = 30 * time.Second // between tries while there is nothing in hand
)

// keep loads what the provider publishes, again and again until it is there, and once an hour from then on.
func (k keeper) keep(ctx context.Context, log *slog.Logger) {
	for wait := time.Second; ; wait = min(2*wait, retryAtMost) {
		err := k.client.Ready(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			log.Info("provider is ready")
			k.alarm(log)
			break
		}
		log.Warn("provider is not ready, trying again", "error", err)
		if !sleep(ctx, wait) {
			return
		}
	}
	for wait := refreshEvery; sleep(ctx, wait); {
		wait = refreshEvery
		if err := k.client.RefreshKeys(ctx, time.Now().Add(-refreshEvery/2)); err != nil && ctx.Err() == nil {
			log.Warn("provider's keys could not be refreshed, the old ones stay in use", "error", err)
			wait = refreshAgain
		}
		k.alarm(log)
	}
}

// alarm tells of keys that the provider should never have published.
func (k keeper) alarm(log *slog.Logger) {
	if n := k.client.LeakedKeys(); n > 0 {
		log.Error(leakedKeys, "alarm", true, "keys", n)
	}
}

const leakedKeys = "the provider publishes keys with their secret part; they are not used, tell the provider to replace them"

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
