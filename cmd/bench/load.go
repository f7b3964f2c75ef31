package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// arrivals are the moments at which requests are due, a rate a second for as long as d: as from many that know nothing of each other, and the
// same at every run.
func arrivals(rate int, d time.Duration, seed uint64) []time.Duration {
	r := rand.New(rand.NewPCG(seed, 0))
	at := make([]time.Duration, int(float64(rate)*d.Seconds()))
	for i := range at {
		at[i] = time.Duration(r.Int64N(int64(d)))
	}
	slices.Sort(at)
	return at
}

// fire calls do for each moment when it comes, whatever has become of those before: nobody who is late delays the next, and waiting behind a
// slow answer counts. It returns when all have returned.
func fire(ctx context.Context, began time.Time, at []time.Duration, do func(i int, due time.Time)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, t := range at {
		due := began.Add(t)
		if wait := time.Until(due); wait > 0 {
			if err := pause(ctx, wait); err != nil {
				return err
			}
		}
		wg.Go(func() { do(i, due) })
	}
	return nil
}

// samples are durations that many measure at once.
type samples struct {
	mu  sync.Mutex
	all []time.Duration
}

func (s *samples) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, d)
}

// sorted are all so far.
func (s *samples) sorted() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sorted(s.all)
}

// faults counts answers that should have been others, by what they were.
type faults struct {
	mu sync.Mutex
	n  map[string]int
}

func (f *faults) add(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[string]int{}
	}
	f.n[what]++
}

func (f *faults) count() (sum int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.n {
		sum += n
	}
	return sum
}

// String tells each kind with its number.
func (f *faults) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []string
	for _, what := range slices.Sorted(maps.Keys(f.n)) {
		kinds = append(kinds, fmt.Sprintf("%s: %d", what, f.n[what]))
	}
	return strings.Join(kinds, ", ")
}
