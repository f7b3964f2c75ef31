package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"stepup/webhook"
)

// receiver is the bank's webhook endpoint, and the ledger of what came.
type receiver struct {
	url    string
	secret string // the line of a secrets_file
	server *http.Server
	meet   func(ctx context.Context, n int) // if set, before the n-th event is answered, from 0; ctx ends with the sender

	mu      sync.Mutex
	events  []event
	refused int // requests whose signature did not verify
}

// event is one webhook that came and verified.
type event struct {
	id     string // webhook-id
	body   string
	at     time.Time
	typ    string
	stepUp string // its id
	data   map[string]any

	answered bool // with 2xx, on a connection whose other side was still there
}

func openReceiver() (*receiver, error) {
	in := &receiver{secret: webhook.NewSecret()}
	keys, err := webhook.ParseKeys([]byte(in.secret))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	in.url = "http://" + l.Addr().String() + "/hooks"
	in.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := webhook.Read(r, keys, time.Now())
		if err != nil {
			in.note(nil)
			http.Error(w, "not verified", http.StatusUnauthorized)
			return
		}
		n := in.note(&m)
		if in.meet != nil {
			in.meet(r.Context(), n)
		}
		if r.Context().Err() == nil && http.NewResponseController(w).Flush() == nil {
			in.answered(n)
		}
	})}
	go func() { _ = in.server.Serve(l) }()
	return in, nil
}

// note keeps what came and returns its number among the events.
func (in *receiver) note(m *webhook.Message) (n int) {
	e := event{at: time.Now()}
	if m != nil {
		var body struct {
			Type string
			Data map[string]any
		}
		_ = json.Unmarshal(m.Body, &body) // what is not JSON has no type, which is a finding
		e.id, e.body, e.typ, e.data = m.ID, string(m.Body), body.Type, body.Data
		e.stepUp, _ = body.Data["id"].(string)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if m == nil {
		in.refused++
		return -1
	}
	in.events = append(in.events, e)
	return len(in.events) - 1
}

func (in *receiver) answered(n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.events[n].answered = true
}

// came is what came so far, in order, and how many requests did not verify.
func (in *receiver) came() (events []event, refused int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]event{}, in.events...), in.refused
}

// of is what came for one step-up.
func (in *receiver) of(stepUp string) (list []event) {
	events, _ := in.came()
	for _, e := range events {
		if e.stepUp == stepUp {
			list = append(list, e)
		}
	}
	return list
}

func (in *receiver) close() { in.server.Close() }
