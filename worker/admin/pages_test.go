package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/worker"
	"stepup/worker/admin"
)

const someID = "su_00ABCDEFGHIJKLMNOPQRST"

// service is a worker.Worker as the pages know it.
type service struct {
	mu       sync.Mutex
	overview worker.Overview
	err      error // of everything
	reads    int
	sent     []string
	draining bool
}

func (s *service) Overview(context.Context) (worker.Overview, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.overview, s.err
}

func (s *service) Inspect(_ context.Context, id string) (worker.Inspection, error) {
	v := worker.Inspection{ID: id, Caller: "bank", Provider: "singpass", Status: worker.Denied, CreatedAt: worker.Time{Time: noon},
		Reason: &worker.Reason{Code: "denied_by_user", Message: "The person refused."}, Doubt: "somebody edited it",
		Deliveries: []worker.InspectedDelivery{{DeliveryView: worker.DeliveryView{Webhook: "ledger", Status: worker.DeliveryUndelivered}, Type: "step_up.denied", Failing: true, Resendable: true}},
		Attempts: []worker.AttemptLog{{Webhook: "ledger", Type: "step_up.denied", Outcome: "failed", Reason: new("refused")},
			{Webhook: "ledger", Type: "step_up.denied", Outcome: "failed", Reason: new("timeout")}, {Webhook: "archive", Type: "step_up.denied", Outcome: "failed", Reason: new("tls")}}}
	return v, s.err
}

func (s *service) RedeliverAsOperator(_ context.Context, id string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, id)
	return "bank", s.err
}

func (s *service) Draining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *service) change(f func(*service)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// quiet is a service with nothing to do.
func quiet() worker.Overview {
	o := worker.Overview{At: noon, Whole: true, MostInFlight: 1000, Providers: []worker.ProviderHealth{{Name: "singpass", Configured: true}},
		Workers: []worker.Process{{Lease: "b_ONE", Left: time.Second, Here: true, Role: worker.RoleAll, Host: "here", PID: 1, Began: noon.Add(-time.Hour)}}}
	for n := range 60 {
		o.Minutes = append(o.Minutes, worker.Rates{At: noon.Add(time.Duration(n-59) * time.Minute), Finals: map[worker.State]int{}})
	}
	return o
}

// busy is one with something of everything, and somebody's hand in its names.
func busy() worker.Overview {
	o, bad := quiet(), `<script>alert("x")</script>`
	o.InFlight, o.FailingStepUps, o.Unowned, o.Overdue, o.RedisAhead = 900, 1234, 2, time.Minute, -9*time.Second
	o.RedisUsed, o.RedisMost = 500<<20, 512<<20
	o.Held = []worker.Holding{{Provider: "singpass", Caller: bad, Count: 900, Oldest: noon.Add(-4 * time.Minute)}}
	o.Failing = []worker.Failing{
		{StepUp: someID, Caller: "bank", Webhook: "ledger", Type: "step_up.approved", Status: worker.DeliveryPending, Since: noon.Add(-time.Hour), Attempts: 7, LastStatus: 503, Next: noon.Add(90 * time.Second), Resendable: true},
		{StepUp: someID, Caller: "bank", Webhook: "archive", Type: "step_up.approved", Status: worker.DeliveryUndelivered, Reason: bad},
		{StepUp: "su_01ABCDEFGHIJKLMNOPQRST", Caller: "bank", Webhook: "ledger", Status: worker.DeliveryUndelivered},
	}
	o.Endpoints = []worker.Endpoint{{Caller: "bank", Webhook: "ledger", Since: noon.Add(-2 * time.Hour), Failures: 431, Reason: bad}}
	o.Providers = append(o.Providers, worker.ProviderHealth{Name: bad, Paused: true, Ahead: time.Minute,
		Asks: worker.Answers{Count: 3, Failing: 3, Half: time.Second, Most: time.Minute, Last: &worker.Answer{Word: "refused", Error: "invalid_client", Status: 401, Failing: true}}})
	o.Workers = append(o.Workers, worker.Process{Lease: "w_TWO", Left: -12 * time.Minute, Owns: 3}, worker.Process{Lease: "a_THREE", Left: time.Second, Role: worker.RoleAPI, Host: bad, PID: 2})
	o.Minutes[58].Created, o.Minutes[58].Finals = 12, map[worker.State]int{worker.Approved: 10, worker.Unknown: 1}
	return o
}

func pages(s *service, checks map[string]func(context.Context) error) http.Handler {
	return admin.Handler(admin.Options{Service: s, Checks: checks, Runbook: "# Runbook\n\n## An alert\n\nSee `this`.", Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("metrics 1"))
	}), Log: slog.New(slog.DiscardHandler)})
}

// plain is what a page says, without tags.
func plain(html string) string {
	text := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")
	return strings.Join(strings.Fields(strings.NewReplacer("&#39;", "'", "&lt;", "<", "&gt;", ">", "&#34;", `"`).Replace(text)), " ")
}

func TestOverviewSays(t *testing.T) {
	down := map[string]func(context.Context) error{"redis": func(context.Context) error { return errors.New("writing: connection refused") }}
	alone, wide, three := quiet(), quiet(), busy()
	alone.Whole, alone.InFlight, alone.MostInFlight = false, 1, 1
	three.FailingStepUps = 3 // of which two are named, one of them twice
	for n := range 25 {
		wide.Held = append(wide.Held, worker.Holding{Provider: "singpass", Caller: fmt.Sprintf("caller-%02d", n), Count: 1000 + n, Oldest: noon})
		wide.Endpoints = append(wide.Endpoints, worker.Endpoint{Caller: fmt.Sprintf("caller-%02d", n), Webhook: "ledger", Since: noon})
	}
	for _, tt := range []struct {
		name    string
		service *service
		checks  map[string]func(context.Context) error
		says    []string
		buttons int
	}{
		{"nothing is going on", &service{overview: quiet()}, nil, []string{"In flight 0 at most 1,000", "Nothing is in flight.", "No webhook fails", "singpass bc-auth none 0", "b_ONE this one all here / 1 1 h 0 min 0 step-ups alive", "no lease lapsed"}, 0},
		{"much is", &service{overview: busy()}, nil, []string{
			"In flight 900", "Oldest in flight 4 min 0 s", "Not delivered 1,234", "In nobody's hands 2", "Overdue 1 min 0 s", "Workers 1 1 lease lapsed", "Redis memory 500 MiB of 512 MiB", "Redis's clock is 9 s behind",
			"the latest of 1,234 step-ups", someID + " bank / ledger approved 1 h 0 min 7 503 in 1 min 30 s Send again", "given up", "nothing is left", "bank / ledger 2 h 0 min 431",
			"paused", "not configured here", "clock 1 min 0 s ahead", "refused invalid_client (401)", "1 s > 30 s", "lapsed 12 min ago", "Created 12 last full minute", "approved 10 unknown 1"}, 1},
		{"Redis is away", &service{overview: alone, err: errors.New("reading the leases: connection refused")}, down, []string{
			"Redis does not answer.", "reading the leases: connection refused", "This process is not ready.", "redis writing: connection refused", "Not known while Redis is away.", "In flight 1 in the hands of this process", "This process holds nothing.", "this process alone"}, 0},
		{"many are in need", &service{overview: wide}, nil, []string{"singpass caller-24 1,024", "caller-05 1,005 0 s These have the most. 5 more rows have 5,010 step-ups.", "and 5 more, since later", "caller-19 / ledger", "over all processes"}, 0},
		{"more fail than are named", &service{overview: three}, nil, []string{"the latest of 3 step-ups"}, 1},
		{"it stops", &service{overview: quiet(), draining: true}, nil, []string{"This process is stopping."}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask(pages(tt.service, tt.checks), "GET", "/")
			text := plain(w.Body.String())
			if w.Code != 200 {
				t.Fatalf("GET /: %d", w.Code)
			}
			for _, words := range tt.says {
				if !strings.Contains(text, words) {
					t.Errorf("the page does not say %q", words)
				}
			}
			if n := strings.Count(w.Body.String(), "<button>Send again"); n != tt.buttons {
				t.Errorf("%d buttons, want %d", n, tt.buttons)
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

var notOurs = regexp.MustCompile(`(?i)<script[^>]*>[^<]|<style|\sstyle=|\son[a-z]+=|javascript:|(src|href|action)="?(https?:)?//`)

// Whatever stands in Redis, a page runs nothing and fetches nothing but what this server gives it; it tells browsers so.
func TestPagesAreClosed(t *testing.T) {
	h := pages(&service{overview: busy()}, nil)
	for _, path := range []string{"/", "/step-ups/" + someID, "/step-ups?id=nonsense", "/runbook"} {
		w := ask(h, "GET", path)
		if at := notOurs.FindString(w.Body.String()); at != "" {
			t.Errorf("%s has %q", path, at)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
			"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := w.Header().Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if got := w.Header().Get("Content-Security-Policy"); !strings.Contains(got, "frame-ancestors 'none'") || strings.Contains(got, "unsafe") {
			t.Errorf("%s: policy %q", path, got)
		}
	}
	for _, path := range []string{"/metrics", "/livez"} {
		if got := ask(h, "GET", path).Header().Get("Content-Security-Policy"); got != "default-src 'none'; frame-ancestors 'none'" {
			t.Errorf("%s: policy %q", path, got)
		}
	}
}

func TestStepUpPage(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		says   string
	}{
		{nil, 200, "denied The person refused."},
		{nil, 200, "Not to be relied on: somebody edited it"},
		{nil, 200, "Send all of them again"},
		{nil, 200, "ledger denied undelivered 0 timeout – –"}, // of its own last attempt
		{&worker.Error{Code: worker.CodeNotFound}, 404, "There is no such step-up"},
		{&worker.Error{Code: worker.CodeStorageUnavailable}, 503, "Redis does not answer, or takes no writes"},
		{errors.New("a secret of the inside"), 500, "The log says why."},
	} {
		w := ask(pages(&service{err: tt.err}, nil), "GET", "/step-ups/"+someID)
		if text := plain(w.Body.String()); w.Code != tt.status || !strings.Contains(text, tt.says) || strings.Contains(text, "inside") {
			t.Errorf("%v: %d %s, want %d and %q", tt.err, w.Code, text, tt.status, tt.says)
		}
	}
}

func TestFindAStepUp(t *testing.T) {
	h := pages(&service{}, nil)
	if w := ask(h, "GET", "/step-ups?id=+"+someID+"+"); w.Code != 303 || w.Header().Get("Location") != "/step-ups/"+someID {
		t.Errorf("%d to %q", w.Code, w.Header().Get("Location"))
	}
	for _, id := range []string{"", "S1234567D", "//elsewhere.example", someID + "x", "su_00abcdefghijklmnopqrst"} {
		w := ask(h, "GET", "/step-ups?id="+url.QueryEscape(id))
		if w.Code != 404 || id != "" && strings.Contains(w.Body.String(), id) || w.Header().Get("Location") != "" {
			t.Errorf("%q: %d %s", id, w.Code, plain(w.Body.String()))
		}
	}
}

// The button, pressed with a script and without, by those who may.
func TestRedeliver(t *testing.T) {
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	for _, tt := range []struct {
		name   string
		id     string
		header http.Header
		err    error
		status int
		says   string // in the answer, or where it leads
		sent   bool
	}{
		{"without a script", someID, own, nil, 303, "/step-ups/" + someID, true},
		{"with one", someID, http.Header{"Sec-Fetch-Site": {"same-origin"}, "Accept": {"application/json"}}, nil, 200, `{"done":"The webhooks of ` + someID + ` are due again."}`, true},
		{"by no browser", someID, nil, nil, 303, "/step-ups/" + someID, true},
		{"from another site", someID, http.Header{"Sec-Fetch-Site": {"cross-site"}}, nil, 403, "", false},
		{"from a neighbour", someID, http.Header{"Sec-Fetch-Site": {"same-site"}}, nil, 403, "", false},
		{"from another origin, by an old browser", someID, http.Header{"Origin": {"https://elsewhere.example"}}, nil, 403, "", false},
		{"no id", "", own, nil, 400, "lacks the id", false},
		{"another's id", "x" + someID, own, nil, 400, "lacks the id", false},
		{"gone", someID, own, &worker.Error{Code: worker.CodeResultGone}, 409, "There is nothing left to send", true},
		{"gone, with a script", someID, http.Header{"Accept": {"application/json"}}, &worker.Error{Code: worker.CodeResultGone}, 409, `{"error":"There is nothing left to send.`, true},
		{"being sent", someID, own, &worker.Error{Code: worker.CodeInProgress, Detail: "The webhooks are being sent at this moment."}, 409, "Not now", true},
		{"no such step-up", someID, own, &worker.Error{Code: worker.CodeNotFound}, 404, "There is no such step-up", true},
		{"no Redis", someID, own, &worker.Error{Code: worker.CodeStorageUnavailable}, 503, "Redis does not answer, or takes no writes", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &service{err: tt.err}
			r := httptest.NewRequest("POST", "/redeliver", strings.NewReader(url.Values{"id": {tt.id}}.Encode()))
			r.Header = tt.header.Clone()
			if r.Header == nil {
				r.Header = http.Header{}
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			pages(s, nil).ServeHTTP(w, r)
			if w.Code != tt.status || !strings.Contains(w.Body.String()+w.Header().Get("Location"), tt.says) || (len(s.sent) == 1) != tt.sent {
				t.Errorf("%d %s %s, sent %v; want %d, %q", w.Code, w.Header().Get("Location"), plain(w.Body.String()), s.sent, tt.status, tt.says)
			}
		})
	}
	if w := ask(pages(&service{}, nil), "GET", "/redeliver"); w.Code != 405 {
		t.Errorf("GET /redeliver: %d", w.Code)
	}
}

// What a page is made of is kept by browsers until it changes.
func TestAssets(t *testing.T) {
	h := pages(&service{}, nil)
	for path, kind := range map[string]string{"/pages/operators.css": "text/css; charset=utf-8", "/pages/overview.js": "text/javascript; charset=utf-8", "/pages/icon.svg": "image/svg+xml; charset=utf-8"} {
		w := ask(h, "GET", path)
		if w.Code != 200 || w.Header().Get("Content-Type") != kind || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", w.Header().Get("ETag"))
		again := httptest.NewRecorder()
		if h.ServeHTTP(again, r); again.Code != 304 {
			t.Errorf("%s again: %d", path, again.Code)
		}
	}
}

// A service without a part has no link that leads nowhere.
func TestLinksLeadSomewhere(t *testing.T) {
	h := pages(&service{overview: quiet()}, nil)
	for _, m := range regexp.MustCompile(`href="(/[^"#]*)"`).FindAllStringSubmatch(ask(h, "GET", "/").Body.String(), -1) {
		if w := ask(h, "GET", m[1]); w.Code != 200 {
			t.Errorf("%s: %d", m[1], w.Code)
		}
	}
	bare := admin.Handler(admin.Options{Service: &service{overview: quiet()}})
	for _, path := range []string{"/metrics", "/runbook", "/asynqmon/"} {
		if strings.Contains(ask(bare, "GET", "/").Body.String(), path) || ask(bare, "GET", path).Code != 404 {
			t.Errorf("%s is linked, or there", path)
		}
	}
}
