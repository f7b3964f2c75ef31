package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"stepup/webhook"
)

// refusedAs fails the test unless err is an *Error with the code.
func refusedAs(t testing.TB, what string, err error, code string) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != code {
		t.Fatalf("%s: error %v, want %s", what, err, code)
	}
	return e
}

// asJSON is what a caller would read.
func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// logBook keeps what a worker logs.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logBook) count(words string) int { return strings.Count(l.String(), words) }

func (l *logBook) has(words string) bool { return l.count(words) > 0 }

// alarms counts the JSON lines that an operator is called for and that hold the words.
func (l *logBook) alarms(words string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, `"alarm":true`) && strings.Contains(line, words) {
			n++
		}
	}
	return n
}

// tally is a counter that a test can read.
type tally struct {
	noop.Int64Counter
	n atomic.Int64
}

func (c *tally) Add(_ context.Context, n int64, _ ...metric.AddOption) { c.n.Add(n) }

// street is the receivers of several webhooks, by host name.
type street map[string]*receiver

func (s street) RoundTrip(q *http.Request) (*http.Response, error) {
	return s[q.URL.Host].RoundTrip(q)
}

// newStreet gives the bank these webhooks, each at a host of its own name.
func (r *rig) newStreet(hooks ...Webhook) street {
	s := street{}
	caller := r.set.Callers["bank"]
	caller.Webhooks = nil
	for _, h := range hooks {
		s[h.Name] = &receiver{t: r.t, secrets: r.receiver.secrets, arrive: make(chan struct{}, 100)}
		h.Endpoint = webhook.Endpoint{URL: "https://" + h.Name + "/hook", Secrets: r.receiver.secrets}
		caller.Webhooks = append(caller.Webhooks, h)
	}
	r.set.Callers = map[string]Caller{"bank": caller, "other": r.set.Callers["other"]}
	r.set.Sender = &webhook.Sender{Client: &http.Client{Transport: s}, Timeout: r.set.Sender.Timeout}
	r.Reload(r.set)
	return s
}

// runs waits until the worker has started.
func (r *rig) runs() {
	r.t.Helper()
	r.until("a lease", func() bool { _, ok, _ := r.lease.holder(); return ok })
}

// nap stops the worker, lets the time pass and starts it again on the same Redis
// in time to have a steady lease at the end. In bubbles only: hours of a running
// worker are dear.
func (r *rig) nap(d time.Duration) {
	r.t.Helper()
	r.stop()
	time.Sleep(d - 6*time.Second)
	var err error
	if r.Worker, err = New(r.opts, r.set); err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func(w *Worker) { done <- w.Run(ctx) }(r.Worker)
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
	time.Sleep(6 * time.Second)
}

// down makes a receiver answer with the status for n attempts.
func (r *receiver) down(status, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = nil
	for range n {
		r.status = append(r.status, status)
	}
}

// provide changes what the provider does next.
func (p *scripted) provide(askErr error, answers ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.askErr = askErr
	if len(answers) > 0 {
		p.answers = answers
	}
}

// polled is how many polls there were.
func (p *scripted) polled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.polls)
}

// faults is a Redis that does not answer while it is on.
type faults struct{ on atomic.Bool }

func (f *faults) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *faults) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.on.Load() {
			cmd.SetErr(errCut)
			return errCut
		}
		return next(ctx, cmd)
	}
}

func (f *faults) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if f.on.Load() {
			for _, c := range cmds {
				c.SetErr(errCut)
			}
			return errCut
		}
		return next(ctx, cmds)
	}
}
