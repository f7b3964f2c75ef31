package ciba

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// answered is one answer and what it must become. want is compared in type and in every field but Err.
type answered struct {
	name   string
	status int
	header http.Header
	body   string
	want   error
}

func after(s string) http.Header { return http.Header{"Retry-After": {s}} }

func coded(code string) string {
	return fmt.Sprintf(`{"id":"E-1","error":%q,"error_description":%q,"trace_id":"t/2"}`, code, canaryWords)
}

func told(status int) Detail { return Detail{Status: status, ID: "E-1", TraceID: "t/2"} }

const page = "<html><body>" + canaryWords + "</body></html>"

// Both endpoints: codes count only in a 400, 401 or 403 with a JSON body; a 5xx goes by its status.
var answeredByBoth = []answered{
	{"access denied", 400, nil, coded("access_denied"), &Refusal{told(400), "access_denied"}},
	{"access denied by 403", 403, nil, coded("access_denied"), &Refusal{told(403), "access_denied"}},
	{"invalid client", 401, nil, coded("invalid_client"), &Refusal{told(401), "invalid_client"}},
	{"unauthorized client", 400, nil, coded("unauthorized_client"), &Refusal{told(400), "unauthorized_client"}},
	{"invalid request", 400, nil, coded("invalid_request"), &Refusal{told(400), "invalid_request"}},
	{"invalid scope", 400, nil, coded("invalid_scope"), &Refusal{told(400), "invalid_scope"}},
	{"Singpass's CLIENT_SIDE_ERROR", 400, nil, coded("CLIENT_SIDE_ERROR"), &Refusal{told(400), "invalid_request"}},
	{"Singpass's ARGUMENTS_NOT_VALID", 400, nil, coded("ARGUMENTS_NOT_VALID"), &Refusal{told(400), "invalid_request"}},
	{"Singpass's TOO_MANY_REQUESTS", 400, after("7"), coded("TOO_MANY_REQUESTS"), &Transient{Detail: told(400), RetryAfter: 7 * time.Second}},
	{"Singpass's SERVER_SIDE_ERROR", 400, nil, coded("SERVER_SIDE_ERROR"), &Ambiguous{Detail: told(400)}},
	{"a code nobody knows", 400, nil, coded(canaryWords), &Refusal{told(400), "other"}},
	{"a code in the wrong case", 400, nil, coded("Access_Denied"), &Refusal{told(400), "other"}},
	{"JSON under another type", 400, http.Header{"Content-Type": {"text/html"}}, coded("access_denied"), &Refusal{told(400), "access_denied"}},
	{"429", 429, after("3"), coded("TOO_MANY_REQUESTS"), &Transient{Detail: told(429), RetryAfter: 3 * time.Second}},
	{"429 with a page", 429, nil, page, &Transient{Detail: Detail{Status: 429}}},
	{"503 with Retry-After", 503, after("2"), page, &Transient{Detail: Detail{Status: 503}, RetryAfter: 2 * time.Second}},
	{"503 with Retry-After 0", 503, after("0"), "", &Transient{Detail: Detail{Status: 503}}},
	{"503 with a far Retry-After", 503, after("99999999999999999999999"), "", &Transient{Detail: Detail{Status: 503}, RetryAfter: time.Hour}},
	{"503 with a date long ago", 503, after("Fri, 14 Feb 2020 01:38:24 GMT"), "", &Transient{Detail: Detail{Status: 503}}},
	{"503 with a date far away", 503, after("Fri, 14 Feb 2120 01:38:24 GMT"), "", &Transient{Detail: Detail{Status: 503}, RetryAfter: time.Hour}},
	{"503 with nonsense in Retry-After", 503, after("-1"), "", &Ambiguous{Detail: Detail{Status: 503}}},
	{"503 bare", 503, nil, "", &Ambiguous{Detail: Detail{Status: 503}}},
	{"500", 500, nil, coded("SERVER_SIDE_ERROR"), &Ambiguous{Detail: told(500)}},
	{"500 that claims a code", 500, nil, coded("access_denied"), &Ambiguous{Detail: told(500)}},
	{"500 with Retry-After", 500, after("9"), "", &Ambiguous{Detail: Detail{Status: 500}, RetryAfter: 9 * time.Second}},
	{"502 page of a gateway", 502, nil, page, &Ambiguous{Detail: Detail{Status: 502}}},
	{"page with 200", 200, http.Header{"Content-Type": {"text/html"}}, page, &Ambiguous{Detail: Detail{Status: 200}, Alarm: true}},
	{"page with 400", 400, nil, page, &Ambiguous{Detail: Detail{Status: 400}, Alarm: true}},
	{"403 without JSON", 403, nil, "denied", &Ambiguous{Detail: Detail{Status: 403}, Alarm: true}},
	{"403 without a body", 403, nil, "", &Ambiguous{Detail: Detail{Status: 403}, Alarm: true}},
	{"403 without a code", 403, nil, `{"id":"E-1","trace_id":"t/2"}`, &Ambiguous{Detail: told(403), Alarm: true}},
	{"code that is no string", 400, nil, `{"error":{"code":"access_denied"}}`, &Ambiguous{Detail: Detail{Status: 400}, Alarm: true}},
	{"two codes", 400, nil, `{"error":"authorization_pending","error":"access_denied"}`, &Ambiguous{Detail: Detail{Status: 400}, Alarm: true}},
	{"two codes, one spelt with an escape", 400, nil, `{"error":"access_denied","err\u006fr":"expired_token"}`, &Ambiguous{Detail: Detail{Status: 400}, Alarm: true}},
	{"code in the wrong status", 404, nil, coded("access_denied"), &Ambiguous{Detail: told(404), Alarm: true}},
	{"204", 204, nil, "", &Ambiguous{Detail: Detail{Status: 204}, Alarm: true}},
	{"301", 301, http.Header{"Location": {"/elsewhere"}}, "", &Ambiguous{Detail: Detail{Status: 301}, Alarm: true}},
	{"308 without Location", 308, nil, "", &Ambiguous{Detail: Detail{Status: 308}, Alarm: true}},
	{"304", 304, nil, "", &Ambiguous{Detail: Detail{Status: 304}, Alarm: true}},
	{"200 of two objects", 200, nil, `{}{}`, &Ambiguous{Detail: Detail{Status: 200}, Alarm: true}},
	{"200 of a list", 200, nil, `[{"id_token":"x","auth_req_id":"x","expires_in":300}]`, &Ambiguous{Detail: Detail{Status: 200}, Alarm: true}},
	{"200 of half an object", 200, nil, `{"id_token":"abc`, &Ambiguous{Detail: Detail{Status: 200}}},
	{"error ids not fit for a log", 400, nil, `{"error":"access_denied","id":"CANARY \n","trace_id":"` + strings.Repeat("x", 129) + `"}`, &Refusal{Detail{Status: 400}, "access_denied"}},
}

func TestAuthenticateAnswers(t *testing.T) {
	rows := append([]answered{
		{"unknown user", 400, nil, coded("unknown_user_id"), &Refusal{told(400), "unknown_user_id"}},
		{"expired login_hint_token", 400, nil, coded("expired_login_hint_token"), &Refusal{told(400), "expired_login_hint_token"}},
		{"missing user_code", 400, nil, coded("missing_user_code"), &Refusal{told(400), "missing_user_code"}},
		{"invalid user_code", 400, nil, coded("invalid_user_code"), &Refusal{told(400), "invalid_user_code"}},
		{"invalid binding_message", 400, nil, coded("invalid_binding_message"), &Refusal{told(400), "invalid_binding_message"}},
		{"a poll's code", 400, nil, coded("authorization_pending"), &Refusal{told(400), "other"}},
		{"503 with a JSON error", 503, nil, coded("SERVER_SIDE_ERROR"), &Transient{Detail: told(503)}},
		{"503 with JSON and no error", 503, nil, `{"id":"E-1","trace_id":"t/2"}`, &Ambiguous{Detail: told(503)}},
	}, answeredByBoth...)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := provider(t, map[string]http.HandlerFunc{"/bc-auth": says(row.status, row.header, row.body)})
			ack, err := newClient(t, singpassConfig(s.URL)).Authenticate(t.Context(), Request{LoginHint: canaryNRIC})
			mustBe(t, err, row.want)
			if ack != (Ack{}) {
				t.Errorf("an ack beside an error")
			}
		})
	}
}

func TestTokenAnswers(t *testing.T) {
	rows := append([]answered{
		{"pending", 400, nil, coded("authorization_pending"), &Pending{Detail: told(400)}},
		{"slow down", 400, nil, coded("slow_down"), &SlowDown{told(400)}},
		{"expired", 400, nil, coded("expired_token"), &Refusal{told(400), "expired_token"}},
		{"invalid grant", 400, nil, coded("invalid_grant"), &Refusal{told(400), "invalid_grant"}},
		{"unsupported grant", 400, nil, coded("unsupported_grant_type"), &Refusal{told(400), "unsupported_grant_type"}},
		{"transaction failed", 400, nil, coded("transaction_failed"), &Refusal{told(400), "transaction_failed"}},
		{"503 with JSON only", 503, nil, coded("SERVER_SIDE_ERROR"), &Ambiguous{Detail: told(503)}},
		{"no id_token", 200, nil, `{"access_token":"` + canaryToken + `"}`, &Untrusted{Reason: "answer has no ID token"}},
		{"null id_token", 200, nil, `{"id_token":null}`, &Untrusted{Reason: "answer has no ID token"}},
		{"id_token in the wrong case", 200, nil, `{"ID_TOKEN":"` + canaryToken + `"}`, &Untrusted{Reason: "answer has no ID token"}},
		{"two id_tokens", 200, nil, `{"id_token":"` + canaryToken + `","id_token":"` + canaryToken + `"}`, &Ambiguous{Detail: Detail{Status: 200}, Alarm: true}},
		{"200 with an error", 200, nil, coded("authorization_pending"), &Untrusted{Reason: "answer has no ID token"}},
	}, answeredByBoth...)
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			s := provider(t, map[string]http.HandlerFunc{"/token": says(row.status, row.header, row.body)})
			got, err := newClient(t, singpassConfig(s.URL)).Token(t.Context(), canaryID)
			mustBe(t, err, row.want)
			if got != "" {
				t.Errorf("a token beside an error")
			}
		})
	}
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %T", want)
	}
	tellsNothing(t, err)
	switch e := err.(type) {
	case *Pending:
		e.Held = 0
	case *Transient:
		e.Err = nil
	case *Ambiguous:
		e.Err = nil
	}
	if !reflect.DeepEqual(err, want) {
		t.Fatalf("got %T %+v\nwant %T %+v", err, reflect.ValueOf(err).Elem(), want, reflect.ValueOf(want).Elem())
	}
}

// A provider that writes into its error's ids whom it was asked about makes no log of ours tell it.
func TestEchoesAreNotTold(t *testing.T) {
	sent := url.Values{"login_hint": {"S1234567D"}, "auth_req_id": {"secret-handle"}, "scope": {"openid"}}.Encode()
	for said, want := range map[string]string{
		"E-17": "E-17", "openid": "openid", "": "",
		"S1234567D": "", "no:s1234567d/2": "", "secret-handle": "",
		"F1612366T": "", "of-g1612358m.": "", "f1612366e": "f1612366e", // somebody else; what is only like it
		"0f1234567a-F0000000F-b": "0f1234567a-F0000000F-b",
	} {
		r := reply{status: 400, sent: []byte(sent), body: fmt.Appendf(nil, `{"error":"access_denied","id":%q,"trace_id":%q}`, said, said)}
		_, d, err := r.read()
		if err != nil || d.ID != want || d.TraceID != want {
			t.Errorf("%q is told as %+v, %v", said, d, err)
		}
	}
}

// What is missing or absurd in a receipt makes it unreadable; a phone may be ringing all the same.
func TestAckLimits(t *testing.T) {
	ok := func(id string, expires, interval int) Ack {
		return Ack{AuthReqID: id, ExpiresIn: time.Duration(expires) * time.Second, Interval: time.Duration(interval) * time.Second}
	}
	for _, row := range []struct {
		name, body string
		want       Ack // zero: unreadable
	}{
		{"Singpass's sample", `{"auth_req_id" : "a167061f-1dfc-47a4-9537-eb7a4247619e", "expires_in" : 300}`, ok("a167061f-1dfc-47a4-9537-eb7a4247619e", 300, 0)},
		{"with interval", `{"auth_req_id":"a.B_1-","expires_in":120,"interval":2}`, ok("a.B_1-", 120, 2)},
		{"unknown members", `{"auth_req_id":"a","expires_in":120,"x":1,"x":2}`, ok("a", 120, 0)},
		{"limits", `{"auth_req_id":"` + strings.Repeat("a", 1024) + `","expires_in":3600,"interval":60}`, ok(strings.Repeat("a", 1024), 3600, 60)},
		{"least", `{"auth_req_id":"a","expires_in":1,"interval":1}`, ok("a", 1, 1)},
		{"whole number with a point", `{"auth_req_id":"a","expires_in":3e2,"interval":5.0}`, ok("a", 300, 5)},
		{"null interval", `{"auth_req_id":"a","expires_in":300,"interval":null}`, ok("a", 300, 0)},
		{"no auth_req_id", `{"expires_in":300}`, Ack{}},
		{"empty auth_req_id", `{"auth_req_id":"","expires_in":300}`, Ack{}},
		{"auth_req_id a number", `{"auth_req_id":1,"expires_in":300}`, Ack{}},
		{"auth_req_id too long", `{"auth_req_id":"` + strings.Repeat("a", 1025) + `","expires_in":300}`, Ack{}},
		{"auth_req_id with a blank", `{"auth_req_id":"a b","expires_in":300}`, Ack{}},
		{"auth_req_id with an ampersand", `{"auth_req_id":"a&b=c","expires_in":300}`, Ack{}},
		{"auth_req_id not ASCII", `{"auth_req_id":"ａ","expires_in":300}`, Ack{}},
		{"two auth_req_ids", `{"auth_req_id":"a","auth_req_id":"b","expires_in":300}`, Ack{}},
		{"no expires_in", `{"auth_req_id":"a"}`, Ack{}},
		{"expires_in null", `{"auth_req_id":"a","expires_in":null}`, Ack{}},
		{"expires_in a string", `{"auth_req_id":"a","expires_in":"300"}`, Ack{}},
		{"expires_in 0", `{"auth_req_id":"a","expires_in":0}`, Ack{}},
		{"expires_in negative", `{"auth_req_id":"a","expires_in":-300}`, Ack{}},
		{"expires_in 3601", `{"auth_req_id":"a","expires_in":3601}`, Ack{}},
		{"expires_in not whole", `{"auth_req_id":"a","expires_in":299.5}`, Ack{}},
		{"expires_in beyond floats", `{"auth_req_id":"a","expires_in":1e999}`, Ack{}},
		{"interval 0", `{"auth_req_id":"a","expires_in":300,"interval":0}`, Ack{}},
		{"interval 61", `{"auth_req_id":"a","expires_in":300,"interval":61}`, Ack{}},
		{"interval a string", `{"auth_req_id":"a","expires_in":300,"interval":"5"}`, Ack{}},
		{"nothing", `{}`, Ack{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := provider(t, map[string]http.HandlerFunc{"/bc-auth": says(200, nil, row.body)})
			got, err := newClient(t, singpassConfig(s.URL)).Authenticate(t.Context(), Request{LoginHint: canaryUUID})
			if got != row.want {
				t.Errorf("got %q %v %v", got.AuthReqID, got.ExpiresIn, got.Interval)
			}
			if _, ok := errors.AsType[*Ambiguous](err); ok != (row.want == Ack{}) {
				t.Errorf("error %v", err)
			}
		})
	}
}
