package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A library that says the same thing hundreds of times is heard every ten seconds, with a count; the service's own lines,
// other queues and other levels are not held back by it.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := newLog(&out, "json")
		one, two := log.With("queue", "poll-0"), log.With("queue", "poll-1")
		heard := func() (lines []map[string]any) {
			for dec := json.NewDecoder(&out); dec.More(); {
				var m map[string]any
				if err := dec.Decode(&m); err != nil {
					t.Fatal(err)
				}
				lines = append(lines, m)
			}
			return lines
		}
		const refused = "asynq: Dequeue error: dial tcp 127.0.0.1:%d: connection refused after %s"

		for i := range 100 {
			one.Error(fmt.Sprintf(refused, 40000+i, time.Duration(i)*time.Millisecond))
			time.Sleep(10 * time.Millisecond)
		}
		two.Error(fmt.Sprintf(refused, 40000, "1s"))
		one.Warn(fmt.Sprintf(refused, 40000, "1s"))
		one.Error("asynq: Failed to write server state data: EOF")
		log.Warn("redis: connection pool: failed to dial")
		log.Warn("redis: connection pool: failed to dial")
		log.Warn("http: TLS handshake error from 192.0.2.1:4711: EOF")
		log.Warn("http: TLS handshake error from 192.0.2.1:4712: EOF")
		if got := heard(); len(got) != 6 {
			t.Fatalf("%d lines, want the first of each of six: %v", len(got), got)
		}

		time.Sleep(sameLine)
		one.Error(fmt.Sprintf(refused, 50000, "1s"))
		one.Error(fmt.Sprintf(refused, 50000, "1s"))
		log.Warn("redis: connection pool: failed to dial")
		got := heard()
		if len(got) != 2 || got[0]["left_out"] != 99.0 || got[0]["queue"] != "poll-0" || got[1]["left_out"] != 1.0 {
			t.Errorf("after ten seconds: %v; want two lines, which leave out 99 and 1", got)
		}

		for range 3 {
			log.Error("Redis does not answer", "alarm", true)
			log.WithGroup("g").Error("Redis does not answer")
		}
		if got := heard(); len(got) != 6 {
			t.Errorf("%d lines of the service itself, want all 6", len(got))
		}
	})
}

// What was said is not remembered without end.
func TestQuietForgets(t *testing.T) {
	q := newQuiet(slog.DiscardHandler)
	for i := range 3 * linesKnown {
		word := fmt.Sprintf("%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676%26)
		slog.New(q).Warn("redis: " + word)
	}
	if n := len(q.lines.known); n > linesKnown {
		t.Errorf("%d lines are remembered, want at most %d", n, linesKnown)
	}
}
