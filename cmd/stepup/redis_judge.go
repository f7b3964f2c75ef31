package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// judgeRedis reads from INFO whether this Redis keeps what it acknowledges (managed ones refuse CONFIG). The error is a
// reason not to start; the warnings are what the operator must know. In a cluster every master is judged. wait is
// redis.wait_replicas.
func judgeRedis(ctx context.Context, c redis.UniversalClient, wait int) (warnings []string, err error) {
	cluster, ok := c.(*redis.ClusterClient)
	if !ok {
		return judgeNode(ctx, c, false, wait)
	}
	var mu sync.Mutex
	said := map[string]bool{}
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		w, err := judgeNode(ctx, node, true, wait)
		mu.Lock()
		defer mu.Unlock()
		for _, text := range w {
			if !said[text] {
				said[text] = true
				warnings = append(warnings, text)
			}
		}
		return err
	})
	return warnings, err
}

func judgeNode(ctx context.Context, node redis.Cmdable, cluster bool, wait int) ([]string, error) {
	f := facts{info: map[string]string{}, cluster: cluster, wait: wait}
	for _, section := range []string{"server", "memory", "persistence", "replication", "cluster"} {
		text, err := node.Info(ctx, section).Result()
		if err != nil {
			return nil, fmt.Errorf("asking Redis how it is set up: %w", err)
		}
		f.read(text)
	}
	// INFO does not say how often the log is flushed. Who may not ask is managed, and trusts the one who manages.
	if v, err := node.ConfigGet(ctx, "appendfsync").Result(); err == nil {
		f.fsync = v["appendfsync"]
	}
	return f.judge()
}

// facts are what a Redis says of itself, and what is asked of it.
type facts struct {
	info    map[string]string
	fsync   string // empty: not known
	cluster bool   // the URL says so
	wait    int
}

func (f *facts) read(info string) {
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f.info[name] = value
		}
	}
}

func (f *facts) judge() (warnings []string, err error) {
	v := f.info
	policy := v["maxmemory_policy"]
	switch {
	case !newEnough(v["redis_version"]):
		return nil, fmt.Errorf("this Redis is version %s; 6.2 or newer is needed", v["redis_version"])
	case v["role"] == "slave":
		return nil, errors.New("this Redis is a replica and takes no writes; name the master in redis.url, or use redis-sentinel://")
	case v["cluster_enabled"] == "1" && !f.cluster:
		return nil, errors.New("this Redis is part of a cluster; write redis-cluster:// in redis.url")
	case policy != "" && policy != "noeviction" && v["maxmemory"] != "0":
		return nil, fmt.Errorf("this Redis evicts keys when its memory is full (maxmemory-policy %s), so step-ups would vanish; set maxmemory-policy noeviction", policy)
	}
	if policy != "" && policy != "noeviction" {
		warnings = append(warnings, "Redis would evict keys once maxmemory is set (maxmemory-policy "+policy+"): set noeviction")
	}
	return append(append(warnings, f.onDisk()...), f.onReplicas()...), nil
}

// onDisk is about a crash of the one machine.
func (f *facts) onDisk() []string {
	switch {
	case f.info["aof_enabled"] != "1":
		return []string{"Redis forgets acknowledged writes when it crashes (appendonly is off): step-ups in flight can be lost and people asked twice; set appendonly yes, appendfsync always"}
	case f.fsync == "everysec":
		return []string{"Redis can forget the last second at a power cut (appendfsync everysec): a person could be asked twice; set appendfsync always"}
	case f.fsync == "no":
		return []string{"Redis can forget half a minute at a power cut (appendfsync no): step-ups in flight can be lost and people asked twice; set appendfsync always"}
	}
	return nil
}

// onReplicas is about the loss of the machine. Too few replicas do not stop a start: what is in flight must go on.
func (f *facts) onReplicas() []string {
	connected, _ := strconv.Atoi(f.info["connected_slaves"])
	switch {
	case f.wait > connected:
		return []string{fmt.Sprintf("redis.wait_replicas is %d, but a master has %d replicas connected: creates are refused with storage_unavailable until there are enough", f.wait, connected)}
	case f.wait == 0 && connected > 0:
		return []string{"Redis has replicas, and a failover to one can forget acknowledged writes: step-ups in flight can be lost and people asked twice; set redis.wait_replicas: 1"}
	}
	return nil
}

// newEnough is true from 6.2 on, and for a version that nobody can read.
func newEnough(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err != nil || err2 != nil || a > 6 || a == 6 && b >= 2
}
