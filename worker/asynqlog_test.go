package worker

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A message in asynq that nobody can decode is an alarm, in words that hold nothing of it; other step-ups of its queue
// still finish.
func TestUndecodableTask(t *testing.T) {
	log := &logBook{}
	r := onRedis(t, func(o *Options, s *Settings) {
		o.Shards = 1
		o.Log = slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), nil))
		p := s.Providers["singpass"]
		p.Interval = 200 * time.Millisecond
		s.Providers["singpass"] = p
	})
	r.provider.answers = []any{someone()}
	if err := errors.Join(
		r.rdb.HSet(t.Context(), "asynq:{poll-0}:t:bad", "msg", "\xff\xffsecret", "state", "pending").Err(),
		r.rdb.LPush(t.Context(), "asynq:{poll-0}:pending", "bad").Err(),
	); err != nil {
		t.Fatal(err)
	}
	r.until("the alarm", func() bool { return log.has("alarm=true") && log.has("cannot be decoded") && log.has("queue=poll-0") })
	if log.has("secret") {
		t.Error("the message is in the log")
	}
	r.settledAs(r.asked("k", "S1234567D").ID, Approved, 1)
}

// What asynq says while Redis is away names every task in flight; a line of the log does not.
func TestLongAsynqLine(t *testing.T) {
	log := &logBook{}
	l := asynqLog{slog.New(slog.NewTextHandler(log, nil))}
	l.Error("Failed to extend lease for tasks ", strings.Repeat("su_00ABCDEFGHIJKLMNOPQRSTUVWXYZ:0 ", 10_000))
	if n := len(log.String()); n > 2*longestLine || !log.has("Failed to extend lease") {
		t.Errorf("the line has %d bytes", n)
	}
}
