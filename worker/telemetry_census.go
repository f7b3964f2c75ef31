package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// census is what Redis says of all processes together. It is read from sums and from the
// ends of sorted sets, so its cost does not grow with the step-ups in flight.
type census struct {
	open, unowned, failing, workers int64
	oldest                          time.Duration
	usage
}

// usage is what a Redis uses and may use, in bytes; used is 0 where it does not tell, most
// where there is no limit.
type usage struct{ used, most int64 }

func (w *Worker) takeCensus(ctx context.Context) (*census, error) {
	clock, roster, err := w.lease.roster(ctx)
	if err != nil {
		return nil, err
	}
	v := view{roster: roster}
	if _, err := w.standing(ctx, clock, &v); err != nil {
		return nil, err
	}
	return w.summed(ctx, clock, &v)
}

// summed is the census of what was seen.
func (w *Worker) summed(ctx context.Context, clock int64, v *view) (*census, error) {
	c := &census{failing: v.failing, oldest: max(0, v.overdue)}
	for _, p := range v.roster {
		switch {
		case p.Left < 0:
			c.unowned += p.Owns // nobody has taken over yet
		case !strings.HasPrefix(p.Lease, "a"):
			c.workers++
		}
	}
	err := w.countOpen(ctx, clock, c)
	if err != nil {
		return nil, err
	}
	if c.usage, err = memory(ctx, w.opts.Store); err != nil { // its ACL may refuse, and the one in this process has no figures
		w.log.Debug("Redis does not tell what memory it uses", "error", err)
	}
	return c, nil
}

const (
	// wakesWithin is the longest wake-by time of what nobody holds (wake.lua). Who holds a
	// step-up has set a later one, until long after it expired.
	wakesWithin = time.Minute
	looksAt     = 200 // records of a shard; where more wait, the rest is taken to be like them
)

// countOpen counts what has work left, and what of it waits to be claimed although a poll was
// due.
func (w *Worker) countOpen(ctx context.Context, clock int64, c *census) error {
	soon := strconv.FormatInt(clock+wakesWithin.Milliseconds(), 10)
	type shard struct {
		open, soon *redis.IntCmd
		ids        *redis.StringSliceCmd
		unowned    int
	}
	shards := make([]shard, w.opts.Shards)
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range shards {
			shards[n] = shard{open: p.ZCard(ctx, keyOpen(n)), soon: p.ZCount(ctx, keyOpen(n), "-inf", soon),
				ids: p.ZRangeByScore(ctx, keyOpen(n), &redis.ZRangeBy{Min: "-inf", Max: soon, Count: looksAt})}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting what is open: %w", err)
	}
	var ids []string
	for _, s := range shards {
		c.open += s.open.Val()
		ids = append(ids, s.ids.Val()...)
	}
	if len(ids) == 0 {
		return nil
	}
	unowned, err := w.store.unowned(ctx, ids, clock)
	if err != nil {
		return err
	}
	for _, s := range shards {
		for range s.ids.Val() {
			if unowned[0] {
				s.unowned++
			}
			unowned = unowned[1:]
		}
		if seen := len(s.ids.Val()); seen > 0 {
			c.unowned += int64(math.Round(float64(s.unowned) * float64(s.soon.Val()) / float64(seen)))
		}
	}
	return nil
}

// unowned says of each step-up whether it is pending, nobody's, and was to be polled by now.
func (s *store) unowned(ctx context.Context, ids []string, clock int64) ([]bool, error) {
	replies := make([]*redis.SliceCmd, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			replies[i] = p.HMGet(ctx, keyRecord(id), "st", "own", "nb")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading who holds step-ups: %w", err)
	}
	all := make([]bool, len(ids))
	for i, reply := range replies {
		field := func(n int) string { s, _ := reply.Val()[n].(string); return s }
		due, _ := strconv.ParseInt(field(2), 10, 64)
		all[i] = State(field(0)) == Pending && field(1) == "" && due <= clock
	}
	return all, nil
}

// memory is what Redis uses; of a cluster, what its fullest master does. Where one does not
// tell, the others' figures would pass for those of the fullest: it is an error.
func memory(ctx context.Context, rdb redis.UniversalClient) (fullest usage, err error) {
	var mu sync.Mutex
	read := func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "memory").Result()
		if err != nil {
			return fmt.Errorf("reading Redis's memory: %w", err)
		}
		u := usage{figure(info, "used_memory"), figure(info, "maxmemory")}
		if u.used == 0 {
			return errors.New("reading Redis's memory: its INFO does not name any")
		}
		mu.Lock()
		defer mu.Unlock()
		if u.share() > fullest.share() {
			fullest = u
		}
		return nil
	}
	switch c := rdb.(type) {
	case *redis.Client:
		err = read(ctx, c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, read)
	default:
		err = errors.New("not a client of one Redis or of a cluster")
	}
	if err != nil {
		return usage{}, err
	}
	return fullest, nil
}

// share is how full a Redis is; without a limit, a little fuller the more it holds.
func (u usage) share() float64 {
	if u.most == 0 {
		return float64(u.used) / math.MaxInt64
	}
	return float64(u.used) / float64(u.most)
}

// figure is a number of INFO; 0 when it is not there.
func figure(info, name string) int64 {
	_, rest, _ := strings.Cut("\n"+info, "\n"+name+":")
	value, _, _ := strings.Cut(rest, "\r")
	n, _ := strconv.ParseInt(value, 10, 64)
	return n
}
