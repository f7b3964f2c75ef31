package worker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba"
)

// Wait answers as soon as the step-up is final, and at the end of its time otherwise.
func TestWait(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{}, &ciba.Pending{}, someone())
		id := r.asked("k", "S1234567D").ID
		start := time.Now()
		v, err := r.Wait(t.Context(), "bank", id, 7*time.Second)
		if err != nil || v.Status != Pending {
			t.Errorf("at the end of the wait: %s, %v", v.Status, err)
		}
		near(t, "the end of the wait", time.Since(start), 7*time.Second)
		v, err = r.Wait(t.Context(), "bank", id, time.Minute)
		if err != nil || v.Status != Approved || v.Identity == nil {
			t.Errorf("when final: %s, %v", v.Status, err)
		}
		near(t, "told", time.Since(start), 15*time.Second)
		v, err = r.Wait(t.Context(), "bank", id, time.Minute)
		if err != nil || v.Status != Approved {
			t.Errorf("already final: %s, %v", v.Status, err)
		}
		near(t, "told at once", time.Since(start), 15*time.Second)
	})
}

// A wait ends with the process and with the caller.
func TestWaitEndsWithDrainAndCaller(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		id := r.asked("k", "S1234567D").ID
		ctx, leave := context.WithTimeout(t.Context(), 2*time.Second)
		defer leave()
		start := time.Now()
		if _, err := r.Wait(ctx, "bank", id, time.Minute); err == nil {
			t.Error("a caller that left was answered")
		}
		near(t, "the caller left", time.Since(start), 2*time.Second)
		done := make(chan StepUp, 1)
		go func() {
			v, err := r.Wait(t.Context(), "bank", id, time.Minute)
			if err != nil {
				t.Errorf("draining: %v", err)
			}
			done <- v
		}()
		time.Sleep(time.Second)
		stopped := make(chan struct{})
		go func() { r.stop(); close(stopped) }()
		if v := <-done; v.ID != id || v.Status != Pending {
			t.Errorf("draining: %s", asJSON(t, v))
		}
		near(t, "the drain began", time.Since(start), 3*time.Second)
		<-stopped
	})
}

// The message that a step-up is final is only a hint: without it, a reader looks for itself.
func TestWaitWithoutTheMessage(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		told, leave := r.final.join(id)
		leave() // nobody will be told
		start := time.Now()
		v, err := r.Wait(t.Context(), "bank", id, time.Minute)
		if err != nil || v.Status != Approved || time.Since(start) > 5*time.Second+reread {
			t.Errorf("%s after %v, %v", v.Status, time.Since(start), err)
		}
		select {
		case <-told:
			t.Error("told after leaving")
		default:
		}
	})
}

// all pages through a caller's list.
func (r *rig) all(t *testing.T, f Filter) (ids []string, pages int) {
	t.Helper()
	for {
		page, err := r.List(t.Context(), "bank", f)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		if pages++; pages > 100 {
			t.Fatal("the list never ends")
		}
		if len(page.StepUps) > f.Limit {
			t.Errorf("%d step-ups on a page of %d", len(page.StepUps), f.Limit)
		}
		for _, v := range page.StepUps {
			ids = append(ids, v.ID)
		}
		if page.NextCursor == "" {
			return ids, pages
		}
		f.Cursor = page.NextCursor
	}
}

// Newest first, over all shards, each step-up once, also where many were created
// in the same millisecond; with any page size and filter.
func TestList(t *testing.T) {
	inBubble(t, func(o *Options, _ *Settings) { o.Shards = 5 }, func(t *testing.T, r *rig) {
		var want []StepUp
		for i := range 30 {
			if i%10 == 0 {
				time.Sleep(time.Millisecond) // ten in one millisecond
			}
			v, err := r.Ask(t.Context(), Request{Caller: "bank", IdempotencyKey: fmt.Sprint(i), Provider: "singpass",
				Question: Question{LoginHint: fmt.Sprintf("S%07dA", i)}, Reference: fmt.Sprint("ref-", i%3)})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, v)
		}
		shards := map[string]bool{}
		for i, v := range want {
			shards[v.ID[:5]] = true
			if i%4 == 0 {
				if _, err := r.Cancel(t.Context(), "bank", v.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(shards) < 3 {
			t.Fatalf("only shards %v", shards)
		}
		for _, c := range []struct {
			f    Filter
			keep func(i int) bool
		}{
			{Filter{}, func(int) bool { return true }},
			{Filter{Status: "cancelled"}, func(i int) bool { return i%4 == 0 }},
			{Filter{Status: "pending"}, func(i int) bool { return i%4 != 0 }},
			{Filter{Reference: "ref-1"}, func(i int) bool { return i%3 == 1 }},
			{Filter{Status: "cancelled", Reference: "ref-2"}, func(i int) bool { return i%4 == 0 && i%3 == 2 }},
			{Filter{Status: "approved"}, func(int) bool { return false }},
		} {
			var expect []StepUp
			for i, v := range want {
				if c.keep(i) {
					expect = append(expect, v)
				}
			}
			for _, c.f.Limit = range []int{1, 3, 7, 10, 100} {
				got, _ := r.all(t, c.f)
				sorted := slices.IsSortedFunc(got, func(a, b string) int { return slices.IndexFunc(want, is(b))/10 - slices.IndexFunc(want, is(a))/10 })
				seen := map[string]bool{}
				for _, id := range got {
					seen[id] = true
				}
				missing := slices.ContainsFunc(expect, func(v StepUp) bool { return !seen[v.ID] })
				if len(got) != len(expect) || len(seen) != len(got) || missing || !sorted {
					t.Errorf("%+v: %d step-ups, %d different, want %d; missing %t, newest first %t", c.f, len(got), len(seen), len(expect), missing, sorted)
				}
			}
		}
	})
}

func is(id string) func(StepUp) bool { return func(v StepUp) bool { return v.ID == id } }

// What is created while somebody pages through a list does not disturb the pages to come.
func TestListWhileItGrows(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		var old []string
		for i := range 6 {
			old = append(old, r.asked(fmt.Sprint(i), fmt.Sprintf("S%07dA", i)).ID)
			time.Sleep(time.Millisecond)
		}
		slices.Reverse(old)
		page, err := r.List(t.Context(), "bank", Filter{Limit: 3})
		if err != nil || len(page.StepUps) != 3 {
			t.Fatalf("%d, %v", len(page.StepUps), err)
		}
		r.asked("new", "S9999999A")
		got, _ := r.all(t, Filter{Limit: 3, Cursor: page.NextCursor})
		if !slices.Equal(got, old[3:]) {
			t.Errorf("the pages to come are %v, want %v", got, old[3:])
		}
	})
}

func TestListIsRefused(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.runs()
	_, err := r.List(t.Context(), "other", Filter{Limit: 10})
	refusedAs(t, "may_list is false", err, CodeNotFound)
	for _, cursor := range []string{"!", "bm9zcGFjZQ", "eCB5"} {
		_, err = r.List(t.Context(), "bank", Filter{Limit: 10, Cursor: cursor})
		if e := refusedAs(t, "cursor", err, CodeInvalidRequest); len(e.Fields) != 1 || e.Fields[0].Field != "cursor" {
			t.Errorf("fields %+v", e.Fields)
		}
	}
}

// Another caller's step-up is not there, on every route, pending and final.
func TestAnotherCallersStepUp(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	routes := map[string]func(id string) error{
		"show":      func(id string) error { _, err := r.Show(t.Context(), "other", id); return err },
		"wait":      func(id string) error { _, err := r.Wait(t.Context(), "other", id, time.Minute); return err },
		"cancel":    func(id string) error { _, err := r.Cancel(t.Context(), "other", id); return err },
		"redeliver": func(id string) error { _, err := r.Redeliver(t.Context(), "other", id); return err },
	}
	matrix := func(id string) {
		t.Helper()
		for name, route := range routes {
			foreign := refusedAs(t, name, route(id), CodeNotFound)
			for _, none := range []string{newID(0), newID(63), "", "su_", "su_0", "su_zz" + id[5:], id + "A", id[:len(id)-1] + "*", "evt_1"} {
				if e := refusedAs(t, name, route(none), CodeNotFound); e.Error() != foreign.Error() || e.ID != foreign.ID || e.RetryAfter != foreign.RetryAfter {
					t.Errorf("%s tells another's id %+v from none %+v", name, foreign, e)
				}
			}
		}
	}
	v := r.asked("k", "S1234567D")
	matrix(v.ID)
	r.provider.provide(nil, someone())
	r.settledAs(v.ID, Approved, 1)
	matrix(v.ID)
}

// A member of a page that cannot be opened does not take the others with it.
func TestListWithOneThatDoesNotOpen(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	bad, good := r.asked("1", "S1234567D"), r.asked("2", "S7654321D")
	r.spoilPrompt(t, bad.ID, flipped)
	page, err := r.List(t.Context(), "bank", Filter{Limit: 10})
	if err != nil || !slices.ContainsFunc(page.StepUps, is(good.ID)) {
		t.Errorf("%d step-ups, %v", len(page.StepUps), err)
	}
}

// The lists in Redis only say where to look: whose a step-up is and what its reference is, is read from what is sealed.
func TestListsAreOnlyAnIndex(t *testing.T) {
	t.Parallel()
	r := onRedis(t, func(o *Options, s *Settings) { fast(o, s); fiveBanks(s) })
	ask := func(caller, reference, hint string) string {
		t.Helper()
		v, err := r.Ask(t.Context(), Request{Caller: caller, IdempotencyKey: reference, Provider: "singpass", Question: Question{LoginHint: hint}, Reference: reference})
		if err != nil {
			t.Fatal(err)
		}
		return v.ID
	}
	want, other, foreign := ask("bank", "a", "S0000001A"), ask("bank", "b", "S0000002A"), ask("bank1", "a", "S0000003A")
	hash := r.set.reference("bank", "a")
	for _, id := range []string{other, foreign, newID(0), "no id"} {
		shard, _ := shardOf(id)
		for _, key := range []string{keyList(shard, "bank"), keyReferences(shard, "bank", hash)} {
			if err := r.rdb.ZAdd(t.Context(), key, redis.Z{Score: 1, Member: id}).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		f    Filter
		want []string
	}{
		{Filter{Limit: 10, Reference: "a"}, []string{want}},
		{Filter{Limit: 1, Reference: "a"}, []string{want}},
		{Filter{Limit: 10, Reference: "a", Status: "pending"}, []string{want}},
		{Filter{Limit: 10}, []string{want, other}},
	} {
		got, _ := r.all(t, c.f)
		slices.Sort(got)
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%d, %q, %q: %q, want %q", c.f.Limit, c.f.Status, c.f.Reference, got, c.want)
		}
	}
}

// spoil changes one sealed field in Redis.
func (r *rig) spoil(t *testing.T, key, field string, how func(string) string) {
	t.Helper()
	blob, err := r.rdb.HGet(t.Context(), key, field).Result()
	if err != nil && err != redis.Nil {
		t.Fatal(err)
	}
	if err := r.rdb.HSet(t.Context(), key, field, how(blob)).Err(); err != nil {
		t.Fatal(err)
	}
}

// spoilPrompt changes what is sealed of a pending step-up.
func (r *rig) spoilPrompt(t *testing.T, id string, how func(string) string) {
	t.Helper()
	blob, err := r.rdb.Get(t.Context(), keyPrompt(id)).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.rdb.Set(t.Context(), keyPrompt(id), how(blob), redis.KeepTTL).Err(); err != nil {
		t.Fatal(err)
	}
}

// flipped changes the last bit of a blob.
func flipped(blob string) string { return blob[:len(blob)-1] + string([]byte{blob[len(blob)-1] ^ 1}) }

// A cursor comes from a caller. Whatever it holds it is refused or names one place of a
// list, and the cursors that we give name the place they were made for.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", mark{at: 1, id: newID(3)}.String(), "!", "bm9zcGFjZQ", "eCB5", "LTEgeA", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OSB4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, ok := parseCursor(s)
		if !ok || s == "" {
			return
		}
		if again, ok := parseCursor(m.String()); !ok || again != m {
			t.Errorf("%+v comes back as %+v, %t", m, again, ok)
		}
	})
}
