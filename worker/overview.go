package worker

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Overview is the whole service as its operators see it. It holds ids of step-ups, names
// from the configuration, counts and times, and nothing of a person.
type Overview struct {
	At    time.Time
	Whole bool // false: Redis did not answer, and this is what this process alone knows

	InFlight     int64 // asked and not final; where it is not whole, what this process holds
	MostInFlight int64 // beyond that creates are refused
	Held         []Holding
	Unowned      int64         // of which a poll is due and nobody has them in hand
	Overdue      time.Duration // how long ago the first of all with work left should have been looked at

	RedisAhead           time.Duration // Redis's clock before this machine's
	RedisUsed, RedisMost int64         // bytes; RedisMost is 0 where it has no limit

	FailingStepUps int64     // of which a webhook did not take all
	Failing        []Failing // the last of them, latest first
	Endpoints      []Endpoint

	Providers []ProviderHealth
	Workers   []Process
	Minutes   []Rates // of the last hour, oldest first; the last one is not over
}

// Holding is the step-ups of one caller at one provider that are polled, or wait to be.
type Holding struct {
	Provider, Caller string
	Count            int
	Oldest           time.Time // when the oldest was created
}

// Failing is one event that a webhook did not take.
type Failing struct {
	StepUp, Caller, Webhook, Type string
	Status                        DeliveryStatus
	Since                         time.Time // when the step-up became final
	Attempts, LastStatus          int       // LastStatus is 0 when nothing answered
	Reason                        string    // a word of package webhook
	Next                          time.Time // zero: there is none
	Resendable                    bool      // its bytes are there still
}

// Endpoint is a webhook that takes nothing at the moment.
type Endpoint struct {
	Caller, Webhook string
	Since           time.Time
	Failures        int       // attempts in a row; 0: no process remembers
	LastStatus      int       // 0: nothing answered
	Reason          string    // a word of package webhook
	LastTaken       time.Time // zero: nobody remembers
}

// healthOver is the time over which a provider's answers are summed.
const healthOver = 5 * time.Minute

// ProviderHealth is how one provider answers.
type ProviderHealth struct {
	Name       string
	Paused     bool
	Configured bool          // false: other processes know it
	Ahead      time.Duration // its clock before ours, as far as it was off
	Asks       Answers       // backchannel authentication requests
	Polls      Answers       // token requests
}

// Answers is how one endpoint of a provider answered in the last minutes.
type Answers struct {
	Count, Failing int
	Half, Most     time.Duration // half of the answers, and 95 of 100, came within; 0 when there were none
	Last           *Answer       // nil: nobody remembers one
}

// Process is one process that holds a lease, or held one in the last hour.
type Process struct {
	Lease string
	Left  time.Duration // of the lease; negative when it lapsed
	Owns  int64         // step-ups on its name
	Here  bool          // it is this one
	Role  Role
	Host  string // it, PID and Began are not known of one that told nothing lately
	PID   int
	Began time.Time
}

// Rates are what came to pass in one minute.
type Rates struct {
	At                         time.Time
	Created                    int
	Finals                     map[State]int
	Delivered, Failed, GivenUp int // events; attempts; events
}

// Overview reads what the operators' page shows. Its cost does not grow with the step-ups
// in flight. Without Redis it is what this process knows by itself, and the error says why.
func (w *Worker) Overview(ctx context.Context) (Overview, error) {
	o := Overview{At: time.Now(), MostInFlight: int64(w.opts.MaxInFlightTotal)}
	v, err := w.look(ctx)
	if o.Whole = err == nil; !o.Whole {
		v = w.lookAlone()
	}
	o.Unowned, o.Overdue = v.sums.unowned, v.sums.oldest
	o.Workers, o.FailingStepUps = v.roster, v.sums.failing
	o.RedisAhead, o.RedisUsed, o.RedisMost = v.ahead, v.sums.used, v.sums.most
	for _, r := range v.records {
		o.Failing = append(o.Failing, r.failures(o.At)...)
	}
	set := w.settings.Load()
	o.held(v.told)
	if o.InFlight = w.inFlight.Load(); !o.Whole {
		o.InFlight = 0
		for _, h := range o.Held {
			o.InFlight += int64(h.Count)
		}
	}
	o.endpoints(set, v.told)
	o.health(set, v.told, v.minutes)
	o.rates(v.minutes)
	return o, err
}

// failures are the events of a record that a webhook did not take.
func (r *record) failures(now time.Time) (all []Failing) {
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		if !d.fails() {
			continue
		}
		f := Failing{StepUp: r.ID, Caller: r.Caller, Webhook: d.Webhook, Type: d.Type, Status: d.Status, Since: r.Completed,
			Attempts: d.Attempts, LastStatus: d.Last, Resendable: r.resendable(d, now)}
		if n := len(d.Log); n > 0 {
			f.Reason = d.Log[n-1].Why
		}
		if d.Status == DeliveryPending && !d.Pull {
			f.Next = time.UnixMilli(d.Next)
		}
		all = append(all, f)
	}
	return all
}

// resendable reports whether the bytes of an event should be there still.
func (r *record) resendable(d *Delivery, now time.Time) bool {
	if d.Personal {
		return r.Purged.IsZero() && now.UnixMilli() < d.Until
	}
	return now.Before(r.Completed.Add(keepEvents))
}

// held sums what the processes hold.
func (o *Overview) held(all []told) {
	sums := map[place]*Holding{}
	for _, t := range all {
		for _, h := range t.Held {
			at := place{h.Provider, h.Caller}
			sum := sums[at]
			if sum == nil {
				sum = &Holding{Provider: h.Provider, Caller: h.Caller, Oldest: time.UnixMilli(h.Oldest)}
				sums[at] = sum
			}
			sum.Count += h.Count
			if oldest := time.UnixMilli(h.Oldest); oldest.Before(sum.Oldest) {
				sum.Oldest = oldest
			}
		}
	}
	for _, sum := range sums {
		o.Held = append(o.Held, *sum)
	}
	slices.SortFunc(o.Held, func(a, b Holding) int {
		return cmp.Or(strings.Compare(a.Provider, b.Provider), cmp.Compare(b.Count, a.Count), strings.Compare(a.Caller, b.Caller))
	})
}

// endpoints are those that take nothing: as the processes remember it, and where none does
// as the step-ups do that wait for them. One that is configured no more is remembered for
// nothing, unless a step-up waits.
func (o *Overview) endpoints(set *Settings, all []told) {
	known := map[endpoint]bool{}
	for at, states := range statesOf(all) {
		if _, configured := set.hook(at.caller, at.webhook); !configured {
			continue
		}
		known[at] = true
		if e, fails := at.latest(states); fails {
			o.Endpoints = append(o.Endpoints, e)
		}
	}
	for _, f := range o.Failing {
		at := endpoint{f.Caller, f.Webhook}
		if f.Status == DeliveryPending && !known[at] {
			known[at] = true
			o.Endpoints = append(o.Endpoints, Endpoint{Caller: f.Caller, Webhook: f.Webhook, Since: f.Since, LastStatus: f.LastStatus, Reason: f.Reason})
		}
	}
	slices.SortFunc(o.Endpoints, func(a, b Endpoint) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Caller, b.Caller), strings.Compare(a.Webhook, b.Webhook))
	})
}

// latest is how an endpoint stands by what several processes remember of it; it does not
// fail where the last that anybody sent was taken.
func (at endpoint) latest(states []*endpointState) (sum Endpoint, fails bool) {
	sum = Endpoint{Caller: at.caller, Webhook: at.webhook}
	var ok, bad, since int64
	for _, e := range states {
		ok = max(ok, e.OK)
	}
	for _, e := range states {
		if e.Since == 0 || e.Bad <= ok {
			continue
		}
		sum.Failures += e.Row
		since = min(cmp.Or(since, e.Since), e.Since)
		if e.Bad > bad {
			bad, sum.LastStatus, sum.Reason = e.Bad, e.Status, e.Why
		}
	}
	sum.Since = time.UnixMilli(max(since, ok))
	if ok > 0 {
		sum.LastTaken = time.UnixMilli(ok)
	}
	return sum, bad > 0
}

func statesOf(all []told) map[endpoint][]*endpointState {
	states := map[endpoint][]*endpointState{}
	for _, t := range all {
		for _, e := range t.Endpoints {
			if e != nil {
				at := endpoint{e.Caller, e.Webhook}
				states[at] = append(states[at], e)
			}
		}
	}
	return states
}

// health sums how the providers answered in the last minutes.
func (o *Overview) health(set *Settings, all []told, minutes map[int64]*minute) {
	last, ahead, names := map[way]*Answer{}, map[string]time.Duration{}, map[string]bool{}
	for name := range set.Providers {
		names[name] = true
	}
	for _, t := range all {
		for name, by := range t.Ahead {
			if d := time.Duration(by) * time.Millisecond; d.Abs() > ahead[name].Abs() {
				ahead[name] = d
			}
		}
		for _, a := range t.Last {
			at := way{a.Provider, a.Endpoint}
			if names[a.Provider] = true; last[at] == nil || last[at].At.Before(a.At.Time) {
				last[at] = &a.Answer
			}
		}
	}
	from := o.At.Add(-healthOver).Unix() / 60
	answers := func(at way) Answers {
		var sum took
		for n, m := range minutes {
			if t := m.Answers[at.String()]; t != nil && n > from {
				sum.sum(t)
			}
		}
		return Answers{Count: sum.count(), Failing: sum.Failing, Half: sum.share(0.5), Most: sum.share(0.95), Last: last[at]}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		p, known := set.Providers[name]
		o.Providers = append(o.Providers, ProviderHealth{Name: name, Paused: p.Paused, Configured: known, Ahead: ahead[name],
			Asks: answers(way{name, wayAsk}), Polls: answers(way{name, wayPoll})})
	}
}

// rates are the last hour's, with the minutes in which nothing happened.
func (o *Overview) rates(minutes map[int64]*minute) {
	now := o.At.Unix() / 60
	for n := now - 59; n <= now; n++ {
		r := Rates{At: time.Unix(n*60, 0), Finals: map[State]int{}}
		if m := minutes[n]; m != nil {
			r.Created, r.Finals, r.Delivered, r.Failed, r.GivenUp = m.Created, m.Finals, m.Delivered, m.Failed, m.GivenUp
		}
		o.Minutes = append(o.Minutes, r)
	}
}
