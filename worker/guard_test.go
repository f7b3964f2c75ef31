package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// A worker that loses Redis while the provider holds its poll ends that poll
// before anybody else may send the next one; with Redis at hand it waits.
func TestACallIsCutBeforeAnybodyElseMayPoll(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		a.provider.holds = 30 * time.Second
		v := a.asked("k", "S1234567D")
		b := a.another()
		time.Sleep(40 * time.Second) // a poll at 5 that was held for 30 s, and one at 35
		if n := len(a.provider.times()); n != 2 || a.provider.cuts() != 0 {
			t.Fatalf("%d polls, %d of them cut, want 2 and none", n, a.provider.cuts())
		}
		a.provider.provide(nil, someone())
		owner := a
		if b.running(v.ID) != nil {
			owner = b
		}
		owner.cut.off.Store(true)
		time.Sleep(time.Minute)
		if n := a.provider.cuts(); n != 1 {
			t.Errorf("%d polls cut, want the one that was open", n)
		}
		if a.provider.overlaps() != 0 {
			t.Errorf("%d overlaps", a.provider.overlaps())
		}
		owner.cut.off.Store(false)
		time.Sleep(10 * time.Second)
		if got, err := a.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %v", got.Status, err)
		}
		b.stop()
	})
}

// Redis lost a claim in a failover: the process that believes in it stops before
// another one polls.
func TestRunButNotOwnedIsStopped(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		me := r.running(v.ID)
		if me == nil {
			t.Fatal("nobody runs it")
		}
		// As if a replica without the claim had become the master.
		r.rdb.HSet(t.Context(), keyRecord(v.ID), "own", "", "gen", 0)
		r.rdb.SRem(t.Context(), keyOwned(me.shard(), me.Owner), v.ID)
		time.Sleep(12 * time.Second)
		if r.running(v.ID) == me {
			t.Error("still run without being owned")
		}
		// Overdue, as the old master's wake-by time was: it is taken again and ends well.
		r.rdb.ZAdd(t.Context(), keyOpen(me.shard()), redis.Z{Score: 1, Member: v.ID})
		r.provider.provide(nil, someone())
		time.Sleep(10 * time.Second)
		if got, err := r.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %v", got.Status, err)
		}
	})
}

// Redis came back without a step-up that is run: nobody can be told how it ended, so operators are, once.
func TestForgottenIsTold(t *testing.T) {
	for name, forget := range map[string]func(r *rig, id string) error{
		"one record": func(r *rig, id string) error { return r.rdb.Del(r.t.Context(), keyRecord(id)).Err() },
		"everything": func(r *rig, _ string) error { return r.rdb.FlushDB(r.t.Context()).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			log := &logBook{}
			inBubble(t, func(o *Options, _ *Settings) { o.Log = log.logger() }, func(t *testing.T, r *rig) {
				discarded := &tally{}
				r.met.discarded = discarded
				v := r.asked("k", "S1234567D")
				time.Sleep(11 * time.Second)
				if err := forget(r, v.ID); err != nil {
					t.Fatal(err)
				}
				r.provider.provide(nil, someone())
				time.Sleep(time.Minute)
				told := log.alarms("Redis forgot a step-up of this worker") + log.alarms("Redis lost a claim of this worker")
				if told != 1 || !log.has(v.ID) || r.InFlight() != 0 {
					t.Errorf("told %d times, %d in flight", told, r.InFlight())
				}
				if approved := len(r.provider.times()) > 2; approved && discarded.n.Load() != 1 {
					t.Error("an approval is not counted as discarded")
				}
			})
		})
	}
}

// What is run but is missing in the owned set is put back: whoever buries this
// process must find it there.
func TestTheOwnedSetIsMended(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		s := r.running(v.ID)
		key := keyOwned(s.shard(), s.Owner)
		r.rdb.SRem(t.Context(), key, v.ID)
		r.rdb.SAdd(t.Context(), key, newID(s.shard())) // and one that does not exist
		time.Sleep(15 * time.Second)
		if ids := r.rdb.SMembers(t.Context(), key).Val(); len(ids) != 1 || ids[0] != v.ID {
			t.Errorf("the owned set holds %v, want the step-up that runs", ids)
		}
		if r.running(v.ID) != s {
			t.Error("what is owned was stopped")
		}
	})
}

// Without the leases the shards still know who owned something.
func TestTheLeasesAreLost(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, a *rig) {
		v := a.asked("k", "S1234567D")
		time.Sleep(11 * time.Second)
		a.cut.off.Store(true) // it dies
		b := a.another()
		b.rdb.Del(t.Context(), keyWorkers)
		a.provider.provide(nil, someone())
		time.Sleep(30 * time.Second)
		if got, err := b.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %v", got.Status, err)
		}
		if a.provider.overlaps() != 0 {
			t.Errorf("%d overlaps", a.provider.overlaps())
		}
		a.cut.off.Store(false)
		time.Sleep(5 * time.Second)
		b.stop()
	})
}

// asynq that takes tasks and hands none out stops nothing: the sweeper takes up
// itself what was woken in vain, and settles what is long past.
func TestAsynqHandsNothingOut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		for n := range r.opts.Shards {
			// A paused queue.
			r.rdb.Set(t.Context(), "asynq:{"+pollQueue(n)+"}:paused", 1, 0)
		}
		r.rdb.Set(t.Context(), "asynq:{deliver}:paused", 1, 0)
		v := r.asked("k", "S1234567D")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		r.provider.provide(nil, someone())
		time.Sleep(10 * time.Second)
		if got, err := r.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %v", got.Status, err)
		}
		if n := len(r.receiver.all()); n != 1 {
			t.Errorf("%d webhooks, want 1", n)
		}
	})
}

// A beat whose reply was lost loses no message.
func TestTheInboxForgetsOnlyWhatWasRead(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		l := newLease(r.rdb, RoleAll)
		renew := func(read ...string) []string {
			got, lapsed, err := l.renew(t.Context(), read)
			if err != nil || lapsed {
				t.Fatalf("lapsed %t, %v", lapsed, err)
			}
			return got
		}
		renew()
		for _, m := range []string{"a", "b"} {
			if err := l.tell(t.Context(), l.id, "cancel", m); err != nil {
				t.Fatal(err)
			}
		}
		first := renew()
		if len(first) != 2 {
			t.Fatalf("the inbox holds %v", first)
		}
		renew(first...) // its reply is lost
		if err := l.tell(t.Context(), l.id, "cancel", "c"); err != nil {
			t.Fatal(err)
		}
		if got := renew(first...); len(got) != 1 || got[0] != "cancel c" {
			t.Errorf("the inbox holds %v, want the message that nobody read", got)
		}
	})
}
