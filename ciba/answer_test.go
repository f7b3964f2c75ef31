package ciba

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 2, 3, 4, 0, time.UTC)
	for _, row := range []struct {
		s    string
		want time.Duration
		ok   bool
	}{
		{"", 0, false}, {"0", 0, true}, {"7", 7 * time.Second, true}, {"3600", time.Hour, true}, {"3601", time.Hour, true},
		{strings.Repeat("9", 40), time.Hour, true}, {"-1", 0, false}, {"1.5", 0, false}, {"７", 0, false}, {"soon", 0, false},
		{"Sat, 21 Nov 2026 02:03:34 GMT", 30 * time.Second, true},
		{"Sat, 21 Nov 2026 02:00:00 GMT", 0, true},
		{"Sun, 22 Nov 2026 02:00:00 GMT", time.Hour, true},
	} {
		got, ok := retryAfter(row.s, now)
		if got != row.want && row.ok || ok != row.ok {
			t.Errorf("%q: %v %v, want %v %v", row.s, got, ok, row.want, row.ok)
		}
	}
}

func FuzzAckAnswer(f *testing.F) {
	f.Add(200, "", []byte(`{"auth_req_id":"a","expires_in":300,"interval":5}`))
	f.Add(200, "", []byte(`{"auth_req_id":"a","auth_req_id":"b","expires_in":3e2}`))
	f.Add(503, "2", []byte(`{"error":"SERVER_SIDE_ERROR"}`))
	f.Add(400, "", []byte(`{"error":"unknown_user_id","id":"x","trace_id":"y"}`))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		ack, err := judgeAck(reply{status: status, retryAfter: after, body: body}, time.Now())
		if err == nil {
			second := ack.ExpiresIn%time.Second == 0 && ack.Interval%time.Second == 0
			if status != 200 || !json.Valid(body) || !authReqIDShaped(ack.AuthReqID) || !second ||
				ack.ExpiresIn < time.Second || ack.ExpiresIn > time.Hour || ack.Interval < 0 || ack.Interval > time.Minute {
				t.Fatalf("believed: %d %q", status, body)
			}
			return
		}
		if ack != (Ack{}) {
			t.Error("an ack beside an error")
		}
		lawful(t, err, status, body)
		if isA[*Pending](err) || isA[*SlowDown](err) || isA[*Untrusted](err) {
			t.Errorf("%T from bc-auth", err)
		}
	})
}

func FuzzTokenAnswer(f *testing.F) {
	f.Add(200, "", []byte(`{"id_token":"a.b.c","access_token":"x"}`))
	f.Add(200, "", []byte(`{"id_token":"a.b`))
	f.Add(400, "", []byte(`{"error":"authorization_pending"}`))
	f.Add(403, "", []byte(`<html>`))
	f.Add(503, "Fri, 14 Feb 2025 01:38:24 GMT", []byte(``))
	f.Fuzz(func(t *testing.T, status int, after string, body []byte) {
		token, err := judgeToken(reply{status: status, retryAfter: after, body: body}, time.Now())
		if err == nil {
			// What encoding/json reads must be what we read: whoever signs and whoever reads must mean the same member.
			var all map[string]any
			if json.Unmarshal(body, &all) != nil || all["id_token"] != token || status != 200 || token == "" {
				t.Fatalf("believed: %d %q", status, body)
			}
			return
		}
		if token != "" {
			t.Error("a token beside an error")
		}
		lawful(t, err, status, body)
		// "Denied" must not come out of anything but the provider's clear word.
		if e, ok := errors.AsType[*Refusal](err); ok && e.Code == "access_denied" {
			var said map[string]any
			if json.Unmarshal(body, &said) != nil || said["error"] != "access_denied" || status != 400 && status != 401 && status != 403 {
				t.Errorf("denied: %d %q", status, body)
			}
		}
	})
}

// lawful holds for every error out of either endpoint.
func lawful(t *testing.T, err error, status int, body []byte) {
	t.Helper()
	var d Detail
	var after time.Duration
	switch e := err.(type) {
	case *Pending:
		d = e.Detail
	case *SlowDown:
		d = e.Detail
	case *Refusal:
		d = e.Detail
		if status != 400 && status != 401 && status != 403 || !json.Valid(body) {
			t.Errorf("a code counted in a %d", status)
		}
	case *Transient:
		d, after = e.Detail, e.RetryAfter
		if status >= 300 && status < 400 || status == 200 || status == 500 {
			t.Errorf("%d taken for not processed", status)
		}
	case *Ambiguous:
		d, after = e.Detail, e.RetryAfter
	case *Untrusted:
		d.Status = http.StatusOK
	default:
		t.Fatalf("unknown error %T", err)
	}
	if d.Status != status || after < 0 || after > time.Hour {
		t.Errorf("status %d told as %d, Retry-After %v", status, d.Status, after)
	}
	if of := (reply{}); of.loggable(d.ID) != d.ID || of.loggable(d.TraceID) != d.TraceID || len(err.Error()) > 200 {
		t.Errorf("not fit for a log: %v", err)
	}
}

// readObject finds the same members as encoding/json, and objects to a second one of a name.
func FuzzReadObject(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : [ {"b":"]}\""} , 1 ] ,"\u0062":-1.5e3 } `, `{"a":{},"a":null}`, `{"a":"\\","":"x"}`, `[1]`, `null`, `{"a":tru`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := map[string]*member{}
		err := readObject(body, func(name []byte) *member {
			if got[string(name)] == nil {
				got[string(name)] = new(member)
			}
			return got[string(name)]
		})
		var want map[string]json.RawMessage
		valid := json.Unmarshal(body, &want) == nil && want != nil
		if valid != (err == nil || errors.Is(err, errDuplicate)) {
			t.Fatalf("%v, valid %v: %q", err, valid, body)
		}
		if err != nil {
			return
		}
		for name, m := range got {
			if string(*m) != string(want[name]) {
				t.Errorf("%q is %q, want %q", name, *m, want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d members, want %d", len(got), len(want))
		}
	})
}
