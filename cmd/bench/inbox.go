package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"stepup/webhook"
)

// inbox is a bank's webhook receiver in this process. It verifies what comes by the secret that it shares with the sender.
type inbox struct {
	url     string
	secret  string // lines of the sender's file
	secrets []webhook.Secret
	keys    []webhook.Key
	server  *http.Server
	bad     atomic.Pointer[http.HandlerFunc] // if set, it answers in the inbox's place

	mu     sync.Mutex
	at     map[string]time.Time // by the step-up's reference, when its first webhook was read and verified
	sample event                // the last one
}

// event is what the bench reads of a webhook.
type event struct {
	body []byte
	mark string // what tells it from others: the step-up's reference, or its id where the content is encrypted
}

// openInbox opens one whose sender signs with more than the shared secret.
func openInbox(more string) (*inbox, error) {
	shared := webhook.NewSecret()
	keys, err := webhook.ParseKeys([]byte(shared))
	if err != nil {
		return nil, err
	}
	secret := shared + "\n" + more
	secrets, err := webhook.ParseSecrets([]byte(secret))
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	in := &inbox{url: "http://" + l.Addr().String() + "/", secret: secret, secrets: secrets, keys: keys, at: map[string]time.Time{}}
	in.server = &http.Server{Handler: http.HandlerFunc(in.receive), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = in.server.Serve(l) }()
	return in, nil
}

func (in *inbox) receive(w http.ResponseWriter, r *http.Request) {
	if bad := in.bad.Load(); bad != nil {
		(*bad)(w, r)
		return
	}
	m, err := webhook.Read(r, in.keys, time.Now())
	if err != nil {
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	now := time.Now()
	var told struct {
		Type string `json:"type"`
		Data struct {
			ID        string `json:"id"`
			Reference string `json:"reference"`
		} `json:"data"`
	}
	if json.Unmarshal(m.Body, &told) != nil || told.Type != "step_up.approved" {
		return // counted by its absence
	}
	mark := cmp.Or(told.Data.Reference, told.Data.ID)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.sample = event{m.Body, mark}
	if in.at[mark].IsZero() {
		in.at[mark] = now
	}
}

// count is how many approvals were told.
func (in *inbox) count() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.at)
}

// took is when each approval was told first, by its mark.
func (in *inbox) took() map[string]time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	return maps.Clone(in.at)
}

// forget begins anew.
func (in *inbox) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	clear(in.at)
}

func (in *inbox) last() event {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.sample
}

func (in *inbox) close() { in.server.Close() }

// after is how long after it had begun each of them was received, sorted; marks name the beginnings. Both clocks are this machine's, read in two
// processes; JSON keeps no monotonic part.
func after(began map[string]time.Time, marks map[string]string, received map[string]time.Time) []time.Duration {
	var all []time.Duration
	for mark, name := range marks {
		if from, to := began[name], received[mark]; !from.IsZero() && !to.IsZero() {
			all = append(all, to.Round(0).Sub(from.Round(0)))
		}
	}
	return sorted(all)
}
