package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stepup/worker/redistest"
)

// Moments are known before anything is sent: as many as were asked for, in order, spread over the whole time, and the same again.
func TestArrivals(t *testing.T) {
	at := arrivals(500, 20*time.Second, 7)
	if len(at) != 10_000 || !slices.IsSorted(at) || at[0] < 0 || at[len(at)-1] >= 20*time.Second {
		t.Errorf("%d moments from %v to %v", len(at), at[0], at[len(at)-1])
	}
	for second := range 20 {
		from, _ := slices.BinarySearch(at, time.Duration(second)*time.Second)
		to, _ := slices.BinarySearch(at, time.Duration(second+1)*time.Second)
		if to-from < 400 || to-from > 600 {
			t.Errorf("second %d has %d", second, to-from)
		}
	}
	if !slices.Equal(at, arrivals(500, 20*time.Second, 7)) || slices.Equal(at, arrivals(500, 20*time.Second, 8)) {
		t.Error("a seed stands for a schedule")
	}
}

// An answer that takes long delays nobody who is due after it, and its own wait counts from when it was due.
func TestOpenLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		at := []time.Duration{0, 10 * time.Millisecond, 20 * time.Millisecond}
		var mu sync.Mutex
		var sent []time.Duration
		err := fire(t.Context(), began, at, func(i int, due time.Time) {
			mu.Lock()
			sent = append(sent, time.Since(began))
			mu.Unlock()
			if due != began.Add(at[i]) {
				t.Errorf("request %d is due at %v", i, due.Sub(began))
			}
			time.Sleep(time.Second)
		})
		if err != nil || !slices.Equal(sent, at) || time.Since(began) != at[2]+time.Second {
			t.Errorf("sent at %v, over after %v: %v", sent, time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := fire(ctx, time.Now(), []time.Duration{time.Hour}, func(int, time.Time) { t.Error("sent after the end") }); err == nil {
			t.Error("a run that was ended goes on")
		}
	})
}

func TestFaults(t *testing.T) {
	var f faults
	for _, what := range []string{"get 500 internal", "create 429 rate_limited", "get 500 internal"} {
		f.add(what)
	}
	if got := f.String(); f.count() != 3 || got != "create 429 rate_limited: 1, get 500 internal: 2" {
		t.Errorf("%d: %s", f.count(), got)
	}
}

// The service's log tells what it complained of and what each collection left, also where another line was written into the middle of one.
func TestServiceLog(t *testing.T) {
	log := []byte(`{"level":"INFO","msg":"stepup serves","api":"127.0.0.1:8080","admin":"127.0.0.1:8081"}
gc 1 @0.500s 2%: 0.02+1.1+0.01 ms clock, 0.04+0.1/1/0+0.02 ms cpu, 4->5->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P
gc 2 @1.0{"level":"WARN","msg":"not ready"}
00s 2%: 0.02+1.1+0.01 ms clock, 0.04+0.1/1/0+0.02 ms cpu, 9->9->3 MB, 9 MB goal, 0 MB stacks, 0 MB globals, 2 P
{"level":"ERROR","msg":"not ready"}
gc 3 @1.500s 2%: 0.02+1.1+0.01 ms clock, 0.04+0.1/1/0+0.02 ms cpu, 12->14->12 MB, 13 MB goal, 0 MB stacks, 0 MB globals, 2 P
`)
	all := collections(log)
	for at, want := range map[time.Duration]int64{0: 0, time.Second: 2 << 20, 1600 * time.Millisecond: 12 << 20} {
		if got := liveAt(all, at); got != want {
			t.Errorf("%d bytes are alive at %v, want %d", got, at, want)
		}
	}
	if got := complaints(log).String(); got != "not ready: 1" { // the first one is lost in the collection's line
		t.Errorf("complaints: %s", got)
	}
	var p program
	if !p.addresses(log, true) || p.api != "https://127.0.0.1:8080" || p.admin != "http://127.0.0.1:8081" {
		t.Errorf("addresses %s and %s", p.api, p.admin)
	}
}

// The provider's own time is that of the request, and told once.
func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := ""
		h := &holder{least: 50 * time.Millisecond, held: map[string]time.Duration{}, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Millisecond)
			body = r.FormValue("login_hint")
		})}
		for path, hint := range map[string]string{"/bc-auth": "somebody", "/token": "else"} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader("scope=openid&login_hint="+hint+"&x=1"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			h.ServeHTTP(httptest.NewRecorder(), r)
			if body != hint {
				t.Errorf("%s passed %q on", path, body)
			}
		}
		for _, want := range []string{`{"somebody":51000000}`, `{}`} {
			var out bytes.Buffer
			told := httptest.NewRecorder()
			h.tell(told, nil)
			out.ReadFrom(told.Body)
			if got := strings.TrimSpace(out.String()); got != want {
				t.Errorf("told %s, want %s", got, want)
			}
		}
	})
}

// Slow connections are always as many: whoever is hung up on comes again.
func TestCrowd(t *testing.T) {
	var opened, answered atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered.Add(1) }))
	server.Config.ReadHeaderTimeout = 100 * time.Millisecond
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	ctx, disperse := context.WithCancel(t.Context())
	defer disperse()
	c := &crowd{slowKind: slowKinds[1], program: &program{api: server.URL, key: "k"}}
	var held sync.WaitGroup
	const many = 5
	for range many {
		held.Go(func() { c.hold(ctx, 0) })
	}
	err := until(ctx, "each has been hung up on twice", 10*time.Second, func() (bool, error) { return c.closed.Load() >= 2*many, nil })
	if err != nil {
		t.Error(err)
	}
	disperse()
	held.Wait()
	if c.open.Load() != 0 || opened.Load() < 2*many || answered.Load() != 0 {
		t.Errorf("%d are open, %d were opened, %d answered", c.open.Load(), opened.Load(), answered.Load())
	}
}

// Short runs of the edge end by themselves, without an error to any caller, and print a table that can be true.
func TestEdge(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "stepup")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "stepup/cmd/stepup").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	positive := func(v float64) bool { return v > 0 }
	none := func(v float64) bool { return v == 0 }
	for _, row := range []struct {
		name, args string
		column     int
		want       map[string]func(float64) bool
	}{
		{"callers", "-callers -interval 1s -for 1s -program " + binary, 0, map[string]func(float64) bool{
			"creates": func(v float64) bool { return v == createRate }, "webhooks": func(v float64) bool { return v == createRate },
			rowFaults: none, "warnings of the service": none, "long polls answered": positive,
			"/bc-auth at the provider p50, ms": func(v float64) bool { return v >= 50 }, rowBeyondP99: positive, rowReadP99: positive,
		}},
		{"slow", "-slow -interval 1s -for 1s -program " + binary, 1, map[string]func(float64) bool{
			"slow connections, at least": positive, "create beyond the provider p99, ms": positive, "get p99, ms": positive, rowSlowGets: positive,
		}},
		{"records", "-records -n 300 -for 1s", 2, map[string]func(float64) bool{
			"asked": positive, "step-ups in the answer": func(v float64) bool { return v == 100 }, rowPageP99: positive,
		}},
		{"webhooks", "-webhooks -n 40 -interval 1s -for 1s -program " + binary, 3, map[string]func(float64) bool{
			rowMissing: none, "approvals/s": positive, rowDelivers: positive, "deliveries/s, plain sender": positive, rowCalmP99: positive,
			"bytes of an event": func(v float64) bool { return v > 1000 }, // encrypted
		}},
		{"endpoints", "-endpoints -interval 1s -for 1s -program " + binary, 1, map[string]func(float64) bool{
			"webhooks": positive, rowMissing: none, rowBesideBad: positive,
		}},
		{"telemetry", "-telemetry -n 50 -interval 1s -for 1s -program " + binary, 1, map[string]func(float64) bool{
			"polls": func(v float64) bool { return v >= 50 }, "polls traced, %": func(v float64) bool { return v >= 0 },
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			var progress buffer // the second process writes to it too
			code := command(t.Context(), strings.Fields(row.args+" -format json -redis redis://"+redistest.Start(t)+"/0"), &out, &progress)
			t.Logf("%s\n%s", &progress, &out)
			var ts tables
			if err := json.Unmarshal(out.Bytes(), &ts); err != nil || code != 0 {
				t.Fatalf("exit code %d, %v", code, err)
			}
			for name, ok := range row.want {
				if v, has := ts[0].value(name, row.column); !has || !ok(v) {
					t.Errorf("%s: %s is %v", ts[0].Columns[row.column], name, v)
				}
			}
		})
	}
}
