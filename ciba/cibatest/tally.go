package cibatest

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tally counts. Its size does not grow with the load: one histogram, one ring of seconds, one ring of final answers.
type tally struct {
	since                                           time.Time
	pushes, polls, tokens, overlaps, early, refused atomic.Int64
	late                                            histogram

	mu      sync.Mutex
	answers map[string]int
	rate    rate
	finals  []Answered
	oldest  int // index in finals, once it is full
}

const maxFinals = 1 << 18

func newTally(now time.Time) *tally { return &tally{since: now, answers: map[string]int{}} }

// poll counts an arrival; late < 0 is not judged.
func (t *tally) poll(now time.Time, early, overlap bool, late time.Duration) {
	t.polls.Add(1)
	if early {
		t.early.Add(1)
	}
	if overlap {
		t.overlaps.Add(1)
	}
	if late >= 0 {
		t.late.add(late)
	}
	t.mu.Lock()
	t.rate.add(now.Unix())
	t.mu.Unlock()
}

func (t *tally) answer(f *flow, a answer, now time.Time) {
	if a.kind.givesTokens() {
		t.tokens.Add(1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers[a.name]++
	if !a.final {
		return
	}
	e := Answered{AuthReqID: f.id, Hint: f.ask.hint, Answer: a.name, At: now}
	if len(t.finals) < maxFinals {
		t.finals = append(t.finals, e)
		return
	}
	t.finals[t.oldest] = e
	t.oldest = (t.oldest + 1) % maxFinals
}

func (t *tally) answered() []Answered {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(slices.Clone(t.finals[t.oldest:]), t.finals[:t.oldest]...)
}

func (t *tally) summary(now time.Time) Ledger {
	l := Ledger{
		Since: t.since, Until: now,
		Pushes: int(t.pushes.Load()), Polls: int(t.polls.Load()), Tokens: int(t.tokens.Load()),
		Overlaps: int(t.overlaps.Load()), Early: int(t.early.Load()), Refused: int(t.refused.Load()),
		Lateness: t.late.summary(), Answers: map[string]int{},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, n := range t.answers {
		l.Answers[k] = n
	}
	if d := now.Sub(t.since).Seconds(); d > 0 {
		l.PollsPerSecond = float64(l.Polls) / d
	}
	l.Recent, l.Peak = t.rate.recent(now.Unix()), t.rate.peak
	return l
}

// rate counts per second; the last 16 seconds stand in a ring.
type rate struct {
	seconds [16]struct {
		at int64
		n  int
	}
	peak int
}

func (r *rate) add(second int64) {
	s := &r.seconds[second&15]
	if s.at != second {
		s.at, s.n = second, 0
	}
	s.n++
	r.peak = max(r.peak, s.n)
}

// recent is the mean of the ten full seconds before this one.
func (r *rate) recent(now int64) float64 {
	n := 0
	for _, s := range r.seconds {
		if s.at >= now-10 && s.at < now {
			n += s.n
		}
	}
	return float64(n) / 10
}

// histogram of durations in microseconds: 32 buckets for each power of two, so a percentile is exact to 1/32.
type histogram struct {
	buckets [40 * 32]atomic.Int64
	count   atomic.Int64
	largest atomic.Int64 // nanoseconds
}

func bucketOf(us uint64) int {
	if us < 32 {
		return int(us)
	}
	e := bits.Len64(us) - 6 // us>>e is 32…63
	return min(e*32+int(us>>e), 40*32-1)
}

// bucketEnd is the largest value in a bucket.
func bucketEnd(i int) time.Duration {
	if i < 32 {
		return time.Duration(i) * time.Microsecond
	}
	e := i/32 - 1
	return time.Duration(uint64(i-e*32+1)<<e-1) * time.Microsecond
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucketOf(uint64(d.Microseconds()))].Add(1)
	h.count.Add(1)
	for {
		old := h.largest.Load()
		if int64(d) <= old || h.largest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

func (h *histogram) summary() Lateness {
	l := Lateness{Count: int(h.count.Load()), Max: time.Duration(h.largest.Load())}
	l.P50, l.P99 = h.percentile(l.Count, 50), h.percentile(l.Count, 99)
	return l
}

func (h *histogram) percentile(count, p int) time.Duration {
	rank, seen := int64((count*p+99)/100), int64(0)
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen > 0 && seen >= rank {
			return min(bucketEnd(i), time.Duration(h.largest.Load()))
		}
	}
	return 0
}
