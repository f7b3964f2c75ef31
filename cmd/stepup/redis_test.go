package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/config"
	"stepup/worker/redistest"
)

// Every form of redis.url becomes the client that speaks to it.
func TestRedisURL(t *testing.T) {
	for _, c := range []struct {
		url    string
		addrs  []string
		db     int
		master string
		kind   string
		tls    bool
	}{
		{"redis://127.0.0.1:6379/0", []string{"127.0.0.1:6379"}, 0, "", "single", false},
		{"redis://cache", []string{"cache:6379"}, 0, "", "single", false},
		{"redis://[::1]/3", []string{"[::1]:6379"}, 3, "", "single", false},
		{"rediss://cache:7000/2", []string{"cache:7000"}, 2, "", "single", true},
		{"unix:///run/redis/redis.sock", []string{"/run/redis/redis.sock"}, 0, "", "single", false},
		{"redis-sentinel://s1,s2:26380/mymaster", []string{"s1:26379", "s2:26380"}, 0, "mymaster", "single", false},
		{"redis-cluster://c1,c2:7001", []string{"c1:6379", "c2:7001"}, 0, "", "cluster", false},
		{"redis-cluster://entry:6379", []string{"entry:6379"}, 0, "", "cluster", false},
	} {
		t.Run(c.url, func(t *testing.T) {
			o, err := redisOptions(config.Redis{URL: c.url, Username: "me"})
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(o.Addrs, c.addrs) || o.DB != c.db || o.MasterName != c.master || (o.TLSConfig != nil) != c.tls || o.Username != "me" {
				t.Errorf("addresses %v, database %d, master %q, TLS %v", o.Addrs, o.DB, o.MasterName, o.TLSConfig != nil)
			}
			clients, err := dialRedis(config.Redis{URL: c.url})
			if err != nil {
				t.Fatal(err)
			}
			defer clients.Close()
			for _, client := range []redis.UniversalClient{clients.store, clients.queue, clients.lease} {
				_, isCluster := client.(*redis.ClusterClient)
				if isCluster != (c.kind == "cluster") {
					t.Errorf("got a %T", client)
				}
			}
		})
	}
}

// What all clients have in common, and the store's pool.
func TestRedisClients(t *testing.T) {
	c, err := dialRedis(config.Redis{URL: "redis://127.0.0.1:1/0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, client := range []redis.UniversalClient{c.store, c.queue, c.lease} {
		o := client.(*redis.Client).Options()
		if o.MaxRetries != 0 { // go-redis turns -1 into 0: no retries
			t.Errorf("%s: a command may be sent %d times more", o.ClientName, o.MaxRetries)
		}
		if o.MaintNotificationsConfig.Mode != maintnotifications.ModeDisabled {
			t.Errorf("%s: maintenance notifications are %s", o.ClientName, o.MaintNotificationsConfig.Mode)
		}
		if !o.ContextTimeoutEnabled {
			t.Errorf("%s: contexts do not end commands", o.ClientName)
		}
	}
	if n := c.store.(*redis.Client).Options().PoolSize; n < 64 {
		t.Errorf("store's pool is %d", n)
	}
	if o := c.lease.(*redis.Client).Options(); o.ReadTimeout > time.Second {
		t.Errorf("a beat may hang for %s, longer than between two", o.ReadTimeout)
	}
}

func TestRedisURLRefused(t *testing.T) {
	for _, url := range []string{"127.0.0.1:6379", "redis://h/x", "http://h", "embedded"} {
		if _, err := redisOptions(config.Redis{URL: url}); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}

// Passwords come from files, whose last newline is not meant; TLS trusts the named authority alone.
func TestRedisSecrets(t *testing.T) {
	dir := t.TempDir()
	selfSigned(t, dir, "ca")
	write(t, dir, "password", "correct horse\n")
	write(t, dir, "sentinel", "battery staple\r\n")
	write(t, dir, "stepup.yaml", `redis: {url: "redis-sentinel://s1/m", password_file: password, sentinel_password_file: sentinel, tls: {ca_file: ca.crt}}`)
	cfg, _ := config.Load(filepath.Join(dir, "stepup.yaml"), nil) // the rest is missing, which is not the point
	o, err := redisOptions(cfg.Redis)
	if err != nil {
		t.Fatal(err)
	}
	if o.Password != "correct horse" || o.SentinelPassword != "battery staple" {
		t.Error("the passwords are not the files' first lines")
	}
	if o.TLSConfig == nil || o.TLSConfig.RootCAs == nil {
		t.Error("the authority is not used")
	}
}

// A script that failed is held for 250 ms; what is no failure is not.
func TestPauseAfterFailure(t *testing.T) {
	for _, c := range []struct {
		name, command string
		err           error
		want          time.Duration
	}{
		{"out of memory", "evalsha", errors.New("OOM command not allowed when used memory > 'maxmemory'"), 250 * time.Millisecond},
		{"connection refused", "EVALSHA", errors.New("dial tcp: connection refused"), 250 * time.Millisecond},
		{"script not known yet", "evalsha", redisError("NOSCRIPT No matching script"), 0},
		{"nothing to do", "evalsha", redis.Nil, 0},
		{"success", "evalsha", nil, 0},
		{"another command", "get", errors.New("dial tcp: connection refused"), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				process := pauseAfterFailure{}.ProcessHook(func(context.Context, redis.Cmder) error { return c.err })
				if err := process(t.Context(), redis.NewCmd(t.Context(), c.command, "x")); err != c.err {
					t.Errorf("error is %v", err)
				}
				if took := time.Since(began); took != c.want {
					t.Errorf("held for %s, want %s", took, c.want)
				}
			})
		})
	}
}

type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}

// What Redis says of itself decides whether the service starts.
func TestJudge(t *testing.T) {
	const safe = "redis_version:7.0.15\r\nrole:master\r\naof_enabled:1\r\n"
	for _, c := range []struct {
		name, info, fsync string
		cluster           bool
		wait              int
		refused           string   // part of the error
		warned            []string // part of each warning
	}{
		{name: "safe", info: safe + "maxmemory:1000\r\nmaxmemory_policy:noeviction", fsync: "always"},
		{name: "no limit", info: safe + "maxmemory:0\r\nmaxmemory_policy:noeviction"},
		{name: "evicts", info: safe + "maxmemory:1000\r\nmaxmemory_policy:allkeys-lru", refused: "maxmemory-policy noeviction"},
		{name: "evicts what expires", info: safe + "maxmemory:1000\r\nmaxmemory_policy:volatile-ttl", refused: "volatile-ttl"},
		{name: "would evict", info: safe + "maxmemory:0\r\nmaxmemory_policy:allkeys-lru", warned: []string{"noeviction"}},
		{name: "forgets", info: "role:master\r\naof_enabled:0\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction", fsync: "always", warned: []string{"appendonly yes"}},
		{name: "forgets a second", info: safe, fsync: "everysec", warned: []string{"last second"}},
		{name: "forgets half a minute", info: safe, fsync: "no", warned: []string{"half a minute"}},
		{name: "replica", info: "role:slave\r\naof_enabled:1", refused: "replica"},
		{name: "cluster node", info: safe + "cluster_enabled:1", refused: "redis-cluster://"},
		{name: "cluster", info: safe + "cluster_enabled:1", cluster: true},
		{name: "too old", info: "redis_version:6.0.16\r\nrole:master\r\naof_enabled:1", refused: "6.2"},
		{name: "much too old", info: "redis_version:5.0.7\r\nrole:master\r\naof_enabled:1", refused: "6.2"},
		{name: "just new enough", info: "redis_version:6.2.0\r\nrole:master\r\naof_enabled:1"},
		{name: "two digits", info: "redis_version:10.0.1\r\nrole:master\r\naof_enabled:1"},
		{name: "version unknown", info: "redis_version:unstable\r\nrole:master\r\naof_enabled:1"},
		{name: "replicas that nobody waits for", info: safe + "connected_slaves:2", warned: []string{"wait_replicas: 1"}},
		{name: "replicas enough", info: safe + "connected_slaves:1", wait: 1},
		{name: "too few replicas", info: safe + "connected_slaves:1", wait: 2, warned: []string{"has 1 replicas connected"}},
		{name: "no replicas", info: safe + "connected_slaves:0", wait: 1, fsync: "everysec", warned: []string{"appendfsync always", "creates are refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts{info: map[string]string{}, fsync: c.fsync, cluster: c.cluster, wait: c.wait}
			f.read(c.info)
			warnings, err := f.judge()
			if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("error %v, want one about %q", err, c.refused)
			}
			if len(warnings) != len(c.warned) {
				t.Fatalf("warnings %q, want %q", warnings, c.warned)
			}
			for i, want := range c.warned {
				if !strings.Contains(warnings[i], want) {
					t.Errorf("warning %q, want one about %q", warnings[i], want)
				}
			}
		})
	}
}

// The same against real servers.
func TestJudgeRedis(t *testing.T) {
	judge := func(wait int, args ...string) ([]string, error) {
		c, err := dialRedis(config.Redis{URL: "redis://" + redistest.Start(t, args...) + "/0"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return judgeRedis(t.Context(), c.store, wait)
	}
	safe := []string{"--appendonly", "yes", "--appendfsync", "always", "--maxmemory", "100mb"}
	if w, err := judge(0, safe...); err != nil || len(w) > 0 {
		t.Errorf("a safe one: %v, %v", w, err)
	}
	if w, err := judge(0, append(safe, "--rename-command", "CONFIG", "")...); err != nil || len(w) > 0 {
		t.Errorf("a safe one that may not be asked: %v, %v", w, err)
	}
	if w, err := judge(1, safe...); err != nil || len(w) != 1 {
		t.Errorf("one without replicas: %q, %v; want one warning", w, err)
	}
	if w, err := judge(0, "--appendonly", "yes"); err != nil || len(w) != 1 {
		t.Errorf("one that forgets a second: %q, %v; want one warning", w, err)
	}
	if _, err := judge(0, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"); err == nil {
		t.Error("one that evicts was taken")
	}
	if w, err := judge(0); err != nil || len(w) != 1 {
		t.Errorf("one that forgets: %q, %v; want one warning", w, err)
	}
}

// The embedded Redis lets keys expire.
func TestEmbeddedExpires(t *testing.T) {
	url, stop, err := startEmbedded(newLog(t.Output(), "text"))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := dialRedis(config.Redis{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.store.Set(t.Context(), "k", "v", time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key expires", func() bool { return c.store.Exists(t.Context(), "k").Val() == 0 })
}

// write makes a file that only its owner reads.
func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition of the world outside, long enough for a machine that has much else to do.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !ok() {
		if !sleep(ctx, 20*time.Millisecond) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
