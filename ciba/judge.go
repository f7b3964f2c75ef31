package ciba

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// What an answer means. Pure functions of the reply and, for a Retry-After that names a date, the time.

// maxExpiresIn is the longest life of an auth_req_id, in seconds, that we believe: nothing here is meant to be open for longer.
const maxExpiresIn = 3600

var (
	errMembers = errors.New("answer without its members")
	errStatus  = errors.New("status is not the protocol's")
	errBusy    = errors.New("provider is busy")
	errServer  = errors.New("provider has an error")
)

// judgeAck reads an answer of the backchannel authentication endpoint (CIBA §7.3, §13). Beyond our limits an answer is unreadable, which
// makes it Ambiguous: the phone may well be ringing.
func judgeAck(r reply, now time.Time) (Ack, error) {
	a, d, err := r.read()
	if r.status != http.StatusOK {
		return Ack{}, r.refused(a, d, err, fromAuth, now)
	}
	if err != nil {
		return Ack{}, &Ambiguous{Detail: d, Alarm: alarming(err), Err: err}
	}
	id := a.authReqID.text()
	expiresIn, ok := a.expiresIn.whole(1, maxExpiresIn)
	ok = ok && authReqIDShaped(id)
	interval := 0
	if ok && !a.interval.absent() {
		interval, ok = a.interval.whole(1, 60)
	}
	if !ok {
		return Ack{}, &Ambiguous{Detail: d, Alarm: true, Err: errMembers}
	}
	return Ack{
		AuthReqID: id,
		ExpiresIn: time.Duration(expiresIn) * time.Second,
		Interval:  time.Duration(interval) * time.Second,
	}, nil
}

// judgeToken reads an answer of the token endpoint (CIBA §10.1.1, §11).
func judgeToken(r reply, now time.Time) (idToken string, _ error) {
	a, d, err := r.read()
	if r.status != http.StatusOK {
		return "", r.refused(a, d, err, fromToken, now)
	}
	if err != nil {
		return "", &Ambiguous{Detail: d, Alarm: alarming(err), Err: err}
	}
	if idToken = a.idToken.text(); idToken == "" {
		return "", &Untrusted{Reason: "answer has no ID token"}
	}
	return idToken, nil
}

// read parses the body whatever its Content-Type says; err says why it cannot count as an answer in JSON.
func (r reply) read() (a answer, d Detail, err error) {
	if err = r.err; err == nil {
		err = readObject(r.body, a.want)
	}
	if err != nil {
		return answer{}, Detail{Status: r.status}, err
	}
	return a, Detail{Status: r.status, ID: r.loggable(a.id.text()), TraceID: r.loggable(a.traceID.text())}, nil
}

// alarming tells an answer that arrived whole and is wrong from one that the network cut: only the first is worth waking somebody.
func alarming(err error) bool {
	return errors.Is(err, errNotObject) || errors.Is(err, errDuplicate) || errors.Is(err, errTooLarge)
}

// origin is the endpoint that a reply came from.
type origin int

const (
	fromAuth origin = iota
	fromToken
)

// refused reads everything that is not a 200. Codes count only in a 400, 401 or 403 with a JSON body; the rest goes by its status.
func (r reply) refused(a answer, d Detail, unread error, from origin, now time.Time) error {
	after, hasAfter := retryAfter(r.retryAfter, now)
	code := a.code.text()
	switch {
	case r.status == http.StatusTooManyRequests:
		return &Transient{Detail: d, RetryAfter: after, Err: errBusy}
	case r.status == http.StatusServiceUnavailable && (hasAfter || from == fromAuth && code != ""):
		return &Transient{Detail: d, RetryAfter: after, Err: errBusy}
	case r.status >= 500 && r.status <= 599:
		return &Ambiguous{Detail: d, RetryAfter: after, Err: errServer}
	case r.status != http.StatusBadRequest && r.status != http.StatusUnauthorized && r.status != http.StatusForbidden:
		return &Ambiguous{Detail: d, RetryAfter: after, Alarm: true, Err: errStatus}
	case unread != nil:
		return &Ambiguous{Detail: d, RetryAfter: after, Alarm: alarming(unread), Err: unread}
	case code == "":
		return &Ambiguous{Detail: d, RetryAfter: after, Alarm: true, Err: errMembers}
	}
	return spoken(code, d, after, from)
}

// spoken reads an error code. The upper-case ones are Singpass's.
func spoken(code string, d Detail, after time.Duration, from origin) error {
	switch code {
	case "TOO_MANY_REQUESTS":
		return &Transient{Detail: d, RetryAfter: after, Err: errBusy}
	case "SERVER_SIDE_ERROR":
		return &Ambiguous{Detail: d, RetryAfter: after, Err: errServer}
	case "CLIENT_SIDE_ERROR", "ARGUMENTS_NOT_VALID":
		return &Refusal{Detail: d, Code: "invalid_request"}
	case "authorization_pending":
		if from == fromToken {
			return &Pending{Detail: d}
		}
	case "slow_down":
		if from == fromToken {
			return &SlowDown{Detail: d}
		}
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", // RFC 6749 §5.2
		"access_denied", "expired_token", // CIBA §11
		"expired_login_hint_token", "unknown_user_id", "missing_user_code", "invalid_user_code", "invalid_binding_message", // CIBA §13
		"transaction_failed": // CIBA §12
		return &Refusal{Detail: d, Code: code}
	}
	return &Refusal{Detail: d, Code: "other"}
}

// retryAfter reads seconds or an HTTP date (RFC 9110 §10.2.3), held to 0..1 h.
func retryAfter(s string, now time.Time) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			at, err := http.ParseTime(s)
			return min(max(at.Sub(now), 0), time.Hour), err == nil
		}
	}
	seconds, err := strconv.ParseUint(s, 10, 64)
	if err != nil || seconds > 3600 { // all digits: an error means more of them than fit
		return time.Hour, true
	}
	return time.Duration(seconds) * time.Second, true
}
