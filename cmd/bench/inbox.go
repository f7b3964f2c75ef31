package main

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"
	"time"

	"stepup/webhook"
)

// inbox is a bank's webhook receiver in this process.
type inbox struct {
	url     string
	secret  string // as its file holds it
	secrets []webhook.Secret
	server  *http.Server

	mu sync.Mutex
	at map[string]time.Time // by the step-up's reference, when its first webhook was read and verified
}

func openInbox() (*inbox, error) {
	secret := webhook.NewSecret()
	secrets, err := webhook.ParseSecrets([]byte(secret))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	in := &inbox{url: "http://" + l.Addr().String() + "/", secret: secret, secrets: secrets, at: map[string]time.Time{}}
	in.server = &http.Server{Handler: http.HandlerFunc(in.receive), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = in.server.Serve(l) }()
	return in, nil
}

func (in *inbox) receive(w http.ResponseWriter, r *http.Request) {
	m, err := webhook.Read(r, webhook.Keys(in.secrets), time.Now())
	if err != nil {
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	now := time.Now()
	var event struct {
		Type string `json:"type"`
		Data struct {
			Reference string `json:"reference"`
		} `json:"data"`
	}
	if json.Unmarshal(m.Body, &event) != nil || event.Type != "step_up.approved" {
		return // counted by its absence
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.at[event.Data.Reference].IsZero() {
		in.at[event.Data.Reference] = now
	}
}

// count is how many approvals were told.
func (in *inbox) count() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.at)
}

func (in *inbox) received(reference string) time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.at[reference]
}

func (in *inbox) close() { in.server.Close() }
