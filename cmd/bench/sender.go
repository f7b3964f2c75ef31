package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"stepup/webhook"
)

// The plain sender is what the service's deliveries are held against: a process that signs bytes and POSTs them, and keeps nothing. It uses the
// service's own HTTP client, so that the connections are the same, and no other part of it but the signature.

// senderEnv makes this program the plain sender: it reads an order from stdin, carries it out and prints what came of it.
const senderEnv = "STEPUP_BENCH_SENDER"

// atOnce is how many sends the plain sender has under way when it sends as fast as it can: as many as the service has to one endpoint.
const atOnce = 16

// order is what the plain sender is told.
type order struct {
	URL     string
	Secrets string        // lines of a file
	Body    []byte        // of an event that the service has sent
	Mark    string        // what is replaced in it, so that each event is another
	For     time.Duration // how long
	Rate    int           // a second, at moments that are fixed before; 0: as fast as it can
}

// sent is what came of an order.
type sent struct {
	Due    map[string]time.Time // by mark
	Failed int
	Took   time.Duration
	CPU    time.Duration // user + system, without the start
}

// plainly carries an order out in a process of its own.
func plainly(ctx context.Context, o order, errs io.Writer) (s sent, err error) {
	self, err := os.Executable()
	if err != nil {
		return s, err
	}
	told, err := json.Marshal(o)
	if err != nil {
		return s, err
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = append(os.Environ(), senderEnv+"=1"), bytes.NewReader(told), &out, errs
	endWithUs(cmd)
	if err := cmd.Run(); err != nil {
		return s, fmt.Errorf("running the plain sender: %w", err)
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return s, fmt.Errorf("reading what the plain sender did: %w", err)
	}
	return s, nil
}

// sendPlainly is the whole life of the plain sender's process.
func sendPlainly(in io.Reader, out, errs io.Writer) int {
	var o order
	err := json.NewDecoder(in).Decode(&o)
	if err == nil {
		var s sent
		if s, err = o.carryOut(context.Background()); err == nil {
			err = json.NewEncoder(out).Encode(s)
		}
	}
	if err != nil {
		fmt.Fprintln(errs, "plain sender:", err)
		return 1
	}
	return 0
}

func (o order) carryOut(ctx context.Context) (s sent, err error) {
	secrets, err := webhook.ParseSecrets([]byte(o.Secrets))
	if err != nil {
		return s, err
	}
	p := &plain{order: o, secrets: secrets, due: map[string]time.Time{}, client: &http.Client{
		Transport: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}).Transport, Timeout: 15 * time.Second,
	}}
	before, err := ownCPU()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if o.Rate > 0 {
		err = fire(ctx, began, arrivals(o.Rate, o.For, 0), func(i int, due time.Time) { p.send(ctx, i, due) })
	} else {
		p.flood(ctx, began.Add(o.For))
	}
	cpu, failed := ownCPU()
	return sent{Due: p.due, Failed: int(p.failed.Load()), Took: time.Since(began), CPU: cpu - before}, errors.Join(err, failed)
}

// plain is a plain sender at work.
type plain struct {
	order
	secrets []webhook.Secret
	client  *http.Client
	failed  atomic.Int64

	mu  sync.Mutex
	due map[string]time.Time
}

// flood sends as fast as it can.
func (p *plain) flood(ctx context.Context, end time.Time) {
	var next atomic.Int64
	var senders sync.WaitGroup
	for range atOnce {
		senders.Go(func() {
			for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
				p.send(ctx, int(next.Add(1)), now)
			}
		})
	}
	senders.Wait()
}

// send makes one POST.
func (p *plain) send(ctx context.Context, i int, due time.Time) {
	mark := fmt.Sprintf("%0*d", len(p.Mark), i)
	p.mu.Lock()
	p.due[mark] = due
	p.mu.Unlock()
	if err := p.post(ctx, "evt_"+mark, bytes.Replace(p.Body, []byte(p.Mark), []byte(mark), 1)); err != nil {
		p.failed.Add(1)
	}
}

func (p *plain) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", webhook.Sign(p.secrets, id, now, body))
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	return nil
}
