package main

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"stepup/webhook"
	"stepup/worker"
)

type webhookCmd struct {
	Test webhookTestCmd `cmd:"" help:"Send a webhook one signed test event and explain what came back."`
}

type webhookTestCmd struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"The configuration."`
	Target string `arg:"" name:"caller/name" complete:"callers/webhooks" help:"Whose webhook, and its name in the configuration."`
}

func (webhookTestCmd) Help() string {
	return `Proves an endpoint before a person's data goes there. One event of type endpoint.test, without anything personal, is sent
exactly as serve would send it: same addresses allowed, same TLS, proxy, headers and signatures, encrypted where content is.
Each step is told: name, addresses, connection, TLS, request, answer. Of what the receiver writes only the status is shown.

Reads:
  the configuration and the files it names. Redis and the provider are not asked.

Exit codes:
  0  the receiver answered 2xx
  1  it did not; the last line advises
  2  wrong usage, mistakes in the configuration, or no such webhook in it

Examples:
  stepup webhook test --config stepup.yaml core-banking/ledger`
}

func (c webhookTestCmd) Run(e *env) error {
	p, err := load(c.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	caller, hook, err := c.find(p)
	if err != nil {
		return err
	}
	m, err := testEvent(caller, hook, time.Now())
	if err != nil {
		return err
	}
	sealed := ""
	if hook.Encrypt != nil {
		sealed = ", encrypted to " + hook.Encrypt.KeyID()
	}
	fmt.Fprintf(e.stdout, "event    endpoint.test for %s/%s, %s%s\n", caller, hook.Name, m.ID, sealed)
	t := p.settings.Sender.Try(e.ctx, hook.Endpoint, m)
	tellTrial(e.stdout, t, len(m.Body))
	if t.Outcome != webhook.Delivered {
		return errTold
	}
	return nil
}

// find is the webhook that is meant.
func (c webhookTestCmd) find(p *parts) (caller string, hook worker.Webhook, err error) {
	caller, name, ok := strings.Cut(c.Target, "/")
	if !ok {
		return "", hook, usageError{fmt.Sprintf("%s must be CALLER/NAME, such as core-banking/ledger", c.Target)}
	}
	hooks, err := p.webhooksOf(caller)
	if err != nil {
		return "", hook, err
	}
	i := slices.IndexFunc(hooks, func(h worker.Webhook) bool { return h.Name == name })
	switch {
	case i < 0:
		return "", hook, noWebhook(caller, name, hooks)
	case hooks[i].Pull:
		return "", hook, usageError{fmt.Sprintf("%s is pulled: nothing is sent to it, so there is nothing to try; its events are at GET /v1/events?webhook=%s", c.Target, name)}
	}
	return caller, hooks[i], nil
}

// webhooksOf are a caller's, by the name that an operator wrote.
func (p *parts) webhooksOf(caller string) ([]worker.Webhook, error) {
	c, ok := p.settings.Callers[caller]
	if !ok {
		known := slices.Sorted(maps.Keys(p.settings.Callers))
		return nil, usageError{fmt.Sprintf("there is no caller %s in the configuration; there is %s", caller, strings.Join(known, ", "))}
	}
	return c.Webhooks, nil
}

func noWebhook(caller, name string, hooks []worker.Webhook) error {
	var known []string
	for _, h := range hooks {
		known = append(known, h.Name)
	}
	return usageError{fmt.Sprintf("caller %s has no webhook %s; it has %s", caller, name, cmp.Or(strings.Join(known, ", "), "none"))}
}

// testEvent is what a webhook is tried with.
func testEvent(caller string, hook worker.Webhook, at time.Time) (webhook.Message, error) {
	type data struct {
		Caller    string `json:"caller"`
		Webhook   string `json:"webhook"`
		Encrypted string `json:"encrypted,omitempty"`
	}
	event := struct {
		Type      string      `json:"type"`
		Timestamp worker.Time `json:"timestamp"`
		Data      data        `json:"data"`
	}{"endpoint.test", worker.Time{Time: at}, data{Caller: caller, Webhook: hook.Name}}
	body, err := json.Marshal(event)
	if err == nil && hook.Encrypt != nil {
		if event.Data.Encrypted, err = hook.Encrypt.Encrypt(body); err == nil {
			body, err = json.Marshal(event)
		}
	}
	if err != nil {
		return webhook.Message{}, fmt.Errorf("making the test event: %w", err)
	}
	return webhook.Message{ID: "evt_test_" + rand.Text(), Body: body}, nil
}

// tellTrial prints a line for each step.
func tellTrial(w io.Writer, t webhook.Trial, size int) {
	line := func(step, format string, args ...any) {
		fmt.Fprintf(w, "%-8s %s\n", step, fmt.Sprintf(format, args...))
	}
	line("host", "%s", t.Host)
	if t.Proxy != "" {
		line("proxy", "%s is asked for a connection to the host; name, address and connect are the proxy's", t.Proxy)
	}
	if l := t.Lookup; l.Name != "" {
		line("name", "%s: %s%s", l.Name, cmp.Or(wrong(l.Err), count(len(l.Addresses), "address")), after(l.Took))
	}
	for _, a := range t.Lookup.Addresses {
		if a.Refused == "" {
			line("address", "%s: allowed", a.Addr)
		} else {
			line("address", "%s: refused, %s", a.Addr, a.Refused)
		}
	}
	for _, d := range t.Dials {
		line("connect", "%s: %s%s", d.Addr, cmp.Or(wrong(d.Err), "connected"), after(d.Took))
	}
	if t.TLS != nil {
		tellTLS(line, t.TLS)
	}
	if t.Sent {
		line("request", "%d bytes, signed with %s", size, strings.Join(t.KeyIDs, ", "))
	}
	if t.Status != 0 {
		again := ""
		if t.RetryAfter > 0 {
			again = fmt.Sprintf(", not again before %v", t.RetryAfter)
		}
		line("answer", "%d%s%s", t.Status, again, after(t.FirstByte))
	}
	if t.Outcome == webhook.Delivered {
		line("result", "delivered%s", after(t.Duration))
	} else {
		line("result", "not delivered%s: %s", after(t.Duration), cmp.Or(wrong(t.Err), t.Reason))
	}
	for _, text := range t.Warnings() {
		line("warning", "%s", text)
	}
	if t.Outcome != webhook.Delivered {
		line("advice", "%s", t.Advice())
	}
}

func tellTLS(line func(string, string, ...any), s *webhook.TLSStep) {
	until := ""
	if !s.Until.IsZero() {
		until = ", certificate until " + s.Until.UTC().Format(time.DateOnly)
	}
	line("tls", "%s%s%s", cmp.Or(wrong(s.Err), s.Version+", the receiver's certificate is believed"), until, after(s.Took))
	switch {
	case s.Shown:
		line("tls", "our certificate was asked for and shown")
	case s.Asked && s.Configured:
		line("tls", "our certificate was asked for and not shown")
	case s.Asked:
		line("tls", "a client certificate was asked for, and there is none")
	case s.Configured && s.Err == nil:
		line("tls", "our certificate was not asked for")
	}
}

func wrong(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func after(d time.Duration) string { return fmt.Sprintf(", %.1f ms", float64(d.Microseconds())/1000) }
