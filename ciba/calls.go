package ciba

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Authenticate asks the provider to push the question to the person's phone (CIBA §7.1): one POST, never repeated. Errors: *Refusal,
// *Transient (nothing was pushed), *Ambiguous (something may have been). A Request that Check refuses is a *Refusal with Status 0.
func (c *Client) Authenticate(ctx context.Context, r Request) (ack Ack, err error) {
	ctx, end := c.span(ctx, "ciba.authenticate")
	defer func() { end(err) }()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.AuthTimeout)
	defer cancel()

	if len(c.Check(r)) > 0 {
		return Ack{}, &Refusal{Code: "invalid_request"}
	}
	to, form, err := c.prepare(ctx, c.askPrefix)
	if err != nil {
		return Ack{}, err
	}
	form = append(append(form, '&'), c.question(r).Encode()...)
	err = c.post(ctx, to.auth, form, func(got reply) (err error) {
		ack, err = judgeAck(got, time.Now())
		return err
	})
	return ack, err
}

// Token asks the token endpoint once whether there is an answer (CIBA §10.1), and waits up to TokenTimeout for it: the provider may hold the
// request. The caller keeps the interval and never has two calls in flight for one authReqID. Errors: *Pending, *SlowDown, *Refusal, *Transient,
// *Ambiguous, *Untrusted. The ID token comes only once, and unverified: keep it before anything else.
func (c *Client) Token(ctx context.Context, authReqID string) (idToken string, err error) {
	ctx, end := c.span(ctx, "ciba.token")
	defer func() { end(err) }()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TokenTimeout)
	defer cancel()

	to, form, err := c.prepare(ctx, c.pollPrefix)
	if err != nil {
		return "", err
	}
	form = append(append(form, "&auth_req_id="...), url.QueryEscape(authReqID)...)
	err = c.post(ctx, to.token, form, func(got reply) (err error) {
		idToken, err = judgeToken(got, time.Now())
		return err
	})
	return idToken, err
}

// prepare gets what every call needs before a byte is sent, so whatever fails here is Transient: where to, and the form up to and with the
// assertion, which is never used twice.
func (c *Client) prepare(ctx context.Context, prefix string) (*endpoints, []byte, error) {
	to, err := c.endpoints(ctx)
	if err != nil {
		return nil, nil, &Transient{Err: err}
	}
	form := append(make([]byte, 0, 1<<10), prefix...) // a poll needs some 800 bytes
	if form, err = c.asserter.Append(form, time.Now()); err != nil {
		return nil, nil, &Transient{Err: errors.New("signing client assertion failed")}
	}
	return to, form, nil
}

// question is the Request as form parameters. After Check, a Singpass request has nothing but scope and login_hint.
func (c *Client) question(r Request) url.Values {
	form := url.Values{}
	set := func(name, value string) {
		if value != "" {
			form.Set(name, value)
		}
	}
	form.Set("scope", "openid")
	set("scope", r.Scope)
	set("login_hint", r.LoginHint)
	set("login_hint_token", r.LoginHintToken)
	set("id_token_hint", r.IDTokenHint)
	set("binding_message", r.BindingMessage)
	set("acr_values", r.ACRValues)
	set("user_code", r.UserCode)
	if r.RequestedExpiry > 0 {
		form.Set("requested_expiry", strconv.Itoa(r.RequestedExpiry))
	}
	return form
}

var clientSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient)}

// span traces one exchange by its outcome and status. It records no error text and nothing of the request.
func (c *Client) span(ctx context.Context, name string) (context.Context, func(error)) {
	ctx, span := c.tracer.Start(ctx, name, clientSpan...)
	return ctx, func(err error) {
		defer span.End()
		if !span.IsRecording() {
			return
		}
		outcome, d := outcomeOf(err)
		span.SetAttributes(attribute.String("stepup.outcome", outcome), attribute.Int("http.response.status_code", d.Status),
			attribute.String("stepup.provider_error_id", d.ID), attribute.String("stepup.provider_trace_id", d.TraceID))
		if outcome == "transient" || outcome == "ambiguous" || outcome == "untrusted" {
			span.SetStatus(codes.Error, outcome)
		}
	}
}

func outcomeOf(err error) (string, Detail) {
	switch e := err.(type) {
	case nil:
		return "ok", Detail{Status: 200}
	case *Pending:
		return "pending", e.Detail
	case *SlowDown:
		return "slow_down", e.Detail
	case *Refusal:
		return "refused: " + e.Code, e.Detail
	case *Transient:
		return "transient", e.Detail
	case *Ambiguous:
		return "ambiguous", e.Detail
	case *Untrusted:
		return "untrusted", Detail{Status: 200}
	}
	return "other", Detail{}
}
