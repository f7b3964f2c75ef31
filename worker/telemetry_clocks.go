package worker

import (
	"context"
	"fmt"
	"time"
)

// clocked is a Provider that knows how far the provider's clock was ahead of ours when it
// last answered.
type clocked interface {
	Skew() (ahead time.Duration, at time.Time)
}

// skewFor is how long what a provider's answer said of its clock is worth telling.
const skewFor = 10 * time.Minute

// providerAhead is how far a provider's clock is ahead of this machine's, to about a second;
// ok is false when it has not answered lately.
func (p ProviderSettings) providerAhead() (ahead time.Duration, ok bool) {
	c, ok := p.Provider.(clocked)
	if !ok {
		return 0, false
	}
	ahead, at := c.Skew()
	return ahead, time.Since(at) < skewFor
}

// redisAhead is how far Redis's clock is ahead of this machine's.
func (w *Worker) redisAhead(ctx context.Context) (time.Duration, error) {
	asked := time.Now()
	theirs, err := w.opts.Store.Time(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("reading Redis's clock: %w", err)
	}
	return theirs.Sub(asked.Add(time.Since(asked) / 2)), nil
}

// peerRedis is Redis among the peers whose clocks are compared; the others are providers, by name.
const peerRedis = "redis"

// ahead is how far the clocks of all peers that are known are ahead of this machine's.
func (w *Worker) ahead(ctx context.Context) map[string]time.Duration {
	all := map[string]time.Duration{}
	for name, p := range w.settings.Load().Providers {
		if d, ok := p.providerAhead(); ok {
			all[name] = d
		}
	}
	if d, err := w.redisAhead(ctx); err == nil {
		all[peerRedis] = d
	}
	return all
}

const (
	clocksEvery = 30 * time.Second
	clocksAgain = 10 * time.Minute // between two warnings of one peer
)

// watchClocks warns of clocks that differ, before a token is refused for it.
func (w *Worker) watchClocks(ctx context.Context) {
	tick := time.NewTicker(clocksEvery)
	defer tick.Stop()
	told := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		within, cancel := context.WithTimeout(ctx, standTakes)
		for peer, d := range w.ahead(within) {
			if last, warned := told[peer]; d.Abs() <= clockSkew || warned && time.Since(last) < clocksAgain {
				continue
			}
			told[peer] = time.Now()
			w.log.Warn("the clock of a peer differs from this machine's; set this one by NTP, and if it is right, tell them",
				"peer", peer, "ahead_ms", d.Milliseconds())
		}
		cancel()
	}
}
