package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"

	"stepup/worker/redistest"
)

// endpoint is a bank's, which takes webhooks or does not. Its refusals ask for an hour's patience, so nothing comes again by itself.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	takes bool
	ids   []string
}

func startEndpoint(t *testing.T) *endpoint {
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.ids = append(e.ids, r.Header.Get("webhook-id"))
		if !e.takes {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) take() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.takes = true
}

func (e *endpoint) got() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.ids...)
}

// pictured looks at a page as it is on a phone by night, and on a desk by day.
func (b *browser) pictured(name string) {
	b.t.Helper()
	b.look(360, 800, "dark")
	b.picture(name + "-narrow-dark")
	b.look(1280, 800, "light")
	b.picture(name)
}

// An operator watches step-ups come, finds one in the task dashboard, sees a webhook fail, sends it again with the button, and is
// told when Redis goes away. Nothing on the way names a person.
func TestOperatorsInTheBrowser(t *testing.T) {
	t.Parallel()
	redis, err := redistest.RunNode(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Kill)
	hook := startEndpoint(t)
	w := begin(t, func(yaml string) string {
		lines := strings.Split(yaml, "\n")
		for i, line := range lines {
			switch {
			case strings.Contains(line, "name: ledger"):
				lines[i] = `      - {name: ledger, url: "` + hook.URL + `", secrets_file: ledger.whsec}`
			case strings.HasPrefix(line, "redis:"):
				lines[i] = `redis: {url: "redis://` + redis.Addr + `/0", shards: 2}`
			}
		}
		return strings.Join(lines, "\n")
	})
	b := browse(t, w.admin+"/", 1280, 800)
	b.sees("#live", "Live")
	b.sees("#in-flight", "Nothing is in flight")
	b.sees("#failing", "No webhook fails")
	b.sees("#processes", "alive")
	b.pictured("empty")

	const canary = "canary-reference"
	var ids []string
	for n := range 2 {
		h := w.bank.send(t, http.MethodPost, "/v1/step-ups", fmt.Sprintf(`{"provider":"singpass","login_hint":%q,"reference":%q,"metadata":{"k":%q}}`, person(n), canary, canary),
			"Idempotency-Key", fmt.Sprint(canary, n), "Content-Type", "application/json")
		if h.status != http.StatusCreated {
			t.Fatalf("create: %d %s", h.status, h.body)
		}
		ids = append(ids, h.text("id"))
	}
	b.sees("#in-flight", "singpass bank 2")
	b.sees("#providers", "pending")
	b.dashboard(w.admin, ids[0])
	for _, place := range []string{"/", "/step-ups/" + ids[0], "/asynqmon/api/queues", "/asynqmon/api/servers", "/asynqmon/api/queues/" + queueOf(ids[0]) + "/active_tasks"} {
		told := (bank{url: w.admin}).send(t, http.MethodGet, place, "")
		if told.status != http.StatusOK {
			t.Errorf("%s answers %d", place, told.status)
		}
		for _, word := range []string{canary, person(0), person(1), w.op.Prompts()[0].AuthReqID} {
			if strings.Contains(string(told.body), word) {
				t.Errorf("%s tells %s", place, word)
			}
		}
	}

	b.do(chromedp.Navigate(w.admin + "/"))
	if err := w.op.Refuse(w.op.Prompts()[0].AuthReqID); err != nil {
		t.Fatal(err)
	}
	b.sees("#failing", "bank / ledger denied")
	b.sees("#endpoints", "503")
	b.sees("#rates", "denied 1")
	b.pictured("failing")
	b.keepsUp()

	hook.take()
	sent := hook.got()
	b.click("#failing button")
	b.sees("#said", "are due again")
	eventually(t, "it came again", func() bool { return len(hook.got()) > len(sent) })
	if got := hook.got(); got[len(got)-1] != sent[0] {
		t.Errorf("webhook-id %s, then %s", sent[0], got[len(got)-1])
	}
	b.sees("#failing", "No webhook fails")
	b.sees("#rates figure:nth-of-type(3)", "1 in the hour")

	denied := ids[0]
	if strings.Contains(string((bank{url: w.admin}).send(t, http.MethodGet, "/step-ups/"+denied, "").body), "pending") {
		denied = ids[1]
	}
	b.do(chromedp.SendKeys(chromedp.CSS("[name=id]"), denied+"\r"))
	b.sees("main", "The person refused.")
	b.sees("main", "503")
	b.pictured("step-up")

	b.do(chromedp.Navigate(w.admin + "/"))
	redis.Kill()
	b.sees("#notice", "Redis does not answer")
	b.sees("#in-flight", "singpass bank 1")
	b.pictured("redis-away")
}

// keepsUp leaves the pointer on the button, which must not hold up the news, and breaks the stream off without a word.
func (b *browser) keepsUp() {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		at, err := chromedp.Evaluate[[2]float64](`(() => { const b = document.querySelector("#failing button"); b.scrollIntoView({block: "center"}); const r = b.getBoundingClientRect(); return [r.x + 5, r.y + 5]; })()`)(ctx, t)
		if err != nil {
			return err
		}
		_, err = cdp.Call(ctx, t, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mouseMoved", X: at[0], Y: at[1]})
		return err
	}))
	if !eval[bool](b, `document.querySelector("#failing button").matches(":hover")`) {
		b.t.Error("the pointer is not on the button")
	}
	before := b.text("#failing td[data-is=\"Final since\"]")
	eventually(b.t, "the news come while the pointer rests", func() bool { return b.text("#failing td[data-is=\"Final since\"]") != before })
	eval[bool](b, "window.former = source, true")
	// Again and again, for the old stream may be heard in between.
	eventually(b.t, "another stream", func() bool { return eval[bool](b, "source !== former || (heard -= 60_000, false)") })
	b.sees("#live", "Live")
}

// An hour like many: two banks, two providers, one endpoint that takes nothing. What the page says fits what happened.
func TestOverviewOfAnHourInTheBrowser(t *testing.T) {
	t.Parallel()
	node, err := redistest.RunNode(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Kill)
	hook := startEndpoint(t)
	w := beginTown(t, plan{banks: []string{"cards", "core-banking"}, providers: []string{"mobile-id", "singpass"}, limits: wide + "result_ttl: 3s\n", redis: node.Addr})
	w.reconfigure(t, `webhooks: [`, `webhooks: [{name: orders, url: "`+hook.URL+`", secrets_file: `+webhookFile+`}, `) // of cards, which come first
	created := w.hourBefore(t, node.Addr)
	b := browse(t, w.admin+"/", 1280, 800)
	b.sees("#live", "Live")

	var ids []string
	for n := range 12 {
		provider, name := []string{"singpass", "mobile-id"}[min(n%5/3, 1)], []string{"core-banking", "cards"}[n%2]
		h := w.banks[name].send(t, http.MethodPost, "/v1/step-ups", fmt.Sprintf(`{"provider":%q,"login_hint":%q}`, provider, person(n)), "Idempotency-Key", fmt.Sprint(n), "Content-Type", "application/json")
		if h.status != http.StatusCreated {
			t.Fatalf("create: %d %s", h.status, h.body)
		}
		ids = append(ids, h.text("id"))
	}
	singpass := w.providers["singpass"]
	singpass.decide(t, person(1), singpass.Approve)
	singpass.decide(t, person(0), singpass.Approve)
	b.sees("#failing", ids[1]+" cards / orders approved")
	b.sees("#failing", "given up")
	b.sees("#failing", "delivery_expired")
	singpass.decide(t, person(5), singpass.Refuse)
	b.sees("#failing", ids[5]+" cards / orders denied")
	b.sees("#endpoints", "cards / orders")
	b.sees("#state", "Not delivered 2")
	b.sees("#in-flight", "mobile-id cards 2")
	b.sees("#in-flight", "mobile-id core-banking 2")
	b.sees("#in-flight", "singpass core-banking 3")
	b.sees("#in-flight", "singpass cards 2")
	b.sees("#rates", fmt.Sprintf("%d in the hour", created+12))
	if failing := b.text("#failing"); strings.Contains(failing, "ledger") {
		t.Errorf("an endpoint that takes everything is told as failing: %s", failing)
	}
	b.look(1280, eval[int64](b, "document.documentElement.scrollHeight"), "light")
	b.forReadme("overview")
	b.pictured("hour")
}

// hourBefore has a process that ended meanwhile count the hour until now; it returns how many step-ups were created.
func (w *town) hourBefore(t *testing.T, addr string) (created int) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	now := time.Now().Unix() / 60
	for n := range int64(58) {
		asked := 9 + int(n%7) + int(n%11)/2
		counts := fmt.Sprintf(`{"c":%d,"f":{"approved":%d,"denied":%d,"expired":%d},"d":%d,"x":%d}`, asked, asked-4, n%3, 4-n%3-n%2, asked+asked/2, min(1, n/50)*(n%4))
		if err := rdb.HSet(t.Context(), fmt.Sprintf("stepup:{w}:minute:%d", now-58+n), "before", counts).Err(); err != nil {
			t.Fatal(err)
		}
		created += asked
	}
	return created
}

// dashboard finds a step-up in flight in the task dashboard.
func (b *browser) dashboard(admin, id string) {
	b.t.Helper()
	b.do(chromedp.Navigate(admin + "/asynqmon/"))
	b.sees("body", "Queue Size")
	b.do(chromedp.Navigate(admin + "/asynqmon/queues/" + queueOf(id) + "?status=active"))
	b.sees("body", "Running")
	if page := b.text("body"); !strings.Contains(page, id) {
		b.t.Errorf("the step-up %s is not among the active tasks: %s", id, page)
	}
	b.picture("dashboard")
}

// queueOf is the queue of a step-up's polls, where there are fewer than ten.
func queueOf(id string) string { return "poll-" + id[4:5] }
