package worker

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9/maintnotifications"

	"stepup/ciba"
)

func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// fast makes polls come quickly enough for a test on a real Redis.
func fast(_ *Options, s *Settings) {
	p := s.Providers["singpass"]
	p.Interval = 30 * time.Millisecond
	s.Providers["singpass"] = p
}

func TestApprovedStepUpReachesTheBank(t *testing.T) {
	t.Parallel()
	r := onRedis(t, fast)
	r.provider.answers = []any{&ciba.Pending{}, &ciba.Pending{}, someone()}
	v := r.asked("k1", "S1234567D")
	if v.Status != Pending || v.ExpiresAt == nil || len(v.Deliveries) != 1 {
		t.Fatalf("created as %+v", v)
	}
	got := r.settledAs(v.ID, Approved, 1)
	if got.Identity == nil || got.Identity.NRIC == nil || *got.Identity.NRIC != "S1234567D" {
		t.Fatalf("identity %+v", got.Identity)
	}
	hook := r.receiver.all()[0]
	if hook.Type != "step_up.approved" || hook.Data.ID != v.ID || hook.Data.Identity == nil || *hook.Data.Reference != "ref-k1" {
		t.Fatalf("webhook %s", hook.body)
	}
	if n := len(r.provider.times()); n != 3 {
		t.Fatalf("%d polls, want 3", n)
	}
}
