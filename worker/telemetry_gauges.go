package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// gauges tell how things stand when somebody asks: this process's own, and what Redis says
// of all processes together, which is the same from whichever process it is asked.
type gauges struct {
	inFlight, open, unowned, failing, workers, used, most, ready metric.Int64ObservableGauge
	oldest, skew                                                 metric.Float64ObservableGauge
}

func (g *gauges) make(meter metric.Meter) (err error) {
	count := func(to *metric.Int64ObservableGauge, name, unit, what string) {
		var e error
		*to, e = meter.Int64ObservableGauge(name, metric.WithDescription(what), metric.WithUnit(unit))
		err = errors.Join(err, e)
	}
	count(&g.inFlight, "stepup.in_flight", "", "Step-ups that this process holds.")
	count(&g.open, "stepup.open", "", "Step-ups with work left, of all processes.")
	count(&g.unowned, "stepup.unowned", "", "Pending step-ups whose poll was due and that no live process holds.")
	count(&g.failing, "stepup.failing", "", "Step-ups with a webhook that fails or was given up.")
	count(&g.workers, "stepup.workers", "", "Live processes that poll and deliver.")
	count(&g.used, "stepup.redis.memory.used", "By", "Memory that Redis uses; of a cluster that of the fullest node.")
	count(&g.most, "stepup.redis.memory.max", "By", "Redis's maxmemory, of the same node; 0: none.")
	count(&g.ready, "stepup.ready", "", "Whether a check of /readyz holds.")
	seconds := func(to *metric.Float64ObservableGauge, name, what string) {
		var e error
		*to, e = meter.Float64ObservableGauge(name, metric.WithDescription(what), metric.WithUnit("s"))
		err = errors.Join(err, e)
	}
	seconds(&g.oldest, "stepup.open.oldest", "How long the most overdue step-up is past its wake-by time.")
	seconds(&g.skew, "stepup.clock.skew", "How far a peer's clock is ahead of this machine's.")
	return err
}

// observe answers whoever asks how things stand, until forget.
func (w *Worker) observe() (forget func(), err error) {
	g, last := &w.met.gauges, lately{}
	asked, err := w.met.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		o.ObserveInt64(g.inFlight, int64(w.InFlight()))
		s := last.read(ctx, w)
		for check, holds := range s.checks {
			o.ObserveInt64(g.ready, holds, metric.WithAttributes(attribute.String("check", check)))
		}
		for peer, ahead := range s.ahead {
			o.ObserveFloat64(g.skew, ahead.Seconds(), metric.WithAttributes(attribute.String("peer", peer)))
		}
		if c := s.census; c != nil { // else Redis does not answer, and old figures would pass for new ones
			o.ObserveInt64(g.open, c.open)
			o.ObserveInt64(g.unowned, c.unowned)
			o.ObserveInt64(g.failing, c.failing)
			o.ObserveInt64(g.workers, c.workers)
			o.ObserveFloat64(g.oldest, c.oldest.Seconds())
			if c.used > 0 {
				o.ObserveInt64(g.used, c.used)
				o.ObserveInt64(g.most, c.most)
			}
		}
		return nil
	}, g.inFlight, g.open, g.unowned, g.failing, g.workers, g.used, g.most, g.ready, g.oldest, g.skew)
	if err != nil {
		return nil, err
	}
	return func() { _ = asked.Unregister() }, nil
}

const (
	standFor   = 3 * time.Second // so long one reading serves everybody who asks
	standTakes = 2 * time.Second // at most; who asks waits some ten seconds
)

// stand is how things stand at a moment.
type stand struct {
	checks map[string]int64         // 1 where it holds
	ahead  map[string]time.Duration // clocks, by peer
	census *census                  // nil: Redis did not answer
}

// lately is the last reading. Several may ask at once.
type lately struct {
	mu sync.Mutex
	at time.Time
	stand
}

// read reads anew, unless that was done a moment ago.
func (l *lately) read(ctx context.Context, w *Worker) stand {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() || time.Since(l.at) >= standFor {
		l.stand = w.stand(ctx)
		l.at = time.Now()
	}
	return l.stand
}

func (w *Worker) stand(ctx context.Context) (s stand) {
	ctx, cancel := context.WithTimeout(ctx, standTakes)
	defer cancel()
	var side sync.WaitGroup
	side.Go(func() { s.checks = w.checked(ctx) })
	side.Go(func() { s.ahead = w.ahead(ctx) })
	side.Go(func() {
		var err error
		if s.census, err = w.takeCensus(ctx); err != nil {
			w.log.Debug("what all processes hold is not known", "error", err) // the lease says that Redis does not answer
		}
	})
	side.Wait()
	return s
}

// checked makes every check of /readyz.
func (w *Worker) checked(ctx context.Context) map[string]int64 {
	held := map[string]int64{}
	for name, check := range w.Checks() {
		if held[name] = 1; check(ctx) != nil {
			held[name] = 0
		}
	}
	return held
}
