package main

import (
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	sameLine   = 10 * time.Second // a library's line is written once in this time
	linesKnown = 1000             // and so many lines are remembered
)

// libraries are how the lines of other people's code begin.
var libraries = []string{"asynq: ", "redis: ", "http: ", "http2: "}

// quiet is a log handler for what asynq and go-redis say: while Redis is away they say the same thing many times a second,
// as net/http does of whoever fails to agree on TLS.
// The same line passes at most once in ten seconds, and then tells how often it was left out. Lines are the same when they
// differ in addresses, numbers and ids only. What the service itself says always passes.
type quiet struct {
	slog.Handler
	queue string // asynq runs one server a queue, each with its own trouble
	lines *lines
}

func newQuiet(h slog.Handler) quiet { return quiet{Handler: h, lines: &lines{known: map[line]*told{}}} }

// Handle writes the record, unless it is a library's and was written lately.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !slices.ContainsFunc(libraries, func(prefix string) bool { return strings.HasPrefix(r.Message, prefix) }) {
		return q.Handler.Handle(ctx, r)
	}
	leftOut, pass := q.lines.pass(line{r.Level, q.queue, variable.ReplaceAllString(r.Message, "#")})
	if !pass {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out", leftOut))
	}
	return q.Handler.Handle(ctx, r)
}

// WithAttrs remembers which queue the lines are about.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "queue" {
			q.queue = a.Value.String()
		}
	}
	q.Handler = q.Handler.WithAttrs(attrs)
	return q
}

// WithGroup keeps the rule for a group's lines.
func (q quiet) WithGroup(name string) slog.Handler {
	q.Handler = q.Handler.WithGroup(name)
	return q
}

// variable is what may differ between lines that are the same: every word with a digit in it.
var variable = regexp.MustCompile(`[^\s]*[0-9][^\s]*`)

type line struct {
	level       slog.Level
	queue, text string
}

// lines are those that were written lately.
type lines struct {
	mu    sync.Mutex
	known map[line]*told
}

type told struct {
	at      time.Time
	leftOut int
}

// pass says whether a line may be written now, and how often it was left out since it last was.
func (ls *lines) pass(l line) (leftOut int, ok bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := time.Now()
	before := ls.known[l]
	if before != nil && now.Sub(before.at) < sameLine {
		before.leftOut++
		return 0, false
	}
	if before != nil {
		leftOut = before.leftOut
	} else if len(ls.known) >= linesKnown {
		clear(ls.known)
	}
	ls.known[l] = &told{at: now}
	return leftOut, true
}
