package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// sweepBatch is how many lives of a sweep run side by side, each with another loss.
const sweepBatch = 30

// Every Redis command that names a step-up is lost once, before and
// after it was executed, and no promise is broken: one lost command makes nothing
// unknown, and the bank that repeats its request gets its step-up. The sweep finds
// its own end: a life in which there was nothing left to lose.
func TestEveryCommandLost(t *testing.T) {
	if underRace {
		t.Skip("many lives, each of which the other tests live under the race detector")
	}
	t.Parallel()
	for _, class := range []string{records, tasks} {
		for _, when := range []string{before, after} {
			t.Run(class+" "+when, func(t *testing.T) {
				t.Parallel()
				for _, o := range outcomes() {
					inTown(t, func(t *testing.T, w *town) { sweepCommands(t, w, o, class, when) })
				}
			})
		}
	}
}

// inTown is inBubble with a town.
func inTown(t *testing.T, test func(t *testing.T, w *town)) {
	quiet := func(o *Options, _ *Settings) {
		o.Shards, o.Log = 1, slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	inBubble(t, quiet, func(t *testing.T, r *rig) {
		w := newTown(r)
		test(t, w)
		w.leavesNothing()
	})
}

// withEdge starts a process that only answers the API.
func (w *town) withEdge() {
	w.edge = &rig{t: w.t, provider: w.provider, receiver: w.receiver, set: w.set}
	opts := w.opts
	opts.Role = RoleAPI
	w.edge.start(*w.rdb.(*redis.Client).Options(), opts)
	time.Sleep(2 * time.Second)
}

func sweepCommands(t *testing.T, w *town, o outcome, class, when string) {
	if o.cancel == "elsewhere" {
		w.withEdge()
		defer w.edge.stop()
	}
	hooks := w.lossy()
	w.begin(o, nil).live() // so that Redis knows every script
	found := map[string]int{}
	lost := 0
	for first := 1; ; first += sweepBatch {
		var lives sync.WaitGroup
		begun := len(w.lives)
		for k := first; k < first+sweepBatch; k++ {
			x := w.begin(o, &loss{class: class, when: when, at: k})
			for _, h := range hooks {
				h.lose(x.loss)
			}
			lives.Go(func() {
				time.Sleep(time.Duration(k%7) * 300 * time.Millisecond)
				x.live()
			})
		}
		lives.Wait()
		w.settles(w.lives[begun:])
		end := false
		for _, x := range w.lives[begun:] {
			what := x.loss.what()
			if what == "" {
				end = true
			} else {
				lost++
				found[what]++
			}
			w.judge(x, what+" "+when)
		}
		if end {
			break
		}
		if first > 200 {
			t.Fatal("the sweep finds no end")
		}
	}
	t.Logf("%s, %s, %s: %d commands lost: %s", o.name, class, when, lost, strings.Join(counted(found), "; "))
	if lost < map[string]int{records: 9, tasks: 2}[class] {
		t.Errorf("%s: only %d commands were there to be lost", o.name, lost)
	}
}

// lossy makes every client of the worker one on which commands can be lost.
func (w *town) lossy() []*lossy {
	hooks := []*lossy{{class: records}, {class: tasks}, {class: records}}
	for i, c := range []redis.UniversalClient{w.opts.Store, w.opts.Queue, w.opts.Lease} {
		c.AddHook(hooks[i])
	}
	return hooks
}

func counted(m map[string]int) (all []string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, fmt.Sprintf("%s %d", k, m[k]))
	}
	return all
}

// judge checks one life. A person who answered is free for the next push, or once
// the prompt would have lapsed if just that was lost.
func (w *town) judge(x *life, what string) {
	x.keeps()
	busy := x.busyUntil()
	told := !strings.HasPrefix(what, "stands") // Redis was, of the provider's expires_in and of the answer
	most := x.person.expires
	if !told {
		most = askTime + longestAsk
	}
	if until := time.Until(busy); until > most {
		w.t.Errorf("%s: the person is busy for another %v", x, until)
	}
	if !busy.IsZero() && x.state.answered() && told {
		w.t.Errorf("%s: the person answered and is still busy", x)
	}
}

// settles waits until every life is over, and a little longer, for what may come late.
func (w *town) settles(lives []*life) {
	for range 40 {
		if !slices.ContainsFunc(lives, func(x *life) bool { return !x.over() }) {
			break
		}
		time.Sleep(3 * time.Second)
	}
	time.Sleep(15 * time.Second)
}

// The beats of the lease, lost one by one and five in a row, which costs the lease.
// Every outcome runs at once.
func TestEveryBeatLost(t *testing.T) {
	if underRace {
		t.Skip("many lives, each of which the other tests live under the race detector")
	}
	t.Parallel()
	for _, row := range []int{1, 5} {
		for _, when := range []string{before, after} {
			t.Run(fmt.Sprint(row, " in a row, ", when), func(t *testing.T) {
				t.Parallel()
				for at := 1; ; at += row - row/4 {
					over := false
					inTown(t, func(t *testing.T, w *town) { over = loseBeats(w, when, at, row) })
					if over {
						t.Logf("up to beat %d, each lost with the %d after it", at-1, row-1)
						break
					}
				}
			})
		}
	}
}

// loseBeats loses a row of the lease's commands from the at-th on; over reports that
// everything had ended before.
func loseBeats(w *town, when string, at, row int) (over bool) {
	w.withEdge()
	defer w.edge.stop()
	beats := &beats{when: when, at: at, row: row}
	w.opts.Lease.AddHook(beats)
	var lives sync.WaitGroup
	for _, o := range outcomes() {
		lives.Go(w.begin(o, nil).live)
	}
	lives.Wait()
	if row == 1 { // one beat costs nothing but a message in the inbox
		over = beats.n.Load() < int64(at)
	}
	w.settles(w.lives)
	over = over || beats.n.Swap(1<<30) < int64(at) // what comes now is the end of the test
	for _, x := range w.lives {
		w.judge(x, "")
	}
	return over
}

// beats loses a row of commands of the lease's client.
type beats struct {
	lossy
	when    string
	at, row int
	n       atomic.Int64
}

func (b *beats) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		n := int(b.n.Add(1))
		hit := n >= b.at && n < b.at+b.row
		if hit && b.when == before {
			return lost([]redis.Cmder{cmd})
		}
		err := next(ctx, cmd)
		if hit {
			return lost([]redis.Cmder{cmd})
		}
		return err
	}
}
