package cibatest

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEarlyPolls(t *testing.T) {
	const ms = time.Millisecond
	type step struct {
		wait  time.Duration // after the previous answer
		early bool
	}
	for name, tt := range map[string]struct {
		edit  func(*Config)
		hint  string
		steps []step
	}{
		"five seconds without an interval": {nil, HintFor(1, 9, 1), []step{{5000 * ms, false}, {5000 * ms, false}, {4999 * ms, true}, {5001 * ms, false}}},
		"the first poll counts too":        {nil, HintFor(1, 9, 1), []step{{0, true}, {5000 * ms, false}}},
		"the interval that was named":      {func(c *Config) { c.Interval = 2 }, HintFor(1, 9, 1), []step{{2000 * ms, false}, {1999 * ms, true}}},
		"slow_down adds up":                {nil, HintFor(4, 2, 1), []step{{5000 * ms, false}, {9999 * ms, true}, {15000 * ms, false}}},
		"Retry-After longer":               {nil, "retry-7", []step{{5000 * ms, false}, {6999 * ms, true}}},
		"Retry-After shorter":              {nil, HintFor(6, 9, 1), []step{{5000 * ms, false}, {5000 * ms, false}, {4999 * ms, true}}},
		"after a held answer: at once":     {func(c *Config) { c.Hold = 30 * time.Second }, HintFor(1, 9, 1), []step{{5000 * ms, false}, {0, false}}},
		"held for less than the interval":  {func(c *Config) { c.Hold = 4 * time.Second }, HintFor(1, 9, 1), []step{{5000 * ms, false}, {4999 * ms, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, tt.edit)
				if tt.hint == "retry-7" {
					tt.hint = nric
					c.s.Script(nric, Script{Polls: []Step{{Kind: Unavailable, RetryAfter: 7, Times: 9}}})
				}
				id := c.ask(tt.hint)
				want := 0
				for i, step := range tt.steps {
					time.Sleep(step.wait)
					c.poll(id)
					if step.early {
						want++
					}
					r, _ := c.s.Ledger().Request(id)
					if r.Polls[i].Early != step.early || r.Early != want {
						t.Errorf("poll %d: early %v (%d in all), want %v (%d)", i+1, r.Polls[i].Early, r.Early, step.early, want)
					}
				}
				if l := c.s.Ledger(); l.Early != want || l.Polls != len(tt.steps) {
					t.Errorf("ledger: %d early of %d", l.Early, l.Polls)
				}
			})
		})
	}
}

func TestStrictAnswersSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(c *Config) { c.Strict = true })
		id := c.ask(HintFor(1, 1, 1))
		var got []string
		for _, wait := range []time.Duration{4, 9, 15, 15, 0} { // seconds: early, early, then in time at 5 + 2×5
			time.Sleep(wait * time.Second)
			got = append(got, told(c.poll(id)))
		}
		want := []string{"slow_down", "slow_down", "authorization_pending", "tokens", "invalid_grant"}
		if !slices.Equal(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	})
}

func TestLateness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		id := c.ask(HintFor(1, 500, 1))
		for i := range 20 {
			late := time.Duration(i+1) * 10 * time.Millisecond // 10 … 200 ms
			time.Sleep(5*time.Second + late)
			c.poll(id)
		}
		// A client that backs off after an error is not late.
		c.s.Outage(&Step{Kind: Fail})
		time.Sleep(5 * time.Second)
		c.poll(id)
		c.s.Outage(nil)
		time.Sleep(time.Minute)
		c.poll(id)

		late := c.s.Ledger().Lateness
		within := func(got, want time.Duration) bool { return got >= want*96/100 && got <= want*104/100 }
		if late.Count != 21 || !within(late.P50, 100*time.Millisecond) || !within(late.P99, 200*time.Millisecond) || late.Max != 200*time.Millisecond {
			t.Errorf("lateness %+v", late)
		}
	})
}

func TestHistogramAgainstSorting(t *testing.T) {
	var h histogram
	rnd := rand.New(rand.NewPCG(1, 2))
	var all []time.Duration
	for range 20_000 {
		d := time.Duration(rnd.ExpFloat64() * float64(3*time.Millisecond))
		all = append(all, d)
		h.add(d)
	}
	slices.Sort(all)
	got := h.summary()
	for name, pair := range map[string][2]time.Duration{"p50": {got.P50, all[len(all)/2]}, "p99": {got.P99, all[len(all)*99/100]}} {
		if ratio := float64(pair[0]) / float64(pair[1]); ratio < 0.96 || ratio > 1.04 {
			t.Errorf("%s = %v, sorted %v", name, pair[0], pair[1])
		}
	}
	if got.Max != all[len(all)-1] {
		t.Errorf("max %v, want %v", got.Max, all[len(all)-1])
	}
	for us := uint64(0); us < 1<<20; us += 7 { // each value lies in its bucket, and buckets touch
		i := bucketOf(us)
		if d := time.Duration(us) * time.Microsecond; d > bucketEnd(i) || i > 0 && d <= bucketEnd(i-1) {
			t.Fatalf("%d µs is in bucket %d: %v…%v", us, i, bucketEnd(i-1), bucketEnd(i))
		}
	}
	h.add(1 << 62) // a duration out of all measure has a bucket too
}

func TestLedgerOfOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		begin := time.Now()
		id := c.ask(HintFor(1, 1, 7))
		time.Sleep(5 * time.Second)
		c.poll(id)
		time.Sleep(6 * time.Second)
		c.poll(id)
		time.Sleep(time.Second)
		c.poll(id)

		r, ok := c.s.Ledger().Request(id)
		if !ok || r.Hint != HintFor(1, 1, 7) || r.ClientID != "bank" || !r.Pushed.Equal(begin) || r.ExpiresAt.Sub(begin) != 300*time.Second {
			t.Errorf("request %+v", r)
		}
		var answers []string
		for _, p := range r.Polls {
			answers = append(answers, p.Answer)
		}
		if !slices.Equal(answers, []string{"authorization_pending", "tokens", "invalid_grant"}) {
			t.Errorf("answers %v", answers)
		}
		if at := begin.Add(11 * time.Second); len(r.Tokens) != 1 || !r.Tokens[0].Equal(at) || !r.Polls[1].Answered.Equal(at) {
			t.Errorf("tokens at %v, want %v", r.Tokens, at)
		}
		want := Answered{AuthReqID: id, Hint: r.Hint, Answer: "tokens", At: begin.Add(11 * time.Second)}
		if got := c.s.Answered(); len(got) != 1 || got[0].AuthReqID != want.AuthReqID || got[0].Answer != want.Answer || !got[0].At.Equal(want.At) {
			t.Errorf("answered %+v, want %+v", got, want)
		}
		l := c.s.Ledger()
		if l.Tokens != 1 || l.Polls != 3 || l.Early != 1 || l.Overlaps != 0 || l.Open != 0 || l.Answers["tokens"] != 1 || l.Answers["authorization_pending"] != 1 {
			t.Errorf("ledger %+v", l)
		}
	})
}

// A client that hangs up is not an overlap later, and what it did not hear was not consumed.
func TestHangingUp(t *testing.T) {
	c := start(t, func(c *Config) { c.Manual, c.Hold = true, time.Minute })
	srv := httptest.NewServer(c.s)
	defer srv.Close()
	id := c.ask(nric)
	hasty := &http.Client{Timeout: 50 * time.Millisecond}
	if res, err := hasty.PostForm(srv.URL+"/token", c.auth(map[string][]string{"grant_type": {grantCIBA}, "auth_req_id": {id}})); err == nil {
		res.Body.Close()
		t.Fatal("the poll was not held")
	}
	gone := func() bool {
		r, _ := c.s.Ledger().Request(id)
		return len(r.Polls) == 1 && r.Polls[0].Answer == "gone"
	}
	for end := time.Now().Add(10 * time.Second); !gone(); {
		if time.Now().After(end) {
			t.Fatal("the server did not notice")
		}
	}
	if err := c.s.Approve(id); err != nil {
		t.Fatal(err)
	}
	if got := told(c.poll(id)); got != "tokens" {
		t.Errorf("after hanging up: %s", got)
	}
	if l := c.s.Ledger(); l.Overlaps != 0 {
		t.Errorf("%d overlaps", l.Overlaps)
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		id := c.ask(HintFor(1, 500, 1))
		for range 20 {
			c.poll(id)
			c.poll(id)
			time.Sleep(time.Second)
		}
		c.poll(id)
		c.poll(id)
		c.poll(id)
		if l := c.s.Ledger(); l.Recent != 2 || l.Peak != 3 || l.PollsPerSecond < 2 || l.PollsPerSecond > 2.2 {
			t.Errorf("recent %v, peak %d, mean %v", l.Recent, l.Peak, l.PollsPerSecond)
		}
	})
}

func TestResetKeepsWhatIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		done, open := c.ask(HintFor(1, 0, 1)), c.ask(HintFor(1, 1, 2))
		c.poll(done)
		c.poll(open)
		if a := c.post("/ledger/reset", nil); a.status != http.StatusNoContent {
			t.Fatalf("status %d", a.status)
		}
		l := c.s.Ledger()
		r, ok := l.Request(open)
		if l.Pushes+l.Polls+l.Tokens+l.Early+l.Lateness.Count != 0 || len(l.Requests) != 1 || !ok || len(r.Polls)+r.Early != 0 || len(c.s.Answered()) != 0 {
			t.Errorf("after the reset %+v", l)
		}
		if got := told(c.poll(open)); got != "tokens" {
			t.Errorf("open request after the reset: %s", got)
		}
	})
}

func TestLedgerOverHTTP(t *testing.T) {
	c := start(t, nil)
	first, second := c.ask(HintFor(1, 0, 1)), c.ask(HintFor(2, 0, 2))
	c.poll(first)
	c.poll(second)

	var l Ledger
	if err := json.Unmarshal([]byte(c.get("/ledger").body), &l); err != nil || len(l.Requests) != 2 || l.Pushes != 2 {
		t.Errorf("/ledger: %v, %+v", err, l)
	}
	if a := c.get("/ledger?summary=1"); a.json["requests"] != nil || a.json["pushes"] != 2.0 {
		t.Errorf("summary: %s", a.body)
	}
	if a := c.get("/ledger?auth_req_id=" + first); a.json["auth_req_id"] != first {
		t.Errorf("one request: %s", a.body)
	}
	if a := c.get("/ledger?auth_req_id=" + person); a.status != 404 {
		t.Errorf("unknown request: %d", a.status)
	}
	for query, want := range map[string]int{"": 2, "?auth_req_id=" + first: 1, "?hint=" + HintFor(2, 0, 2): 1, "?hint=x": 0} {
		var list []Answered
		if err := json.Unmarshal([]byte(c.get("/ledger/answered"+query).body), &list); err != nil || list == nil || len(list) != want {
			t.Errorf("/ledger/answered%s: %v, %d entries, want %d", query, err, len(list), want)
		}
	}
}

// Without Detail finished requests go and the ledger does not grow.
func TestBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(c *Config) { c.Detail, c.TrustAssertions = false, true })
		for range 40 {
			for i := range 20 {
				c.poll(c.ask(HintFor(1, 0, uint64(i))))
			}
			time.Sleep(time.Minute)
		}
		kept := c.s.flows.all()
		for _, f := range kept {
			if len(f.polls) > 0 {
				t.Fatal("polls are kept")
			}
		}
		// Life 5 minutes, forgotten 2 later, swept when the shard is next used: far fewer than 800.
		if len(kept) > 400 {
			t.Errorf("%d of 800 requests are kept", len(kept))
		}
		l := c.s.Ledger()
		if l.Pushes != 800 || l.Tokens != 800 || l.Lateness.Count != 800 || l.Requests != nil || len(c.s.Answered()) != 800 {
			t.Errorf("ledger %+v", l)
		}
	})
}

func TestFinalsAreARing(t *testing.T) {
	tl := newTally(time.Now())
	f := &flow{}
	for i := range maxFinals + 3 {
		f.id = strings.Repeat("x", i&1) + "last"
		tl.answer(f, answer{kind: Approve, name: "tokens", final: true}, time.Unix(int64(i), 0))
	}
	got := tl.answered()
	if len(got) != maxFinals || got[0].At.Unix() != 3 || got[maxFinals-1].At.Unix() != maxFinals+2 {
		t.Errorf("%d entries, from %v to %v", len(got), got[0].At.Unix(), got[len(got)-1].At.Unix())
	}
}
