package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba/cibatest"
	"stepup/worker"
	"stepup/worker/redistest"
)

// TestMain lets the test binary be the other processes of a run, as the program is.
func TestMain(m *testing.M) {
	if part := child(); part != nil {
		os.Exit(part(os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A short run of either kind ends by itself, breaks no rule and prints a table that can be true.
func TestRun(t *testing.T) {
	for _, row := range []struct {
		name     string
		args     []string
		interval time.Duration
		head     string
	}{
		{"over HTTP", []string{"-interval", "1s", "-for", "1s", "-baseline", "-naive"}, time.Second, "service baseline naive ÷ baseline ÷ naive"},
		{"over TLS", []string{"-interval", "1s", "-for", "1s", "-tls", "2"}, time.Second, "service"},
		{"engine", []string{"-interval", "200ms", "-for", "1s", "-engine"}, 200 * time.Millisecond, "service"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			var progress buffer // the second process writes to it too
			args := append([]string{"-n", "20", "-redis", "redis://" + redistest.Start(t) + "/3"}, row.args...)
			code := command(t.Context(), args, &out, &progress)
			t.Logf("%s\n%s", &progress, &out)
			if code != 0 {
				t.Fatalf("exit code %d", code)
			}
			for name, ok := range map[string]func(v float64) bool{
				"polls":                        func(v float64) bool { return v >= 20 },
				"polls/s":                      func(v float64) bool { return v > 0 && v <= 1.1*20/row.interval.Seconds() },
				"CPU a poll, this process, µs": func(v float64) bool { return v >= 0 }, // the tests beside it count as idle too
				"overlaps":                     func(v float64) bool { return v == 0 },
				"early polls":                  func(v float64) bool { return v == 0 },
				"other answers":                func(v float64) bool { return v == 0 },
				"late max, ms":                 func(v float64) bool { return v > 0 },
				"webhooks":                     func(v float64) bool { return v == 20 },
				"approval to webhook p99, ms":  func(v float64) bool { return v > 0 },
			} {
				if v := cell(t, out.String(), name); !ok(v) {
					t.Errorf("%s is %v", name, v)
				}
			}
			if head := strings.Join(strings.Fields(strings.SplitN(out.String(), "\n", 4)[2]), " "); head != row.head {
				t.Errorf("columns are %s", head)
			}
			if v := cell(t, out.String(), "stepup:{poll-n}:su:<id>"); v != 1 {
				t.Errorf("%v records a step-up", v)
			}
		})
	}
}

// Creates are measured at each number of callers, and nothing is polled meanwhile.
func TestCreates(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var progress buffer
	code := command(t.Context(), strings.Fields("-creates -for 1s -format json -redis redis://"+redistest.Start(t)+"/3"), &out, &progress)
	t.Logf("%s\n%s", &progress, &out)
	var ts tables
	if err := json.Unmarshal(out.Bytes(), &ts); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	for column := range callers {
		rate, _ := ts[0].value(rowCreates, column)
		sent, _ := ts[0].value("Redis commands sent a create", column)
		if rate <= 0 || sent <= 1 {
			t.Errorf("%s: %v creates/s, %v commands each", ts[0].Columns[column], rate, sent)
		}
	}
}

// The report keeps the words around its tables, writes only the section that was asked for, and says of each limit whether it is kept.
func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	num := func(values ...float64) (p []*float64) {
		for i := range values {
			p = append(p, &values[i])
		}
		return p
	}
	ran := 0
	measure := func(context.Context, []string) (tables, error) {
		ran++
		return tables{{Title: "T", Columns: []string{"service", "baseline", "naive"}, Rows: []tableRow{
			{Name: rowSelf, Values: num(90, 100, 200), Digits: 1, Ratio: true},
			{Name: rowRedis, Values: []*float64{num(10)[0], nil, nil}, Digits: 1},
			{Name: rowLateP99, Values: num(3, 1, 1), Ratio: true},
			{Name: rowFaults, Values: num(0, 0, 0)},
			{Name: rowGrown, Values: num(1, 3, 2)},
			{Name: rowSlowGets, Values: []*float64{nil, num(1.1)[0], num(1.05)[0]}},
			{Name: rowBeyondP99, Values: []*float64{num(9)[0], nil, nil}},
			{Name: rowMissing, Values: []*float64{nil, num(0)[0], num(1)[0]}},
			{Name: rowBesideBad, Values: []*float64{nil, num(1.15)[0], nil}},
			{Name: rowWithout, Values: []*float64{nil, num(1.12)[0], nil}},
		}}}, nil
	}
	polls, others, hooks, telling := sections[0], sections[1], sections[2], sections[3]
	missing := "before\n" + polls.begin + polls.end // and none of the callers'
	write(missing)
	if err := report(t.Context(), file, "", io.Discard, measure); err == nil || ran != 0 {
		t.Errorf("a file without markers: %v after %d runs", err, ran)
	}
	if err := report(t.Context(), file, "callers", io.Discard, measure); err == nil || ran != 0 {
		t.Errorf("a file without the section's markers: %v after %d runs", err, ran)
	}
	write("before\n" + polls.begin + "\nold\n" + polls.end + "\nbetween\n" + others.begin + "\nolder\n" + others.end + "\nbefore the last\n" + hooks.begin + hooks.end + telling.begin + telling.end + "\nafter\n")
	got := func() string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := report(t.Context(), file, "callers", io.Discard, measure); err != nil || ran != len(callerParts) {
		t.Errorf("one section: %v after %d runs", err, ran)
	}
	if text := got(); !strings.Contains(text, "\nold\n") || strings.Contains(text, "older") {
		t.Errorf("the section alone is to be written:\n%s", text)
	}
	for range 2 { // the second time finds what the first has written
		if err := report(t.Context(), file, "", io.Discard, measure); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]int{
		"before\n" + polls.begin: 1, polls.end + "\nbetween\n" + others.begin: 1, others.end + "\nbefore the last\n" + hooks.begin: 1, telling.end + "\nafter\n": 1, "old": 0,
		"| CPU a poll, this process, µs | 90.0 | 100.0 | 200.0 | 0.90 | 0.45 |":       len(parts) + len(callerParts) + len(hookParts) + len(telemetryParts),
		"| CPU a poll, Go and Redis, ÷ baseline; " + few + " | ≤ 1.2 | 1.00 | kept |": 1,
		"| CPU a poll, Go and Redis, ÷ naive; " + many + " | ≤ 0.5 | 0.50 | kept |":   1,
		"| late p99 ÷ baseline; " + few + " | ≤ 1.5 | 3.00 | **missed** |":            1,
		"| " + rowMemory + "; " + many + " | ≤ 2000 | – | not measured |":             1,
		"| " + rowFaults + " | ≤ 0 | 0.00 | kept |":                                   1,
		"| " + rowGrown + " | ≤ 1.2 | 3.00 | **missed** |":                            1, // the worst of the columns
		"| " + rowSlowGets + " | ≤ 1.2 | 1.10 | kept |":                               1, // who is compared with is none of them
		"| " + rowBeyondP99 + " | ≤ 100 | – | not measured |":                         1, // a column has none
		"| " + rowMissing + " | ≤ 0 | 1.00 | **missed** |":                            1,
		"| " + rowBesideBad + " | ≤ 1.2 | 1.15 | kept |":                              1,
		"| " + rowWithout + " | ≤ 1.1 | 1.12 | **missed** |":                          1,
	} {
		if n := strings.Count(got(), text); n != want {
			t.Errorf("%d times, want %d: %s", n, want, text)
		}
	}
	if t.Failed() {
		t.Logf("%s", got())
	}
}

// cell is the first number in the table's line of that name.
func cell(t *testing.T, table, name string) float64 {
	t.Helper()
	found := regexp.MustCompile(`(?m)^ *([0-9.]+)(?: .*)?  ` + regexp.QuoteMeta(name) + `$`).FindStringSubmatch(table)
	if found == nil {
		t.Fatalf("no line %q in the table", name)
	}
	v, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestFlags(t *testing.T) {
	for _, row := range []struct {
		args string
		code int
		says string
	}{
		{"-h", 0, "Exit code"},
		{"-n 0", 2, "-n must be"},
		{"-interval 200ms", 2, "whole seconds"},
		{"-interval 5ms -engine", 2, "10ms to 60s"},
		{"-for 1ms", 2, "-for must be"},
		{"-engine -naive", 2, "no meaning with -engine"},
		{"-creates -baseline", 2, "compare polls"},
		{"-tls 3", 2, "-tls must be"},
		{"-format html", 2, "-format must be"},
		{"-report none.md", 1, "reading the report"},
		{"ten", 2, "only flags"},
		{"-redis https://user:password@127.0.0.1/", 1, "not a redis://"},
		{"-redis redis://127.0.0.1:1/", 1, "taking the Redis"},
	} {
		var out bytes.Buffer
		var progress buffer // the second process writes to it too
		code := command(t.Context(), strings.Fields(row.args), &out, &progress)
		if code != row.code || !strings.Contains(progress.String(), row.says) || strings.Contains(progress.String(), "password") {
			t.Errorf("%s: exit code %d, want %d and %q; said:\n%s", row.args, code, row.code, row.says, &progress)
		}
	}
}

// Without redis-server the user is told what to do.
func TestNoRedisServer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out bytes.Buffer
	var progress buffer // the second process writes to it too
	if code := command(t.Context(), nil, &out, &progress); code != 1 || !strings.Contains(progress.String(), "redis-server is not installed") {
		t.Errorf("exit code %d, said: %s", code, &progress)
	}
}

// A database with somebody's data is not touched.
func TestForeignData(t *testing.T) {
	addr := redistest.Start(t)
	s := newStore(&redis.Options{Addr: addr})
	defer s.admin.Close()
	if err := s.admin.Set(t.Context(), "theirs", "1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var progress buffer // the second process writes to it too
	code := command(t.Context(), []string{"-redis", "redis://" + addr}, &out, &progress)
	if code != 1 || !strings.Contains(progress.String(), "holds 1 keys") {
		t.Errorf("exit code %d, said: %s", code, &progress)
	}
	if got := s.admin.Get(t.Context(), "theirs").Val(); got != "1" {
		t.Errorf("theirs is %q afterwards", got)
	}
}

// The in-process ledger judges by the rule of the simulated provider's.
func TestEngineLedger(t *testing.T) {
	e := newEngine(time.Hour)
	asked, err := e.Ask(t.Context(), worker.Question{LoginHint: cibatest.HintFor(approves, 1, 7)})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // pending, tokens, and once more for what is gone
		_, _ = e.Answer(t.Context(), asked)
	}
	at, _ := e.approved(t.Context())
	l, _ := e.cut(t.Context())
	if l.Polls != 2 || l.Early != 2 || l.Tokens != 1 || l.Refused != 1 || len(at) != 1 {
		t.Errorf("polls %d, early %d, tokens %d, refused %d, approvals %d; want 2, 2, 1, 1, 1", l.Polls, l.Early, l.Tokens, l.Refused, len(at))
	}
	if l, _ := e.cut(t.Context()); l.Polls != 0 {
		t.Errorf("%d polls after a cut", l.Polls)
	}
}

func TestMeasure(t *testing.T) {
	var s snapshot
	info := "# CPU\r\nused_cpu_sys:1.500000\r\nused_cpu_user:0.5\r\nused_memory:1000\r\ncmdstat_get:calls=3,usec=9\r\ncmdstat_info:calls=9,usec=1\r\ncmdstat_client|list:calls=2,usec=1\r\n"
	if err := s.readInfo(info); err != nil || s.redis != 2*time.Second || s.memory != 1000 || s.run != 5 {
		t.Errorf("readInfo: %+v, %v", s, err)
	}
	if err := new(snapshot).readInfo("used_memory:1\r\n"); err == nil {
		t.Error("INFO without CPU passes")
	}
	got := spent{seconds: 10, self: 5 * time.Second, run: 7}.beyond(spent{seconds: 5, self: time.Second, run: 4})
	if got.self != 3*time.Second || got.run != 0 {
		t.Errorf("beyond idle: %+v", got)
	}
	values := sorted([]time.Duration{3, 1, 2, 4})
	for p, want := range map[int]time.Duration{1: 1, 50: 2, 99: 4, 100: 4} {
		if got := percentile(values, p); got != want {
			t.Errorf("p%d is %d, want %d", p, got, want)
		}
	}
}

// buffer is a bytes.Buffer for several writers.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
