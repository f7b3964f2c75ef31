package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The program is built once for all tests that run it.
var (
	kitDir   string
	buildKit = sync.OnceValues(func() (*kit, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return newKit(ctx, kitDir, "")
	})
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "stepup-crash-test-")
	if err != nil {
		panic(err)
	}
	kitDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func sharedKit(t *testing.T) *kit {
	t.Helper()
	k, err := buildKit()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyOutlivesTheProcess: a process dies by kill -9 with a create in hand, and the bank repeats it under the same key
// at the process that is started in its place. What the provider took is answered with the step-up that was stored before
// the death; what may have been sent is told to be under way. Nobody is asked twice.
func TestKeyOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	k := sharedKit(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel) // after the last case
	for _, c := range []struct {
		point  string
		pushes int
		status int // of the repeat
		code   string
	}{
		{"ask.begin", 0, http.StatusCreated, ""}, // nothing was stored: the repeat is the first
		{"ask.send", 0, http.StatusConflict, "idempotency_in_progress"},
		{"ask.answered", 1, http.StatusConflict, "idempotency_in_progress"},
		{"ask.stored", 1, http.StatusCreated, ""},
		{"ask.queued", 1, http.StatusCreated, ""},
	} {
		t.Run(c.point, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			fail := filepath.Join(dir, "fail")
			s, err := openSite(ctx, k, dir, setup{env: []string{"STEPUP_FAILPOINT=" + c.point, "STEPUP_FAILPOINT_DIR=" + fail}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(s.close)
			a := s.crew[0]
			if err := s.startAll(ctx, a); err != nil {
				t.Fatal(err)
			}
			body := []byte(`{"provider":"sim","login_hint":"S1234567D"}`)
			lost := make(chan struct{})
			go func() {
				defer close(lost)
				if status, _, err := s.bank.call(ctx, http.MethodPost, 0, "/v1/step-ups", "one key", body); err == nil {
					t.Errorf("the process died, yet answered %d", status)
				}
			}()
			fired := func() bool { _, err := os.Stat(filepath.Join(fail, "fired")); return err == nil }
			if err := until(ctx, c.point+" is passed", 10*time.Second, fired); err != nil {
				t.Fatal(err)
			}
			stored := s.listed(ctx, t)
			a.kill()
			<-lost
			if err := s.startAll(ctx, a); err != nil { // its failpoint has fired
				t.Fatal(err)
			}
			status, members, err := s.bank.call(ctx, http.MethodPost, 0, "/v1/step-ups", "one key", body)
			if err != nil || status != c.status || c.code != "" && members["code"] != c.code {
				t.Fatalf("the repeat: %d %v, %v; want %d %s", status, members["code"], err, c.status, c.code)
			}
			if id, _ := members["id"].(string); stored != "" && status == http.StatusCreated && id != stored {
				t.Errorf("the repeat is answered with %s, stored was %s", id, stored)
			}
			if now := s.listed(ctx, t); stored != "" && now != stored {
				t.Errorf("the list has %s, before the death it had %s", now, stored)
			}
			want := c.pushes
			if stored == "" {
				want = 1 // the repeat's own
			}
			if n := s.op.Ledger().Pushes; n != want {
				t.Errorf("%d pushes, want %d", n, want)
			}
		})
	}
}

// listed is the id of the only step-up there is, empty when there is none.
func (s *site) listed(ctx context.Context, t *testing.T) string {
	t.Helper()
	status, members, err := s.bank.call(ctx, http.MethodGet, 0, "/v1/step-ups", "", nil)
	list, _ := members["step_ups"].([]any)
	if err != nil || status != http.StatusOK || len(list) > 1 {
		t.Fatalf("list: %d, %d step-ups, %v", status, len(list), err)
	}
	if len(list) == 0 {
		return ""
	}
	only, _ := list[0].(map[string]any)
	id, _ := only["id"].(string)
	return id
}
