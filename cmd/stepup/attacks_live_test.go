package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"stepup/worker/redistest"
)

// The same request many times at once is one step-up and one push: while the first is with the provider the others are
// told so, and afterwards all get its answer, byte for byte. With another body the key is refused.
func TestSameKeyAtOnce(t *testing.T) {
	t.Parallel()
	const nric = "S1234567D"
	w := beginTown(t, plan{banks: []string{"bank"}, providers: []string{"singpass"}, limits: wide})
	p, b := w.providers["singpass"], w.banks["bank"]
	letGo := p.hold()
	var mu sync.Mutex
	var taken []heard
	busy := 0
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			h := b.create(t, "one key", "singpass", nric)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case h.status == http.StatusCreated:
				taken = append(taken, h)
			case h.status == http.StatusConflict && h.code() == "idempotency_in_progress" && h.retryAfter() == time.Second:
				busy++
			default:
				t.Errorf("%d %v %s", h.status, h.header, h.body)
			}
		})
	}
	eventually(t, "all but one are told to come again", func() bool { mu.Lock(); defer mu.Unlock(); return busy == 99 })
	if h := b.create(t, "one key", "singpass", "T1234567J"); h.status != http.StatusUnprocessableEntity || h.code() != "idempotency_key_reused" {
		t.Errorf("another body meanwhile: %d %s", h.status, h.body)
	}
	letGo()
	all.Wait()
	if len(taken) != 1 {
		t.Fatalf("%d are taken, want 1", len(taken))
	}
	for range 100 {
		all.Go(func() {
			h := b.create(t, "one key", "singpass", nric)
			if h.status != http.StatusCreated || string(h.body) != string(taken[0].body) || h.header.Get("Location") != taken[0].header.Get("Location") {
				t.Errorf("a repeat: %d %s", h.status, h.body)
			}
		})
	}
	all.Wait()
	if h := b.create(t, "one key", "singpass", "T1234567J"); h.code() != "idempotency_key_reused" {
		t.Errorf("another body afterwards: %d %s", h.status, h.body)
	}
	if n, m := p.Ledger().Pushes, p.asked.Load(); n != 1 || m != 1 {
		t.Errorf("%d pushes and %d requests at the provider, want one", n, m)
	}
	w.drain(t)
}

// hosepipe sends one request whose body or header has no end, and gives up at a gibibyte.
type hosepipe struct {
	name, head string
	fill       []byte
	answers    []int // any of these; 0: closed without one
}

const hose = 1 << 30

// at sends it and returns the answer's status, 0 if the connection was closed without one, and what was taken.
func (h hosepipe) at(addr, key string) (status int, sent int64, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return 0, 0, err
	}
	var count atomic.Int64
	go func() {
		_, err := io.WriteString(conn, strings.ReplaceAll(h.head, "KEY", key))
		for err == nil && len(h.fill) > 0 && count.Load() < hose {
			var n int
			n, err = conn.Write(h.fill)
			count.Add(int64(n))
		}
	}()
	rd := bufio.NewReader(conn)
	res, err := http.ReadResponse(rd, nil)
	if err != nil {
		return 0, count.Load(), nil // closed, or reset, under the sender
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusContinue {
		return res.StatusCode, count.Load(), nil
	}
	_, _ = io.Copy(io.Discard, rd) // until it is closed
	return res.StatusCode, count.Load(), nil
}

// A gibibyte, announced or not, costs no memory: it is refused by its length or after 16 KiB, and the connection closed.
func TestGibibytes(t *testing.T) {
	w := beginTown(t, plan{banks: []string{"bank"}, providers: []string{"singpass"}, limits: wide})
	const create = "POST /v1/step-ups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\n"
	blank, line := bytes.Repeat([]byte(" "), 64<<10), bytes.Repeat([]byte("x"), 64<<10)
	chunk := slices.Concat([]byte("10000\r\n"), blank, []byte("\r\n"))
	chunked := "Transfer-Encoding: chunked\r\n\r\n"
	pipes := []hosepipe{
		{"announced", create + "Content-Length: 1073741824\r\n\r\n", blank, []int{413}},
		{"announced, waits to be let", create + "Expect: 100-continue\r\nContent-Length: 1073741824\r\n\r\n", nil, []int{413}},
		{"in chunks", create + chunked, chunk, []int{413}},
		{"by nobody", strings.Replace(create, "Bearer", "Basic", 1) + chunked, chunk, []int{401}},
		{"where none is wanted", strings.Replace(create, "step-ups", "step-ups/su_00"+strings.Repeat("A", 20)+"/cancel", 1) + chunked, chunk, []int{413}},
		{"a header", create + "X-Long: ", line, []int{431, 0}},
		{"a path", "GET /", line, []int{431, 0}},
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for _, p := range pipes {
		for range 4 {
			all.Go(func() {
				status, sent, err := p.at(strings.TrimPrefix(w.bank.url, "http://"), w.banks["bank"].key)
				if err != nil || !slices.Contains(p.answers, status) {
					t.Errorf("%s: status %d, %v; want one of %v", p.name, status, err, p.answers)
				}
				if sent > 64<<20 { // the kernel's buffers are what it is
					t.Errorf("%s: %d MiB were taken", p.name, sent>>20)
				}
			})
		}
	}
	all.Wait()
	runtime.ReadMemStats(&after)
	// All that was allocated meanwhile, by the service and this test, whether it was kept or not.
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d MiB allocated for %d requests", grown>>20, 4*len(pipes))
	}
	if n := w.providers["singpass"].asked.Load(); n != 0 {
		t.Errorf("%d requests at the provider", n)
	}
	w.banks["bank"].created(t, "k", "singpass", "S1234567D") // and it still works
	w.drain(t)
}

// A hint that is no NRIC, FIN or UUID, or whose check letter is not the right one, is the caller's mistake, told by name,
// and no provider hears of it.
func TestMalformedPersons(t *testing.T) {
	t.Parallel()
	w := beginTown(t, plan{banks: []string{"bank"}, providers: []string{"singpass"}, limits: wide})
	p, b := w.providers["singpass"], w.banks["bank"]
	const uuid = "0d5c2f6e-93a1-4c7b-8f1e-00000000abcd"
	published := []string{"S1234567D", "T1234567J", "F1234567N", "G1234567X", "M1234567K"} // right as they stand
	hints := []string{
		"", " ", "S", "S1234567", "S12345678D", "1234567D", "SS234567D", "A1234567D", "S123456OD", "S1234567D ", " S1234567D", "S1234567D\n", "S1234567D\x00",
		"s1234567d", "S1234567d", "s1234567D", "S1234567Ｄ", "Ｓ1234567D", "S１２３４５６７D", "S123456７D", "S123456٧D", "S123456\u0967D", "S12345\u200b67D",
		"S-1234567-D", "S1234567D,T1234567J", "s=S1234567D", "u=" + uuid, strings.ToUpper(uuid), uuid[:35], uuid + "0", "{" + uuid + "}", "urn:uuid:" + uuid,
		strings.ReplaceAll(uuid, "-", ""), strings.ReplaceAll(uuid, "-", "–"), strings.Replace(uuid, "0", "０", 1), strings.Replace(uuid, "a", "g", 1), uuid[:8] + uuid[9:] + "-",
	}
	for _, right := range published {
		for letter := 'A'; letter <= 'Z'; letter++ {
			if wrong := right[:8] + string(letter); wrong != right {
				hints = append(hints, wrong)
			}
		}
	}
	for i, hint := range hints {
		body, err := json.Marshal(map[string]string{"provider": "singpass", "login_hint": hint})
		if err != nil {
			t.Fatal(err)
		}
		h := b.send(t, http.MethodPost, "/v1/step-ups", string(body), "Idempotency-Key", fmt.Sprint(i), "Content-Type", "application/json")
		var problem struct {
			Code   string
			Errors []struct{ Field, Message string }
		}
		if err := json.Unmarshal(h.body, &problem); err != nil {
			t.Fatal(err)
		}
		if h.status != http.StatusBadRequest || problem.Code != "invalid_request" || len(problem.Errors) != 1 || problem.Errors[0].Field != "login_hint" {
			t.Errorf("%q: %d %s", hint, h.status, h.body)
		}
		if len(hint) > 1 && strings.Contains(string(h.body), hint) {
			t.Errorf("%q: the problem repeats it", hint)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests at the provider, want none", n)
	}
	for i, right := range append(published, uuid) {
		b.created(t, fmt.Sprint("right", i), "singpass", right)
	}
	if n := p.asked.Load(); n != int64(len(published)+1) {
		t.Errorf("%d requests at the provider, want one for each who is well-formed", n)
	}
	w.drain(t)
}

// While Redis is gone, or hangs, creates are refused and nothing is sent. When it is back, with what it had on disk, they
// work again, and what was pending goes on.
func TestCreatesWithoutRedis(t *testing.T) {
	t.Parallel()
	node, err := redistest.RunNode(t.TempDir(), "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Kill() })
	w := beginTown(t, plan{banks: fiveBanks, providers: []string{"singpass"}, limits: wide, redis: node.Addr})
	p, b := w.providers["singpass"], w.banks["bank0"]
	const before = "S1234567D"
	pending := b.created(t, "before", "singpass", before)

	node.Kill()
	w.wantNothingSent(t, "gone", 100)
	if h := b.send(t, http.MethodGet, "/v1/step-ups/"+pending, ""); h.status != http.StatusServiceUnavailable || h.code() != "storage_unavailable" {
		t.Errorf("show without Redis: %d %s", h.status, h.body)
	}
	if err := node.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the service is ready again", func() bool { return w.status("/readyz") == http.StatusOK })
	if h := b.create(t, "before", "singpass", before); h.status != http.StatusCreated || h.text("id") != pending {
		t.Errorf("the repeat of what was asked before: %d %s", h.status, h.body)
	}
	p.decide(t, before, p.Approve)
	b.endsAs(t, pending, "approved")

	node.Freeze()
	w.wantNothingSent(t, "frozen", 50) // each waits for its time-out
	node.Thaw()                        // and reads what they sent meanwhile
	eventually(t, "the service is ready again", func() bool { return w.status("/readyz") == http.StatusOK })
	const after = "T1234567J"
	b.created(t, "after", "singpass", after)
	if n, m := p.Ledger().Pushes, p.asked.Load(); n != 2 || m != 2 {
		t.Errorf("%d pushes and %d requests at the provider, want 2", n, m)
	}
	w.drain(t)
}

// wantNothingSent creates so many step-ups at once and wants all refused for want of Redis.
func (w *town) wantNothingSent(t *testing.T, what string, n int) {
	t.Helper()
	p := w.providers["singpass"]
	asked := p.asked.Load()
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			h := w.banks[fiveBanks[i%5]].create(t, fmt.Sprint(what, i), "singpass", fmt.Sprintf("0d5c2f6e-93a1-4c7b-8f1e-%012x", i))
			if h.status != http.StatusServiceUnavailable || h.code() != "storage_unavailable" || h.retryAfter() < time.Second {
				t.Errorf("Redis is %s: %d, Retry-After %v: %s", what, h.status, h.retryAfter(), h.body)
			}
		})
	}
	all.Wait()
	if n := p.asked.Load() - asked; n != 0 {
		t.Errorf("Redis is %s: %d requests at the provider, want none", what, n)
	}
}
