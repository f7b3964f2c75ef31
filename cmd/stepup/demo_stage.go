package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

// stage prints what happens, in the order in which it happened: what the bank and the inbox say, and what the provider
// has in its ledger.
type stage struct {
	op    *cibatest.Server
	began time.Time

	mu    sync.Mutex
	w     io.Writer
	shown map[string]int // by auth_req_id: the push and so many polls
}

func newStage(w io.Writer, op *cibatest.Server) *stage {
	return &stage{op: op, began: time.Now(), w: w, shown: map[string]int{}}
}

// say prints a line of one of the players.
func (s *stage) say(who, format string, args ...any) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	s.line(now, who, fmt.Sprintf(format, args...))
}

func (s *stage) title(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	fmt.Fprintf(s.w, "\n%s\n", text)
}

func (s *stage) line(at time.Time, who, text string) {
	fmt.Fprintf(s.w, "%8.3f s  %-8s  %s\n", at.Sub(s.began).Seconds(), who, text)
}

// follow prints what the provider sees while nobody else says anything.
func (s *stage) follow(ctx context.Context) {
	for sleep(ctx, 100*time.Millisecond) {
		s.mu.Lock()
		s.catchUp()
		s.mu.Unlock()
	}
}

// catchUp prints what is new in the provider's ledger.
func (s *stage) catchUp() {
	type line struct {
		at        time.Time
		who, text string
	}
	var lines []line
	for _, r := range s.op.Ledger().Requests {
		polls, known := s.shown[r.AuthReqID]
		if !known {
			lines = append(lines, line{r.Pushed, "phone", "the question arrives at " + r.Hint})
		}
		for polls < len(r.Polls) && !r.Polls[polls].Answered.IsZero() {
			p := r.Polls[polls]
			polls++
			lines = append(lines, line{p.Answered, "provider", fmt.Sprintf("asked about %s, poll %d: %s", r.Hint, polls, pollText(p.Answer))})
		}
		s.shown[r.AuthReqID] = polls
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	for _, l := range lines {
		s.line(l.at, l.who, l.text)
	}
}

func pollText(answer string) string {
	switch answer {
	case cibatest.Pending.String():
		return "not answered yet"
	case cibatest.Approve.String():
		return "yes, an encrypted ID token"
	case cibatest.Deny.String():
		return "no"
	}
	return answer
}

// event is a webhook's body, as far as the demo reads it.
type event struct {
	Type string `json:"type"`
	Data struct {
		ID string `json:"id"`
	} `json:"data"`
}

// arrived shows what came to the inbox.
func (d *demo) arrived(n news) {
	if n.err != nil {
		d.stage.say("inbox", "REFUSED: %v", n.err)
		return
	}
	var e event
	if err := json.Unmarshal(n.body, &e); err != nil {
		d.stage.say("inbox", "verified, but not JSON")
		return
	}
	d.stage.say("inbox", "webhook %s of %s: signature verified", e.Type, e.Data.ID)
	select {
	case d.came <- e:
	default: // nobody waits for them outside --once
	}
}

func (d *demo) introduce() {
	fmt.Fprintf(d.env.stdout, `stepup demo: a bank asks, a phone answers. All of it in this process and in memory; nothing survives.

  API        %[1]s/v1/step-ups
  its docs   %[1]s/docs
  operators  %[2]s/readyz
  phone      %[3]s/phone
  webhooks   %[4]s/
  config     %[5]s/%[6]s
`, d.apiURL(), d.adminURL(), d.opURL(), d.inboxURL(), d.dir, configFile)
	if d.Once {
		return
	}
	fmt.Fprintf(d.env.stdout, `
Ask somebody yourself:

  curl %[1]s/v1/step-ups -H 'Authorization: Bearer %[2]s' \
    -H 'Content-Type: application/json' -H "Idempotency-Key: $RANDOM$RANDOM" \
    -d '{"provider":"singpass","login_hint":"S1234567D"}'

Somebody is being asked: open %[3]s/phone and answer. Enter asks the next one, Ctrl-C ends.

`, d.apiURL(), d.bank.key, d.opURL())
}
