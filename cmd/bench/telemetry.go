package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stepup/ciba/cibatest"
)

// scrapeEvery is how often /metrics is read: three times as often as most do.
const scrapeEvery = 5 * time.Second

// telling is one of the two services of -telemetry: one column.
type telling struct {
	name    string
	on      bool
	program *program
	backend *backend

	idle, used time.Duration // CPU; idle is what the same time costs when there is nothing to do
	polls      int
	rss        int64
	traced     int   // polls that the collector was told of
	bytes      int64 // that it was sent
	others     float64
}

// telemetryTables measures what traces and metrics cost a poll: two services run side by side, each on a Redis of its own, so
// that whatever else the machine does, it does to both. One has all of it switched off; of the other every step-up is traced,
// all is sent to a collector, and /metrics is read.
func (b *bench) telemetryTables(ctx context.Context) (tables, error) {
	dir, binary, done, err := b.workshop(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	to, err := openSink()
	if err != nil {
		return nil, fmt.Errorf("starting the collector: %w", err)
	}
	defer to.server.Close()
	second, err := openRedis(ctx, "")
	if err != nil {
		return nil, err
	}
	defer second.close()
	defer collecting(collecting(400)) // the load is not what is measured
	without, with := &telling{name: "without"}, &telling{name: "with", on: true}
	for _, s := range []struct {
		*telling
		store   *redisStore
		environ []string
	}{
		{without, b.store, []string{"OTEL_SDK_DISABLED=true"}},
		{with, second, []string{"STEPUP_TELEMETRY_OTLP_ENDPOINT=" + to.url, fmt.Sprintf("OTEL_METRIC_EXPORT_INTERVAL=%d", scrapeEvery.Milliseconds())}},
	} {
		side := *b
		side.store, side.environ = s.store, s.environ
		folder := filepath.Join(dir, s.name)
		if err := os.Mkdir(folder, 0o700); err != nil {
			return nil, fmt.Errorf("making a folder for the service: %w", err)
		}
		if s.program, err = side.startProgram(ctx, binary, folder, []*account{{name: "bench"}}, false); err != nil {
			return nil, err
		}
		defer s.program.stop()
		s.backend = newBackend(s.program)
		defer s.backend.http.CloseIdleConnections()
	}
	columns := []*telling{without, with}
	if err := b.tell(ctx, columns, to); err != nil {
		return nil, err
	}
	err = errors.Join(without.program.stop(), with.program.stop(), b.verdict(nil))
	return tables{b.telemetryTable(columns)}, err
}

// tell loads both services alike and measures them.
func (b *bench) tell(ctx context.Context, both []*telling, to *sink) error {
	rest := min(max(b.settings.steady/3, 2*time.Second), 10*time.Second)
	b.say("idle: %v", rest)
	spent := func(d time.Duration) ([]time.Duration, error) {
		before := []time.Duration{both[0].program.cpu(), both[1].program.cpu()}
		err := pause(ctx, d)
		return []time.Duration{both[0].program.cpu() - before[0], both[1].program.cpu() - before[1]}, err
	}
	idle, err := spent(rest)
	if err != nil {
		return err
	}
	for _, s := range both {
		s.idle = time.Duration(float64(idle[0]) * b.settings.steady.Seconds() / rest.Seconds()) // telemetry's own is not taken off
		defer scrape(s.program.admin + "/metrics")()
	}
	b.say("ramp-up: twice %d step-ups", b.n)
	err = b.ramp(ctx, 2*b.n, func(i int) error {
		s := both[i%2]
		if _, ok := s.backend.create(ctx, cibatest.HintFor(nobodyAnswers, 0, uint64(i)), strconv.Itoa(i)); !ok {
			return fmt.Errorf("creating a step-up: %s", &s.backend.found)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.say("warm-up")
	if err := b.warmUp(ctx); err != nil {
		return err
	}
	b.say("steady: %v", b.settings.steady)
	traced, sent := to.traced.Load(), to.bytes.Load()
	before, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	used, err := spent(b.settings.steady)
	if err != nil {
		return err
	}
	after, err := b.snapshot(ctx)
	if err != nil {
		return err
	}
	l, err := b.cut(ctx)
	if err != nil {
		return err
	}
	for i, s := range both {
		s.used, s.rss = max(0, used[i]-s.idle), s.program.rss()
		s.polls = l.Polls / 2 // both have as many step-ups and the same interval
		s.others = after.since(before).others
	}
	both[1].traced, both[1].bytes = int(to.traced.Load()-traced), to.bytes.Load()-sent
	return nil
}

// scrape reads a page again and again, until over.
func scrape(url string) (over func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		for pause(ctx, scrapeEvery) == nil {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return
			}
			if res, err := http.DefaultClient.Do(req); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		}
	})
	return func() { cancel(); reading.Wait() }
}

// sink takes what is exported and keeps nothing of it.
type sink struct {
	url    string
	server *http.Server
	traced atomic.Int64 // polls
	bytes  atomic.Int64
}

func openSink() (*sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{url: "http://" + l.Addr().String()}
	s.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.bytes.Add(int64(len(body)))
		s.traced.Add(int64(bytes.Count(body, []byte("\x0bstepup.poll")))) // a name of eleven bytes, and so a span's
	})}
	go s.server.Serve(l)
	return s, nil
}

// Rows of -telemetry.
const (
	rowService = "CPU a poll, the service, µs"
	rowWithout = rowService + ", ÷ without"
)

func (b *bench) telemetryTable(columns []*telling) table {
	t := table{Title: fmt.Sprintf("two services side by side, each with %d step-ups in flight, every %v, measured for %v; one without telemetry, the other with all of it: every step-up traced, sent to a collector, and /metrics read every %v; simulated provider over HTTP/1.1; %s",
		b.n, b.interval, b.settings.steady, scrapeEvery, machine())}
	for _, s := range columns {
		t.Columns = append(t.Columns, s.name)
	}
	add := func(name string, digits int, of func(*telling) (float64, bool)) {
		t.Rows = append(t.Rows, rowOf(columns, name, digits, of))
	}
	cpu := func(s *telling) float64 {
		return float64(s.used) / float64(time.Microsecond) / float64(max(1, s.polls))
	}
	add("polls", 0, func(s *telling) (float64, bool) { return float64(s.polls), true })
	add(rowService, 1, func(s *telling) (float64, bool) { return cpu(s), true })
	add(rowWithout, 3, func(s *telling) (float64, bool) { return cpu(s) / max(1e-9, cpu(columns[0])), s.on })
	add("polls traced, %", 1, func(s *telling) (float64, bool) { return 100 * float64(s.traced) / float64(max(1, s.polls)), s.on })
	add("sent to the collector a poll, bytes", 0, func(s *telling) (float64, bool) { return float64(s.bytes) / float64(max(1, s.polls)), s.on })
	add("RSS, MiB", 1, func(s *telling) (float64, bool) { return float64(s.rss) / (1 << 20), true })
	add("busy with other programs and the other service, % of the machine", 1, func(s *telling) (float64, bool) { return 100 * s.others, s.others >= 0 })
	return t
}
