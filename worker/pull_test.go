package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"stepup/ciba"
	"stepup/webhook"
)

// pulls gives the bank webhooks that are pulled, and others that are sent.
func (r *rig) pulls(hooks ...Webhook) street {
	s := r.newStreet(hooks...)
	bank := r.set.Callers["bank"]
	bank.Webhooks = slices.Clone(bank.Webhooks)
	for i := range hooks {
		if hooks[i].Pull {
			bank.Webhooks[i].Endpoint = webhook.Endpoint{}
		}
	}
	r.set.Callers = map[string]Caller{"bank": bank, "other": r.set.Callers["other"]}
	r.Reload(r.set)
	return s
}

// inbox is a webhook that is pulled.
func inbox(name string) Webhook {
	return Webhook{Name: name, Pull: true, Events: []string{"step_up.*"}}
}

// waits is what the bank gets when it asks at once.
func (r *rig) waits(t *testing.T, f EventFilter) Events {
	t.Helper()
	f.Limit = max(f.Limit, 1)
	page, err := r.Events(t.Context(), "bank", f, 0)
	if err != nil {
		t.Fatalf("Events: %v", err)
	}
	return page
}

// takes acknowledges.
func (r *rig) takes(t *testing.T, ids ...string) Acknowledged {
	t.Helper()
	done, err := r.Acknowledge(t.Context(), "bank", ids)
	if err != nil {
		t.Fatalf("Acknowledge: %v", err)
	}
	return done
}

// What is pulled is what is sent elsewhere: the same event once for each webhook, with an id
// of its own, until it is acknowledged. Other callers neither see nor end it.
func TestPull(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		sent := r.pulls(Webhook{Name: "ledger", Events: []string{"step_up.*"}}, inbox("full"),
			Webhook{Name: "bare", Pull: true, Events: []string{"step_up.approved"}, Reference: true})
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(6 * time.Second)

		page := r.waits(t, EventFilter{Webhook: "full", Limit: 10})
		if len(page.Events) != 1 || page.Events[0].Webhook != "full" || string(page.Events[0].Event) != string(sent["ledger"].all()[0].body) {
			t.Fatalf("pulled %s, sent %s", asJSON(t, page), sent["ledger"].all()[0].body)
		}
		event := page.Events[0].ID
		if again := r.waits(t, EventFilter{Webhook: "full"}); len(again.Events) != 1 || again.Events[0].ID != event {
			t.Errorf("not acknowledged, and the next time %s", asJSON(t, again))
		}
		bare := r.waits(t, EventFilter{Webhook: "bare"})
		if len(bare.Events) != 1 || bare.Events[0].ID == event || strings.Contains(string(bare.Events[0].Event), "S1234567D") {
			t.Errorf("without personal data: %s", asJSON(t, bare))
		}
		if _, err := r.Events(t.Context(), "other", EventFilter{Webhook: "full"}, 0); !isCode(err, CodeNotFound) {
			t.Errorf("another caller: %v", err)
		}
		if _, err := r.Events(t.Context(), "bank", EventFilter{}, 0); !isCode(err, CodeInvalidRequest) {
			t.Errorf("one of two, and it does not say which: %v", err)
		}
		foreign, err := r.Acknowledge(t.Context(), "other", []string{event})
		if err != nil || !slices.Equal(foreign.Unknown, []string{event}) {
			t.Errorf("another caller acknowledges: %+v, %v", foreign, err)
		}
		ledger := r.asked("k2", "S1234567D").ID // never final in this test
		odd := []string{sent["ledger"].all()[0].id, "evt_", "su_" + event[4:], newEventID(id), newEventID(ledger), newEventID("su_zz" + id[5:])}
		if got := r.takes(t, odd...); len(got.Acknowledged) != 0 || !slices.Equal(got.Unknown, odd) {
			t.Errorf("events that nobody could pull: %+v", got)
		}
		for range 2 { // a repeat says the same
			if got := r.takes(t, event); !slices.Equal(got.Acknowledged, []string{event}) || len(got.Unknown) != 0 {
				t.Errorf("acknowledged: %+v", got)
			}
		}
		if left := r.waits(t, EventFilter{Webhook: "full"}); len(left.Events) != 0 || left.Next == "" {
			t.Errorf("acknowledged, and still there: %s", asJSON(t, left))
		}
		v, _ := r.ended(t, id)
		for i, want := range []DeliveryStatus{DeliveryDelivered, DeliveryDelivered, DeliveryPending} {
			if v.Deliveries[i].Status != want || v.Deliveries[i].NextAttemptAt != nil {
				t.Errorf("delivery %s", asJSON(t, v.Deliveries[i]))
			}
		}
	})
}

// A reader that waits gets the event at the moment of the answer, and an empty page when
// its time is over.
func TestPullWaits(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.pulls(inbox("inbox"))
		start := time.Now()
		page, err := r.Events(t.Context(), "bank", EventFilter{Limit: 10}, 30*time.Second)
		if took := time.Since(start); err != nil || len(page.Events) != 0 || page.Next == "" || took != 30*time.Second {
			t.Errorf("nothing came: %s, %v after %v", asJSON(t, page), err, took)
		}
		r.provider.provide(nil, &ciba.Pending{}, someone())
		id := r.asked("k", "S1234567D").ID
		page, err = r.Events(t.Context(), "bank", EventFilter{Limit: 10}, time.Minute)
		if err != nil || len(page.Events) != 1 {
			t.Fatalf("%s, %v", asJSON(t, page), err)
		}
		if v, _ := r.ended(t, id); time.Since(v.CompletedAt.Time) > 50*time.Millisecond {
			t.Errorf("the event came %v after the answer", time.Since(v.CompletedAt.Time))
		}
	})
}

// Pages go through everything that waits, oldest first, each event once, while other
// events are acknowledged and new ones come.
func TestPullPages(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.PersonPerHour = 100 }, func(t *testing.T, r *rig) {
		r.pulls(inbox("inbox"))
		r.provider.provide(nil, denial)
		create := func(from, to int) {
			for n := from; n < to; n++ {
				r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n))
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(6 * time.Second)
		}
		create(0, 25)
		var all []string
		after := ""
		for page := 0; ; page++ {
			got := r.waits(t, EventFilter{Limit: 4, After: after})
			for _, e := range got.Events {
				all = append(all, string(e.Event))
			}
			after = got.Next
			if len(got.Events) == 0 {
				break
			}
			switch page {
			case 1: // acknowledged behind the reader and before it
				r.takes(t, got.Events[0].ID, r.waits(t, EventFilter{Limit: 30}).Events[20].ID)
			case 2:
				create(25, 28)
			}
		}
		if len(all) != 27 { // 28, and one was acknowledged before it was read
			t.Errorf("%d events", len(all))
		}
		stamps := make([]string, len(all))
		for i, body := range all {
			_, rest, _ := strings.Cut(body, `"timestamp":"`)
			stamps[i] = rest[:24]
		}
		if !slices.IsSorted(stamps) || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 27 {
			t.Errorf("not each once and oldest first: %v", stamps)
		}
		for _, bad := range []string{"x", "AA", "////", after + "A", strings.Repeat("_", 24)} {
			if _, err := r.Events(t.Context(), "bank", EventFilter{After: bad, Limit: 1}, 0); !isCode(err, CodeInvalidRequest) {
				t.Errorf("cursor %q: %v", bad, err)
			}
		}
	})
}

// purge_on_delivery counts an acknowledgement as a 2xx: the identity goes with the last
// of them, whichever it is, also while another webhook is being sent.
func TestPullPurges(t *testing.T) {
	for _, c := range []struct {
		name string
		when time.Duration // of the acknowledgement, after the answer; the other webhook answers after 10 s
	}{{"before the other webhook has it", 5 * time.Second}, {"after it", 15 * time.Second}} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(_ *Options, s *Settings) { s.PurgeOnDelivery = true }, func(t *testing.T, r *rig) {
				r.pulls(Webhook{Name: "slow", Events: []string{"step_up.*"}}, inbox("inbox"))
				r.set.Sender = &webhook.Sender{Client: &http.Client{Transport: slow(10 * time.Second)}, Timeout: 15 * time.Second}
				r.Reload(r.set)
				r.provider.provide(nil, someone())
				id := r.asked("k", "S1234567D").ID
				time.Sleep(5*time.Second + c.when)
				page := r.waits(t, EventFilter{})
				if len(page.Events) != 1 {
					t.Fatalf("%s", asJSON(t, page))
				}
				if got := r.takes(t, page.Events[0].ID); len(got.Acknowledged) != 1 {
					t.Fatalf("%+v", got)
				}
				if left := r.waits(t, EventFilter{}); len(left.Events) != 0 {
					t.Errorf("acknowledged, and still there: %s", asJSON(t, left))
				}
				time.Sleep(10 * time.Second)
				v, _ := r.ended(t, id)
				want := v.CompletedAt.Add(max(c.when, 10*time.Second))
				if v.PurgedAt == nil || v.PurgedAt.Sub(want).Abs() > time.Second || v.Identity != nil {
					t.Errorf("purged at %v, want %v: %s", v.PurgedAt, want, asJSON(t, v))
				}
				for field := range r.rdb.HGetAll(t.Context(), keyPersonal(id)).Val() {
					if field != "result" && field != "face" {
						t.Errorf("field %s is left", field)
					}
				}
				for i := range v.Deliveries {
					if v.Deliveries[i].Status != DeliveryDelivered {
						t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
					}
				}
				if due := r.rdb.SCard(t.Context(), keyDue(shardFrom(t, id))).Val(); due != 0 {
					t.Errorf("%d step-ups have something due", due)
				}
			})
		})
	}
}

// slow is a bank that takes its time and then takes everything.
type slow time.Duration

func (s slow) RoundTrip(q *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, q.Body)
	select {
	case <-time.After(time.Duration(s)): // in bubbles only
	case <-q.Context().Done():
		return nil, context.Cause(q.Context())
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: q}, nil
}

func shardFrom(t *testing.T, id string) int {
	n, ok := shardOf(id)
	if !ok {
		t.Fatalf("id %s", id)
	}
	return n
}

// What is acknowledged in time is delivered, also when its time ends while another webhook of
// the step-up is being sent: nothing is given up, and nothing follows it.
func TestPullAcknowledgedAtTheEnd(t *testing.T) {
	change := func(_ *Options, s *Settings) { s.ResultTTL, s.PurgeOnDelivery = 8*time.Second, true }
	inBubble(t, change, func(t *testing.T, r *rig) {
		r.pulls(Webhook{Name: "slow", Events: []string{"step_up.*"}}, inbox("inbox"))
		r.set.Sender = &webhook.Sender{Client: &http.Client{Transport: slow(10 * time.Second)}, Timeout: 15 * time.Second}
		r.Reload(r.set)
		r.provider.provide(nil, someone())
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second) // it is final since 5 s
		event := r.waits(t, EventFilter{}).Events[0].ID
		if got := r.takes(t, event); len(got.Acknowledged) != 1 {
			t.Fatalf("%+v", got)
		}
		time.Sleep(10 * time.Second)
		v, _ := r.ended(t, id)
		if len(v.Deliveries) != 2 || v.Deliveries[1].Status != DeliveryDelivered || v.PurgedAt == nil {
			t.Errorf("%s", asJSON(t, v))
		}
		if got := r.takes(t, event); len(got.Acknowledged) != 1 {
			t.Errorf("acknowledged once more: %+v", got)
		}
		if left := r.waits(t, EventFilter{}).Events; len(left) != 0 {
			t.Errorf("after it %s", asJSON(t, left))
		}
	})
}

// A reader who goes on from where it was misses nothing, though the queue was empty meanwhile
// and Redis's clock was put back, as when another node took over.
func TestPullPlacesOnlyGrow(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaintNotificationsConfig: noMaintenance()})
	defer rdb.Close()
	move := afterPrelude("queue(ARGV[1], 0)")
	keys := []string{keyQueue(0, "bank", "inbox"), keyLastPlace(0, "bank", "inbox")}
	last, now := 0.0, time.Now()
	for i, clock := range []time.Duration{0, 0, time.Second, -time.Minute, -time.Minute, time.Minute} {
		m.SetTime(now.Add(clock))
		event := fmt.Sprint("evt_", i)
		if err := move.Run(t.Context(), rdb, keys, "+1 "+event+" ").Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		place := rdb.ZScore(t.Context(), keys[0], event).Val()
		if place <= last {
			t.Errorf("event %d is at %.0f, the one before it was at %.0f", i, place, last)
		}
		last = place
		if err := move.Run(t.Context(), rdb, keys, "-1 "+event+" ").Err(); err != nil && !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
}

// An identity that nobody pulled ends with the result; its follower waits in its place. What
// is sent again waits again, for those too who have read on past it; it was taken before, so
// nothing follows it.
func TestPullEnds(t *testing.T) {
	inBubble(t, func(_ *Options, s *Settings) { s.ResultTTL = 5 * time.Minute }, func(t *testing.T, r *rig) {
		r.pulls(inbox("inbox"))
		r.provider.provide(nil, identified)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(6 * time.Second)
		page := r.waits(t, EventFilter{})
		first := page.Events[0].ID
		if _, err := r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Error(err)
		}
		if got := r.waits(t, EventFilter{After: page.Next}).Events; len(got) != 1 || got[0].ID != first {
			t.Errorf("read on past it, and again: %s", asJSON(t, got))
		}
		taken := r.asked("k2", "S7654321F").ID
		time.Sleep(6 * time.Second)
		second := r.waits(t, EventFilter{After: r.waits(t, EventFilter{}).Next}).Events[0].ID
		r.takes(t, second)
		if v, err := r.Redeliver(t.Context(), "bank", taken); err != nil || v.Deliveries[0].Status != DeliveryPending {
			t.Errorf("redeliver: %s, %v", asJSON(t, v), err)
		}
		if got := r.waits(t, EventFilter{Limit: 10}).Events; len(got) != 2 || got[1].ID != second {
			t.Errorf("again: %s", asJSON(t, got))
		}
		time.Sleep(5*time.Minute + 10*time.Second)
		if v, _ := r.ended(t, taken); len(v.Deliveries) != 1 || v.Deliveries[0].Status != DeliveryDelivered {
			t.Errorf("taken before: %s", asJSON(t, v.Deliveries))
		}
		got := r.waits(t, EventFilter{Limit: 10}).Events
		if len(got) != 1 || got[0].ID == first || !strings.Contains(string(got[0].Event), `"step_up.delivery_expired"`) || strings.Contains(string(got[0].Event), "S1234567D") {
			t.Errorf("the follower: %s", asJSON(t, got))
		}
		if done := r.takes(t, first, got[0].ID); !slices.Equal(done.Unknown, []string{first}) || !slices.Equal(done.Acknowledged, []string{got[0].ID}) {
			t.Errorf("acknowledged %+v", done)
		}
		v, _ := r.ended(t, id)
		if v.Deliveries[0].Status != DeliveryUndelivered || v.Deliveries[1].Status != DeliveryDelivered {
			t.Errorf("deliveries %s", asJSON(t, v.Deliveries))
		}
	})
}

// A webhook that is pulled from now on, or sent to from now on, gets what was not delivered
// the new way when it comes due.
func TestPullChanged(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		s := r.pulls(Webhook{Name: "ledger", Events: []string{"step_up.*"}})
		s["ledger"].down(http.StatusInternalServerError, 100)
		r.provider.provide(nil, denial)
		id := r.asked("k", "S1234567D").ID
		time.Sleep(10 * time.Second)
		r.pulls(inbox("ledger"))
		time.Sleep(30 * time.Second)
		got := r.waits(t, EventFilter{}).Events
		if len(got) != 1 || got[0].ID != s["ledger"].all()[0].id || string(got[0].Event) != string(s["ledger"].all()[0].body) {
			t.Fatalf("pulled %s", asJSON(t, got))
		}
		s = r.pulls(Webhook{Name: "ledger", Events: []string{"step_up.*"}})
		if left := r.waits(t, EventFilter{Webhook: "ledger"}).Events; len(left) != 1 || left[0].ID != got[0].ID {
			t.Errorf("what waits can still be had: %s", asJSON(t, left))
		}
		if _, err := r.Redeliver(t.Context(), "bank", id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if sent := s["ledger"].all(); len(sent) != 1 || sent[0].id != got[0].ID {
			t.Errorf("sent %d times", len(sent))
		}
		r.pulls(inbox("ledger"))
		if left := r.waits(t, EventFilter{}).Events; len(left) != 0 {
			t.Errorf("delivered, and still there: %s", asJSON(t, left))
		}
	})
}
