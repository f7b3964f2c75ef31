package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"stepup/worker"
)

type tailCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration of the running service."`
	Caller string `placeholder:"NAME" complete:"callers" help:"Only this caller's step-ups."`
}

func (tailCmd) Help() string {
	return `Prints a line for each step-up that is created or final, and for each webhook that is delivered, failing, stopped by its
receiver or given up: the time (UTC), the step-up, its caller and provider, and what happened. Nothing of a person is shown. It
begins now, shows things within a second or two, waits while Redis does not answer, and ends with Ctrl-C. What happened before
is for stepup show. Where the output is a terminal, colours tell good from bad, unless NO_COLOR is set.

Reads:
  the configuration and the files it names; at the start every open step-up in
  Redis, and once a second their list and what changed. It changes nothing. Run
  it as the service's user.

Exit codes:
  0  ended by Ctrl-C or SIGTERM
  1  Redis could not be reached at the start, or has nothing of stepup
  2  wrong usage or configuration

Examples:
  stepup tail --config stepup.yaml
  stepup tail --config stepup.yaml --caller core-banking
  stepup tail --config stepup.yaml | grep -E 'failing|undelivered'`
}

func (c tailCmd) Run(e *env) error {
	p, err := load(c.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	if c.Caller != "" {
		if _, err := p.webhooksOf(c.Caller); err != nil {
			return err
		}
	}
	w, done, err := onlooker(e, p)
	if err != nil {
		return err
	}
	defer done()
	out := newTicker(e.stdout, p)
	follows, gone := false, false
	for news, err := range w.Follow(e.ctx, c.Caller) {
		for _, n := range news {
			out.tell(n)
		}
		switch {
		case err != nil && !gone:
			fmt.Fprintf(e.stderr, "stepup: Redis does not answer: %v; waiting\n", err)
		case err == nil && gone:
			fmt.Fprintln(e.stderr, "stepup: Redis answers again")
		}
		if err == nil && !follows { // what happens from here on is told
			follows = true
			fmt.Fprintf(e.stderr, "stepup: following the step-ups of %s; Ctrl-C ends\n", cmp.Or(c.Caller, "all callers"))
		}
		gone = err != nil
	}
	return nil
}

// ticker prints news, a line each.
type ticker struct {
	io.Writer
	time             string // the form of times
	colours          bool
	caller, provider int // widths of columns
}

func newTicker(w io.Writer, p *parts) ticker {
	t := ticker{Writer: w, time: instant}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			t.time = "15:04:05Z"
			t.colours = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		}
	}
	for name := range p.cfg.Callers {
		t.caller = max(t.caller, len(name))
	}
	for name := range p.cfg.Providers {
		t.provider = max(t.provider, len(name))
	}
	return t
}

const (
	red      = "\x1b[31m"
	green    = "\x1b[32m"
	yellow   = "\x1b[33m"
	uncolour = "\x1b[0m"
)

// colours say what an operator should look at.
var colours = map[string]string{
	string(worker.Approved): green, string(worker.DeliveryDelivered): green,
	string(worker.Denied): yellow, string(worker.Expired): yellow, string(worker.Cancelled): yellow,
	string(worker.Failed): red, string(worker.Unknown): red,
	worker.NewsFailing: red, string(worker.DeliveryStopped): red, string(worker.DeliveryUndelivered): red,
}

func (t ticker) tell(n worker.News) {
	what := fmt.Sprintf("%-11s", printable(n.What))
	if colour := colours[n.What]; t.colours && colour != "" {
		what = colour + what + uncolour
	}
	about := fmt.Sprintf("%s  %s  %-*s  %-*s", n.At.UTC().Format(t.time), n.ID, t.caller, n.Caller, t.provider, n.Provider)
	fmt.Fprintln(t, strings.TrimRight(printable(about)+"  "+what+"  "+printable(more(n)), " "))
}

// more is what there is to say of it.
func more(n worker.News) string {
	switch {
	case n.What == worker.NewsCreated:
		return ""
	case n.Webhook == "" && n.Reason != "" && n.Reason != n.What:
		return fmt.Sprintf("after %s, %s", brief(n.Took), n.Reason)
	case n.Webhook == "":
		return "after " + brief(n.Took)
	}
	text := n.Webhook + ": "
	switch {
	case n.Status != 0:
		text += fmt.Sprintf("%d in %s", n.Status, brief(n.Took))
	case n.Reason != "":
		text += n.Reason // nothing answered, or it was fetched
	default:
		text += "never sent"
	}
	if n.Attempts > 1 {
		text += fmt.Sprintf(", attempt %d", n.Attempts)
	}
	if !n.Next.IsZero() {
		text += ", again at " + n.Next.UTC().Format("15:04:05Z")
	}
	return text
}
