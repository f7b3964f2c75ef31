package worker

import (
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/worker/redistest"
)

// replicated is a worker that waits for one replica, and the replica.
func replicated(t *testing.T) (*rig, *redistest.Node, *logBook) {
	t.Helper()
	all, stop, err := redistest.RunReplicas(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	log := &logBook{}
	r := newRig(t, redis.Options{Addr: all[0].Addr}, func(o *Options, s *Settings) {
		o.WaitReplicas = 1
		o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil))
		p := s.Providers["singpass"]
		p.Interval = 200 * time.Millisecond
		s.Providers["singpass"] = p
	})
	return r, all[1], log
}

// Nobody is asked what no replica knows of; when the replica is back, the same request goes through, once.
func TestNoPushWithoutReplica(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		down, back func(t *testing.T, n *redistest.Node)
	}{
		{"frozen", func(_ *testing.T, n *redistest.Node) { n.Freeze() }, func(_ *testing.T, n *redistest.Node) { n.Thaw() }},
		{"killed", func(_ *testing.T, n *redistest.Node) { n.Kill() }, func(t *testing.T, n *redistest.Node) { reborn(t, n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, replica, _ := replicated(t)
			r.provider.answers = []any{someone()}
			c.down(t, replica)
			_, err := r.ask("k", "S1234567D")
			if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeStorageUnavailable {
				t.Fatalf("asking without a replica: %v, want %s", err, CodeStorageUnavailable)
			}
			if n := r.provider.pushes(); n != 0 {
				t.Fatalf("%d pushes without a replica, want 0", n)
			}
			c.back(t, replica)
			var v StepUp
			r.until("the request goes through", func() bool {
				v, err = r.ask("k", "S1234567D")
				return err == nil
			})
			r.settledAs(v.ID, Approved, 1)
			if n := r.provider.pushes(); n != 1 {
				t.Errorf("%d pushes, want 1", n)
			}
		})
	}
}

// reborn starts a killed replica again, behind the same master.
func reborn(t *testing.T, n *redistest.Node) {
	t.Helper()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if err := n.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What the provider said is told all the same when a replica is away for long, and operators hear of it.
func TestLearntWithoutReplica(t *testing.T) {
	t.Parallel()
	r, replica, log := replicated(t)
	r.store.replicas.longest = 2 * time.Second
	answer := make(chan Identity)
	r.provider.answers = []any{func(Asked) (Identity, error) { return <-answer, nil }}
	v := r.asked("k", "S1234567D")
	replica.Freeze()
	began := time.Now()
	answer <- someone()
	r.settledAs(v.ID, Approved, 1)
	if took := time.Since(began); took < time.Second {
		t.Errorf("told after %v: the replica was not waited for", took)
	}
	if !log.has("too few replicas") || !log.has("alarm=true") || !log.has("write=final") {
		t.Error("no alarm tells of the write that has no replica")
	}
	replica.Thaw()
}

// A script that is repeated writes nothing; it is not taken for confirmed by that.
func TestRepeatWaitsToo(t *testing.T) {
	t.Parallel()
	all, stop, err := redistest.RunReplicas(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c := all[0].Client()
	t.Cleanup(func() { c.Close() })
	waits, err := newReplicas(1, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	s := store{rdb: c, shards: 2, replicas: waits}
	r := record{ID: newID(1), Caller: "bank", Provider: "singpass", State: Asking, Created: time.Now(), Interval: time.Second}
	begin := func() error {
		_, err := s.begin(t.Context(), &r, "idem", "fp", "sealed", nil)
		return err
	}
	all[1].Freeze()
	for n := range 3 {
		if err := begin(); !errors.Is(err, errUnconfirmed) {
			t.Errorf("try %d without the replica: %v, want %v", n+1, err, errUnconfirmed)
		}
		// On another connection, which has written nothing yet.
		c = all[0].Client()
		t.Cleanup(func() { c.Close() })
		s.rdb = c
	}
	all[1].Thaw()
	end := time.Now().Add(20 * time.Second)
	for err := begin(); err != nil; err = begin() {
		if !errors.Is(err, errUnconfirmed) || time.Now().After(end) {
			t.Fatalf("with the replica back: %v", err)
		}
	}
}
