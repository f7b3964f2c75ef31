package main

import (
	"fmt"
	"slices"
	"time"

	"stepup/ciba/cibatest"
)

// demoView is what the page shows.
type demoView struct {
	Now   time.Time // zero in a part that replaces another: its script tells the time, so that it stays the same while nothing happens
	Links map[string]string

	Customer string
	Asking   bool
	Asked    result
	Outcome  *result // nil before the webhook
	Refused  *refusal

	Questions []question // on the phone, newest first
	Answered  string     // without any: how the last one ended, in a word; empty at the beginning
	Heard     bool       // and the provider has told the service

	Latest  *letter   // nil: none since the transfer that waits
	Earlier []letter  // newest first
	Acts    []actView // newest first
}

// question is one on the phone.
type question struct {
	N               int // in the provider's ledger
	Client, Hint    string
	Pushed, Expires time.Time
	Seconds         int // it may stay open
}

// actView is an act as the trail shows it.
type actView struct {
	Title string
	Began time.Time
	Lines []lineView
}

type lineView struct{ At, Who, Text string }

// view is the page's content now. The page itself needs the time, its parts do not.
func (s demoSite) view(acts []act, page bool) demoView {
	v := demoView{Links: s.links, Customer: customer, Acts: actViews(acts)}
	if page {
		v.Now = time.Now()
	}
	s.mu.Lock()
	v.Asking, v.Asked, v.Outcome, v.Refused, v.Earlier = s.asking, s.asked, s.outcome, s.refused, slices.Clone(s.letters)
	since := s.since
	s.mu.Unlock()
	if len(v.Earlier) > 0 && (v.Outcome != nil && !v.Asking || v.Earlier[0].At.After(since)) {
		v.Latest, v.Earlier = &v.Earlier[0], v.Earlier[1:]
	}
	v.Questions, v.Answered, v.Heard = questions(s.op)
	return v
}

// Left is what remains until then.
func (v demoView) Left(until time.Time) time.Duration { return until.Sub(v.Now) }

// questions are what the phone shows; answered is how the last one ended where it shows none, and heard whether the service
// knows.
func questions(op *cibatest.Server) (open []question, answered string, heard bool) {
	waits := map[string]cibatest.Prompt{}
	for _, p := range op.Prompts() {
		waits[p.AuthReqID] = p
	}
	all := op.Ledger().Requests
	for n, r := range slices.Backward(all) {
		if p, ok := waits[r.AuthReqID]; ok && len(open) < 3 {
			open = append(open, question{n, p.ClientID, p.Hint, p.Asked, p.Expires, int(p.Expires.Sub(p.Asked).Seconds())})
		}
	}
	if len(open) > 0 || len(all) == 0 {
		return open, "", false
	}
	answered, heard = ending(all[len(all)-1])
	return nil, answered, heard
}

// ending is how a question ended, in a word; empty while a script is to answer it. told: a poll was answered with it.
func ending(r cibatest.Request) (word string, told bool) {
	answer := cibatest.Pending.String()
	if n := len(r.Polls); n > 0 {
		answer = r.Polls[n-1].Answer
	}
	told = answer != cibatest.Pending.String()
	if !told && r.Decision != "" {
		answer = r.Decision
	}
	switch {
	case answer == cibatest.Approve.String():
		return "approved", told
	case answer == cibatest.Deny.String():
		return "refused", told
	case time.Now().Before(r.ExpiresAt):
		return "", false
	}
	return "expired", told
}

func actViews(acts []act) (views []actView) {
	for _, a := range slices.Backward(acts) {
		if len(a.Lines) == 0 {
			continue
		}
		v := actView{Title: a.Title, Began: a.Began}
		for i := 0; i < len(a.Lines); {
			n := 1
			for a.Lines[i].Waiting && i+n < len(a.Lines) && a.Lines[i+n].Waiting {
				n++
			}
			v.Lines = append(v.Lines, lineViews(a.Began, a.Lines[i:i+n])...)
			i += n
		}
		views = append(views, v)
	}
	return views
}

// lineViews are happenings one after the other. Of many polls without an answer the first and the last are told, the others
// counted.
func lineViews(began time.Time, lines []happening) (views []lineView) {
	for i, l := range lines {
		v := lineView{fmt.Sprintf("%.3f", max(0, l.At.Sub(began).Seconds())), l.Who, l.Text}
		if between := len(lines) - 2; between > 1 && i > 0 && i <= between {
			if i > 1 {
				continue
			}
			v = lineView{"…", l.Who, fmt.Sprintf("asked %d more times: not answered yet", between)}
		}
		views = append(views, v)
	}
	return views
}
