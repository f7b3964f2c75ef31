package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

// stage has what happened, in the order in which it happened: what the bank, its inbox and the service say, and what the
// provider has in its ledger. The terminal is told as it comes; the page shows it.
type stage struct {
	op    *cibatest.Server
	began time.Time

	mu      sync.Mutex
	w       io.Writer
	shown   map[string]shown // by auth_req_id
	acts    []act            // the last few, at least one
	changed chan struct{}    // closed when there is more to see
}

// act is what belongs to one question, as far as that can be told: what happens before the next one begins.
type act struct {
	Title string
	Began time.Time
	Lines []happening // by time
}

// happening is one thing that happened.
type happening struct {
	At        time.Time
	Who, Text string
	Waiting   bool // a poll without an answer: there may be many
}

// shown is how much of an entry of the provider's ledger is on stage.
type shown struct {
	polls   int
	decided bool
}

const (
	keepActs  = 6
	keepLines = 600 // of an act: more than the polls of one question
)

func newStage(w io.Writer, op *cibatest.Server) *stage {
	now := time.Now()
	return &stage{op: op, began: now, w: w, shown: map[string]shown{}, acts: []act{{Began: now}}, changed: make(chan struct{})}
}

// say tells what one of the players does now.
func (s *stage) say(who, format string, args ...any) {
	s.tell(happening{At: time.Now(), Who: who, Text: fmt.Sprintf(format, args...)})
}

// tell is say for what happened a moment ago.
func (s *stage) tell(h happening) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	s.add(h)
}

// title begins an act.
func (s *stage) title(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	fmt.Fprintf(s.w, "\n%s\n", text)
	if len(s.acts) == keepActs {
		s.acts = slices.Delete(s.acts, 0, 1)
	}
	s.acts = append(s.acts, act{Title: text, Began: time.Now()})
	s.change()
}

func (s *stage) add(h happening) {
	fmt.Fprintf(s.w, "%8.3f s  %-8s  %s\n", h.At.Sub(s.began).Seconds(), h.Who, h.Text)
	a := &s.acts[len(s.acts)-1]
	if len(a.Lines) == keepLines {
		a.Lines = slices.Delete(a.Lines, 0, 1)
	}
	at := len(a.Lines)
	for at > 0 && a.Lines[at-1].At.After(h.At) {
		at--
	}
	a.Lines = slices.Insert(a.Lines, at, h)
	s.change()
}

// change wakes whoever watches.
func (s *stage) change() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch returns the acts so far, and what is closed when there is more to see than that.
func (s *stage) watch() (acts []act, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.catchUp()
	for _, a := range s.acts {
		a.Lines = slices.Clone(a.Lines)
		acts = append(acts, a)
	}
	return acts, s.changed
}

// await waits until the act under way has a line that begins so.
func (s *stage) await(ctx context.Context, text string) error {
	for {
		acts, more := s.watch()
		if slices.ContainsFunc(acts[len(acts)-1].Lines, func(h happening) bool { return strings.HasPrefix(h.Text, text) }) {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s", text)
		}
	}
}

// follow looks what the provider sees while nobody else says anything.
func (s *stage) follow(ctx context.Context) {
	for sleep(ctx, 100*time.Millisecond) {
		s.mu.Lock()
		s.catchUp()
		s.mu.Unlock()
	}
}

// catchUp adds what is new in the provider's ledger.
func (s *stage) catchUp() {
	var lines []happening
	for _, r := range s.op.Ledger().Requests {
		was, known := s.shown[r.AuthReqID]
		if !known {
			lines = append(lines, happening{At: r.Pushed, Who: "phone", Text: "the question arrives at " + r.Hint})
		}
		if !was.decided && r.Decision != "" {
			was.decided = true
			lines = append(lines, happening{At: r.Decided, Who: "phone", Text: r.Hint + " " + decisionText(r.Decision)})
		}
		for was.polls < len(r.Polls) && !r.Polls[was.polls].Answered.IsZero() {
			p := r.Polls[was.polls]
			was.polls++
			lines = append(lines, happening{
				At: p.Answered, Who: "provider", Text: fmt.Sprintf("asked about %s, poll %d: %s", r.Hint, was.polls, pollText(p.Answer)),
				Waiting: p.Answer == cibatest.Pending.String(),
			})
		}
		s.shown[r.AuthReqID] = was
	}
	slices.SortStableFunc(lines, func(a, b happening) int { return a.At.Compare(b.At) })
	for _, l := range lines {
		s.add(l)
	}
}

func decisionText(decision string) string {
	switch decision {
	case cibatest.Approve.String():
		return "approves"
	case cibatest.Deny.String():
		return "refuses"
	}
	return "lets the time pass"
}

func pollText(answer string) string {
	switch answer {
	case cibatest.Pending.String():
		return "not answered yet"
	case cibatest.Approve.String():
		return "yes, an encrypted ID token"
	case cibatest.Deny.String():
		return "no"
	case cibatest.Expire.String():
		return "the time is over"
	}
	return answer
}
