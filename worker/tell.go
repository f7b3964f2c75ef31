package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	tellEvery = 5 * time.Second
	toldFor   = 4 * tellEvery // what a process told is shown so long after it fell silent
)

// told is what a process tells all others of itself, under the id of its lease. It holds
// names from the configuration, counts and times.
type told struct {
	Host      string           `json:"host"`
	PID       int              `json:"pid"`
	Began     int64            `json:"began"` // ms
	Held      []Held           `json:"held"`
	Ahead     map[string]int64 `json:"ahead"` // providers' clocks, ms
	Last      []lastAnswer     `json:"last"`
	Endpoints []*endpointState `json:"endpoints"`
}

// Held is how many step-ups a process polls, or waits to poll, for one caller at one provider.
type Held struct {
	Provider string `json:"p"`
	Caller   string `json:"c"`
	Count    int    `json:"n"`
	Oldest   int64  `json:"o"` // when the oldest was created, Unix ms
}

// lastAnswer is what one of a provider's endpoints answered last.
type lastAnswer struct {
	Provider string `json:"p"`
	Endpoint string `json:"e"`
	Answer
}

// tell tells of this process every few seconds, and once more at its end.
func (w *Worker) tell(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			w.tellOnce(last)
			return
		case <-tick.C:
			w.tellOnce(ctx)
		}
	}
}

// tellOnce tells what changed. What Redis does not take is told the next time.
func (w *Worker) tellOnce(ctx context.Context) {
	me, ok, _ := w.lease.holder()
	mine, _ := json.Marshal(w.telling()) // plain data only
	minutes := w.pulse.untold()
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		if ok {
			p.Set(ctx, keyTold(me), mine, toldFor)
		}
		for n, counts := range minutes {
			p.HSet(ctx, keyMinute(n), w.pulse.process, counts)
			p.Expire(ctx, keyMinute(n), keepMinutes)
		}
		return nil
	})
	if err != nil {
		w.pulse.tellAgain(minutes)
		w.log.Debug("what this process counted is not told yet", "error", err) // the lease says that Redis does not answer
	}
}

// telling is what this process tells now.
func (w *Worker) telling() told {
	t := told{Host: w.pulse.host, PID: os.Getpid(), Began: ms(w.pulse.began), Held: w.holding(), Ahead: map[string]int64{}}
	for name, p := range w.settings.Load().Providers {
		if ahead, ok := p.providerAhead(); ok {
			t.Ahead[name] = ahead.Milliseconds()
		}
	}
	t.Last, t.Endpoints = w.pulse.lately()
	return t
}

// lately is how providers and endpoints answered last.
func (p *pulse) lately() (last []lastAnswer, endpoints []*endpointState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	silent := time.Now().Add(-keepAnswers)
	for at, a := range p.last {
		if a.At.Before(silent) { // the provider may be configured no more
			delete(p.last, at)
			continue
		}
		last = append(last, lastAnswer{at.provider, at.endpoint, a})
	}
	for at, e := range p.endpoints {
		if max(e.OK, e.Bad) < silent.UnixMilli() {
			delete(p.endpoints, at)
			continue
		}
		now := *e
		endpoints = append(endpoints, &now)
	}
	return last, endpoints
}

// untold is the counts of the minutes that changed since they were told.
func (p *pulse) untold() map[int64][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[int64][]byte{}
	for n, m := range p.minutes {
		if !m.told {
			all[n], _ = json.Marshal(m) // plain data only
			m.told = true
		}
	}
	return all
}

func (p *pulse) tellAgain(minutes map[int64][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range minutes {
		if m := p.minutes[n]; m != nil {
			m.told = false
		}
	}
}

// minutesTold is the sum of all processes' counts of the minutes from first to last.
func (w *Worker) minutesTold(ctx context.Context, first, last int64) (map[int64]*minute, error) {
	replies := map[int64]*redis.StringSliceCmd{}
	_, err := w.opts.Store.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := first; n <= last; n++ {
			replies[n] = p.HVals(ctx, keyMinute(n))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading what was counted: %w", err)
	}
	all := map[int64]*minute{}
	for n, reply := range replies {
		sum := newMinute()
		for _, text := range reply.Val() {
			m := newMinute()
			if json.Unmarshal([]byte(text), m) == nil { // another version's, or edited: it is only shown
				sum.add(m)
			}
		}
		all[n] = sum
	}
	return all, nil
}
