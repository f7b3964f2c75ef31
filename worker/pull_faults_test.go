package worker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// On a real Redis: what ends side by side is pulled by two readers who acknowledge
// at once, and nothing is lost or left.
func TestPullSideBySide(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); s.PersonPerHour = 1000 })
	r.pulls(inbox("inbox"))
	r.provider.provide(nil, denial)
	const people = 60
	for n := range people {
		r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n))
	}
	seen := make(chan string, 10*people)
	read := func() {
		for {
			page, err := r.Events(t.Context(), "bank", EventFilter{Limit: 7}, 2*time.Second)
			if err != nil || len(page.Events) == 0 {
				seen <- ""
				return
			}
			var ids []string
			for _, e := range page.Events {
				ids = append(ids, e.ID)
				seen <- e.ID
			}
			if done, err := r.Acknowledge(t.Context(), "bank", ids); err != nil || len(done.Unknown) > 0 {
				t.Errorf("acknowledged %+v, %v", done, err)
			}
		}
	}
	go read()
	go read()
	all := map[string]bool{}
	for readers := 2; readers > 0; {
		if id := <-seen; id != "" {
			all[id] = true
		} else {
			readers--
		}
	}
	if len(all) != people {
		t.Errorf("%d events of %d", len(all), people)
	}
	again := slices.Sorted(maps.Keys(all))
	done, err := r.Acknowledge(t.Context(), "bank", slices.Concat([]string{"evt_1"}, again, []string{"evt_2"}))
	if err != nil || !slices.Equal(done.Acknowledged, again) || !slices.Equal(done.Unknown, []string{"evt_1", "evt_2"}) {
		t.Errorf("said again, with what is nobody's: %+v, %v", done, err)
	}
	for n := range r.opts.Shards {
		for _, key := range []string{keyQueue(n, "bank", "inbox"), keyDue(n), keyOpen(n)} {
			r.until(key+" is empty", func() bool { return r.rdb.Exists(t.Context(), key).Val() == 0 })
		}
	}
}

// Whatever command of a reader is lost, before or after Redis executed it, its repeat brings the
// event, and then its acknowledgement, to an end.
func TestPullCommandLost(t *testing.T) {
	for _, when := range []string{before, after} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, func(o *Options, s *Settings) { s.PersonPerHour, s.PurgeOnDelivery = 100, true }, func(t *testing.T, r *rig) {
				r.pulls(inbox("inbox"))
				h := &lossy{class: records}
				r.rdb.AddHook(h)
				r.provider.provide(nil, identified)
				for n := 1; ; n++ {
					id := r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n)).ID
					time.Sleep(6 * time.Second)
					l := &loss{class: records, when: when, at: n, names: []string{"pull:", id, id[3:]}}
					h.lose(l)
					for done := false; !done; {
						page, err := r.Events(t.Context(), "bank", EventFilter{Limit: 1}, 0)
						if err != nil {
							continue
						}
						if len(page.Events) == 0 { // the answer to the acknowledgement was lost
							break
						}
						got, err := r.Acknowledge(t.Context(), "bank", []string{page.Events[0].ID})
						if done = err == nil; done && len(got.Acknowledged) != 1 {
							t.Errorf("acknowledged %+v", got)
						}
					}
					l.mu.Lock()
					l.at = 0 // the rest only looks on
					l.mu.Unlock()
					if v, _ := r.ended(t, id); v.Deliveries[0].Status != DeliveryDelivered || v.PurgedAt == nil || v.Identity != nil {
						t.Errorf("with %q lost: %s", l.what(), asJSON(t, v))
					}
					for shard := range r.opts.Shards {
						if left := r.rdb.Exists(t.Context(), keyQueue(shard, "bank", "inbox"), keyDue(shard)).Val(); left != 0 {
							t.Errorf("with %q lost: %d keys are left", l.what(), left)
						}
					}
					if l.what() == "" {
						if n < 5 {
							t.Errorf("only %d commands were there to be lost", n-1)
						}
						return
					}
				}
			})
		})
	}
}

// An event whose seal key this process lacks is not passed over: the next page asks for it
// again, and a reader who waits gets it as soon as the key is there.
func TestPullWithoutTheSealKey(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.pulls(inbox("inbox"))
		r.provider.provide(nil, denial)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(6 * time.Second)
		whole, lacking := r.set, r.set
		var err error
		if lacking.Sealer, err = ParseSealKeys(NewSealKeys()); err != nil {
			t.Fatal(err)
		}
		r.Reload(lacking)
		page := r.waits(t, EventFilter{Limit: 10})
		if len(page.Events) != 0 {
			t.Fatalf("opened without its key: %s", asJSON(t, page))
		}
		time.AfterFunc(7*time.Second, func() { r.Reload(whole) })
		start := time.Now()
		page, err = r.Events(t.Context(), "bank", EventFilter{Limit: 10, After: page.Next}, 30*time.Second)
		if err != nil || len(page.Events) != 1 || !strings.Contains(string(page.Events[0].Event), id) || time.Since(start) > 12*time.Second {
			t.Errorf("%s, %v after %v", asJSON(t, page), err, time.Since(start))
		}
	})
}
