package ciba

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Authenticate asks the provider to push the question to the person's phone (CIBA §7.1): one POST, never repeated. Errors: *Refusal,
// *Transient (nothing was pushed), *Ambiguous (something may have been). A Request that Check refuses is a *Refusal with Status 0.
func (c *Client) Authenticate(ctx context.Context, r Request) (ack Ack, err error) {
	ctx, span := c.begin(ctx)
	defer func() { describe(span, err); span.End() }()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.AuthTimeout)
	defer cancel()

	if len(c.Check(r)) > 0 {
		return Ack{}, &Refusal{Code: "invalid_request"}
	}
	to, form, err := c.prepare(ctx, c.askPrefix)
	if err != nil {
		return Ack{}, err
	}
	sentTo(span, to.auth)
	form = append(append(form, '&'), c.question(r).Encode()...)
	err = c.post(ctx, bcAuthEndpoint, to.auth, form, func(got reply) (err error) {
		ack, err = judgeAck(got, time.Now())
		return err
	})
	return ack, err
}

// Token asks the token endpoint once whether there is an answer (CIBA §10.1), and waits up to TokenTimeout for it: the provider may hold the
// request. The caller keeps the interval and never has two calls in flight for one authReqID. Errors: *Pending, *SlowDown, *Refusal, *Transient,
// *Ambiguous, *Untrusted. The ID token comes only once, and unverified: keep it before anything else.
func (c *Client) Token(ctx context.Context, authReqID string) (idToken string, err error) {
	span := trace.SpanFromContext(ctx) // the caller's: a poll has one exchange, and there are many
	defer func() { describe(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, c.cfg.TokenTimeout)
	defer cancel()

	to, form, err := c.prepare(ctx, c.pollPrefix)
	if err != nil {
		return "", err
	}
	form = append(append(form, "&auth_req_id="...), url.QueryEscape(authReqID)...)
	err = c.post(ctx, tokenEndpoint, to.token, form, func(got reply) (err error) {
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
