package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// bank is a backend that knows the service by its HTTP API alone and does what a careful one does: it repeats a create
// under the same Idempotency-Key, against another process, until it knows.
type bank struct {
	urls   []string // of each process's API
	key    string
	client *http.Client
}

func newBank(key string, urls ...string) *bank {
	// A process that was stopped takes connections and never answers.
	return &bank{urls: urls, key: key, client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
}

// question is one create; its key makes it one step-up however often it is sent.
type question struct{ key, hint, reference string }

// told is what a create came to.
type told struct {
	status int    // 201, 422 or 502
	code   string // of a problem
	id     string
	tries  map[string]int // answers before: a problem's code, or `no answer`
	took   time.Duration
}

// view is a step-up as the API shows it. Deliveries are not among its members: they may change when it is final.
type view struct {
	status, reason string
	delivered      bool // every webhook has it
	members        map[string]any
}

func (v view) final() bool { return v.status != "" && v.status != "pending" }

// text is all of it, to be compared.
func (v view) text() string {
	b, _ := json.Marshal(v.members) // came as JSON
	return string(b)
}

func viewOf(members map[string]any) view {
	deliveries, _ := members["deliveries"].([]any)
	v := view{members: members, delivered: len(deliveries) > 0}
	for _, d := range deliveries {
		one, _ := d.(map[string]any)
		v.delivered = v.delivered && one["status"] == "delivered"
	}
	delete(members, "deliveries")
	v.status, _ = members["status"].(string)
	if r, ok := members["reason"].(map[string]any); ok {
		v.reason, _ = r["code"].(string)
	}
	return v
}

// ask creates a step-up, first at the process from.
func (b *bank) ask(ctx context.Context, from int, q question) (told, error) {
	body, err := json.Marshal(map[string]string{"provider": "sim", "login_hint": q.hint, "reference": q.reference})
	if err != nil {
		return told{}, err
	}
	t, began := told{tries: map[string]int{}}, time.Now()
	for n := from; ; n++ {
		status, members, err := b.call(ctx, http.MethodPost, n, "/v1/step-ups", q.key, body)
		if ctx.Err() != nil {
			return t, fmt.Errorf("creating a step-up: %w", context.Cause(ctx))
		}
		code, _ := members["code"].(string)
		switch {
		case err != nil:
			t.tries["no answer"]++
		case status == http.StatusCreated, status == http.StatusUnprocessableEntity, status == http.StatusBadGateway:
			t.status, t.code, t.took = status, code, time.Since(began)
			t.id, _ = members["id"].(string)
			return t, nil
		case status == http.StatusConflict, status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
			t.tries[code]++
		default:
			return t, fmt.Errorf("creating a step-up: %d %s", status, code)
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// show fetches a step-up from process n.
func (b *bank) show(ctx context.Context, n int, id string) (view, error) {
	status, members, err := b.call(ctx, http.MethodGet, n, "/v1/step-ups/"+id, "", nil)
	if err != nil {
		return view{}, err
	}
	if status != http.StatusOK {
		return view{}, fmt.Errorf("showing a step-up: %d %v", status, members["code"])
	}
	return viewOf(members), nil
}

// await fetches a step-up from all processes in turn until it is final.
func (b *bank) await(ctx context.Context, id string) (view, error) {
	for n := 0; ; n++ {
		if v, err := b.show(ctx, n, id); err == nil && v.final() {
			return v, nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return view{}, errors.New("the step-up did not become final")
		}
	}
}

func (b *bank) call(ctx context.Context, method string, n int, path, idempotency string, body []byte) (int, map[string]any, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.urls[n%len(b.urls)]+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	if idempotency != "" {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", idempotency)
	}
	res, err := b.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	var members map[string]any
	if err := json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&members); err != nil {
		return 0, nil, fmt.Errorf("reading an answer: %w", err)
	}
	return res.StatusCode, members, nil
}
