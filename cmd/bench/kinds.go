package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/redis/go-redis/v9"
)

// kind is what Redis keeps of one kind of key.
type kind struct {
	name        string
	keys, bytes int
}

// kindOf takes out of a key what tells it from others of its kind.
var kindOf = []struct {
	part *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`su_[0-9a-f]{2}[A-Z2-7]{20,}(:[0-9]+)?`), "<id>"},
	{regexp.MustCompile(`\bw_[A-Za-z0-9_-]{16,}`), "<worker>"},
	{regexp.MustCompile(`\{(poll-|p)[0-9]+\}`), "{${1}n}"},
	{regexp.MustCompile(`[A-Za-z0-9_-]{16,}`), "<hash>"},
	{regexp.MustCompile(`:\{[^{}]*:[0-9]+:[^{}]*\}`), ":<process>"},
}

// kinds weighs every key, by Redis's own measure, the largest kind first.
func (s *redisStore) kinds(ctx context.Context) ([]kind, error) {
	all := map[string]*kind{}
	cursor := uint64(0)
	for {
		keys, next, err := s.admin.Scan(ctx, cursor, "", 1000).Result()
		if err != nil {
			return nil, fmt.Errorf("listing the keys: %w", err)
		}
		weights := make([]*redis.IntCmd, len(keys))
		_, err = s.admin.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				weights[i] = p.MemoryUsage(ctx, key)
			}
			return nil
		})
		if err != nil && err != redis.Nil { // a key may have gone meanwhile
			return nil, fmt.Errorf("weighing the keys: %w", err)
		}
		for i, key := range keys {
			for _, k := range kindOf {
				key = k.part.ReplaceAllString(key, k.name)
			}
			if all[key] == nil {
				all[key] = &kind{name: key}
			}
			all[key].keys++
			all[key].bytes += int(weights[i].Val())
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	list := []kind{}
	for _, k := range all {
		list = append(list, *k)
	}
	slices.SortFunc(list, func(a, b kind) int { return cmp.Or(b.bytes-a.bytes, cmp.Compare(a.name, b.name)) })
	return list, nil
}
