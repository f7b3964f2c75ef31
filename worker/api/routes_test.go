package api_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"stepup/worker"
	"stepup/worker/api"
)

func TestCreate(t *testing.T) {
	b := newBank(t)
	w := b.do(b.request("POST", "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D","acr_values":"a b","binding_message":"Pay 10",
		"user_code":"77","requested_expiry":120,"reference":"txn-881","metadata":{"till":"4"}}`))
	if w.Code != 201 || w.Header().Get("Location") != "/v1/step-ups/su_00NEWAAAAAAAAAAAAAAAAA" || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	var v worker.StepUp
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.ID != "su_00NEWAAAAAAAAAAAAAAAAA" {
		t.Fatalf("%s: %v", w.Body, err)
	}
	want := worker.Request{Caller: "ledger", IdempotencyKey: "k1", Provider: "singpass", Reference: "txn-881", Metadata: map[string]string{"till": "4"},
		Question: worker.Question{Scope: "openid", LoginHint: "S1234567D", ACRValues: "a b", BindingMessage: "Pay 10", UserCode: "77", RequestedExpiry: 120}}
	if len(b.asked) != 1 || !reflect.DeepEqual(b.asked[0], want) {
		t.Errorf("asked %+v, want %+v", b.asked, want)
	}
}

// Another caller's id must look like an id that nobody has, whatever is asked of it and how.
func TestForeignIDLooksUnknown(t *testing.T) {
	b := newBank(t)
	foreign := pending("su_00CARDSAAAAAAAAAAAAAAA")
	tag := b.tagOf(foreign)
	b.service.shown = nil
	variants := map[string]func(*http.Request){
		"plain":                 func(*http.Request) {},
		"waiting":               func(r *http.Request) { r.URL.RawQuery = "wait=1s" },
		"with its tag":          func(r *http.Request) { r.Header.Set("If-None-Match", tag) },
		"with any tag":          func(r *http.Request) { r.Header.Set("If-None-Match", "*") },
		"with a wrong query":    func(r *http.Request) { r.URL.RawQuery = "x=1" },
		"with an empty object":  func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2 },
		"with a wrong body":     func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("[]")), 2 },
		"with a long body":      func(r *http.Request) { r.ContentLength = 1 << 30 },
		"with a body of a kind": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain"); r.ContentLength = -1 },
		"without a key":         func(r *http.Request) { r.Header.Del("Authorization") },
	}
	tried := 0
	for pattern := range api.Routes(b.Server) {
		if !strings.Contains(pattern, "{id}") {
			continue
		}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			for name, vary := range variants {
				ask := func(id string) *httptest.ResponseRecorder {
					r := b.request(method, strings.Replace(pattern, "{id}", id, 1), "")
					vary(r)
					w := b.do(r)
					w.Header().Del("X-Request-Id")
					return w
				}
				tried++
				unknown, other := ask("su_00NOBODYAAAAAAAAAAAAAA"), ask("su_00CARDSAAAAAAAAAAAAAAA")
				if other.Code < 400 || other.Code != unknown.Code || other.Body.String() != unknown.Body.String() ||
					!maps.EqualFunc(other.Header(), unknown.Header(), slices.Equal) || strings.Contains(other.Body.String(), "su_") {
					t.Errorf("%s %s %s:\nanother's: %d %v %s\nunknown: %d %v %s", method, pattern, name,
						other.Code, other.Header(), other.Body, unknown.Code, unknown.Header(), unknown.Body)
				}
			}
		}
	}
	if tried < 3*7*len(variants) {
		t.Errorf("tried only %d", tried)
	}
}

// What cannot be an id is answered as one that nobody has; the caller's own is answered.
func TestIDs(t *testing.T) {
	b := newBank(t)
	for _, rt := range []struct{ method, path string }{
		{"GET", "/v1/step-ups/{id}"}, {"GET", "/v1/step-ups/{id}?wait=1s"}, {"POST", "/v1/step-ups/{id}/cancel"}, {"POST", "/v1/step-ups/{id}/redeliver"},
		{"GET", "/v1/step-ups/{id}/attempts"},
	} {
		ask := func(id string) *httptest.ResponseRecorder {
			w := b.do(b.request(rt.method, strings.Replace(rt.path, "{id}", id, 1), ""))
			w.Header().Del("X-Request-Id")
			return w
		}
		if w := ask("su_00LEDGERAAAAAAAAAAAAAA"); w.Code != 200 {
			t.Errorf("%s %s: own id: %d %s", rt.method, rt.path, w.Code, w.Body)
		}
		unknown := ask("su_00NOBODYAAAAAAAAAAAAAA")
		for _, id := range []string{"su_", "su_" + strings.Repeat("x", 65), "cards1", "..%2fsu_00CARDSAAAAAAAAAAAAAAA", "su_a%00", "su_%EF%BC%91", "su_x:y"} {
			w := ask(id)
			if w.Code != 404 || w.Body.String() != unknown.Body.String() || !maps.EqualFunc(w.Header(), unknown.Header(), slices.Equal) {
				t.Errorf("%s %s: id %s: %d %v %s", rt.method, rt.path, id, w.Code, w.Header(), w.Body)
			}
		}
	}
}

func TestList(t *testing.T) {
	b := newBank(t)
	w := b.do(b.request("GET", "/v1/step-ups?status=pending&reference=txn%2B1&limit=7&cursor=abc", ""))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "su_00LEDGERAAAAAAAAAAAAAA") || strings.Contains(w.Body.String(), "su_00CARDSAAAAAAAAAAAAAAA") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if want := (worker.Filter{Status: "pending", Reference: "txn+1", Limit: 7, Cursor: "abc"}); b.filters[0] != want {
		t.Errorf("filter %+v, want %+v", b.filters[0], want)
	}
	b.owned = nil
	if w := b.do(b.request("GET", "/v1/step-ups", "")); w.Body.String() != `{"step_ups":[]}`+"\n" || b.filters[1].Limit != 20 {
		t.Errorf("empty page: %s, limit %d", w.Body, b.filters[1].Limit)
	}
	b.service.err = &worker.Error{Code: worker.CodeNotFound, Detail: "may not list"}
	if w := b.do(b.request("GET", "/v1/step-ups", "")); w.Code != 404 || strings.Contains(w.Body.String(), "list") {
		t.Errorf("a caller that may not list: %d %s", w.Code, w.Body)
	}
}

func TestQueriesAreStrict(t *testing.T) {
	b := newBank(t)
	tests := []struct{ target, field string }{
		{"/v1/step-ups?status=done", "status"},
		{"/v1/step-ups?status=", "status"},
		{"/v1/step-ups?satus=pending", "satus"},
		{"/v1/step-ups?limit=0", "limit"},
		{"/v1/step-ups?limit=101", "limit"},
		{"/v1/step-ups?limit=ten", "limit"},
		{"/v1/step-ups?limit=%2B7", "limit"},
		{"/v1/step-ups?limit=07", "limit"},
		{"/v1/step-ups?reference=", "reference"},
		{"/v1/step-ups?cursor=", "cursor"},
		{"/v1/step-ups?limit=", "limit"},
		{"/v1/step-ups?limit=1&limit=2", "limit"},
		{"/v1/step-ups?reference=" + strings.Repeat("r", 129), "reference"},
		{"/v1/step-ups?reference=%ff", "reference"},
		{"/v1/step-ups?cursor=" + strings.Repeat("c", 513), "cursor"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=61s", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=-1s", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=30", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=9999999999h", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=1m", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=1.5s", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=60001ms", "wait"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?x=1", "x"},
		{"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/attempts?limit=1", "limit"},
		{"/v1/events?webhook=", "webhook"},
		{"/v1/events?webhook=" + strings.Repeat("w", 64), "webhook"},
		{"/v1/events?webhook=a&webhook=b", "webhook"},
		{"/v1/events?after=" + strings.Repeat("c", 1025), "after"},
		{"/v1/events?after=%ff", "after"},
		{"/v1/events?limit=101", "limit"},
		{"/v1/events?limit=0", "limit"},
		{"/v1/events?wait=61s", "wait"},
		{"/v1/events?wait=", "wait"},
		{"/v1/events?cursor=c", "cursor"},
	}
	for _, tt := range tests {
		w := b.do(b.request("GET", tt.target, ""))
		if p := problemOf(t, w); w.Code != 400 || len(p.Errors) != 1 || p.Errors[0].Field != tt.field || p.Errors[0].Message == "" {
			t.Errorf("%s: %d %s", tt.target, w.Code, w.Body)
		}
	}
	for _, target := range []string{"/v1/step-ups?a;b", "/v1/step-ups?%zz"} {
		if w := b.do(b.request("GET", target, "")); w.Code != 400 {
			t.Errorf("%s: %d, want 400", target, w.Code)
		}
	}
	if w := b.do(b.request("POST", "/v1/step-ups?login_hint=S1234567D", goodBody)); w.Code != 400 || len(b.asked) != 0 {
		t.Errorf("create with a query: %d", w.Code)
	}
}

// Cancel and redeliver want no body; an empty object is what some clients cannot leave out.
func TestBodiesOfBodylessRoutes(t *testing.T) {
	b := newBank(t)
	for body, want := range map[string]int{"": 200, "{}": 200, `{"force":true}`: 400, "[]": 400, "{}{}": 400} {
		if w := b.do(b.request("POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/cancel", body)); w.Code != want {
			t.Errorf("cancel with body %q: %d %s, want %d", body, w.Code, w.Body, want)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	b := newBank(t)
	tests := []struct {
		method, path string
		status       int
		allow        string
	}{
		{"DELETE", "/v1/step-ups", 405, "GET, POST"},
		{"HEAD", "/v1/step-ups", 405, "GET, POST"},
		{"POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", 405, "GET"},
		{"GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/cancel", 405, "POST"},
		{"OPTIONS", "/v1/step-ups", 405, "GET, POST"},
		{"POST", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/attempts", 405, "GET"},
		{"GET", "/v1/redeliveries", 405, "POST"},
		{"DELETE", "/v1/events", 405, "GET"},
		{"GET", "/v1/events/acknowledge", 405, "POST"},
		{"GET", "/v1/events/evt_00LEDGERAAAAAAAAAAAAAA22222222", 404, ""},
		{"POST", "/providers/singpass/jwks.json", 405, "GET, HEAD"},
		{"POST", "/.well-known/webhook-jwks.json", 405, "GET, HEAD"},
		{"GET", "/", 404, ""},
		{"GET", "/v1/step-ups/", 404, ""},
		{"GET", "/v1//step-ups", 404, ""},
		{"GET", "/v1/x/../step-ups", 404, ""},
		{"GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA/x", 404, ""},
		{"OPTIONS", "*", 404, ""},
	}
	for _, tt := range tests {
		w := b.do(b.request(tt.method, tt.path, ""))
		if w.Code != tt.status || w.Header().Get("Allow") != tt.allow || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %v", tt.method, tt.path, w.Code, w.Header())
		}
	}
}

func TestPublishedKeys(t *testing.T) {
	b := newBank(t)
	names := []string{"other", "singpass"}
	b.Server.ProviderNames = func() []string { return names }
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.Public().ServeHTTP(w, httptest.NewRequest(method, path, nil)) // no Authorization
		return w
	}
	w := get("GET", "/providers/singpass/jwks.json")
	h := w.Header()
	if w.Code != 200 || w.Body.String() != keySet("singpass") || h.Get("Cache-Control") != "public, max-age=3600" ||
		h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v %s", w.Code, h, w.Body)
	}
	if w := get("HEAD", "/providers/singpass/jwks.json"); w.Code != 200 || w.Header().Get("Content-Length") != strconv.Itoa(len(keySet("singpass"))) {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	for _, path := range []string{"/providers/nobody/jwks.json", "/.well-known/jwks.json", "/v1/step-ups"} {
		if w := get("GET", path); w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: %d %v, want 404 that nobody caches", path, w.Code, w.Header())
		}
	}
	names = []string{"singpass"}
	if w := get("GET", "/.well-known/jwks.json"); w.Code != 200 || !strings.Contains(w.Body.String(), "singpass") {
		t.Errorf("one provider: %d %s", w.Code, w.Body)
	}
	if w := get("GET", "/v1/step-ups"); w.Code != 404 {
		t.Errorf("an api route on the public listener: %d", w.Code)
	}
	const hooks = "/.well-known/webhook-jwks.json"
	for name, h := range map[string]http.Handler{"public": b.Public(), "api": b.Handler(false), "one for both": b.h} {
		for _, method := range []string{"GET", "HEAD"} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(method, hooks, nil))
			if w.Code != 200 || w.Header().Get("Content-Length") != strconv.Itoa(len(webhookKeys)) || w.Header().Get("Cache-Control") != "public, max-age=3600" ||
				method == "GET" && w.Body.String() != webhookKeys {
				t.Errorf("%s of webhook keys, %s listener: %d %v %s", method, name, w.Code, w.Header(), w.Body)
			}
		}
	}
	w = httptest.NewRecorder()
	b.Handler(false).ServeHTTP(w, httptest.NewRequest("GET", "/providers/singpass/jwks.json", nil))
	if w.Code != 404 {
		t.Errorf("a public route on the api listener: %d", w.Code)
	}
}

func TestFixedHeaders(t *testing.T) {
	b := newBank(t)
	for _, r := range []*http.Request{b.request("GET", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA", ""), b.request("GET", "/nothing", ""), b.request("POST", "/v1/step-ups", "{")} {
		r.Header.Set("Origin", "https://elsewhere.example")
		h := b.do(r).Header()
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Request-Id") == "" {
			t.Errorf("%s: %v", r.URL, h)
		}
		if h.Get("Server") != "" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: a banner or CORS: %v", r.URL, h)
		}
	}
}
