package worker

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/ciba"
	"stepup/webhook"
)

// heard is what somebody heard who follows.
type heard struct {
	mu     sync.Mutex
	news   []News
	faults int
}

// following follows until the test ends.
func (r *rig) following(t *testing.T, caller string) *heard {
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for news, err := range r.Follow(ctx, caller) {
			h.mu.Lock()
			if h.news = append(h.news, news...); err != nil {
				h.faults++
			}
			h.mu.Unlock()
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	time.Sleep(2 * time.Second) // in bubbles: it looks once a second
	return h
}

// faulty is how often it was heard that Redis does not answer.
func (h *heard) faulty() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults
}

// of is what was heard of a step-up, a word each.
func (h *heard) of(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, n := range h.news {
		if n.ID != id {
			continue
		}
		word := n.What
		if n.Webhook != "" {
			word += fmt.Sprintf("(%s %d %d)", n.Webhook, n.Status, n.Attempts)
		}
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

// Whoever follows hears of everything that becomes of a step-up, once, and of nothing that was before.
func TestFollow(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, &ciba.Pending{})
		before := r.asked("before", "S1234567D")
		old := r.asked("old", "S7654321F")
		if _, err := r.Cancel(t.Context(), "bank", old.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		all, banks, others := r.following(t, ""), r.following(t, "bank"), r.following(t, "other")

		r.receiver.mu.Lock()
		r.receiver.status = []int{http.StatusServiceUnavailable, http.StatusOK, http.StatusGone}
		r.receiver.mu.Unlock()
		r.provider.provide(nil, someone())
		time.Sleep(12 * time.Second)
		r.provider.provide(nil, &ciba.Refusal{Code: "access_denied"})
		gone := r.asked("gone", "S1234567D")
		time.Sleep(10 * time.Second)
		r.provider.provide(nil, &ciba.Pending{})
		quick := r.asked("quick", "S1234567D")
		if _, err := r.Cancel(t.Context(), "bank", quick.ID); err != nil { // between two looks
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		r.receiver.mu.Lock()
		r.receiver.status = nil
		r.receiver.mu.Unlock()
		if _, err := r.Redeliver(t.Context(), "bank", old.ID); err != nil {
			t.Fatal(err)
		}
		other, err := r.Ask(t.Context(), Request{Caller: "other", IdempotencyKey: "k", Provider: "singpass", Question: Question{Scope: "openid", LoginHint: "S0000001I"}})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)

		for _, c := range []struct{ id, bank, other string }{
			{before.ID, "approved failing(ledger 503 1) delivered(ledger 200 2)", ""},
			{gone.ID, "created denied stopped(ledger 410 1)", ""},
			{quick.ID, "created cancelled delivered(ledger 200 1)", ""},
			{old.ID, "delivered(ledger 200 2)", ""},
			{other.ID, "", "created"},
		} {
			if got := all.of(c.id); got != c.bank+c.other {
				t.Errorf("everybody's: %q, want %q", got, c.bank+c.other)
			}
			if got := banks.of(c.id); got != c.bank {
				t.Errorf("the bank's: %q, want %q", got, c.bank)
			}
			if got := others.of(c.id); got != c.other {
				t.Errorf("another caller's: %q, want %q", got, c.other)
			}
		}
		all.mu.Lock()
		defer all.mu.Unlock()
		if !slices.IsSortedFunc(all.news, func(a, b News) int { return a.At.Truncate(10 * time.Second).Compare(b.At.Truncate(10 * time.Second)) }) {
			t.Errorf("not in the order of time: %+v", all.news)
		}
	})
}

// A step-up that the provider was long asked for is told as created when it is.
func TestFollowASlowAsk(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		slow := slowAsk{r.provider, make(chan struct{}), make(chan struct{})}
		set := r.set
		set.Providers = map[string]ProviderSettings{"singpass": {Provider: slow, Interval: 5 * time.Second}}
		r.Reload(set)
		r.provider.provide(nil, &ciba.Pending{})
		h := r.following(t, "bank")
		go func() {
			<-slow.begun
			time.Sleep(2 * lookSlack)
			close(slow.goOn)
		}()
		v := r.asked("slow", "S1234567D")
		time.Sleep(3 * time.Second)
		if got := h.of(v.ID); got != NewsCreated {
			t.Errorf("%q", got)
		}
	})
}

// What happened while Redis did not answer is told when it does again.
func TestFollowThroughAnOutage(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		twin := r.another()
		time.Sleep(6 * time.Second)
		r.provider.provide(nil, &ciba.Pending{})
		seen := r.asked("seen", "S1234567D")
		h := r.following(t, "")
		r.cut.off.Store(true)
		time.Sleep(5 * time.Second)
		r.provider.provide(nil, someone())
		missed := twin.asked("missed", "S7654321F")
		time.Sleep(3 * time.Minute) // it is final, told and over
		if h.faulty() == 0 || h.of(missed.ID) != "" {
			t.Errorf("%d faults told, and %q", h.faulty(), h.of(missed.ID))
		}
		r.cut.off.Store(false)
		time.Sleep(10 * time.Second)
		faults := h.faulty()
		time.Sleep(5 * time.Second)
		if h.faulty() != faults {
			t.Errorf("faults are told when there is none")
		}
		if got := h.of(seen.ID); got != "approved delivered(ledger 200 1)" {
			t.Errorf("what was open before: %q", got)
		}
		twin.stop()
	})
}

// A webhook's turn is told from what the record keeps of it.
func TestTurns(t *testing.T) {
	now := time.UnixMilli(1_000_000_000)
	just, long := now.Add(-time.Second).UnixMilli(), now.Add(-time.Hour).UnixMilli()
	failed := []attempt{{At: just, Took: 500, Status: 503, Why: webhook.ReasonStatus}}
	for _, c := range []struct {
		name string
		d    Delivery
		what string
		at   int64
	}{
		{"not tried yet", Delivery{Status: DeliveryPending}, "", 0},
		{"due again", Delivery{Status: DeliveryPending, Attempts: 3, Log: failed}, "", 0},
		{"failing", Delivery{Status: DeliveryPending, Attempts: 3, Tries: 3, Next: 1_000_005_000, Log: failed}, NewsFailing, just + 500},
		{"delivered", Delivery{Status: DeliveryDelivered, Attempts: 1, Log: []attempt{{At: just, Took: 12, Status: 200}}}, "delivered", just + 12},
		{"fetched", Delivery{Status: DeliveryDelivered, Pull: true, Log: []attempt{{At: just, Why: acknowledged}}}, "delivered", just},
		{"stopped", Delivery{Status: DeliveryStopped, Attempts: 1, Log: []attempt{{At: just, Status: 410, Why: webhook.ReasonGone}}}, "stopped", just},
		{"given up at its end", Delivery{Status: DeliveryUndelivered, Until: just, Attempts: 9, Log: failed}, "undelivered", just},
		{"given up a little later", Delivery{Status: DeliveryUndelivered, Until: just - 60_000, Attempts: 9, Log: failed}, "undelivered", just - 60_000},
		{"given up long ago", Delivery{Status: DeliveryUndelivered, Until: long, Attempts: 9, Log: failed}, "undelivered", long},
		{"its bytes were missing", Delivery{Status: DeliveryUndelivered}, "undelivered", 0},
		{"its bytes were missing later", Delivery{Status: DeliveryUndelivered, Attempts: 9, Log: failed}, "undelivered", just + 500},
	} {
		n, at := c.d.turn()
		if n.What != c.what || c.what != "" && ms(at) != c.at || n.Next.IsZero() != (c.what != NewsFailing) {
			t.Errorf("%s: %+v at %d, want %q at %d", c.name, n, ms(at), c.what, c.at)
		}
	}
}
