package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba/cibatest"
)

var fiveBanks = []string{"bank0", "bank1", "bank2", "bank3", "bank4"}

// bombed is what many creates for one person came to, all sent at once and shared out among all banks.
type bombed struct {
	ids     []string
	by      []bank                     // who got them
	refused map[string][]time.Duration // Retry-After by problem code
}

func (w *town) bomb(t *testing.T, n int, provider, hint string) (b bombed) {
	t.Helper()
	names := slices.Sorted(maps.Keys(w.banks))
	answers := make([]heard, n)
	as := func(i int) bank { return w.banks[names[i%len(names)]] }
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			<-start
			answers[i] = as(i).create(t, fmt.Sprintf("%s %s %d %d", provider, hint, i, time.Now().UnixNano()), provider, hint)
		})
	}
	close(start)
	all.Wait()
	b.refused = map[string][]time.Duration{}
	for i, h := range answers {
		switch h.status {
		case http.StatusCreated:
			b.ids, b.by = append(b.ids, h.text("id")), append(b.by, as(i))
		case http.StatusTooManyRequests:
			b.refused[h.code()] = append(b.refused[h.code()], h.retryAfter())
		default:
			t.Errorf("create: %d %s", h.status, h.body)
		}
	}
	return b
}

// wantTaken wants so many step-ups, and all other creates refused with the code and a Retry-After of at most so long.
func (b bombed) wantTaken(t *testing.T, what string, taken, others int, code string, most time.Duration) {
	t.Helper()
	waits := b.refused[code]
	if len(b.ids) != taken || len(waits) != others {
		t.Errorf("%s: %d taken and %d refused as %s, want %d and %d; all: %v", what, len(b.ids), len(waits), code, taken, others, b.refused)
	}
	if len(waits) > 0 && (slices.Min(waits) < time.Second || slices.Max(waits) > most) {
		t.Errorf("%s: Retry-After from %v to %v, want 1s to %v", what, slices.Min(waits), slices.Max(waits), most)
	}
}

// Whoever wants to flood one person with prompts gets one through, however many callers help: refused is what would be
// sent beyond the limits, before the provider hears of it.
func TestOnePersonManyCallers(t *testing.T) {
	t.Parallel()
	const nric = "S1234567D"
	w := beginTown(t, plan{banks: fiveBanks, providers: []string{"singpass", "second"},
		limits: "  per_person: {in_flight: 1, per_hour: 3}\n  per_caller: {rate: 5000, burst: 5000}\n"})
	p := w.providers["singpass"]
	_, uuid, _ := cibatest.PersonOf(nric)
	// A prompt stands for 5 minutes. While it is being sent, nobody knows yet, and the longest that could be counts.
	const stands = time.Hour + 20*time.Second + time.Second

	first := w.bomb(t, 200, "singpass", nric)
	first.wantTaken(t, "200 at once", 1, 199, "person_busy", stands)
	if n, m := p.pushes(nric), p.asked.Load(); n != 1 || m != 1 {
		t.Fatalf("%d pushes and %d requests at the provider, want one", n, m)
	}
	w.bomb(t, 20, "singpass", nric).wantTaken(t, "while it stands", 0, 20, "person_busy", 301*time.Second)
	w.bomb(t, 20, "singpass", uuid).wantTaken(t, "by UUID", 1, 19, "person_busy", stands)
	w.bomb(t, 20, "second", nric).wantTaken(t, "at another provider", 1, 19, "person_busy", stands)
	if a, b := p.pushes(uuid), w.providers["second"].pushes(nric); a != 1 || b != 1 {
		t.Errorf("%d pushes by UUID and %d at the other provider, want one each", a, b)
	}

	for i := 1; ; i++ {
		p.decide(t, nric, p.Refuse)
		first.by[0].endsAs(t, first.ids[0], "denied")
		if i == 3 {
			break
		}
		// The phone is free a moment after the answer is told.
		eventually(t, "the next one is taken", func() bool { first = w.bomb(t, 20, "singpass", nric); return len(first.ids) > 0 })
		if len(first.ids) != 1 {
			t.Fatalf("after %d denials %d are taken, want the next one: %v", i, len(first.ids), first.refused)
		}
	}
	w.bomb(t, 50, "singpass", nric).wantTaken(t, "in this hour", 0, 50, "person_limited", time.Hour)
	if n := p.pushes(nric); n != 3 {
		t.Errorf("%d pushes in an hour, want 3", n)
	}

	w.reconfigure(t, "per_person: {in_flight: 1, per_hour: 3}", "per_person: {in_flight: 4, per_hour: 1000}")
	const other = "T1234567J"
	w.bomb(t, 60, "singpass", other).wantTaken(t, "with four at once allowed", 4, 56, "person_busy", stands)
	if n := p.pushes(other); n != 4 {
		t.Errorf("%d pushes, want 4", n)
	}
	w.drain(t)
}

// reconfigure edits the configuration and has it read.
func (w *town) reconfigure(t *testing.T, old, with string) {
	t.Helper()
	path := filepath.Join(w.dir, configFile)
	yaml, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(yaml, []byte(old)) {
		t.Fatalf("the configuration has no %q", old)
	}
	write(t, w.dir, configFile, strings.Replace(string(yaml), old, with, 1))
	before := strings.Count(w.log.String(), `"msg":"reloaded"`)
	w.hup <- os.Interrupt
	eventually(t, "the reload is done", func() bool { return strings.Count(w.log.String(), `"msg":"reloaded"`) > before })
}

// attempt is one thing a stranger tries with a step-up's id.
type attempt struct {
	name, method, path string // {id} is replaced
	headers            []string
}

// Another caller's step-up answers like one that never was, on every route and whatever is sent along, and nothing
// happens to it.
func TestForeignStepUpIsUnknown(t *testing.T) {
	t.Parallel()
	const asked, decided = "S1234567D", "T1234567J"
	w := beginTown(t, plan{banks: []string{"owner", "stranger"}, providers: []string{"singpass"}, limits: wide})
	p, owner, stranger := w.providers["singpass"], w.banks["owner"], w.banks["stranger"]
	pending, final := owner.created(t, "a key", "singpass", asked), owner.created(t, "another key", "singpass", decided)
	p.decide(t, decided, p.Approve)
	owner.endsAs(t, final, "approved")
	show := func(id string) heard { return owner.send(t, http.MethodGet, "/v1/step-ups/"+id, "") }
	eventually(t, "the webhook is delivered", func() bool { return bytes.Contains(show(final).body, []byte(`"status":"delivered"`)) })
	before := map[string]heard{pending: show(pending), final: show(final)}

	attempts := []attempt{
		{"show", http.MethodGet, "/v1/step-ups/{id}", nil},
		{"wait", http.MethodGet, "/v1/step-ups/{id}?wait=30s", nil},
		{"anything new", http.MethodGet, "/v1/step-ups/{id}", []string{"If-None-Match", "*"}},
		{"wait for anything new", http.MethodGet, "/v1/step-ups/{id}?wait=30s", []string{"If-None-Match", `"x", *`}},
		{"cancel", http.MethodPost, "/v1/step-ups/{id}/cancel", nil},
		{"cancel with a body", http.MethodPost, "/v1/step-ups/{id}/cancel", []string{"Content-Type", "application/json"}},
		{"redeliver", http.MethodPost, "/v1/step-ups/{id}/redeliver", nil},
		{"attempts", http.MethodGet, "/v1/step-ups/{id}/attempts", nil},
		{"remove", http.MethodDelete, "/v1/step-ups/{id}", nil},
		{"look at the head", http.MethodHead, "/v1/step-ups/{id}", nil},
	}
	for _, h := range before {
		if tag := h.header.Get("ETag"); tag != "" {
			attempts = append(attempts, attempt{"anything new since the owner looked", http.MethodGet, "/v1/step-ups/{id}", []string{"If-None-Match", tag}})
		}
	}
	ids := map[string]string{
		"pending": pending, "final": final, "of another shard": "su_3f" + pending[5:], "in lower case": strings.ToLower(pending),
		"too short": pending[:len(pending)-1], "too long": pending + "A", "no id": "su_", "of another kind": "evt_" + pending[3:],
		"of full-width letters": "su_00" + strings.Repeat("Ａ", 20), "with a blank": "su_00%20" + pending[6:], "with an end of line": pending + "%0a",
	}
	unknown := pending[:5] + strings.Repeat("A", 20)
	for _, a := range attempts {
		try := func(b bank, id string) heard {
			body := ""
			if len(a.headers) > 0 && a.headers[0] == "Content-Type" {
				body = "{}"
			}
			began := time.Now()
			h := b.send(t, a.method, strings.Replace(a.path, "{id}", id, 1), body, a.headers...)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: the answer took %v", a.name, took)
			}
			if h.header.Get("X-Request-Id") == "" {
				t.Errorf("%s: no request id", a.name)
			}
			h.header.Del("X-Request-Id")
			h.header.Del("Date")
			return h
		}
		for who, b := range map[string]bank{"a stranger": stranger, "nobody": {url: stranger.url}} {
			want := try(b, unknown)
			if want.status == http.StatusOK || want.status == http.StatusNotModified || who == "a stranger" && want.status != http.StatusNotFound && want.status != http.StatusMethodNotAllowed {
				t.Errorf("%s, %s: unknown id: %d %s", who, a.name, want.status, want.body)
			}
			for what, id := range ids {
				got := try(b, id)
				if got.status != want.status || !bytes.Equal(got.body, want.body) || !maps.EqualFunc(got.header, want.header, slices.Equal) {
					t.Errorf("%s, %s: id %s: %d %v %s\nunknown: %d %v %s", who, a.name, what, got.status, got.header, got.body, want.status, want.header, want.body)
				}
			}
		}
	}
	for id, was := range before {
		if is := show(id); !bytes.Equal(is.body, was.body) || is.header.Get("ETag") != was.header.Get("ETag") {
			t.Errorf("it was\n%sand is after a stranger tried\n%s", was.body, is.body)
		}
	}
	strangersLists(t, owner, stranger)
	strangersKeys(t, p, owner, stranger, pending)
	w.drain(t)
}

// strangersLists: a list holds the caller's own step-ups alone, whatever it is narrowed by.
func strangersLists(t *testing.T, owner, stranger bank) {
	t.Helper()
	all := owner.send(t, http.MethodGet, "/v1/step-ups?limit=1", "")
	cursor := all.text("next_cursor")
	if all.status != http.StatusOK || cursor == "" || !bytes.Contains(all.body, []byte(`"su_`)) {
		t.Fatalf("the owner's list: %d %s", all.status, all.body)
	}
	for _, query := range []string{"", "?status=approved", "?status=pending", "?limit=100", "?cursor=" + url.QueryEscape(cursor)} {
		h := stranger.send(t, http.MethodGet, "/v1/step-ups"+query, "")
		if h.status != http.StatusOK || strings.TrimSpace(string(h.body)) != `{"step_ups":[]}` {
			t.Errorf("a stranger's list%s: %d %s", query, h.status, h.body)
		}
	}
}

// strangersKeys: an Idempotency-Key is the caller's own. With the owner's key and body a stranger asks for something new.
func strangersKeys(t *testing.T, p *phones, owner, stranger bank, pending string) {
	t.Helper()
	const asked = "S1234567D"
	if h := owner.create(t, "a key", "singpass", asked); h.status != http.StatusCreated || h.text("id") != pending {
		t.Errorf("the owner's repeat: %d %s", h.status, h.body)
	}
	h := stranger.create(t, "a key", "singpass", asked)
	if h.code() != "person_busy" || bytes.Contains(h.body, []byte("su_")) {
		t.Errorf("a stranger with the owner's key: %d %s", h.status, h.body)
	}
	p.decide(t, asked, p.Refuse)
	owner.endsAs(t, pending, "denied")
	var taken heard
	eventually(t, "the phone is free again", func() bool {
		taken = stranger.create(t, "a key", "singpass", asked)
		return taken.status == http.StatusCreated
	})
	if taken.text("id") == pending {
		t.Error("a stranger with the owner's key got the owner's step-up")
	}
	if n := p.pushes(asked); n != 2 {
		t.Errorf("%d pushes, want each caller's", n)
	}
}
