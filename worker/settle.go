package worker

import (
	"errors"
	"time"

	"stepup/ciba"
)

const (
	// lateGrace: a poll due up to this long after expires_at is still sent, and its answer rules.
	lateGrace = 10 * time.Second
	// verifyGrace: a success answer that cannot be verified yet is tried until this long after expires_at.
	verifyGrace = 60 * time.Second
	// slowRetry is the least wait after invalid_client: our key, clock or registration is being mended.
	slowRetry = 30 * time.Second
	// slowDownStep is what each slow_down adds to this and every later wait (CIBA Core 1.0 §11).
	slowDownStep = 5 * time.Second
)

// answer is what one poll brought: an identity or an error of package ciba.
// The zero answer is our deadline: nothing more will be asked.
type answer struct {
	Private
	identity *ciba.Identity
	err      error
}

// verdict is what an answer means for a step-up.
type verdict struct {
	Private
	state  State // Pending: go on
	reason Reason

	ambiguous bool          // the record's ambiguity from here on
	pending   bool          // the provider said authorization_pending
	held      time.Duration // and held the request for so long
	slowDown  bool          // the interval grows by slowDownStep, for good
	failing   bool          // back off exponentially, never below the interval
	wait      time.Duration // wait at least so long, from the answer
	raw       string        // a success answer to be stored sealed and judged again
	alarm     string        // what an operator must be told, in fixed words
}

// settle says what an answer means for a pending step-up, the same for a poll and for
// a late wake. It is pure. What it does not know is how long to back off: that is the
// pace's.
func settle(r *record, a answer, now time.Time, hold time.Duration) verdict {
	if a.identity != nil {
		return verdict{state: Approved}
	}
	v := verdict{state: Pending, ambiguous: r.Ambiguous}
	switch err := a.err.(type) {
	case nil:
		return deadline(r, hold)
	case *ciba.Pending:
		v.pending, v.held, v.ambiguous = true, err.Held, false
	case *ciba.SlowDown:
		v.slowDown = true
	case *ciba.Refusal:
		return refusal(r, err)
	case *ciba.Untrusted:
		return untrusted(err)
	case *ciba.Unverified:
		if !now.Before(r.Expires.Add(verifyGrace)) {
			return unknown(err.IDToken)
		}
		v.raw, v.failing = err.IDToken, true
		if r.RawAt.IsZero() { // told once
			v.alarm = "an ID token waits for the provider's key set"
		}
	case *ciba.Transient:
		v.failing, v.wait = true, err.RetryAfter
	case *ciba.Ambiguous:
		v.failing, v.wait, v.ambiguous = true, err.RetryAfter, true
		if err.Alarm {
			v.alarm = "the provider's token endpoint answers outside the protocol"
		}
	default:
		// Not of the provider's contract, so nobody knows what was sent.
		v.failing, v.ambiguous = true, true
		v.alarm = "a poll failed outside the protocol"
	}
	return v
}

// untrusted is the verdict for a token that does not verify, or is another's.
func untrusted(e *ciba.Untrusted) verdict {
	if e.Mismatch {
		return verdict{state: Failed, reason: Reason{Code: TokenMismatch}, alarm: "the provider's ID token belongs to another person or question"}
	}
	return verdict{state: Failed, reason: Reason{Code: TokenInvalid}, alarm: "the provider's ID token does not verify"}
}

// unknown is the verdict for a lost answer: the person may have approved.
func unknown(raw string) verdict {
	v := verdict{state: Unknown, reason: Reason{Code: ResultLost}}
	if raw != "" {
		v.alarm = "an ID token could not be verified in time"
	}
	return v
}

// deadline settles a step-up that will not be polled again. It expired only if
// the last poll, near enough to the end, was answered pending: anything else may
// hide an approval.
func deadline(r *record, hold time.Duration) verdict {
	near := r.Expires.Add(-r.Interval - hold)
	if r.Ambiguous || r.PendingAt.IsZero() || r.PendingAt.Before(near) {
		return unknown("")
	}
	return verdict{state: Expired, reason: Reason{Code: ExpiredCode}}
}

// refusal settles an OAuth error of the token endpoint. After an ambiguous
// request most of them may be the echo of an answer that was consumed and lost.
func refusal(r *record, e *ciba.Refusal) verdict {
	lost := Reason{Code: ResultLost, ProviderError: e.Code, TraceID: e.TraceID}
	end := func(s State, code, alarm string) verdict {
		if r.Ambiguous {
			return verdict{state: Unknown, reason: lost, alarm: alarm}
		}
		return verdict{state: s, reason: Reason{Code: code, ProviderError: e.Code, TraceID: e.TraceID}, alarm: alarm}
	}
	switch e.Code {
	case "access_denied":
		// The provider says so once, to whoever asks first: it is the person's
		// word even after a lost poll.
		return verdict{state: Denied, reason: Reason{Code: DeniedByUser, ProviderError: e.Code, TraceID: e.TraceID}}
	case "expired_token":
		return end(Expired, ExpiredCode, "")
	case "invalid_grant":
		// The auth_req_id was consumed, by whatever request (CIBA Core 1.0 §10.1.1):
		// never a denial.
		return verdict{state: Unknown, reason: lost}
	case "invalid_client":
		return verdict{state: Pending, ambiguous: r.Ambiguous, failing: true, wait: slowRetry,
			alarm: "the provider refuses our client: look at the signing key, the clock and the registration"}
	case "unauthorized_client", "unsupported_grant_type":
		return end(Failed, ProviderMisconfigured, "the provider does not let this client use the grant")
	default: // invalid_request and every other code: no further call (CIBA Core 1.0 §11)
		return end(Failed, ProviderRejected, "")
	}
}

// refusedAsk says what a failed /bc-auth means: what the caller is told, and
// whether the intent on record is dropped because nobody was asked. keep reports
// that the same answer is given again to repeats of the request.
func refusedAsk(err error) (e *Error, asked, keep bool, alarm string) {
	if r, ok := errors.AsType[*ciba.Refusal](err); ok {
		switch r.Code {
		case "unknown_user_id":
			return &Error{Code: CodeUnknownUser, Detail: "The provider knows nobody by this hint who can be asked."}, false, true, ""
		case "access_denied":
			return &Error{Code: CodeNotEligible, Detail: "The provider does not let this person use this service."}, false, true, ""
		case "invalid_client", "unauthorized_client":
			return &Error{Code: CodeProviderError, Detail: "The provider refuses this service as a client. Operators have been told."}, false, true,
				"the provider refuses our client: look at the signing key, the clock and the registration"
		}
		return &Error{Code: CodeProviderRejected, Detail: "The provider rejected the request: " + r.Code + "."}, false, true, ""
	}
	if t, ok := errors.AsType[*ciba.Transient](err); ok {
		return &Error{Code: CodeProviderUnavailable, Detail: "The provider cannot be asked now. Nothing was sent.", RetryAfter: max(t.RetryAfter, time.Second)}, false, false, ""
	}
	// A request was sent, or an implementation strayed from its contract: the
	// person may have been asked, so this is never repeated.
	if a, ok := errors.AsType[*ciba.Ambiguous](err); !ok || a.Alarm {
		alarm = "the provider's backchannel authentication endpoint answers outside the protocol"
	}
	return &Error{Code: CodeInitiationUnknown, Detail: reasonText[InitiationUnknown]}, true, true, alarm
}
