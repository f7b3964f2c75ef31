package worker

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/webhook"
)

// quay is many receivers at once: those whose name begins with hung never answer, and the
// others take their time.
type quay struct {
	takes   time.Duration
	refuses int // so many attempts first, at each

	mu  sync.Mutex
	got map[string][]time.Time // by host
	now map[string]int
	top map[string]int // the most at once
}

func (q *quay) RoundTrip(r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	host := r.URL.Host
	q.mu.Lock()
	if q.now == nil {
		q.now, q.top = map[string]int{}, map[string]int{}
	}
	q.now[host]++
	q.top[host] = max(q.top[host], q.now[host])
	q.mu.Unlock()
	defer func() { q.mu.Lock(); q.now[host]--; q.mu.Unlock() }()
	if strings.HasPrefix(host, "hung") {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	time.Sleep(q.takes) // in bubbles only
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.got == nil {
		q.got = map[string][]time.Time{}
	}
	q.got[host] = append(q.got[host], time.Now())
	status := http.StatusNoContent
	if len(q.got[host]) <= q.refuses {
		status = http.StatusServiceUnavailable
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// of is when a receiver took or refused what it was sent, and the most that it had at once.
func (q *quay) of(host string) (got []time.Time, top int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.got[host]), q.top[host]
}

// caller is one with webhooks at a quay.
func (q *quay) caller(names ...string) Caller {
	secrets, _ := webhook.ParseSecrets([]byte(webhook.NewSecret()))
	c := Caller{Providers: []string{"singpass"}}
	for _, name := range names {
		c.Webhooks = append(c.Webhooks, Webhook{Name: name, Events: []string{"step_up.*"},
			Endpoint: webhook.Endpoint{URL: "https://" + name + "/hook", Secrets: secrets}})
	}
	return c
}

// An endpoint that answers, and has more to answer than it may be asked at once, is waited
// for: nothing is put off while turns come free. It never has more than its 16 sends.
func TestBusyEndpointIsWaitedFor(t *testing.T) {
	q := &quay{takes: 200 * time.Millisecond}
	settings := func(_ *Options, s *Settings) {
		s.PersonPerHour = 1000
		s.Callers = map[string]Caller{"bank": q.caller("busy")}
		s.Sender = &webhook.Sender{Client: &http.Client{Transport: q}, Timeout: 15 * time.Second}
	}
	inBubble(t, settings, func(t *testing.T, r *rig) {
		r.provider.provide(nil, denial)
		const people = 96 // six times what it takes at once
		var all sync.WaitGroup
		for n := range people {
			all.Go(func() { r.asked(fmt.Sprint("k", n), fmt.Sprintf("S%07dA", n)) })
		}
		all.Wait()
		asked := time.Now()
		time.Sleep(20 * time.Second)
		got, top := q.of("busy")
		if len(got) != people || top != endpointSends {
			t.Fatalf("%d of %d delivered, %d at once", len(got), people, top)
		}
		// Polled after 5 s; then six rounds of 200 ms.
		if last := got[people-1].Sub(asked); last > 8*time.Second {
			t.Errorf("the last one came after %v", last)
		}
	})
}

// However many endpoints hang, and whatever waits for them, another caller's later delivery
// comes when it is due.
func TestHungEndpointsHoldNobodyUp(t *testing.T) {
	const hung, each = 20, 18 // with 16 sends each, more than the least number of places
	q := &quay{refuses: 1}
	settings := func(o *Options, s *Settings) {
		o.MaxInFlight = 1000
		s.PersonPerHour = 1000
		s.Callers = map[string]Caller{"fine": q.caller("fine")}
		for n := range hung {
			s.Callers[fmt.Sprint("bank", n)] = q.caller(fmt.Sprint("hung", n))
		}
		s.Sender = &webhook.Sender{Client: &http.Client{Transport: q}, Timeout: 15 * time.Second}
	}
	inBubble(t, settings, func(t *testing.T, r *rig) {
		ask := func(caller, hint string) {
			t.Helper()
			_, err := r.Ask(t.Context(), Request{Caller: caller, IdempotencyKey: hint, Provider: "singpass", Question: Question{Scope: "openid", LoginHint: hint}})
			if err != nil {
				t.Fatal(err)
			}
		}
		r.provider.provide(nil, denial)
		for n := range hung * each {
			ask(fmt.Sprint("bank", n/each), fmt.Sprintf("S%07dA", n))
		}
		time.Sleep(40 * time.Second) // they all come back as tasks
		for n := range hung {
			if _, top := q.of(fmt.Sprint("hung", n)); top != endpointSends {
				t.Errorf("hung%d has had %d sends at once", n, top)
			}
		}
		ask("fine", "S9999999A")
		time.Sleep(12 * time.Second)
		if got, _ := q.of("fine"); len(got) != 2 || got[1].Sub(got[0]) > 3*time.Second {
			t.Errorf("attempts at %v", got)
		}
	})
}
