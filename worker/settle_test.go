package worker

import (
	"errors"
	"testing"
	"time"

	"stepup/ciba"
)

var errCut = errors.New("connection reset")

// The table of token answers: one row a case, each before and after an ambiguous request.
func TestSettle(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	refused := func(code string) error { return &ciba.Refusal{Detail: ciba.Detail{TraceID: "trace"}, Code: code} }
	// what a row says: a final state and its reason, or going on
	type row struct {
		state     State
		code      string
		ambiguous bool // goes on as ambiguous
		pending   bool
		slow      bool
		failing   bool
		wait      time.Duration
		alarm     bool
		raw       bool
	}
	lost := row{state: Unknown, code: ResultLost}
	lostAlarm := row{state: Unknown, code: ResultLost, alarm: true}
	tests := []struct {
		name          string
		err           error // nil: an identity
		before, after row
	}{
		{"200, valid and bound", nil, row{state: Approved}, row{state: Approved}},
		{"200, cannot be verified yet", &ciba.Unverified{IDToken: "t", Err: errCut},
			row{state: Pending, failing: true, raw: true, alarm: true}, row{state: Pending, ambiguous: true, failing: true, raw: true, alarm: true}},
		{"200, not valid after one refetch", &ciba.Untrusted{Reason: "signature"},
			row{state: Failed, code: TokenInvalid, alarm: true}, row{state: Failed, code: TokenInvalid, alarm: true}},
		{"200, somebody else's", &ciba.Untrusted{Mismatch: true, Reason: "subject"},
			row{state: Failed, code: TokenMismatch, alarm: true}, row{state: Failed, code: TokenMismatch, alarm: true}},
		{"200 cut short or not JSON", &ciba.Ambiguous{Err: errCut},
			row{state: Pending, ambiguous: true, failing: true}, row{state: Pending, ambiguous: true, failing: true}},
		{"authorization_pending", &ciba.Pending{},
			row{state: Pending, pending: true}, row{state: Pending, pending: true}},
		{"slow_down", &ciba.SlowDown{},
			row{state: Pending, slow: true}, row{state: Pending, slow: true, ambiguous: true}},
		{"access_denied", refused("access_denied"), row{state: Denied, code: DeniedByUser}, row{state: Denied, code: DeniedByUser}},
		{"expired_token", refused("expired_token"), row{state: Expired, code: ExpiredCode}, lost},
		{"invalid_grant", refused("invalid_grant"), lost, lost},
		{"invalid_request", refused("invalid_request"), row{state: Failed, code: ProviderRejected}, lost},
		{"unauthorized_client", refused("unauthorized_client"), row{state: Failed, code: ProviderMisconfigured, alarm: true}, lostAlarm},
		{"unsupported_grant_type", refused("unsupported_grant_type"), row{state: Failed, code: ProviderMisconfigured, alarm: true}, lostAlarm},
		{"any other 4xx code", refused("other"), row{state: Failed, code: ProviderRejected}, lost},
		{"invalid_client", refused("invalid_client"),
			row{state: Pending, failing: true, wait: slowRetry, alarm: true}, row{state: Pending, failing: true, wait: slowRetry, alarm: true, ambiguous: true}},
		{"429 or 503 with Retry-After", &ciba.Transient{RetryAfter: 9 * time.Second},
			row{state: Pending, failing: true, wait: 9 * time.Second}, row{state: Pending, failing: true, wait: 9 * time.Second, ambiguous: true}},
		{"other 5xx, time-out, reset", &ciba.Ambiguous{Err: errCut},
			row{state: Pending, failing: true, ambiguous: true}, row{state: Pending, failing: true, ambiguous: true}},
		{"could not connect", &ciba.Transient{Err: errCut},
			row{state: Pending, failing: true}, row{state: Pending, failing: true, ambiguous: true}},
		{"3xx, HTML, 403 without JSON", &ciba.Ambiguous{Alarm: true, Err: errCut},
			row{state: Pending, failing: true, ambiguous: true, alarm: true}, row{state: Pending, failing: true, ambiguous: true, alarm: true}},
		{"an error outside the contract", errCut,
			row{state: Pending, failing: true, ambiguous: true, alarm: true}, row{state: Pending, failing: true, ambiguous: true, alarm: true}},
	}
	for _, test := range tests {
		for ambiguous, want := range map[bool]row{false: test.before, true: test.after} {
			r := &record{State: Pending, Interval: 5 * time.Second, Expires: now.Add(time.Minute), Ambiguous: ambiguous}
			a := answer{err: test.err}
			if test.err == nil {
				id := someone()
				a.identity = &id
			}
			v := settle(r, a, now, 0)
			got := row{v.state, v.reason.Code, v.ambiguous, v.pending, v.slowDown, v.failing, v.wait, v.alarm != "", v.raw != ""}
			if got != want {
				t.Errorf("%s, ambiguous before %t:\n got %+v\nwant %+v", test.name, ambiguous, got, want)
			}
			if e, ok := test.err.(*ciba.Refusal); ok && v.state.Final() && (v.reason.ProviderError != e.Code || v.reason.TraceID != "trace") {
				t.Errorf("%s: the reason %+v does not name the provider's error", test.name, v.reason)
			}
		}
	}
}

// The last row of the table: nothing more will be asked.
func TestSettleDeadline(t *testing.T) {
	end := time.Date(2026, 11, 21, 2, 5, 0, 0, time.UTC)
	const hold = 30 * time.Second
	tests := []struct {
		name      string
		pendingAt time.Time // of the last poll; zero: it was answered otherwise
		ambiguous bool
		hold      time.Duration
		want      State
	}{
		{"last poll pending, within the interval", end.Add(-4 * time.Second), false, 0, Expired},
		{"last poll pending, at the interval", end.Add(-5 * time.Second), false, 0, Expired},
		{"last poll pending, too long ago", end.Add(-6 * time.Second), false, 0, Unknown},
		{"last poll pending, within interval and hold", end.Add(-34 * time.Second), false, hold, Expired},
		{"last poll pending, longer ago than that", end.Add(-36 * time.Second), false, hold, Unknown},
		{"last poll pending, after the deadline", end.Add(3 * time.Second), false, 0, Expired},
		{"last poll not answered pending", time.Time{}, false, 0, Unknown},
		{"ambiguous", end.Add(-time.Second), true, 0, Unknown},
	}
	for _, test := range tests {
		r := &record{State: Pending, Interval: 5 * time.Second, Expires: end, PendingAt: test.pendingAt, Ambiguous: test.ambiguous}
		if v := settle(r, answer{}, end, test.hold); v.state != test.want {
			t.Errorf("%s: %s, want %s", test.name, v.state, test.want)
		}
	}
}

// A success answer that cannot be verified is given up a minute after the end, as
// unknown: the person may have approved.
func TestSettleUnverifiedInTheEnd(t *testing.T) {
	end := time.Date(2026, 11, 21, 2, 5, 0, 0, time.UTC)
	r := &record{State: Pending, Interval: 5 * time.Second, Expires: end}
	a := answer{err: &ciba.Unverified{IDToken: "t", Err: errCut}}
	if v := settle(r, a, end.Add(verifyGrace-time.Millisecond), 0); v.state != Pending {
		t.Errorf("before the end of the grace: %s", v.state)
	}
	if v := settle(r, a, end.Add(verifyGrace), 0); v.state != Unknown || v.reason.Code != ResultLost || v.alarm == "" {
		t.Errorf("after the grace: %+v", v)
	}
}

// The table of /bc-auth answers.
func TestRefusedAsk(t *testing.T) {
	tests := []struct {
		name  string
		err   error
		code  string
		asked bool // the person may have been asked: final as unknown
		keep  bool // the key keeps the answer
		alarm bool
	}{
		{"unknown_user_id", &ciba.Refusal{Code: "unknown_user_id"}, CodeUnknownUser, false, true, false},
		{"access_denied", &ciba.Refusal{Code: "access_denied"}, CodeNotEligible, false, true, false},
		{"another 4xx", &ciba.Refusal{Code: "invalid_scope"}, CodeProviderRejected, false, true, false},
		{"a code we do not know", &ciba.Refusal{Code: "other"}, CodeProviderRejected, false, true, false},
		{"invalid_client", &ciba.Refusal{Code: "invalid_client"}, CodeProviderError, false, true, true},
		{"unauthorized_client", &ciba.Refusal{Code: "unauthorized_client"}, CodeProviderError, false, true, true},
		{"dial or TLS failure", &ciba.Transient{Err: errCut}, CodeProviderUnavailable, false, false, false},
		{"429, or 503 that says it did nothing", &ciba.Transient{RetryAfter: 9 * time.Second}, CodeProviderUnavailable, false, false, false},
		{"5xx, cut, time-out after a byte", &ciba.Ambiguous{Err: errCut}, CodeInitiationUnknown, true, true, false},
		{"3xx, HTML", &ciba.Ambiguous{Alarm: true, Err: errCut}, CodeInitiationUnknown, true, true, true},
		{"an error outside the contract", errCut, CodeInitiationUnknown, true, true, true},
	}
	for _, test := range tests {
		e, asked, keep, alarm := refusedAsk(test.err)
		if e.Code != test.code || asked != test.asked || keep != test.keep || alarm != "" != test.alarm {
			t.Errorf("%s: %s asked=%t keep=%t alarm=%q", test.name, e.Code, asked, keep, alarm)
		}
		if test.code == CodeProviderUnavailable && e.RetryAfter < time.Second {
			t.Errorf("%s: Retry-After %v", test.name, e.RetryAfter)
		}
	}
}
