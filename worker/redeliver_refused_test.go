package worker

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"stepup/webhook"
)

// slowly is a way to receivers that takes its time.
type slowly struct {
	http.RoundTripper
	by time.Duration
}

func (s slowly) RoundTrip(q *http.Request) (*http.Response, error) {
	time.Sleep(s.by)
	return s.RoundTripper.RoundTrip(q)
}

// What no webhook wanted is not told as gone, and the audit log names the provider of whatever is refused.
func TestRefusedRedeliver(t *testing.T) {
	const gone = "What was to be delivered is gone: it was purged or its time is over."
	const unwanted = "No webhook of yours wanted an event of this step-up; there is nothing to send."
	for _, tt := range []struct {
		name, wants  string
		after        time.Duration // the create
		caller, code string
		detail       string
		provider     string // of the audit line
	}{
		{"pending", "step_up.*", time.Second, "bank", CodeInProgress, "The step-up is not final yet.", "singpass"},
		{"being sent", "step_up.*", 7 * time.Second, "bank", CodeInProgress, "The webhooks are being sent at this moment.", "singpass"},
		{"gone", "step_up.approved", 3 * time.Minute, "bank", CodeResultGone, gone, "singpass"},
		{"unwanted", "step_up.denied", 20 * time.Second, "bank", CodeResultGone, unwanted, "singpass"},
		{"unwanted and old", "step_up.denied", 3 * time.Minute, "bank", CodeResultGone, unwanted, "singpass"},
		{"another caller's", "step_up.*", 20 * time.Second, "other", CodeNotFound, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := auditPath(t)
			auditBubble(t, path, func(_ *Options, s *Settings) { s.ResultTTL = 2 * time.Minute }, func(t *testing.T, r *rig, _ *logBook) {
				hooks := r.newStreet(Webhook{Name: "up", Events: []string{tt.wants}})
				r.set.Sender = &webhook.Sender{Client: &http.Client{Transport: slowly{hooks, 8 * time.Second}}, Timeout: 10 * time.Second}
				r.Reload(r.set)
				r.provider.provide(nil, someone())
				id := r.asked("k", "S1234567D").ID
				time.Sleep(tt.after)
				ctx, hangUp := context.WithTimeout(t.Context(), changeWithin-changeAgain/2) // between two looks
				defer hangUp()
				_, err := r.Redeliver(ctx, tt.caller, id)
				if e := refusedAs(t, tt.name, err, tt.code); e.Detail != tt.detail {
					t.Errorf("told %q, want %q", e.Detail, tt.detail)
				}
				synctest.Wait() // the line is in the file
				lines := readAudit(t, path)
				i := slices.IndexFunc(lines, func(d decision) bool { return d.What == whatRedeliver })
				if i < 0 || lines[i].Outcome != tt.code || lines[i].StepUp != id || lines[i].Provider != tt.provider {
					t.Errorf("line %d of %+v, want provider %q", i, lines, tt.provider)
				}
			})
		})
	}
}
