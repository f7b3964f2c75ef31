package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"stepup/worker"
	"stepup/worker/api"
	"stepup/worker/api/apitest"
)

// plausible are things that a worker answers with, none of them a fault.
func plausible(b *bank, n byte) {
	b.service.err, b.service.shown = nil, nil
	codes := []string{"not_found", "already_final", "result_gone", "idempotency_in_progress", "idempotency_key_reused", "unknown_user", "person_busy", "invalid_request"}
	switch n %= 16; {
	case n == 1:
		v := final()
		b.service.shown = &v
	case n >= 16-byte(len(codes)):
		b.service.err = &worker.Error{Code: codes[n-16+byte(len(codes))], Detail: "a word of ours", ID: "su_00LEDGERAAAAAAAAAAAAAA"}
	}
}

// FuzzHandler: nothing that a request can hold makes a fault of ours or an answer without its form, no answer tells a
// stranger's words back at length, and what is accepted is what the document has.
func FuzzHandler(f *testing.F) {
	b := newBank(f)
	problems := api.Problems()
	const key = "KEY" // stands for the caller's
	for _, seed := range []struct{ method, target, idem, kind, match, auth, id, body string }{
		{"POST", "/v1/step-ups", "k1", "application/json", "", key, "", goodBody},
		{"POST", "/v1/step-ups", "k1", "application/json; charset=utf-8", "", key, "3f2b8c1d-0000-4000-8000-000000000077", `{"provider":"a","login_hint_token":"x","metadata":{"a":"b"},"requested_expiry":60}`},
		{"POST", "/v1/step-ups", "", "text/plain", "", key, "S1234567D", `{"x":[[[[`},
		{"GET", "/v1/step-ups?status=pending&reference=a&limit=7&cursor=c", "", "", "", key, "", ""},
		{"GET", own + "?wait=30s", "", "", `"a", W/"b"`, key, "", ""},
		{"GET", own, "", "", "*", key, "", ""},
		{"GET", "/v1/step-ups/su_00CARDSAAAAAAAAAAAAAAA?x=%zz", "", "", "", "Bearer x", "", ""},
		{"POST", own + "/cancel", "", "application/json", "", key, "", "{}"},
		{"POST", own + "/redeliver", "", "", "", key, "", ""},
		{"GET", own + "/attempts", "", "", "", key, "", ""},
		{"POST", "/v1/redeliveries", "", "application/json", "", key, "", `{"from":"2026-11-21T02:00:00Z","until":"2026-11-21T03:00:00.5+08:00","webhook":"queue","cursor":"c"}`},
		{"POST", "/v1/redeliveries", "", "application/json", "", key, "", `{"from":"2026-02-30T02:00:00Z","until":"","webhook":""}`},
		{"GET", "/v1/events?webhook=queue&after=c&limit=100&wait=1ms", "", "", "", key, "", ""},
		{"GET", "/v1/events?after=", "", "", "", key, "", ""},
		{"POST", "/v1/events/acknowledge", "", "application/json", "", key, "", `{"ids":["evt_00LEDGERAAAAAAAAAAAAAA22222222","evt_x","evt_x"]}`},
		{"POST", "/v1/events/acknowledge", "", "application/json", "", key, "", `{"ids":["su_1",[],null,{"a":{}},7,"evt_` + "\u0000" + `"]}`},
		{"GET", "/providers/singpass/jwks.json", "", "", "", "", "", ""},
		{"HEAD", "/.well-known/jwks.json", "", "", "", "", "", ""},
		{"GET", "/.well-known/webhook-jwks.json", "", "", "", "", "", ""},
		{"GET", "/openapi.json", "", "", `W/"x"`, "", "", ""},
		{"HEAD", "/docs", "", "", "", "", "", ""},
		{"OPTIONS", "//v1/../%2e", "", "", "", "", "", ""},
	} {
		for n := range byte(3) {
			f.Add(n, seed.method, seed.target, seed.idem, seed.kind, seed.match, seed.auth, seed.id, []byte(seed.body))
		}
	}
	f.Fuzz(func(t *testing.T, n byte, method, target, idem, kind, match, auth, id string, body []byte) {
		r, err := http.NewRequest(method, target, io.NopCloser(strings.NewReader(string(body))))
		if err != nil || !strings.HasPrefix(target, "/") { // net/http has refused it
			return
		}
		r.RequestURI, r.ContentLength = target, int64(len(body))
		if n >= 128 {
			r.ContentLength = -1
		}
		for name, value := range map[string]string{"Idempotency-Key": idem, "Content-Type": kind, "If-None-Match": match, "Authorization": auth, "X-Request-Id": id} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if auth == key {
			r.Header.Set("Authorization", "Bearer "+b.ledger)
		}
		b.log.Reset()
		b.asked, b.filters, b.queue = b.asked[:0], b.filters[:0], deliveries{}
		plausible(b, n)
		w := b.do(r)
		switch h := w.Header(); {
		case w.Code >= 500:
			t.Errorf("%d %s: %s", w.Code, w.Body, b.log)
		case h.Get("X-Request-Id") == "" || len(h.Get("X-Request-Id")) > 36 || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") == "":
			t.Errorf("headers %v", h)
		case w.Code >= 400:
			wellFormed(t, w, problems)
		case strings.HasPrefix(target, "/v1"):
			if err := apitest.CheckRequest(r, body); err != nil {
				t.Errorf("%d, against the document: %v", w.Code, err)
			}
		}
	})
}

// wellFormed judges a problem, and that it repeats no more of a stranger's words than a few names, cut short.
func wellFormed(t *testing.T, w *httptest.ResponseRecorder, problems map[string]api.Problem) {
	t.Helper()
	var p problem
	h := w.Header()
	err := json.Unmarshal(w.Body.Bytes(), &p)
	row, known := problems[p.Code]
	if err != nil || !known || row.Status != w.Code || p.Status != w.Code || p.Title != row.Title || p.Type != "urn:stepup:problem:"+p.Code ||
		h.Get("Content-Type") != "application/problem+json" || h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v %s: %v", w.Code, h, w.Body, err)
	}
	if row.Retry != (h.Get("Retry-After") != "") || (w.Code == 401) != (h.Get("WWW-Authenticate") != "") || (w.Code == 405) != (h.Get("Allow") != "") {
		t.Errorf("%d %v", w.Code, h)
	}
	if len(p.Detail) > 128 || len(p.Errors) > 16 {
		t.Errorf("%d mistakes told, detail %s", len(p.Errors), p.Detail)
	}
	for _, e := range p.Errors {
		if len(e.Field) > 4*(64+len("….")) || len(e.Message) > 128 {
			t.Errorf("told %d bytes of a name: %s: %s", len(e.Field), e.Field, e.Message)
		}
	}
}
