package worker

import (
	"testing"
	"time"

	"stepup/ciba"
)

// What is reloaded reaches the step-ups in flight with their next step.
func TestReloadReachesWhatIsInFlight(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		time.Sleep(12 * time.Second)
		old := r.provider.polled()
		fresh := &scripted{expires: time.Minute, answers: []any{&ciba.Pending{}, someone()}}
		set := r.set
		set.Providers = map[string]ProviderSettings{"singpass": {Provider: fresh, Interval: 5 * time.Second}}
		r.Reload(set)
		time.Sleep(30 * time.Second)
		// The poll whose wait had begun is still made as it was planned.
		if n := r.provider.polled() - old; n > 1 || fresh.polled() != 2 {
			t.Errorf("%d polls by the old settings and %d by the new", n, fresh.polled())
		}
		if got, err := r.Show(t.Context(), "bank", v.ID); err != nil || got.Status != Approved {
			t.Errorf("%s %v", got.Status, err)
		}
	})
}

// A provider that is taken out of every configuration: the step-up ends all the
// same, as unknown.
func TestAProviderThatIsGone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		v := r.asked("k", "S1234567D")
		r.stop()
		set := r.set
		r.set.Providers = map[string]ProviderSettings{}
		next := r.another()
		time.Sleep(7 * time.Minute)
		got, err := next.Show(t.Context(), "bank", v.ID)
		if err != nil || got.Status != Unknown || len(next.receiver.all()) != 1 {
			t.Errorf("%s %v, %d webhooks", got.Status, err, len(next.receiver.all()))
		}
		if n := r.provider.polled(); n != 0 {
			t.Errorf("%d polls", n)
		}
		r.set = set
		next.stop()
	})
}

// A bank whose receiver is down costs the others nothing: what waits for delivery
// is not in flight.
func TestADeadReceiverIsNoLoad(t *testing.T) {
	one := func(o *Options, _ *Settings) { o.MaxInFlightTotal = 1 }
	inBubble(t, one, func(t *testing.T, r *rig) {
		r.receiver.down(500, 1000)
		r.provider.provide(nil, someone())
		r.asked("k", "S1234567D")
		time.Sleep(20 * time.Second)
		r.provider.provide(nil, &ciba.Pending{})
		r.asked("k2", "S7654321D")
		time.Sleep(5 * time.Second)
		if _, err := r.ask("k3", "S0000001I"); !isCode(err, CodeOverloaded) {
			t.Errorf("beyond the cap: %v", err)
		}
	})
}

// The provider may ignore the expiry that was asked for: a short one buys no second push.
func TestRequestedExpiryDoesNotShortenTheLimit(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(&ciba.Ambiguous{})
		q := Request{Caller: "bank", IdempotencyKey: "k", Provider: "singpass", Question: Question{LoginHint: "S1234567D", RequestedExpiry: 1}}
		if _, err := r.Ask(t.Context(), q); !isCode(err, CodeInitiationUnknown) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		q.IdempotencyKey = "k2"
		if _, err := r.Ask(t.Context(), q); !isCode(err, CodePersonBusy) || r.provider.pushes() != 1 {
			t.Errorf("%v, %d pushes", err, r.provider.pushes())
		}
	})
}

// A webhook that was renamed while a step-up was in flight, across a deploy: the
// step-up goes on, and both names are told, the lost one as an undelivered debt.
func TestARenamedWebhook(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, r *rig) {
		r.provider.provide(nil, someone())
		v := r.asked("k", "S1234567D")
		r.stop()
		caller := r.set.Callers["bank"]
		caller.Webhooks = []Webhook{caller.Webhooks[0]}
		caller.Webhooks[0].Name = "renamed"
		r.set.Callers = map[string]Caller{"bank": caller}
		next := r.another()
		time.Sleep(time.Minute)
		got, err := next.Show(t.Context(), "bank", v.ID)
		if err != nil || got.Status != Approved || len(got.Deliveries) != 2 {
			t.Fatalf("%+v %v", got, err)
		}
		for _, d := range got.Deliveries {
			if want := map[string]DeliveryStatus{"renamed": DeliveryDelivered, "ledger": DeliveryPending}[d.Webhook]; d.Status != want {
				t.Errorf("%s is %s, want %s", d.Webhook, d.Status, want)
			}
		}
		if n := len(next.receiver.all()); n != 1 {
			t.Errorf("%d webhooks, want 1", n)
		}
		next.stop()
	})
}
