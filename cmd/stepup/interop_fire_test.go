package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"stepup/ciba/cibatest/peers"
)

const (
	firePeople = 200
	fireSeed   = 20261122
	arriveIn   = 6 * time.Second  // in which they come
	fireTime   = 18 * time.Second // the wire fails for so long
	// Nobody's request outlives the fire by more than the longest wait that began in it, so that the last thing that was
	// heard of it is the provider's "not yet".
	nobodysTime = 40 * time.Second
)

// victim is a person whose step-up is asked for over the bad wire.
type victim struct {
	*person
	does    string // approve, deny or nothing
	comes   time.Duration
	decides time.Duration

	created chan struct{} // closed when the create is answered
	problem string        // the code, where it was refused for good
	refused int           // how often "nothing was sent" was said before
}

// Third-party provider, third-party fault proxy: every one of 200 step-ups ends as the person decided, or as lost where
// the provider's own ledger says that the answer went out and did not arrive; at most one push each, no poll early.
func TestUnderFire(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.poll = "{interval: 1s, timeout: 2s}"
	wire := newWire(t)
	peer := peers.StartProvider(t, peers.ProviderOptions{
		ClientID: "bank", ClientJWKS: s.read(t, "secrets/public.jwks.json"), Content: "A256GCM", ExpiresIn: 70 * time.Second, Issuer: "http://" + wire.near,
	})
	wire.far = peer.Address
	wire.lay(whole, nil)
	s.providers["fire"] = peer
	s.open(t)

	all := s.victims(t)
	start := time.Now()
	healed := wire.raging(fireSeed)
	var asking sync.WaitGroup
	for _, v := range all {
		asking.Go(func() { <-time.After(v.comes); v.askUnderFire(t) })
	}
	over := make(chan struct{})
	time.AfterFunc(fireTime, func() { defer close(over); healed() })
	defer func() { <-over }()
	for _, v := range all {
		<-time.After(time.Until(start.Add(v.decides)))
		v.decide()
	}
	asking.Wait()
	<-over

	ends := map[string]int{}
	f := &fireBooks{}
	for _, v := range all {
		ends[v.does+" -> "+f.judge(t, v)]++
	}
	t.Logf("seed %d, faults %v", fireSeed, wire.hits)
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		t.Logf("%4d %s", ends[name], name)
	}
	t.Logf("%d polls reached the provider, %d of them close, %d waits longer than 1.8 s, %d answers handed out and lost, %d creates refused with nothing sent, %v in all",
		f.polls, f.close, f.waits, f.lost, f.refused, time.Since(start).Round(time.Second))
	// A request that the client has given up can lie on a busy machine before the provider notes it: the next one then seems
	// close. A client that does not wait is close all the time.
	if f.close > f.polls/100 {
		t.Errorf("%d of %d polls came less than the interval after the one before", f.close, f.polls)
	}
	if f.waits == 0 || f.lost == 0 || !strings.Contains(s.serve.said(), "polls of the provider fail") {
		t.Error("no poll failed, no answer was lost: the fire did not reach the service")
	}
	s.stop(t)
	s.wantSilence(t)
}

// victims are people in the order in which they decide.
func (s *site) victims(t *testing.T) []*victim {
	r := rand.New(rand.NewPCG(fireSeed, 0))
	all := make([]*victim, firePeople)
	for i := range all {
		v := &victim{person: s.person(t, "fire"), does: []string{"approve", "deny", "approve", "nothing"}[i%4], created: make(chan struct{})}
		v.comes = time.Duration(r.Int64N(int64(arriveIn)))
		v.decides = v.comes + time.Second + time.Duration(r.Int64N(int64(14*time.Second)))
		all[i] = v
	}
	slices.SortFunc(all, func(a, b *victim) int { return int(a.decides - b.decides) })
	return all
}

// askUnderFire creates the step-up. "Nothing was sent" is taken at its word and asked again, as a bank would.
func (v *victim) askUnderFire(t *testing.T) {
	defer close(v.created)
	body := map[string]any{"provider": "fire", "login_hint": v.hint, "reference": v.reference, "metadata": map[string]string{"order": v.order}}
	if v.does == "nothing" {
		body["requested_expiry"] = int(nobodysTime.Seconds())
	}
	for {
		status, answer := v.call(t, http.MethodPost, "/v1/step-ups", body)
		v.id, _ = answer["id"].(string)
		v.problem, _ = answer["code"].(string)
		switch {
		case status == http.StatusCreated, v.problem == "initiation_unknown" && v.id != "":
			return
		case v.problem == "provider_unavailable" && v.refused < 30:
			v.refused++
			<-time.After(500 * time.Millisecond)
		default:
			t.Errorf("create: status %d, %v", status, answer)
			return
		}
	}
}

// decide is what the person does with the prompt, if there is one.
func (v *victim) decide() {
	<-v.created
	switch {
	case v.problem != "":
	case v.does == "approve":
		v.peer.Approve(v.hint)
	case v.does == "deny":
		v.peer.Deny(v.hint)
	}
}

// call asks the service, on a wire that is whole.
func (v *victim) call(t *testing.T, method, path string, body any) (int, map[string]any) {
	text, err := json.Marshal(body)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	q, err := http.NewRequestWithContext(t.Context(), method, "http://"+v.serve.api+path, bytes.NewReader(text))
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	q.Header = http.Header{"Authorization": {"Bearer " + v.key}, "Content-Type": {"application/json"}, "Idempotency-Key": {v.order}}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Error(err)
		return 0, nil
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, answer
}

// fireBooks are sums over all step-ups.
type fireBooks struct{ polls, close, waits, lost, refused int }

// judge waits for the end of one step-up and holds it against the person and the provider's ledger.
func (f *fireBooks) judge(t *testing.T, v *victim) (ended string) {
	t.Helper()
	if v.id == "" {
		return "nothing"
	}
	status, final := v.call(t, http.MethodGet, "/v1/step-ups/"+v.id+"?wait=50s", nil)
	if status != http.StatusOK {
		t.Fatalf("GET: status %d", status)
	}
	state, _ := final["status"].(string)
	reason, _ := final["reason"].(map[string]any)
	code, _ := reason["code"].(string)
	v.wantOneWebhook(t, final)

	seen := v.peer.Seen(v.hint)
	f.count(t, v, seen)
	out := handedOut(seen)
	right := false
	switch state + " " + code {
	case "approved ":
		identity, _ := final["identity"].(map[string]any)
		right = v.does == "approve" && out == "tokens" && identity["subject"] == v.hint
	case "denied denied_by_user":
		right = v.does == "deny" && out == "access_denied"
	case "expired expired":
		right = v.does == "nothing" && out == ""
	case "unknown result_lost": // the word went out, and it was not heard
		right = out != ""
		f.lost++
	case "unknown initiation_unknown":
		right = v.problem == "initiation_unknown" && out == ""
		if len(seen.Pushes) > 0 {
			code += ", and the phone did ring"
		}
	}
	if !right {
		t.Errorf("%s: %s %s, though the person did %q and the provider's ledger has %q: %v", v.id, state, code, v.does, out, seen.Polls)
	}
	return strings.TrimSpace(state + " " + code)
}

// handedOut is the final word that the provider has sent, whether or not it arrived.
func handedOut(seen peers.Seen) string {
	for _, p := range seen.Polls {
		switch {
		case p.Status == http.StatusOK && p.Error == "":
			return "tokens"
		case p.Error == "access_denied":
			return p.Error
		}
	}
	return ""
}

// count holds the ledger against the promises: one push at the most, however often the create was repeated; polls that
// never overlap and keep the interval, less what the wire may have held up the one before.
func (f *fireBooks) count(t *testing.T, v *victim, seen peers.Seen) {
	t.Helper()
	const interval, slack = time.Second, 60 * time.Millisecond // the provider is late in noting what came when it is busy
	f.refused += v.refused
	f.polls += len(seen.Polls)
	if n := len(seen.Pushes); n > 1 || n == 0 && v.problem == "" {
		t.Errorf("%s: %d pushes", v.id, n)
	}
	if v.problem != "" && len(seen.Polls) > 0 {
		t.Errorf("%s: polled, though its auth_req_id never arrived", v.id)
	}
	for i := 1; i < len(seen.Polls); i++ {
		gap := seen.Polls[i].At.Sub(seen.Polls[i-1].At)
		switch {
		case gap < interval/4:
			t.Errorf("%s: poll %d came %v after the one before it", v.id, i, gap)
		case gap < interval-upstreamLate-slack:
			f.close++
		}
		if seen.Polls[i].At.Before(seen.Polls[i-1].Done) {
			t.Errorf("%s: poll %d came while the one before it was being answered", v.id, i)
		}
		if gap > 1800*time.Millisecond {
			f.waits++
		}
	}
}

// wantOneWebhook wants the bank to be told once, verifiably, what the API says.
func (v *victim) wantOneWebhook(t *testing.T, final map[string]any) {
	t.Helper()
	var told post
	select {
	case told = <-v.posts:
	case <-time.After(30 * time.Second):
		t.Errorf("%s: no webhook for a step-up that is %v", v.id, final["status"])
		return
	}
	for _, secret := range v.secrets {
		theirs, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := theirs.Verify(told.body, told.header); err != nil {
			t.Errorf("%s: webhook: %v", v.id, err)
		}
	}
	var event struct {
		Type string
		Data map[string]any
	}
	if err := json.Unmarshal(told.body, &event); err != nil {
		t.Errorf("%s: webhook: %v", v.id, err)
	}
	if event.Type != fmt.Sprint("step_up.", final["status"]) || event.Data["id"] != v.id || event.Data["status"] != final["status"] {
		t.Errorf("%s is %v, and the webhook says %s of %v", v.id, final["status"], event.Type, event.Data["id"])
	}
}
