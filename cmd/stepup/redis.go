package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/config"
)

const (
	storePool = 64 // records: every handler, create and delivery round writes through it
	queuePool = 64 // asynq: acknowledgements of a burst come side by side
	leasePool = 4  // a beat must never queue behind work
	tasksPool = 4  // who looks at the task dashboard must not keep work waiting

	connBuffer = 4 << 10 // each way, of every connection; the client's own 32 KiB are for values we never have
)

// clients are ways to the same Redis: three for worker.Options, and one for admin.Options.
type clients struct {
	store, queue, lease, tasks redis.UniversalClient
}

func (c clients) Close() error {
	return errors.Join(c.store.Close(), c.queue.Close(), c.lease.Close(), c.tasks.Close())
}

// dialRedis makes the clients. It does no I/O: each connects when it is first used.
func dialRedis(cfg config.Redis) (clients, error) {
	base, err := redisOptions(cfg)
	if err != nil {
		return clients{}, err
	}
	make := func(name string, pool int, read time.Duration) redis.UniversalClient {
		o := base
		o.ClientName, o.PoolSize = "stepup-"+name, pool
		o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = read, read, read
		o.ReadBufferSize, o.WriteBufferSize = connBuffer, connBuffer
		if !o.IsClusterMode {
			return redis.NewUniversalClient(&o)
		}
		c := o.Cluster()
		// A master that died says nothing of its successor; the default would look again after a minute.
		c.ClusterStateReloadInterval = time.Second
		return redis.NewClusterClient(c)
	}
	c := clients{
		store: make("store", storePool, 3*time.Second),
		queue: make("queue", queuePool, 5*time.Second),
		lease: make("lease", leasePool, time.Second),
		tasks: make("tasks", tasksPool, 3*time.Second),
	}
	c.queue.AddHook(pauseAfterFailure{})
	return c, nil
}

// redisFault is err under the name of the setting it comes from.
func redisFault(err error) error { return fmt.Errorf("redis.url: %w", redisRemedy(err)) }

// redisRemedy adds to err what to do about a Redis that is not there, lets nobody in, or takes no writes.
func redisRemedy(err error) error {
	if errors.Is(err, context.Canceled) { // whoever stopped us knows
		return err
	}
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return fmt.Errorf("%w; start Redis there, or name the one that runs", err)
	}
	for _, c := range []struct{ prefix, remedy string }{
		{"NOAUTH", "check redis.username and redis.password_file"},
		{"WRONGPASS", "check redis.username and redis.password_file"},
		{"NOPERM", "give the user what deploy/REDIS.md lists"},
		{"OOM", "raise its maxmemory"},
	} {
		if redis.HasErrorPrefix(err, c.prefix) {
			return fmt.Errorf("%w; %s", err, c.remedy)
		}
	}
	return err
}

// redisOptions turns the configuration into what all three clients have in common. The URL has passed config's checks.
func redisOptions(cfg config.Redis) (redis.UniversalOptions, error) {
	o := redis.UniversalOptions{
		Username: cfg.Username,
		Password: secretLine(cfg.Password),
		// A command whose reply was lost must not be sent again behind the scripts' back.
		MaxRetries: -1,
		// One more try: a connection that was refused has executed nothing.
		DialerRetries:         2,
		DialTimeout:           2 * time.Second,
		ContextTimeoutEnabled: true,
		// Redis Cloud's hand-over messages replace connections in the middle of commands.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	form, rest, ok := strings.Cut(cfg.URL, "://")
	if !ok {
		return o, errors.New("redis.url is not a URL")
	}
	hosts, path, _ := strings.Cut(rest, "/")
	encrypted := false
	switch form {
	case "redis", "rediss":
		o.Addrs = withPort(hosts, "6379")
		encrypted = form == "rediss"
		if path != "" {
			db, err := strconv.Atoi(path)
			if err != nil {
				return o, errors.New("redis.url: the database must be a number")
			}
			o.DB = db
		}
	case "unix":
		u, err := url.PathUnescape(rest)
		if err != nil {
			return o, errors.New("redis.url: the socket's path is not well formed")
		}
		o.Addrs = []string{u} // go-redis takes an address that begins with a slash for a socket
	case "redis-sentinel":
		o.Addrs, o.MasterName = withPort(hosts, "26379"), path
		o.SentinelPassword = secretLine(cfg.SentinelPassword)
	case "redis-cluster":
		o.Addrs, o.IsClusterMode = withPort(hosts, "6379"), true
	default:
		return o, fmt.Errorf("redis.url: %s:// is not known", form)
	}
	if t := cfg.TLS; encrypted || t.CA != nil || t.Cert != nil {
		var err error
		if o.TLSConfig, err = clientTLS(t); err != nil {
			return o, fmt.Errorf("redis.tls: %w", err)
		}
	}
	return o, nil
}

// secretLine is a password file's content without the newline that editors put at the end.
func secretLine(s config.Secret) string { return strings.TrimRight(string(s.Bytes()), "\r\n") }

// withPort splits a comma list of hosts and gives those without a port the default one.
func withPort(list, port string) []string {
	hosts := strings.Split(list, ",")
	for i, h := range hosts {
		if strings.LastIndexByte(h, ':') <= strings.LastIndexByte(h, ']') {
			hosts[i] = h + ":" + port
		}
	}
	return hosts
}

// clientTLS trusts t.CA, or the system's roots, and shows t.Cert where there is one.
func clientTLS(t config.ClientTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != nil {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errors.New("ca_file holds no certificate")
		}
	}
	if t.Cert != nil {
		pair, err := tls.X509KeyPair(t.Cert, t.Key.Bytes())
		if err != nil {
			return nil, errors.New("cert_file and key_file do not belong together")
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
