// Package webhook makes one attempt to tell one receiver of one event: a signed
// POST as Standard Webhooks 1.0.0 describes it, its content encrypted to the
// receiver where that is wanted ([Recipient]). It also has what a receiver written
// in Go needs: [ParseKeys], [Verify] and [Read], [ParsePrivateKeys] and [Open].
//
// It trusts the operator who wrote the endpoint's URL and secrets. It does not
// trust the receiver, its name server or its answer: every address is judged after
// DNS ([Allowed]), redirects are not followed, and of the answer only the status,
// Retry-After and at most 4 KiB of body are looked at; the body is thrown away.
//
// It leaves to its caller to store the body and the id before the first attempt, to
// keep both the same over all attempts, and to come back after [Gap].
package webhook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
)

// The headers of Standard Webhooks 1.0.0, "Webhook headers (sending metadata to consumers)".
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

const userAgent = "stepup"

const (
	defaultTimeout = 15 * time.Second
	// maxAnswer bytes of a body are read, for at most drainFor, and only so that the
	// connection can be used again.
	maxAnswer = 4 << 10
	drainFor  = time.Second
)

// Endpoint is where an event goes, what signs it, and what it has of its own.
type Endpoint struct {
	URL     string   // absolute; the configuration sees to it that it is https
	Secrets []Secret // all of them sign; at least one

	Headers []Header     // sent beside ours, which they cannot replace
	Client  *http.Client // one that NewRoutedClient made; nil: the sender's. Nothing is sent by another when it fails
}

// Message is one event for one endpoint. ID and Body must be the same bytes at every
// attempt: receivers recognise a repetition by them. A Message prints as its id: the body
// may tell of a person.
type Message struct {
	ID   string // webhook-id; no dot, because a dot separates the signed parts
	Body []byte // JSON
}

func (m Message) String() string               { return "message " + m.ID }
func (m Message) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, m.String()) }
func (m Message) LogValue() slog.Value         { return slog.StringValue(m.String()) }
func (m Message) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Outcome is what an attempt means for the event.
type Outcome int

const (
	// Delivered: the receiver answered 2xx.
	Delivered Outcome = iota + 1
	// Gone: the receiver answered 410 and wants this event no more.
	Gone
	// Failed: anything else. Nobody knows whether the receiver has the event; send it again.
	Failed
)

func (o Outcome) String() string {
	switch o {
	case Delivered:
		return "delivered"
	case Gone:
		return "gone"
	case Failed:
		return "failed"
	}
	return "none"
}

// Attempt is the result of one Send.
type Attempt struct {
	Outcome    Outcome
	Status     int           // HTTP status; 0 when no answer came
	RetryAfter time.Duration // from a 429 or 503, at most 24 h; 0 when not asked for
	Duration   time.Duration // of the whole attempt
	Reason     string        // why not Delivered: one of the Reason words; empty when Delivered
	KeyIDs     []string      // of the keys that signed, see Secret.KeyID; none when nothing was sent
	Err        error         // set when Failed: Reason and fixed words, never what the receiver sent, never the URL
}

// Sender sends. It is safe for concurrent use once its fields are set.
type Sender struct {
	// Client is for endpoints without their own, and must be one that NewClient made. Only its
	// Transport is used: http.Client itself would add redirects and cookies, and its errors
	// carry the URL.
	Client *http.Client
	// Timeout of a whole attempt, from DNS to the end of the answer; 15 s when 0.
	Timeout time.Duration

	met metrics
}

// Send makes exactly one attempt. Cancelling ctx ends it as Failed, ReasonCancelled; the
// receiver may have the event all the same.
func (s *Sender) Send(ctx context.Context, e Endpoint, m Message) Attempt {
	start := time.Now()
	ctx, span := begin(ctx, m)
	defer span.End()

	a := s.attempt(ctx, e, m)
	a.Duration = time.Since(start)
	if a.Reason != ReasonConfiguration {
		for _, secret := range e.Secrets {
			a.KeyIDs = append(a.KeyIDs, secret.KeyID())
		}
	}
	s.met.told(ctx, span, e, a)
	return a
}

func (s *Sender) attempt(ctx context.Context, e Endpoint, m Message) Attempt {
	client := cmp.Or(e.Client, s.Client)
	if client == nil || client.Transport == nil {
		// net/http's default transport has no dial guard and takes a proxy from the environment.
		return failed(ReasonConfiguration, errors.New("the sender needs a client made by NewClient"))
	}
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	watch := new(handshake)
	req, err := request(watch.trace(within), e, m, time.Now())
	if err != nil {
		return failed(ReasonConfiguration, err)
	}
	res, err := client.Transport.RoundTrip(req)
	if err != nil {
		return failed(classify(ctx, within, timeout, watch, err))
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close() // it is the connection itself, which ends by no time-out
		return judge(res.StatusCode, res.Header, time.Now())
	}
	// The status is the answer. What follows is read only to keep the connection, and a
	// receiver that trickles it loses the connection, not our time.
	stop := time.AfterFunc(drainFor, cancel)
	defer stop.Stop()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	_ = res.Body.Close()
	return judge(res.StatusCode, res.Header, time.Now())
}

// request builds the POST of one attempt. The timestamp is the attempt's own, so that
// receivers can refuse a replay (Standard Webhooks, "Webhook metadata").
func request(ctx context.Context, e Endpoint, m Message, at time.Time) (*http.Request, error) {
	if !validID(m.ID) {
		return nil, errors.New("the message's id is empty, too long or has characters other than printable ASCII without dots and blanks")
	}
	signature := Sign(e.Secrets, m.ID, at, m.Body)
	if signature == "" {
		return nil, errors.New("the endpoint has no secret to sign with")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(m.Body))
	if err != nil {
		return nil, errors.New("the endpoint's URL cannot be read") // err would quote it
	}
	// Without GetBody, and without an Idempotency-Key header, net/http never repeats a
	// POST on its own: one Send is one attempt.
	req.GetBody = nil

	// The endpoint's own first, then trace headers, so that neither they nor a propagator can
	// replace one of ours. Baggage is not ours to hand to strangers.
	for _, h := range e.Headers {
		if h.key != nil {
			req.Header.Set(h.name, string(h.key()))
		}
	}
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	req.Header.Del("Baggage")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set(headerID, m.ID)
	req.Header.Set(headerTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(headerSignature, signature)
	return req, nil
}

// judge turns an answer into an attempt (Standard Webhooks, "Delivery success and failure"):
// 2xx is the only yes, 410 the only lasting no, 3xx is never followed.
func judge(status int, h http.Header, now time.Time) Attempt {
	a := Attempt{Outcome: Failed, Status: status, Reason: ReasonStatus}
	switch {
	case status >= 200 && status <= 299:
		a.Outcome, a.Reason = Delivered, ""
		return a
	case status == http.StatusGone:
		a.Outcome, a.Reason = Gone, ReasonGone
		return a
	case status >= 300 && status <= 399:
		a.Reason = ReasonRedirect
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		a.RetryAfter = retryAfter(h.Get("Retry-After"), now)
	}
	a.Err = fmt.Errorf("%s: the receiver answered %d", a.Reason, status)
	return a
}

func failed(reason string, err error) Attempt {
	return Attempt{Outcome: Failed, Reason: reason, Err: fmt.Errorf("%s: %w", reason, err)}
}
