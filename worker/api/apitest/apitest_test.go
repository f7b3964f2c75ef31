package apitest_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"stepup/worker/api/apitest"
)

// example is one of the document's own, changed.
func example(t *testing.T, name string, old, new string) []byte {
	t.Helper()
	raw, err := json.Marshal(apitest.Document().Components.Examples[name].Value.Value)
	if err != nil {
		t.Fatal(err)
	}
	if old != "" && !strings.Contains(string(raw), old) {
		t.Fatalf("the example %s has no %s", name, old)
	}
	return []byte(strings.Replace(string(raw), old, new, 1))
}

// What is not as documented is found: a check that passes everything would prove nothing.
func TestCheckAnswer(t *testing.T) {
	const own = "/v1/step-ups/su_03K7TJ4QXW2BN6DYH5MRA3"
	headers := func(pairs ...string) http.Header {
		h := http.Header{"X-Request-Id": {"1"}, "Content-Type": {"application/json"}, "Etag": {`"a"`}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	problem := headers("Content-Type", "application/problem+json", "Retry-After", "1")
	for _, tt := range []struct {
		name, method, path string
		status             int
		header             http.Header
		body               []byte
		ok                 bool
	}{
		{"as documented", "GET", own, 200, headers(), example(t, "Approved", "", ""), true},
		{"a status that is none", "GET", own, 200, headers(), example(t, "Approved", `"approved"`, `"accepted"`), false},
		{"denied with an identity", "GET", own, 200, headers(), example(t, "Approved", `"status":"approved"`, `"status":"denied"`), false},
		{"a reason of another status", "GET", own, 200, headers(), example(t, "Denied", `"denied_by_user"`, `"expired"`), false},
		{"a member missing", "GET", own, 200, headers(), example(t, "Pending", `"reference":"txn-881",`, ""), false},
		{"a time that is none", "GET", own, 200, headers(), example(t, "Pending", "2026-11-21T02:03:04.123Z", "yesterday"), false},
		{"without ETag", "GET", own, 200, http.Header{"X-Request-Id": {"1"}, "Content-Type": {"application/json"}}, example(t, "Pending", "", ""), false},
		{"another kind", "GET", own, 200, headers("Content-Type", "text/plain"), example(t, "Pending", "", ""), false},
		{"a status that is not documented", "GET", own, 202, headers(), example(t, "Pending", "", ""), false},
		{"a problem", "GET", own, 503, problem, example(t, "StorageUnavailable", "", ""), true},
		{"a problem of another route", "GET", own, 503, problem, example(t, "Draining", "", ""), false},
		{"a problem without Retry-After", "GET", own, 503, headers("Content-Type", "application/problem+json"), example(t, "StorageUnavailable", "", ""), false},
		{"unchanged", "GET", own, 304, headers(), nil, true},
		{"unchanged with a body", "GET", own, 304, headers(), []byte("{}"), false},
		{"unchanged without ETag", "GET", own, 304, http.Header{"X-Request-Id": {"1"}}, nil, false},
		{"HEAD", "HEAD", "/docs", 200, headers("Cache-Control", "public"), nil, true},
		{"HEAD without Cache-Control", "HEAD", "/docs", 200, headers(), nil, false},
		{"HEAD where there is none", "HEAD", own, 200, headers(), nil, false},
		{"a path that is none", "GET", "/v2", 200, headers(), []byte("{}"), false},
		{"a page of events", "GET", "/v1/events", 200, headers(), example(t, "EventPage", "", ""), true},
		{"an event of no kind", "GET", "/v1/events", 200, headers(), example(t, "EventPage", "step_up.denied", "step_up.done"), false},
		{"an event of another kind", "GET", "/v1/events", 200, headers(), example(t, "EventPage", "step_up.denied", "step_up.expired"), false},
		{"an event's id that is none", "GET", "/v1/events", 200, headers(), example(t, "EventPage", `"evt_`, `"su_`), false},
		{"no place to go on", "GET", "/v1/events", 200, headers(), []byte(`{"events":[],"next":""}`), false},
		{"events that are null", "GET", "/v1/events", 200, headers(), []byte(`{"events":null,"next":"A"}`), false},
		{"what was acknowledged", "POST", "/v1/events/acknowledge", 200, headers(), []byte(`{"acknowledged":["evt_A"],"unknown":[]}`), true},
		{"half of it", "POST", "/v1/events/acknowledge", 200, headers(), []byte(`{"acknowledged":["evt_A"]}`), false},
		{"what is sent again", "POST", "/v1/redeliveries", 200, headers(), []byte(`{"step_ups":1,"busy":0,"gone":0}`), true},
		{"not a number of it", "POST", "/v1/redeliveries", 200, headers(), []byte(`{"step_ups":"1","busy":0,"gone":0}`), false},
		{"attempts", "GET", own + "/attempts", 200, headers(), []byte(`{"attempts":[]}`), true},
		{"attempts that are null", "GET", own + "/attempts", 200, headers(), []byte(`{"attempts":null}`), false},
	} {
		r, err := http.NewRequest(tt.method, tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := apitest.CheckAnswer(r, tt.status, tt.header, tt.body); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestCheckRequest(t *testing.T) {
	for _, tt := range []struct {
		name, method, target, body string
		ok                         bool
	}{
		{"a create", "POST", "/v1/step-ups", `{"provider":"a","login_hint":"b"}`, true},
		{"an unknown member", "POST", "/v1/step-ups", `{"provider":"a","login_hint":"b","x":1}`, false},
		{"no hint", "POST", "/v1/step-ups", `{"provider":"a"}`, false},
		{"two hints", "POST", "/v1/step-ups", `{"provider":"a","login_hint":"b","id_token_hint":"c"}`, false},
		{"two hints, one of them empty", "POST", "/v1/step-ups", `{"provider":"a","login_hint":"b","id_token_hint":""}`, true},
		{"a wait", "GET", "/v1/step-ups/su_03K7TJ4QXW2BN6DYH5MRA3?wait=60s", "", true},
		{"a long wait", "GET", "/v1/step-ups/su_03K7TJ4QXW2BN6DYH5MRA3?wait=61s", "", false},
		{"a list", "GET", "/v1/step-ups?limit=100&status=denied", "", true},
		{"a long list", "GET", "/v1/step-ups?limit=101", "", false},
		{"a method that is none", "PUT", "/v1/step-ups", "", false},
		{"events", "GET", "/v1/events?webhook=queue&after=A&limit=1&wait=60s", "", true},
		{"events from the oldest", "GET", "/v1/events?after=", "", true},
		{"too many events", "GET", "/v1/events?limit=101", "", false},
		{"an acknowledgement", "POST", "/v1/events/acknowledge", `{"ids":["evt_A"]}`, true},
		{"an acknowledgement of nothing", "POST", "/v1/events/acknowledge", `{"ids":[]}`, false},
		{"of a step-up", "POST", "/v1/events/acknowledge", `{"ids":["su_00LEDGERAAAAAAAAAAAAAA"]}`, false},
		{"a range", "POST", "/v1/redeliveries", `{"from":"2026-11-21T02:00:00Z"}`, true},
		{"a range without a beginning", "POST", "/v1/redeliveries", `{"until":"2026-11-21T02:00:00Z"}`, false},
		{"a range of no zone", "POST", "/v1/redeliveries", `{"from":"2026-11-21T02:00:00"}`, false},
	} {
		r, err := http.NewRequest(tt.method, tt.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Idempotency-Key": {"k"}, "Content-Type": {"application/json"}}
		if err := apitest.CheckRequest(r, []byte(tt.body)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestCheckWebhook(t *testing.T) {
	header := http.Header{"Content-Type": {"application/json"}, "Webhook-Id": {"evt_A"}, "Webhook-Timestamp": {"1795226600"}, "Webhook-Signature": {"v1,QQ== v1,Qg=="}}
	unsigned := header.Clone()
	unsigned.Del("Webhook-Signature")
	for _, tt := range []struct {
		name   string
		header http.Header
		body   []byte
		ok     bool
	}{
		{"as documented", header, example(t, "ApprovedEvent", "", ""), true},
		{"unsigned", unsigned, example(t, "ApprovedEvent", "", ""), false},
		{"another type", header, example(t, "ApprovedEvent", "step_up.approved", "step_up.denied"), false},
		{"a type that is none", header, example(t, "ApprovedEvent", "step_up.approved", "step_up.done"), false},
		{"an identity too late", header, example(t, "ApprovedEvent", "step_up.approved", "step_up.delivery_expired"), false},
		{"not JSON", header, []byte("approved"), false},
		{"encrypted", header, example(t, "EncryptedEvent", "", ""), true},
		{"encrypted, and the reference beside it", header, example(t, "EncryptedEvent", `"reference":null`, `"reference":"txn-881"`), false},
		{"encrypted to nothing", header, example(t, "EncryptedEvent", `"encrypted":"`, `"encrypted":".`), false},
		{"a test", header, example(t, "EndpointTestEvent", "", ""), true},
		{"a test of nobody's", header, example(t, "EndpointTestEvent", `"caller"`, `"called"`), false},
	} {
		if err := apitest.CheckWebhook(tt.header, tt.body); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
