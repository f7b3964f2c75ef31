package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

const (
	customer    = "S1234567D"
	keepLetters = 10
)

// branch is the bank as its customer meets it. It asks when the customer presses the button, and learns how that ended from
// a verified webhook alone.
type branch struct {
	bank  bank
	op    *cibatest.Server
	stage *stage
	keyID string // of the secret that verifies webhooks

	mu      sync.Mutex
	asking  bool    // POST /v1/step-ups is under way
	asked   result  // the last transfer's step-up, as it began
	outcome *result // and as a verified webhook told its end; nil before that
	since   time.Time
	refused *refusal // why the customer's last press asked nobody
	letters []letter // newest first
	came    int      // letters so far
}

// letter is one request that came to the inbox.
type letter struct {
	N       int
	At      time.Time
	Err     error // why it was not accepted
	Again   bool
	KeyID   string // what verified it
	Event   event
	Headers []header
	Body    string // as JSON, indented
}

// header is one of a letter's.
type header struct{ Name, Value string }

// event is a webhook's body, as far as the bank reads it.
type event struct {
	Type string `json:"type"`
	Data result `json:"data"`
}

// transfer asks the customer to confirm one. Only one request is under way at a time; while a question is open the service
// refuses another to the same person, and the bank shows what it says.
func (b *branch) transfer(ctx context.Context) {
	b.mu.Lock()
	if b.asking {
		b.mu.Unlock()
		return
	}
	waiting := b.asked.ID != "" && b.outcome == nil
	b.asking, b.refused = true, nil
	if !waiting {
		b.since = time.Now()
	}
	b.mu.Unlock()
	if !waiting {
		b.stage.title("Transfer of 5,000.00 SGD to Harbour Motors")
	}
	b.stage.say("bank", "POST /v1/step-ups: ask %s", customer)
	asked, err := b.bank.put(ctx, map[string]any{
		"provider": "singpass", "login_hint": customer, "reference": "transfer-" + strconv.FormatInt(time.Now().Unix(), 10),
		"metadata": map[string]string{"amount": "5000.00 SGD", "to": "Harbour Motors"},
	})
	b.mu.Lock()
	b.asking = false
	if err == nil {
		b.asked, b.outcome = asked, nil
		b.settle() // the webhook may have been quicker than this answer
	} else if told, ok := errors.AsType[*refusal](err); ok {
		b.refused = told
	} else {
		b.refused = &refusal{Detail: "The service does not answer."}
	}
	b.mu.Unlock()
	if err != nil {
		b.stage.say("bank", "not asked: %v", err)
		return
	}
	b.stage.say("bank", "201: %s is %s", asked.ID, asked.Status)
}

// settle notes what a verified webhook says of the transfer: letters do not stay. The caller holds the lock.
func (b *branch) settle() {
	i := slices.IndexFunc(b.letters, func(l letter) bool { return l.Err == nil && l.Event.Data.ID == b.asked.ID })
	if i < 0 || b.asked.ID == "" || b.outcome != nil {
		return
	}
	end := b.letters[i].Event.Data
	b.outcome = &end
}

// arrived files what came to the inbox.
func (b *branch) arrived(n news) event {
	l := letter{At: n.at, Err: n.err, Again: n.again, KeyID: b.keyID, Headers: worthShowing(n.header)}
	said := "REFUSED: " + fmt.Sprint(n.err)
	var text bytes.Buffer
	switch {
	case n.err != nil:
	case json.Unmarshal(n.body, &l.Event) != nil || json.Indent(&text, n.body, "", "  ") != nil:
		said = "verified, but not JSON"
	default:
		l.Body = text.String()
		said = fmt.Sprintf("webhook %s of %s: signature verified", l.Event.Type, l.Event.Data.ID)
	}
	b.mu.Lock()
	b.came++
	l.N = b.came
	b.letters = slices.Insert(b.letters, 0, l)
	b.letters = b.letters[:min(len(b.letters), keepLetters)]
	if b.settle(); b.outcome != nil {
		b.refused = nil
	}
	b.mu.Unlock()
	b.stage.say("inbox", "%s", said)
	return l.Event
}

// worthShowing are the headers that a receiver looks at, in the order of the standard.
func worthShowing(h http.Header) (all []header) {
	for _, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature", "traceparent", "content-type", "user-agent"} {
		for _, v := range h.Values(name) {
			all = append(all, header{name, v})
		}
	}
	return all
}

// answer is a press on the phone: the n-th question of the provider's ledger.
func (b *branch) answer(n int, verdict string) error {
	press := map[string]func(string) error{"approve": b.op.Approve, "refuse": b.op.Refuse, "lapse": b.op.Lapse}[strings.ToLower(verdict)]
	questions := b.op.Ledger().Requests
	if press == nil || n < 0 || n >= len(questions) {
		return errors.New("there is no such question")
	}
	return press(questions[n].AuthReqID)
}
