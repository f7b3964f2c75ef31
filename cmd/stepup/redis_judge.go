package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// judgeRedis reads from INFO whether this Redis keeps what it acknowledges (managed ones refuse CONFIG). The error is a
// reason not to start; the warnings are what the operator must know. In a cluster every master is judged.
func judgeRedis(ctx context.Context, c redis.UniversalClient) (warnings []string, err error) {
	cluster, ok := c.(*redis.ClusterClient)
	if !ok {
		return judgeNode(ctx, c, false)
	}
	var mu sync.Mutex
	said := map[string]bool{}
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		w, err := judgeNode(ctx, node, true)
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

func judgeNode(ctx context.Context, node redis.Cmdable, cluster bool) ([]string, error) {
	var info strings.Builder
	for _, section := range []string{"memory", "persistence", "replication", "cluster"} {
		text, err := node.Info(ctx, section).Result()
		if err != nil {
			return nil, fmt.Errorf("asking Redis how it is set up: %w", err)
		}
		info.WriteString(text + "\r\n")
	}
	return judgeInfo(info.String(), cluster)
}

// judgeInfo decides on the text of INFO.
func judgeInfo(info string, cluster bool) (warnings []string, err error) {
	v := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			v[name] = value
		}
	}
	policy := v["maxmemory_policy"]
	switch {
	case v["role"] == "slave":
		return nil, errors.New("this Redis is a replica and takes no writes; name the master in redis.url, or use redis-sentinel://")
	case v["cluster_enabled"] == "1" && !cluster:
		return nil, errors.New("this Redis is part of a cluster; write redis-cluster:// in redis.url")
	case policy != "" && policy != "noeviction" && v["maxmemory"] != "0":
		return nil, fmt.Errorf("this Redis evicts keys when its memory is full (maxmemory-policy %s), so step-ups would vanish; set maxmemory-policy noeviction", policy)
	}
	if policy != "" && policy != "noeviction" {
		warnings = append(warnings, "Redis would evict keys once maxmemory is set (maxmemory-policy "+policy+"): set noeviction")
	}
	if v["aof_enabled"] != "1" {
		warnings = append(warnings, "Redis forgets acknowledged writes when it crashes (appendonly is off): step-ups in flight can be lost and people asked twice; set appendonly yes, appendfsync always")
	}
	return warnings, nil
}
