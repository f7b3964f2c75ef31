package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"stepup/ciba/cibatest"
)

// site is two processes of the service with everything around them: a Redis of their own, the simulated provider, a
// receiver of webhooks.
type site struct {
	*kit
	dir   string
	redis *redisServer // nil when the setup names another
	op    *provider
	in    *receiver
	bank  *bank
	env   []string // of the processes
	crew  [2]*service
}

// service is one process of the service, however often it is started.
type service struct {
	*process           // the last one; nil before the first start
	name, api, admin   string
	kid                string // of the key by which it signs
	signalled, notZero int    // how many ended after a SIGTERM, and how many of these not with 0
}

// setup is what sites differ in.
type setup struct {
	redisURL string        // empty: a redis-server of the site's own
	hold     time.Duration // how long the provider may hold a poll
	env      []string      // of the processes
	provider func(*cibatest.Config)
}

const siteConfig = `development: true
redis: {url: "%[1]s", shards: 2}
seal: {keys_file: "%[2]s/seal.keys"}
worker: {max_in_flight: 4000, max_in_flight_total: 8000}
providers:
  sim:
    issuer: %[3]s
    profile: singpass
    client_id: crash-bank
    keys_file: "%[2]s/%[6]s.jwks.json"
    poll: {interval: 1s, hold: %[4]s}
callers:
  bank:
    api_keys_file: secrets/bank.apikeys
    providers: [sim]
    may_list: true
    webhooks:
      - {name: ledger, url: "%[5]s", secrets_file: secrets/ledger.whsec}
limits:
  per_person: {in_flight: 5, per_hour: 1000}
  per_caller: {rate: 5000, burst: 5000}
`

// openSite prepares everything but starts no process of the service.
func openSite(ctx context.Context, k *kit, dir string, o setup) (s *site, err error) {
	opened := &site{kit: k, dir: dir, env: o.env}
	s = opened
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	for _, d := range []string{"redis", "secrets", "fail"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	if o.redisURL == "" {
		port, err := k.ports.next()
		if err != nil {
			return nil, err
		}
		if s.redis, err = startRedis(ctx, filepath.Join(dir, "redis"), port); err != nil {
			return nil, err
		}
		o.redisURL = s.redis.url()
	}
	if s.op, err = openProvider(k.public, o.provider); err != nil {
		return nil, err
	}
	if s.in, err = openReceiver(); err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		"a.yaml":               fmt.Sprintf(siteConfig, o.redisURL, k.keys(), s.op.url, o.hold, s.in.url, names[0]),
		"b.yaml":               fmt.Sprintf(siteConfig, o.redisURL, k.keys(), s.op.url, o.hold, s.in.url, names[1]),
		"secrets/bank.apikeys": k.apiLine + "\n",
		"secrets/ledger.whsec": s.in.secret + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return s, s.address()
}

// address gives each process its ports, for good.
func (s *site) address() error {
	var urls []string
	for i := range s.crew {
		api, err := s.ports.next()
		if err != nil {
			return err
		}
		admin, err := s.ports.next()
		if err != nil {
			return err
		}
		s.crew[i] = &service{name: names[i], kid: s.kids[i], api: fmt.Sprintf("127.0.0.1:%d", api), admin: fmt.Sprintf("127.0.0.1:%d", admin)}
		urls = append(urls, "http://"+s.crew[i].api)
	}
	s.bank = newBank(s.apiKey, urls...)
	return nil
}

// start starts a process that is not running; ready waits for it.
func (s *site) start(p *service) (err error) {
	env := append([]string{"STEPUP_LISTEN_API=" + p.api, "STEPUP_LISTEN_ADMIN=" + p.admin}, s.env...)
	p.process, err = launch(filepath.Join(s.dir, "service-"+p.name+".log"), env,
		s.program, "serve", "--role", "all", "--config", filepath.Join(s.dir, p.name+".yaml"))
	return err
}

// startAll starts those that do not run and waits until all are ready.
func (s *site) startAll(ctx context.Context, crew ...*service) error {
	for _, p := range crew {
		if p.process == nil || !p.alive() {
			if err := s.start(p); err != nil {
				return err
			}
		}
	}
	for _, p := range crew {
		if err := s.ready(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) ready(ctx context.Context, p *service) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	err := until(ctx, "process "+p.name+" is ready", 30*time.Second, func() bool {
		res, err := client.Get("http://" + p.admin + "/readyz")
		if err != nil {
			return !p.alive()
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if err == nil && !p.alive() {
		err = fmt.Errorf("process %s ended at its start; see its log in %s", p.name, s.dir)
	}
	return err
}

// drainTime is what a drain may take: an answer held for 40 s and what must be stored after it.
const drainTime = 60 * time.Second

// drained waits for the end after SIGTERM and counts an exit code that is not 0.
func (p *service) drained(ctx context.Context) error {
	code, err := p.exit(ctx, drainTime)
	p.signalled++
	if err != nil || code != 0 {
		p.notZero++
	}
	if err != nil && ctx.Err() == nil {
		return nil // counted
	}
	return err
}

// pidIs finds the process with this id.
func (s *site) pidIs(pid int) (*service, error) {
	for _, p := range s.crew {
		if p.process != nil && p.pid() == pid {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no process of the site has the id %d", pid)
}

// leaks looks for secrets in the clear in everything that Redis and the processes wrote.
func (s *site) leaks(secrets map[string]string) (found []string, err error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(filepath.Join(s.dir, "redis"), func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for secret, what := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, what+" in "+filepath.Base(name))
			}
		}
	}
	return found, nil
}

// halt ends all processes; what they wrote stays.
func (s *site) halt() {
	for _, p := range s.crew {
		if p != nil && p.process != nil {
			p.kill()
		}
	}
	if s.redis != nil && s.redis.process != nil {
		s.redis.kill()
	}
}

func (s *site) close() {
	s.halt()
	if s.op != nil {
		s.op.close()
	}
	if s.in != nil {
		s.in.close()
	}
	if s.bank != nil {
		s.bank.client.CloseIdleConnections()
	}
}
