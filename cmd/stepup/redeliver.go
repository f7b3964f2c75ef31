package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"stepup/worker"
)

type redeliverCmd struct {
	Config  string   `short:"c" required:"" placeholder:"FILE" help:"The configuration of the running service."`
	Caller  string   `required:"" placeholder:"NAME" complete:"callers" help:"Whose step-ups."`
	Webhook string   `placeholder:"NAME" complete:"webhooks" help:"With --from: only what this webhook did not take."`
	From    string   `placeholder:"TIME" help:"Send again all that was not delivered of the step-ups that became final from then on: 2026-11-21T02:00:00Z, or how long ago, such as 3h."`
	Until   string   `placeholder:"TIME" help:"With --from: and before then (default: now)."`
	IDs     []string `arg:"" optional:"" name:"id" help:"Step-ups to send again, whether they were delivered or not."`
}

func (redeliverCmd) Help() string {
	return `Makes webhooks due again at once: the same webhook-id, the same bytes. It only marks them in Redis; a running service (role
all or worker) sends them. What was purged, or whose time is over, is gone.

Reads:
  the configuration and the files it names; the step-ups in Redis. Run it as the
  service's user where the service runs: it is written to the same audit_file.

Exit codes:
  0  all of it is due
  1  something is not, or Redis cannot be reached or has nothing of stepup
  2  wrong usage or configuration

Examples:
  stepup redeliver --config stepup.yaml --caller core-banking su_03K2…
  stepup redeliver --config stepup.yaml --caller core-banking --webhook ledger --from 3h
  stepup redeliver --config stepup.yaml --caller core-banking \
    --from 2026-11-21T02:00:00Z --until 2026-11-21T03:30:00Z`
}

func (c redeliverCmd) Run(e *env) error {
	span, err := c.span(time.Now())
	if err != nil {
		return err
	}
	p, err := load(c.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	hooks, err := p.webhooksOf(c.Caller)
	if err != nil {
		return err
	}
	if c.Webhook != "" && !slices.ContainsFunc(hooks, func(h worker.Webhook) bool { return h.Name == c.Webhook }) {
		return noWebhook(c.Caller, c.Webhook, hooks)
	}
	w, done, err := c.worker(e, p)
	if err != nil {
		return err
	}
	defer done()
	if span == nil {
		return c.each(e, w)
	}
	return c.all(e, w, *span)
}

// span is what --from means; nil where step-ups are named.
func (c redeliverCmd) span(now time.Time) (*worker.Span, error) {
	switch {
	case c.From == "" && len(c.IDs) == 0:
		return nil, usageError{"redeliver needs the ids of step-ups, or --from TIME (try `stepup redeliver --help`)"}
	case c.From != "" && len(c.IDs) > 0:
		return nil, usageError{"either ids or --from TIME, not both"}
	case c.From == "" && c.Until != "":
		return nil, usageError{"--until is for --from TIME, which is not there"}
	case c.From == "" && c.Webhook != "":
		return nil, usageError{"--webhook is for --from TIME; a step-up that is named is sent to all of its webhooks again"}
	case c.From == "":
		return nil, nil
	}
	from, err := moment("--from", c.From, now)
	if err != nil {
		return nil, err
	}
	until := now
	if c.Until != "" {
		if until, err = moment("--until", c.Until, now); err != nil {
			return nil, err
		}
	}
	if !from.Before(until) {
		return nil, usageError{fmt.Sprintf("--from is %s, which is not before %s", from.UTC().Format(time.RFC3339), until.UTC().Format(time.RFC3339))}
	}
	return &worker.Span{From: from, Until: until, Webhook: c.Webhook}, nil
}

// moment is a time, or how long ago it was.
func moment(flag, text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago > 0 {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usageError{fmt.Sprintf("%s %s: must be a time such as 2026-11-21T02:00:00Z, or how long ago, such as 3h", flag, text)}
	}
	return at, nil
}

// worker is one that does not run: it changes records, and neither polls nor sends.
func (c redeliverCmd) worker(e *env, p *parts) (w *worker.Worker, done func(), err error) {
	if err := p.shared(); err != nil {
		return nil, nil, err
	}
	// What Redis must be is for the service to say, and the errors say the rest.
	rdb, forget, err := openRedis(e.ctx, p.cfg.Redis, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, redisFault(err)
	}
	audit, err := openAudit(p, e.log)
	if err != nil {
		forget()
		return nil, nil, err
	}
	done = func() { audit.Close(); forget() }
	w, err = newWorker(p, rdb, worker.Options{Role: worker.RoleAPI, Operator: true, Audit: audit, Log: e.log})
	if err == nil {
		err = w.CheckData(e.ctx)
	}
	if err != nil {
		done()
		return nil, nil, redisFault(err)
	}
	return w, done, nil
}

// each sends step-ups again that are named.
func (c redeliverCmd) each(e *env, w *worker.Worker) error {
	failed := 0
	for _, id := range c.IDs {
		v, err := w.Redeliver(e.ctx, c.Caller, id)
		if refused, ok := errors.AsType[*worker.Error](err); ok && refused.Code == worker.CodeNotFound {
			err = fmt.Errorf("caller %s has no such step-up", c.Caller)
		}
		if err != nil {
			failed++
			fmt.Fprintf(e.stdout, "%s: not sent again: %v\n", id, forOperators(err))
			continue
		}
		var due []string
		for _, d := range v.Deliveries {
			if d.Status == worker.DeliveryPending && !slices.Contains(due, d.Webhook) {
				due = append(due, d.Webhook)
			}
		}
		fmt.Fprintf(e.stdout, "%s: due again: %s\n", id, strings.Join(due, ", "))
	}
	return c.told(e, len(c.IDs) > failed, failed == 0)
}

// forOperators is err in the words of who knows that the store is Redis.
func forOperators(err error) error {
	if refused, ok := errors.AsType[*worker.Error](err); ok && refused.Code == worker.CodeStorageUnavailable {
		return errors.New("redis.url: it does not answer, or takes no writes")
	}
	return err
}

// all sends again what was not delivered, a page at a time.
func (c redeliverCmd) all(e *env, w *worker.Worker, span worker.Span) error {
	var sum worker.Redelivered
	for {
		page, err := w.RedeliverSpan(e.ctx, c.Caller, span)
		sum.StepUps, sum.Busy, sum.Gone = sum.StepUps+page.StepUps, sum.Busy+page.Busy, sum.Gone+page.Gone
		if err != nil {
			c.total(e, sum)
			return fmt.Errorf("stopped before the end: %w; run it again, what is due already does no harm", forOperators(err))
		}
		if page.NextCursor == "" {
			c.total(e, sum)
			return c.told(e, sum.StepUps > 0, sum.Gone == 0)
		}
		span.Cursor = page.NextCursor
	}
}

func (c redeliverCmd) total(e *env, sum worker.Redelivered) {
	fmt.Fprintf(e.stdout, "%s due again", count(sum.StepUps, "step-up"))
	if sum.Busy > 0 {
		fmt.Fprintf(e.stdout, ", %d being sent at this moment", sum.Busy)
	}
	if sum.Gone > 0 {
		fmt.Fprintf(e.stdout, ", %d gone: purged, or their time is over", sum.Gone)
	}
	fmt.Fprintln(e.stdout)
}

// told says who sends, and gives the exit code.
func (redeliverCmd) told(e *env, some, whole bool) error {
	if some {
		fmt.Fprintln(e.stdout, "A running service (role all or worker) sends what is due; this command sends nothing itself.")
	}
	if !whole {
		return errTold
	}
	return nil
}
