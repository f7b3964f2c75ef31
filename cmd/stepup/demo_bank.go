package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// bank is a sample backend. It knows the service by its HTTP API alone.
type bank struct{ url, key string }

// result is what the bank reads of a step-up.
type result struct {
	ID       string    `json:"id"`
	Status   string    `json:"status"`
	Expires  time.Time `json:"expires_at"`
	Identity *struct {
		NRIC  string `json:"nric"`
		UUID  string `json:"uuid"`
		Bound bool   `json:"bound"`
	} `json:"identity"`
	Reason *struct {
		Code string `json:"code"`
	} `json:"reason"`
}

func (r result) String() string {
	switch {
	case r.Identity != nil:
		return fmt.Sprintf("%s by %s (%s)", r.Status, r.Identity.NRIC, r.Identity.UUID)
	case r.Reason != nil:
		return fmt.Sprintf("%s (%s)", r.Status, r.Reason.Code)
	}
	return r.Status
}

// refusal is an answer of the API that is a problem.
type refusal struct {
	request      string
	Status       int
	Code, Detail string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: %d %s %s", r.request, r.Status, r.Code, r.Detail)
}

func (b bank) ask(ctx context.Context, nric string) (result, error) {
	return b.put(ctx, map[string]any{"provider": "singpass", "login_hint": nric, "reference": "payment-" + nric[1:5]})
}

func (b bank) put(ctx context.Context, question map[string]any) (result, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return result{}, err
	}
	return b.call(ctx, http.MethodPost, "/v1/step-ups", body)
}

// result waits until the step-up is final. A wait that is over is no answer: it asks again.
func (b bank) result(ctx context.Context, id string) (result, error) {
	for {
		r, err := b.call(ctx, http.MethodGet, "/v1/step-ups/"+id+"?wait=30s", nil)
		if err != nil || r.Status != "pending" {
			return r, err
		}
	}
}

func (b bank) call(ctx context.Context, method, path string, body []byte) (result, error) {
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, bytes.NewReader(body))
	if err != nil {
		return result{}, err
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", rand.Text())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return result{}, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return result{}, err
	}
	if res.StatusCode >= 300 {
		problem := refusal{request: method + " " + path, Status: res.StatusCode}
		_ = json.Unmarshal(answer, &problem)
		return result{}, &problem
	}
	var r result
	err = json.Unmarshal(answer, &r)
	return r, err
}
