package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba"
)

// auditPath is the path of a new audit log.
func auditPath(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.jsonl") }

// openAudit is an audit log in a file.
func openAudit(t testing.TB, path string, log *logBook) *Audit {
	t.Helper()
	a, err := OpenAudit(path, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// auditBubble is a bubble whose worker keeps an audit log in the file.
func auditBubble(t *testing.T, path string, change func(*Options, *Settings), test func(t *testing.T, r *rig, log *logBook)) {
	t.Helper()
	log := &logBook{}
	with := func(o *Options, s *Settings) {
		o.Audit = openAudit(t, path, log)
		if change != nil {
			change(o, s)
		}
	}
	inBubble(t, with, func(t *testing.T, r *rig) {
		t.Cleanup(r.opts.Audit.Close)
		test(t, r, log)
	})
}

// auditRig is a worker on a real Redis that keeps an audit log in the file.
func auditRig(t testing.TB, path string, change func(*Options, *Settings)) *rig {
	t.Helper()
	log := &logBook{}
	r := onRedis(t, func(o *Options, s *Settings) {
		o.Audit = openAudit(t, path, log)
		t.Cleanup(o.Audit.Close) // after the worker's end
		change(o, s)
	})
	r.runs()
	return r
}

// readAudit reads whole lines, and nothing but the members there are.
func readAudit(t testing.TB, path string) (all []decision) {
	t.Helper()
	text := readLarge(t, path)
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Errorf("the file ends with a part of a line")
	}
	for line := range strings.Lines(text) {
		var d decision
		from := json.NewDecoder(strings.NewReader(line))
		from.DisallowUnknownFields()
		if err := from.Decode(&d); err != nil {
			t.Fatalf("line %s: %v", line, err)
		}
		all = append(all, d)
	}
	return all
}

// untilAudited waits for so many lines. Whoever reads while a line is written may see a
// part of it.
func untilAudited(t testing.TB, path string, lines int) {
	t.Helper()
	r := &rig{t: t}
	r.until("every line is written", func() bool { return strings.Count(readLarge(t, path), "\n") >= lines })
}

// readLarge is a file without the hole that it may begin with.
func readLarge(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if hole := bytes.LastIndexByte(text, 0) + 1; hole > 0 {
		text = bytes.TrimPrefix(text[hole:], []byte("\n"))
	}
	return string(text)
}

// short is what was decided and what came of it.
func short(d decision) string {
	return strings.Join(slices.DeleteFunc([]string{d.What, d.Webhook, d.Event, d.Outcome, d.Reason}, func(s string) bool { return s == "" }), " ")
}

func shorts(all []decision) (words []string) {
	for _, d := range all {
		words = append(words, short(d))
	}
	return words
}

func wantAudit(t *testing.T, what string, got []decision, want ...string) {
	t.Helper()
	if words := shorts(got); !slices.Equal(words, want) {
		t.Errorf("%s: the audit log says\n %q, want\n %q", what, words, want)
	}
}

// Every decision is one line: who asked whom, when, why not, what came of it.
func TestEveryDecisionIsWrittenDown(t *testing.T) {
	told := "deliver ledger step_up."
	refusal := func(code string) error { return &ciba.Refusal{Code: code} }
	for _, c := range []struct {
		name    string
		askErr  error
		answers []any // of the provider
		change  func(*Settings)
		wish    string // what the caller wants afterwards
		q       Request
		want    []string
		nobody  bool // the lines name no person and no provider
	}{
		{name: "approved", answers: []any{someone()}, want: []string{"ask", "sent", "final approved", told + "approved delivered"}},
		{name: "denied", answers: []any{refusal("access_denied")}, want: []string{"ask", "sent", "final denied denied_by_user", told + "denied delivered"}},
		{name: "expired", answers: []any{refusal("expired_token")}, want: []string{"ask", "sent", "final expired expired", told + "expired delivered"}},
		{name: "lost", answers: []any{refusal("invalid_grant")}, want: []string{"ask", "sent", "final unknown result_lost", told + "unknown delivered"}},
		{name: "another person's token", answers: []any{&ciba.Untrusted{Mismatch: true}},
			want: []string{"ask", "sent", "final failed token_mismatch", told + "failed delivered"}},
		{name: "not wanted any more", answers: []any{&ciba.Pending{}}, wish: "cancel",
			want: []string{"sent", "final cancelled cancelled", told + "cancelled delivered", "cancel accepted", "ask"}},
		{name: "cancelled too late", answers: []any{someone()}, wish: "cancel late",
			want: []string{"ask", "sent", "final approved", told + "approved delivered", "cancel already_final"}},
		{name: "delivered twice", answers: []any{refusal("access_denied")}, wish: "redeliver",
			want: []string{"ask", "sent", "final denied denied_by_user", told + "denied delivered", "redeliver accepted", told + "denied delivered"}},
		{name: "another caller's", answers: []any{refusal("access_denied")}, wish: "cancel as other",
			want: []string{"ask", "sent", "final denied denied_by_user", told + "denied delivered", "cancel not_found"}},
		{name: "repeated", answers: []any{refusal("access_denied")}, wish: "repeat",
			want: []string{"ask", "sent", "final denied denied_by_user", told + "denied delivered"}},
		{name: "key used again", answers: []any{refusal("access_denied")}, wish: "other body",
			want: []string{"ask", "sent", "final denied denied_by_user", told + "denied delivered", "refuse idempotency_key_reused"}},
		{name: "asked while asked", answers: []any{refusal("access_denied")}, wish: "another",
			want: []string{"ask", "sent", "refuse person_busy", "final denied denied_by_user", told + "denied delivered"}},
		{name: "unknown to the provider", askErr: refusal("unknown_user_id"), want: []string{"ask", "refuse unknown_user"}},
		{name: "not taken by the provider", askErr: refusal("invalid_client"), want: []string{"ask", "refuse provider_error"}},
		{name: "provider down", askErr: &ciba.Transient{Err: errCut}, want: []string{"ask", "refuse provider_unavailable"}},
		{name: "perhaps asked", askErr: &ciba.Ambiguous{Err: errCut}, answers: []any{someone()},
			want: []string{"ask", "final unknown initiation_unknown", told + "unknown delivered"}},
		{name: "paused", change: func(s *Settings) {
			p := s.Providers["singpass"]
			p.Paused = true
			s.Providers = map[string]ProviderSettings{"singpass": p}
		}, want: []string{"refuse paused"}},
		{name: "too fast", change: func(s *Settings) { s.CallerRate, s.CallerBurst = 0.001, 1 }, wish: "first",
			want: []string{"ask", "sent", "refuse rate_limited", "final approved", told + "approved delivered"}, answers: []any{someone()}},
		{name: "asked too often", change: func(s *Settings) { s.PersonPerHour = 0 }, want: []string{"refuse person_limited"}},
		{name: "no hint", q: Request{Question: Question{Scope: "openid"}}, want: []string{"refuse invalid_request"}},
		{name: "a provider that nobody knows", q: Request{Provider: "S1234567D", Question: Question{LoginHint: "S1234567D"}}, want: []string{"refuse invalid_request"}, nobody: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := auditPath(t)
			auditBubble(t, path, nil, func(t *testing.T, r *rig, _ *logBook) {
				if c.change != nil {
					c.change(&r.set)
					r.Reload(r.set)
				}
				r.provider.provide(c.askErr, c.answers...)
				q := c.q
				q.Caller, q.IdempotencyKey, q.Reference, q.Metadata = "bank", "k", "a reference", map[string]string{"k": "v"}
				if q.Question == (Question{}) {
					q.Question = Question{Scope: "openid", LoginHint: "S1234567D"}
				}
				if q.Provider == "" {
					q.Provider = "singpass"
				}
				began := time.Now()
				v, _ := r.Ask(t.Context(), q)
				wish(t, r, c.wish, q, v)
				time.Sleep(10 * time.Second)

				got := readAudit(t, path)
				if c.wish == "cancel" { // it ends while its caller is being answered
					slices.SortStableFunc(got, func(a, b decision) int { return cmp.Compare(b.What, a.What) })
				}
				wantAudit(t, "afterwards", got, c.want...)
				for _, d := range got {
					checkAudited(t, d, began, r, &q, c.nobody)
					if v.ID != "" && d.What != whatRefuse && d.StepUp != v.ID {
						t.Errorf("line %+v of step-up %s", d, v.ID)
					}
				}
			})
		})
	}
}

// wish does what the caller of a row wants after the create.
func wish(t *testing.T, r *rig, what string, q Request, v StepUp) {
	t.Helper()
	var err error
	switch what {
	case "cancel":
		_, err = r.Cancel(t.Context(), "bank", v.ID)
	case "cancel late":
		time.Sleep(7 * time.Second)
		_, err := r.Cancel(t.Context(), "bank", v.ID)
		refusedAs(t, what, err, CodeAlreadyFinal)
	case "cancel as other":
		time.Sleep(7 * time.Second)
		_, err := r.Cancel(t.Context(), "other", v.ID)
		refusedAs(t, what, err, CodeNotFound)
	case "redeliver":
		time.Sleep(7 * time.Second)
		_, err = r.Redeliver(t.Context(), "bank", v.ID)
	case "repeat":
		for range 3 {
			_, err = r.Ask(t.Context(), q)
			time.Sleep(3 * time.Second)
		}
	case "other body":
		time.Sleep(7 * time.Second)
		q.Reference = "another"
		_, err := r.Ask(t.Context(), q)
		refusedAs(t, what, err, CodeKeyReused)
	case "another", "first":
		q.IdempotencyKey = "k2"
		if _, err := r.Ask(t.Context(), q); err == nil {
			t.Errorf("%s create was taken", what)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// checkAudited checks what every line must have.
func checkAudited(t *testing.T, d decision, began time.Time, r *rig, q *Request, nobody bool) {
	t.Helper()
	person, provider := r.set.person("singpass", &q.Question), "singpass"
	if nobody {
		person, provider = "", ""
	}
	switch d.What {
	case whatAsk, whatSent, whatRefuse, whatFinal:
		if d.Person != person {
			t.Errorf("line %+v names %q, want %q", d, d.Person, person)
		}
	default:
		if d.Person != "" {
			t.Errorf("line %+v names somebody", d)
		}
	}
	if caller := d.Caller; caller != "bank" && d.Outcome != CodeNotFound || caller == "" {
		t.Errorf("line %+v of caller %q", d, caller)
	}
	if d.Provider != provider && d.Outcome != CodeNotFound {
		t.Errorf("line %+v of provider %q", d, d.Provider)
	}
	if d.Time.Before(began.Truncate(time.Millisecond)) || d.Time.After(time.Now()) {
		t.Errorf("line %+v is not of its time", d)
	}
}

// A receiver that takes nothing, and one that wants no more.
func TestDeliveriesAreWrittenDownAtTheirEnd(t *testing.T) {
	path := auditPath(t)
	auditBubble(t, path, func(_ *Options, s *Settings) { s.ResultTTL = time.Minute }, func(t *testing.T, r *rig, _ *logBook) {
		s := r.newStreet(Webhook{Name: "down", Events: []string{"step_up.*"}}, Webhook{Name: "gone", Events: []string{"step_up.*"}})
		s["gone"].down(http.StatusGone, 1)
		s["down"].down(http.StatusInternalServerError, 6)
		r.provider.provide(nil, someone())
		r.asked("k", "S1234567D")
		time.Sleep(2 * time.Minute)
		wantAudit(t, "afterwards", readAudit(t, path), "ask", "sent", "final approved", "deliver gone step_up.approved stopped",
			"deliver down step_up.approved undelivered", "deliver down step_up.delivery_expired delivered")
	})
}

// An intent whose process died: whoever ends it writes its last line.
func TestTheSweeperWritesWhatItEnds(t *testing.T) {
	path := auditPath(t)
	auditBubble(t, path, nil, func(t *testing.T, r *rig, _ *logBook) {
		set := r.settings.Load()
		c := r.newCreate(set, &Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D"}})
		sealed := set.Sealer.sealJSON(&c.rec, fieldPrompt, prompt{Question: c.Question})
		if _, err := r.store.begin(t.Context(), &c.rec, c.idem, c.fingerprint, sealed, nil); err != nil {
			t.Fatal(err)
		}
		twin := r.another() // it shares the log
		time.Sleep(time.Minute)
		twin.stop()
		got := readAudit(t, path)
		wantAudit(t, "afterwards", got, "final unknown initiation_unknown", "deliver ledger step_up.unknown delivered")
		if d := got[0]; d.Person != c.who || d.StepUp != c.rec.ID {
			t.Errorf("line %+v, want the person %s and the step-up %s", d, c.who, c.rec.ID)
		}
	})
}

// A create under the same key at once, a hundred times: one intent.
func TestTwinsAreWrittenDownOnce(t *testing.T) {
	t.Parallel()
	path := auditPath(t)
	r := auditRig(t, path, fast)
	r.provider.provide(nil, someone())
	var twins sync.WaitGroup
	for range 100 {
		twins.Go(func() { _, _ = r.ask("k", "S1234567D") })
	}
	twins.Wait()
	v := r.asked("k", "S1234567D")
	r.settledAs(v.ID, Approved, 1)
	untilAudited(t, path, 4)
	wantAudit(t, "afterwards", readAudit(t, path), "ask", "sent", "final approved", "deliver ledger step_up.approved delivered")
}

// Nothing personal, no token and nothing that a caller wrote freely is in the file.
func TestAuditLogNamesNobody(t *testing.T) {
	t.Parallel()
	path := auditPath(t)
	r := auditRig(t, path, fast)
	r.provider.provide(nil, &ciba.Unverified{IDToken: "canary-token", Err: errors.New("key set down")}, someone())
	q := Request{Caller: "bank", IdempotencyKey: "canary-key", Provider: "singpass", Reference: "canary-reference",
		Question: Question{LoginHint: "S1234567D", BindingMessage: "canary-binding"}, Metadata: map[string]string{"canary-name": "canary-value"}}
	v, err := r.Ask(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	r.settledAs(v.ID, Approved, 1)
	q.Provider, q.IdempotencyKey = "canary-provider", "canary-key-2"
	_, err = r.Ask(t.Context(), q)
	refusedAs(t, "unknown provider", err, CodeInvalidRequest)
	for _, id := range []string{"canary-id", "S1234567D", "su_00canary"} {
		_, err = r.Cancel(t.Context(), "bank", id)
		refusedAs(t, "no id", err, CodeNotFound)
		_, err = r.Redeliver(t.Context(), "bank", id)
		refusedAs(t, "no id", err, CodeNotFound)
	}
	untilAudited(t, path, 11)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, canary := range []string{"S1234567D", "canary", "auth-req-secret"} {
		if i := bytes.Index(text, []byte(canary)); i >= 0 {
			t.Errorf("%s is in the audit log: %.300s", canary, text[max(0, i-100):])
		}
	}
}

// Step-ups of many callers at once: each has its lines, in its own order.
func TestAuditLogUnderLoad(t *testing.T) {
	t.Parallel()
	path := auditPath(t)
	r := auditRig(t, path, func(o *Options, s *Settings) { fast(o, s); fiveBanks(s) })
	r.provider.provide(nil, denial)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			_, err := r.Ask(context.Background(), Request{Caller: fmt.Sprint("bank", i%5), IdempotencyKey: fmt.Sprint(i), Provider: "singpass",
				Question: Question{LoginHint: fmt.Sprintf("S%07dD", i)}})
			if err != nil {
				t.Errorf("Ask: %v", err)
			}
		})
	}
	all.Wait()
	untilAudited(t, path, 400)
	of := map[string][]string{}
	for _, d := range readAudit(t, path) {
		of[d.StepUp] = append(of[d.StepUp], d.What)
	}
	for id, words := range of {
		if !slices.Equal(words, []string{"ask", "sent", "final", "deliver"}) {
			t.Errorf("step-up %s: %q", id, words)
		}
	}
	if len(of) != 100 {
		t.Errorf("lines of %d step-ups, want 100", len(of))
	}
}
