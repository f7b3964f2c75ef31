package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// backend is a bank's side of the API: it keeps its connections.
type backend struct {
	http     *http.Client
	url, key string
	found    faults // answers that were not what was asked for
}

func newBackend(p *program) *backend {
	transport := &http.Transport{MaxIdleConnsPerHost: 2000, DisableCompression: true}
	if len(p.ca) > 0 {
		transport.TLSClientConfig, transport.ForceAttemptHTTP2 = believing(p.ca), true
	}
	return &backend{http: &http.Client{Transport: transport, Timeout: time.Minute}, url: p.api + "/v1/step-ups", key: "Bearer " + p.key}
}

// as is another caller's backend on the same connections.
func (k *backend) as(key string) *backend {
	return &backend{http: k.http, url: k.url, key: "Bearer " + key}
}

// answer is what a backend reads.
type answer struct {
	ID     string
	Status string
}

// create asks for a step-up; ok is false when it was refused or nothing came.
func (k *backend) create(ctx context.Context, hint, reference string) (answer, bool) {
	body := `{"provider":"simulated","login_hint":"` + hint + `","reference":"` + reference + `"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.url, strings.NewReader(body))
	if err != nil {
		return answer{}, false
	}
	req.Header["Content-Type"] = []string{"application/json"}
	req.Header["Idempotency-Key"] = []string{reference}
	return k.do(req, "create", http.StatusCreated)
}

// get fetches a step-up; with wait such as "?wait=30s" it waits for the end.
func (k *backend) get(ctx context.Context, id, wait string) (answer, bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url+"/"+id+wait, nil)
	if err != nil {
		return answer{}, false
	}
	return k.do(req, "get", http.StatusOK)
}

// do counts everything but the one status that is right.
func (k *backend) do(req *http.Request, what string, want int) (a answer, ok bool) {
	req.Header["Authorization"] = []string{k.key}
	res, err := k.http.Do(req)
	if err != nil {
		k.found.add(what + " without an answer")
		return a, false
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		k.found.add(what + " with half an answer")
		return a, false
	}
	if res.StatusCode != want {
		var problem struct{ Code string }
		_ = json.Unmarshal(raw, &problem)
		k.found.add(fmt.Sprintf("%s %d %s", what, res.StatusCode, problem.Code))
		return a, false
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		k.found.add(what + " with an answer that is not JSON")
		return a, false
	}
	return a, true
}
