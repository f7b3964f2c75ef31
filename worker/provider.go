package worker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"stepup/ciba"
)

// Question is what a person is asked.
type Question = ciba.Request

// Private keeps the struct that embeds it off every printed line; json.Marshal tells it. Unsaid is told by nothing.
type (
	Private = ciba.Private
	Unsaid  = ciba.Unsaid
)

// FieldError names one member of a request that is refused.
type FieldError = ciba.FieldError

// Identity is who answered.
type Identity = ciba.Identity

// Asked is a question that a provider took.
type Asked struct {
	Unsaid
	ID       string    // the provider's handle: auth_req_id
	Question Question  // as it was sent
	Created  time.Time // when the step-up was created; no answer is older
	Expires  time.Time // no answer comes later
	Interval time.Duration

	// Raw is a success answer that arrived at RawAt and could not be verified
	// yet. It is the provider's secret: it is only ever stored sealed.
	Raw   string
	RawAt time.Time
}

// Provider asks a person a question and learns the answer.
//
// Implementations MUST make one exchange per call, MUST NOT repeat it, and MUST
// tell every outcome but success by the error types of package ciba: what was
// not sent (Transient), what may have been consumed (Ambiguous) and what was
// refused (Refusal) are three things. Errors MUST carry nothing personal.
type Provider interface {
	// Check names everything in the question that cannot be sent.
	Check(Question) []ciba.FieldError

	// Ask sends the question to the person's phone.
	Ask(context.Context, Question) (Asked, error)

	// Answer asks once whether the person has answered. With Raw set nothing is
	// sent: the answer in hand is judged again. A success that cannot be judged
	// yet is a *ciba.Unverified, which holds it.
	Answer(context.Context, Asked) (Identity, error)
}

// CIBA is the Provider that speaks OpenID CIBA in poll mode.
type CIBA struct {
	Client *ciba.Client
}

// Check implements Provider.
func (p CIBA) Check(q Question) []ciba.FieldError { return p.Client.Check(q) }

// Ask implements Provider: one POST to /bc-auth.
func (p CIBA) Ask(ctx context.Context, q Question) (Asked, error) {
	sent := time.Now()
	ack, err := p.Client.Authenticate(ctx, q)
	if err != nil {
		return Asked{}, err
	}
	// expires_in counts from when the provider received the request (CIBA Core
	// 1.0 §7.3). We know only that this was after the request left.
	return Asked{ID: ack.AuthReqID, Question: q, Expires: sent.Add(ack.ExpiresIn), Interval: ack.Interval}, nil
}

// Answer implements Provider: one POST to /token, or none with Raw set.
//
// The first judgement uses only the keys in hand, so that a success answer that
// needs a fetch is stored before anything else can go wrong.
func (p CIBA) Answer(ctx context.Context, a Asked) (Identity, error) {
	e := ciba.Expect{Request: a.Question, Created: a.Created, Received: a.RawAt}
	if a.Raw == "" {
		token, err := p.Client.Token(ctx, a.ID)
		if err != nil {
			return Identity{}, err
		}
		e.Received = time.Now()
		return p.open(ctx, token, e)
	}
	// Another fetch may have brought the key meanwhile, so what came of ours decides nothing.
	fetched := p.Client.RefreshKeys(ctx, a.RawAt)
	who, err := p.open(ctx, a.Raw, e)
	if still, ok := errors.AsType[*ciba.Unverified](err); ok && fetched != nil {
		still.Err = fetched
	}
	return who, err
}

// open decrypts and verifies an ID token and holds it against the question.
func (p CIBA) open(ctx context.Context, token string, e ciba.Expect) (Identity, error) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return p.Client.Open(token, e)
	}
	_, span := otel.Tracer("stepup/worker").Start(ctx, "verify")
	defer span.End()
	who, err := p.Client.Open(token, e)
	if err != nil {
		span.SetStatus(codes.Error, classOf(err))
	}
	return who, err
}

// Skew is how far the provider's clock was ahead of ours when it last answered: see
// ciba.Client.
func (p CIBA) Skew() (ahead time.Duration, at time.Time) { return p.Client.Skew() }
