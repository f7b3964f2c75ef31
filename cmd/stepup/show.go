package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/redis/go-redis/v9"

	"stepup/worker"
)

type showCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration of the running service."`
	JSON   bool   `name:"json" help:"Print one JSON object, for programs."`
	ID     string `arg:"" help:"The step-up: su_ and 22 characters."`
}

func (showCmd) Help() string {
	return `Tells what the service knows of a step-up, whoever's it is: its state and times, who has it in hand, and what became of each
webhook, attempt by attempt. Nothing of the person, the question or the result is shown. It changes nothing.

Reads:
  the configuration and the files it names; the step-up in Redis, which keeps it
  for 26 hours after its end. Run it as the service's user.

Exit codes:
  0  shown
  1  there is no such step-up, or Redis cannot be reached or has nothing of stepup
  2  wrong usage or configuration

Examples:
  stepup show --config stepup.yaml su_03K2…
  stepup show --config stepup.yaml su_03K2… --json | jq .attempts`
}

func (c showCmd) Run(e *env) error {
	p, err := load(c.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	w, done, err := onlooker(e, p)
	if err != nil {
		return err
	}
	defer done()
	v, err := w.Inspect(e.ctx, c.ID)
	if refused, ok := errors.AsType[*worker.Error](err); ok && refused.Code == worker.CodeNotFound {
		return fmt.Errorf("there is no step-up %q in this Redis: the id is another, or its time is over", c.ID)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		return out.Encode(v)
	}
	tellStepUp(sheet{e.stdout, 9}, v, time.Now())
	return nil
}

// onlooker is a worker that does not run: a command sees through it what the service keeps in Redis, and changes nothing.
func onlooker(e *env, p *parts) (w *worker.Worker, done func(), err error) {
	if err := p.shared(); err != nil {
		return nil, nil, err
	}
	redis.SetLogger(redisLog{slog.New(slog.DiscardHandler)}) // the errors say it all
	rdb, err := dialRedis(p.cfg.Redis)
	if err != nil {
		return nil, nil, redisFault(err)
	}
	w, err = newWorker(p, rdb, worker.Options{Role: worker.RoleAPI, Log: e.log})
	if err == nil {
		err = w.CheckData(e.ctx)
	}
	if err != nil {
		rdb.Close()
		return nil, nil, redisFault(err)
	}
	return w, func() { rdb.Close() }, nil
}

// shared is nil where the Redis is one that other processes reach too.
func (p *parts) shared() error {
	if p.cfg.Redis.URL == embedded {
		return usageError{"redis.url is embedded: nobody but the process that serves can reach it"}
	}
	return nil
}

// sheet prints what stands in Redis, each line under a word.
type sheet struct {
	io.Writer
	width int
}

func (l sheet) say(word, format string, args ...any) {
	fmt.Fprintf(l, "%-*s %s\n", l.width, word, printable(fmt.Sprintf(format, args...)))
}

// printable leaves nothing of a text that a terminal would obey: whoever can write to Redis must not reach further.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func tellStepUp(l sheet, v worker.Inspection, now time.Time) {
	l.say("step-up", "%s", v.ID)
	l.say("caller", "%s", v.Caller)
	l.say("provider", "%s", v.Provider)
	l.say("status", "%s", v.Status)
	if v.Doubt != "" {
		l.say("doubt", "%s", v.Doubt)
	}
	if r := v.Reason; r != nil {
		l.say("reason", "%s: %s", r.Code, r.Message)
		if r.ProviderError != "" || r.TraceID != "" {
			l.say("", "the provider said %q, trace id %q", r.ProviderError, r.TraceID)
		}
	}
	l.when("created", &v.CreatedAt, now)
	if !v.Status.Final() {
		l.when("expires", v.ExpiresAt, now)
	}
	l.when("completed", v.CompletedAt, now)
	l.when("purged", v.PurgedAt, now)
	tellOwner(l, v)
	if !v.Status.Final() {
		tellPolls(l, v, now)
	}
	for _, d := range v.Deliveries {
		tellDelivery(l, d, v.Attempts, now)
	}
}

func (l sheet) when(word string, t *worker.Time, now time.Time) {
	if t != nil {
		l.say(word, "%s", at(*t, now))
	}
}

// instant is how times are written: as the API writes them.
const instant = "2006-01-02T15:04:05.000Z"

// at is a time and how far it is from now.
func at(t worker.Time, now time.Time) string {
	text := t.UTC().Format(instant)
	if t.After(now) {
		return text + ", in " + brief(t.Sub(now))
	}
	return text + ", " + brief(now.Sub(t.Time)) + " ago"
}

// brief is a duration as people read it.
func brief(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "<1ms"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func tellOwner(l sheet, v worker.Inspection) {
	switch {
	case v.Owner == "":
		l.say("owner", "nobody")
	case v.OwnerAlive:
		l.say("owner", "%s, alive", v.Owner)
	default:
		l.say("owner", "%s, dead: another worker takes it over", v.Owner)
	}
}

func tellPolls(l sheet, v worker.Inspection, now time.Time) {
	l.say("polls", "every %s", brief(time.Duration(v.IntervalMS)*time.Millisecond))
	if v.NextPollAt != nil && v.NextPollAt.After(now) {
		l.say("", "not before %s", at(*v.NextPollAt, now))
	}
	if v.PendingAt != nil {
		l.say("", "the provider said that nobody had answered yet: %s", at(*v.PendingAt, now))
	}
	if v.Ambiguous {
		l.say("", "an answer was lost: the provider may have given it already")
	}
	if v.UnverifiedAt != nil {
		l.say("", "an answer waits for the provider's keys since %s", at(*v.UnverifiedAt, now))
	}
}

// tellDelivery prints one event at one webhook, and below it the attempts.
func tellDelivery(l sheet, d worker.InspectedDelivery, all []worker.AttemptLog, now time.Time) {
	if d.EventID == "" {
		l.say("webhook", "%s: nothing to send before the end", d.Webhook)
		return
	}
	state := string(d.Status)
	switch {
	case d.Pulled && d.Status == worker.DeliveryPending && d.UntilAt != nil:
		state = "waits to be fetched until " + at(*d.UntilAt, now)
	case d.Failing && d.NextAttemptAt != nil:
		state = "failing, again " + at(*d.NextAttemptAt, now)
	}
	l.say("webhook", "%s: %s", d.Webhook, state)
	l.say("", "%s %s", d.Type, d.EventID)
	if d.Failing && !d.Resendable {
		l.say("", "what was to be sent is gone: purged, or its time is over")
	}
	for _, a := range all {
		if a.EventID == d.EventID {
			tellAttempt(l, a)
		}
	}
}

func tellAttempt(l sheet, a worker.AttemptLog) {
	what := a.Outcome
	if a.Status != nil {
		what = strconv.Itoa(*a.Status) + " " + a.Outcome
	}
	if a.Reason != nil && a.Status == nil {
		what += ": " + *a.Reason
	}
	what += " in " + brief(time.Duration(a.DurationMS)*time.Millisecond)
	if len(a.KeyIDs) > 0 {
		what += ", signed with " + strings.Join(a.KeyIDs, ", ")
	}
	l.say("", "%s %s", a.At.UTC().Format(instant), what)
}
