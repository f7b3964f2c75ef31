package worker

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
)

// quick is a provider that keeps no books: by the hint, a person approves, refuses
// or is slow to answer.
type quick struct{ polls sync.Map }

func (*quick) Check(Question) []ciba.FieldError { return nil }

func (*quick) Ask(_ context.Context, q Question) (Asked, error) {
	return Asked{ID: q.LoginHint, Expires: time.Now().Add(5 * time.Minute)}, nil
}

func (p *quick) Answer(_ context.Context, a Asked) (Identity, error) {
	if _, again := p.polls.LoadOrStore(a.ID, true); !again {
		return Identity{}, &ciba.Pending{}
	}
	p.polls.Delete(a.ID)
	if sum := sha256.Sum256([]byte(a.ID)); sum[0]%2 == 0 {
		return Identity{}, denial
	}
	return identified(a)
}

// taker takes every webhook and keeps none; now and then it is down.
type taker struct{ taken, failed atomic.Int64 }

func (b *taker) RoundTrip(q *http.Request) (*http.Response, error) {
	status := http.StatusOK
	if b.taken.Add(1)%100 == 50 {
		b.failed.Add(1)
		status = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
}

// More than a thousand step-ups to the end, in rounds. Goroutines are where they were
// after the first round, memory does not grow round by round, and whatever is left in
// Redis lapses. Pools and tables fill in steps, in some rounds; a leak grows in each.
// Not parallel: what it counts is the process's.
func TestSoak(t *testing.T) {
	const rounds, people = 8, 167
	w := newTown(onRedis(t, func(o *Options, s *Settings) { calm(o, s); s.ResultTTL = time.Minute }))
	bank := &taker{}
	w.set.Providers = map[string]ProviderSettings{"singpass": {Provider: &quick{}, Interval: 50 * time.Millisecond}}
	w.set.Sender = &webhook.Sender{Client: &http.Client{Transport: bank}, Timeout: 15 * time.Second}
	w.Reload(w.set)
	w.runs()
	var goroutines, heap, growth []int
	for round := range rounds {
		var all sync.WaitGroup
		for i := range people {
			all.Go(func() {
				if _, err := w.ask(fmt.Sprint(round, "-", i), fmt.Sprintf("S%d%06dA", round, i)); err != nil {
					t.Errorf("create: %v", err)
				}
			})
		}
		all.Wait()
		delivered := int64((round + 1) * people)
		w.until("everything delivered", func() bool { return w.InFlight() == 0 && bank.taken.Load()-bank.failed.Load() >= delivered })
		w.until("tasks done", func() bool { return w.tasksIn("pending")+w.tasksIn("active")+w.tasksIn("scheduled") == 0 })
		goroutines, heap = append(goroutines, goroutinesNow()), append(heap, heapNow()-w.buffers())
		if round > 0 {
			growth = append(growth, heap[round]-heap[round-1])
		}
	}
	t.Logf("after each round of %d: goroutines %v, heap %v", people, goroutines, heap)
	// The crew's idle goroutines are up to one for each poll at once; they go after a while.
	if goroutines[rounds-1] > goroutines[0]+people/2 {
		t.Errorf("goroutines %v", goroutines)
	}
	// Connections that are just being closed can hide a leak in two of the rounds.
	if slices.Sort(growth); growth[2] > people<<10 || heap[rounds-1]-heap[0] > 4<<20 {
		t.Errorf("the heap grew by more than 1 KiB a step-up: %v, round by round %v", heap, growth)
	}
	w.leavesNothing()
}

// goroutinesNow counts the goroutines of ours and of asynq. Connections, which a
// pool keeps, and the fake Redis's are others'.
func goroutinesNow() (n int) {
	stacks := make([]byte, 16<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "stepup/worker.(*buffer).carry") {
			continue // a connection's
		}
		if strings.Contains(g, "stepup/worker.") || strings.Contains(g, "hibiken/asynq") {
			n++
		}
	}
	return n
}

// buffers is what the connections in the pools hold: they come and go with the load.
func (w *town) buffers() (bytes int) {
	for _, c := range []redis.UniversalClient{w.opts.Store, w.opts.Queue, w.opts.Lease, w.onlooker.opts.Store} {
		o := c.(*redis.Client).Options()
		bytes += int(c.PoolStats().TotalConns) * (o.ReadBufferSize + o.WriteBufferSize)
	}
	return bytes
}

func heapNow() int {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// The goroutines of a worker that did much are those of one that did nothing yet.
func TestSoakLeavesNoGoroutine(t *testing.T) {
	inBigBubble(t, calm, func(t *testing.T, w *town) {
		settled := func() int { time.Sleep(2 * time.Minute); return goroutinesNow() }
		warm := w.begin(outcome{answers: []any{identified, consumed}, state: Approved}, nil)
		warm.live()
		before := settled()
		var all sync.WaitGroup
		for _, o := range outcomes() {
			if o.cancel != "elsewhere" {
				for range 20 {
					all.Go(w.begin(o, nil).live)
				}
			}
		}
		time.Sleep(3 * time.Second)
		if during := goroutinesNow(); during < before+100 {
			t.Errorf("%d goroutines at work, %d at rest: the count sees nothing", during, before)
		}
		if after := settled(); after > before {
			t.Errorf("%d goroutines before, %d after", before, after)
		}
		all.Wait()
		for _, x := range w.lives[1:] {
			x.keeps()
		}
	})
}
