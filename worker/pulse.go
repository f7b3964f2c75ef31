package worker

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
	"unique"

	"stepup/ciba"
	"stepup/webhook"
)

// pulse is what this process counts for its operators: what came to pass in each minute,
// and how providers and endpoints answered last. It is told to Redis every few seconds
// (tell.go), so that every process can show all of it. Nothing rests on it.
type pulse struct {
	process string // names these counts; the id of our lease may change
	host    string
	began   time.Time

	mu        sync.Mutex
	minutes   map[int64]*minute // by Unix minute
	last      map[way]Answer
	endpoints map[endpoint]*endpointState
}

// minute is what was counted in one minute, as Redis keeps it.
type minute struct {
	Created   int              `json:"c,omitempty"`
	Finals    map[State]int    `json:"f,omitempty"`
	Delivered int              `json:"d,omitempty"`
	Failed    int              `json:"x,omitempty"` // attempts that did not deliver
	GivenUp   int              `json:"u,omitempty"` // events
	Answers   map[string]*took `json:"a,omitempty"` // by way
	told      bool
}

// all is what this process counted, by minute.
func (p *pulse) all() map[int64]*minute {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[int64]*minute{}
	for n, m := range p.minutes {
		all[n] = newMinute()
		all[n].add(m)
	}
	return all
}

func newMinute() *minute { return &minute{Finals: map[State]int{}, Answers: map[string]*took{}} }

// add is what another process counted in the same minute.
func (m *minute) add(o *minute) {
	m.Created, m.Delivered, m.Failed, m.GivenUp = m.Created+o.Created, m.Delivered+o.Delivered, m.Failed+o.Failed, m.GivenUp+o.GivenUp
	for state, n := range o.Finals {
		m.Finals[state] += n
	}
	for at, t := range o.Answers {
		if t == nil {
			continue
		}
		if m.Answers[at] == nil {
			m.Answers[at] = &took{}
		}
		m.Answers[at].sum(t)
	}
}

// way is one of a provider's endpoints, told as one word.
type way struct{ provider, endpoint string }

// The endpoints of a provider whose answers are counted.
const (
	wayAsk  = "bc-auth"
	wayPoll = "token"
)

func (w way) String() string { return w.endpoint + " " + w.provider }

// endpoint is one webhook of one caller.
type endpoint struct{ caller, webhook string }

// endpointState is how an endpoint takes webhooks.
type endpointState struct {
	Caller  string `json:"c"`
	Webhook string `json:"w"`
	OK      int64  `json:"o,omitempty"` // ms; when it last took one
	Bad     int64  `json:"b,omitempty"` // ms; when it last did not
	Since   int64  `json:"s,omitempty"` // ms; since when it takes none; 0: it does
	Row     int    `json:"r,omitempty"` // attempts in a row that failed
	Status  int    `json:"h,omitempty"` // HTTP status of the last that failed; 0: nothing answered
	Why     string `json:"y,omitempty"`
}

const (
	keepMinutes = 2 * time.Hour  // in Redis
	keepAnswers = 24 * time.Hour // an endpoint, a webhook's or a provider's, that was sent nothing for so long is forgotten
)

func newPulse() pulse {
	host, _ := os.Hostname() // only shown
	return pulse{
		process: opID(), host: host, began: time.Now(),
		minutes: map[int64]*minute{}, last: map[way]Answer{}, endpoints: map[endpoint]*endpointState{},
	}
}

// now is the counts of this minute, under the lock.
func (p *pulse) now() *minute {
	n := time.Now().Unix() / 60
	m := p.minutes[n]
	if m == nil {
		oldest := n - int64(keepMinutes/time.Minute)
		maps.DeleteFunc(p.minutes, func(n int64, _ *minute) bool { return n < oldest })
		m = newMinute()
		p.minutes[n] = m
	}
	m.told = false
	return m
}

func (p *pulse) created() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now().Created++
}

func (p *pulse) final(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now().Finals[s]++
}

func (p *pulse) gaveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now().GivenUp++
}

// answered notes what one of a provider's endpoints answered.
func (p *pulse) answered(provider, endpoint string, after time.Duration, err error) {
	a := answerOfProvider(err)
	a.At, a.Took = Time{time.Now()}, after
	p.mu.Lock()
	defer p.mu.Unlock()
	w := way{provider, endpoint}
	p.last[w] = a
	all := p.now().Answers
	t := all[w.String()]
	if t == nil {
		t = &took{}
		all[w.String()] = t
	}
	t.add(after, a.Failing)
}

// attempted notes how a webhook fared.
func (p *pulse) attempted(caller, hook string, a webhook.Attempt) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := endpoint{caller, hook}
	e := p.endpoints[at]
	if e == nil {
		e = &endpointState{Caller: caller, Webhook: hook}
		p.endpoints[at] = e
	}
	now := time.Now().UnixMilli()
	switch a.Outcome {
	case webhook.Delivered:
		p.now().Delivered++
		e.OK, e.Since, e.Row = now, 0, 0
	case webhook.Gone: // it answers, and does not want this one
		e.OK, e.Since, e.Row = now, 0, 0
	default:
		p.now().Failed++
		e.Bad, e.Since, e.Row, e.Status, e.Why = now, cmp.Or(e.Since, now), e.Row+1, a.Status, a.Reason
	}
}

// Answer is what a provider answered last. It holds nothing of the person.
type Answer struct {
	At      Time          `json:"at"`
	Took    time.Duration `json:"took"`
	Word    string        `json:"word"`             // as in the metric stepup.polls; `taken` for a question that was taken
	Status  int           `json:"status,omitempty"` // HTTP; 0: it is not known, or nothing answered
	Error   string        `json:"error,omitempty"`  // the OAuth code of a refusal
	Failing bool          `json:"failing"`          // it says something of the provider or of us, and not of the person
}

// ofThePerson are the refusals that say something of the person alone.
var ofThePerson = []string{"access_denied", "expired_token", "unknown_user_id", "expired_login_hint_token", "missing_user_code",
	"invalid_user_code", "invalid_binding_message"}

// answerOfProvider classes what came back.
func answerOfProvider(err error) Answer {
	a := Answer{Word: classOf(err)}
	switch e := err.(type) {
	case nil:
		a.Status = 200
	case *ciba.Pending:
		a.Status = e.Status
	case *ciba.SlowDown:
		a.Status = e.Status
	case *ciba.Refusal:
		a.Status, a.Error, a.Failing = e.Status, e.Code, !slices.Contains(ofThePerson, e.Code)
	case *ciba.Transient:
		a.Status, a.Failing = e.Status, true
	case *ciba.Ambiguous:
		a.Status, a.Failing = e.Status, true
	default:
		a.Failing = true
	}
	return a
}

// bounds are those by which answers are counted.
var bounds = [...]time.Duration{
	5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// took is how many answers came, and how soon.
type took struct {
	Failing int                  `json:"x,omitempty"`
	Within  [len(bounds) + 1]int `json:"t"` // the last one is for what took longer
}

func (t *took) add(d time.Duration, failing bool) {
	n, _ := slices.BinarySearch(bounds[:], d)
	t.Within[n]++
	if failing {
		t.Failing++
	}
}

func (t *took) sum(o *took) {
	t.Failing += o.Failing
	for i, n := range o.Within {
		t.Within[i] += n
	}
}

func (t *took) count() (sum int) {
	for _, n := range t.Within {
		sum += n
	}
	return sum
}

// share is the bound within which this share of the answers came, 0 when there are none.
// What took longer than all bounds is told as twice the last.
func (t *took) share(of float64) time.Duration {
	need := int(of * float64(t.count()))
	for i, n := range t.Within {
		if need -= n; need < 0 {
			if i == len(bounds) {
				return 2 * bounds[len(bounds)-1]
			}
			return bounds[i]
		}
	}
	return 0
}

// place is where a step-up in flight belongs.
type place struct{ provider, caller string }

// holding sums what this process holds that is not final, by provider and caller.
func (w *Worker) holding() []Held {
	sums := map[unique.Handle[place]]*Held{}
	w.mu.Lock()
	for _, s := range w.sessions {
		if s.place == (unique.Handle[place]{}) {
			continue
		}
		h := sums[s.place]
		if h == nil {
			h = &Held{Oldest: s.since}
			sums[s.place] = h
		}
		h.Count++
		h.Oldest = min(h.Oldest, s.since)
	}
	w.mu.Unlock()
	all := make([]Held, 0, len(sums))
	for at, h := range sums {
		h.Provider, h.Caller = at.Value().provider, at.Value().caller
		all = append(all, *h)
	}
	return all
}
