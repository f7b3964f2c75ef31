package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stepup/worker/api"
)

// endless is a body that never ends; it counts what was taken of it.
type endless struct{ read atomic.Int64 }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read.Add(int64(len(p)))
	return len(p), nil
}

func TestBodyLimit(t *testing.T) {
	pad := func(n int) string { return goodBody + strings.Repeat(" ", n-len(goodBody)) }
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		status int
	}{
		{"16 KiB", strings.NewReader(pad(16 << 10)), 16 << 10, 201},
		{"a byte more", strings.NewReader(pad(16<<10 + 1)), 16<<10 + 1, 413},
		{"16 KiB, length unknown", strings.NewReader(pad(16 << 10)), -1, 201},
		{"a byte more, length unknown", strings.NewReader(pad(16<<10 + 1)), -1, 413},
		{"a gigabyte announced", &endless{}, 1 << 30, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBank(t)
			r := b.request("POST", "/v1/step-ups", "")
			r.Body, r.ContentLength = io.NopCloser(tt.body), tt.length
			w := b.do(r)
			if w.Code != tt.status || w.Code == 413 && problemOf(t, w).Code != "too_large" {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			if e, ok := tt.body.(*endless); ok && e.read.Load() != 0 {
				t.Errorf("read %d bytes of a body that was announced as too large", e.read.Load())
			}
		})
	}
}

// A gigabyte in chunks costs next to nothing: we stop reading, answer and close.
func TestEndlessBodyKeepsMemoryFlat(t *testing.T) {
	b := newBank(t)
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = api.NewHTTPServer(b.h, slog.New(slog.DiscardHandler))
	srv.Start()
	defer srv.Close()
	body := &endless{}
	r, _ := http.NewRequest("POST", srv.URL+"/v1/step-ups", io.LimitReader(body, 1<<30))
	r.Header = b.request("POST", "/", "").Header
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, err := http.DefaultTransport.RoundTrip(r)
	runtime.ReadMemStats(&after)
	if err == nil { // else the connection was closed under the sender, which is an answer too
		if resp.StatusCode != 413 {
			t.Errorf("%d, want 413", resp.StatusCode)
		}
		resp.Body.Close()
	}
	if n := body.read.Load(); n > 64<<20 { // kernel buffers
		t.Errorf("%d MiB were taken", n>>20)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 8<<20 {
		t.Errorf("%d KiB allocated", grown>>10)
	}
	if len(b.asked) != 0 {
		t.Error("asked")
	}
}

// A wait may be longer than every time-out of the server.
func TestLongPollOutlastsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		b.service.wait = func(ctx context.Context, d time.Duration) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		_, client := serve(t, b.h)
		for _, target := range holding { // one after the other on a connection
			r, _ := http.NewRequest("GET", "http://bank"+target, nil)
			r.Header.Set("Authorization", "Bearer "+b.ledger)
			start := time.Now()
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if took := time.Since(start); resp.StatusCode != 200 || took != time.Minute {
				t.Errorf("%d %s after %s, want 200 after 60s", resp.StatusCode, body, took)
			}
		}
	})
}

// The same over TLS, where HTTP/2 has deadlines of its own.
func TestLongPollOutlastsTheServerOverHTTP2(t *testing.T) {
	b := newBank(t)
	b.service.wait = func(ctx context.Context, d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = api.NewHTTPServer(b.h, slog.New(slog.DiscardHandler))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	r, _ := http.NewRequest("GET", srv.URL+"/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA?wait=200ms", nil)
	r.Header.Set("Authorization", "Bearer "+b.ledger)
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("%s over %s", resp.Status, resp.Proto)
	}
}

// When the worker drains, Wait returns and the client has its answer at once.
func TestLongPollEndsOnDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		_, client := serve(t, b.h)
		for i, want := range []string{`"pending"`, `"events":[]`} {
			drain := make(chan struct{})
			b.service.wait = func(context.Context, time.Duration) error { <-drain; return nil }
			time.AfterFunc(7*time.Second, func() { close(drain) })
			r, _ := http.NewRequest("GET", "http://bank"+holding[i], nil)
			r.Header.Set("Authorization", "Bearer "+b.ledger)
			start := time.Now()
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if took := time.Since(start); resp.StatusCode != 200 || !strings.Contains(string(body), want) || took != 7*time.Second {
				t.Errorf("%d %s after %s", resp.StatusCode, body, took)
			}
		}
	})
}

// A client that goes away ends its wait; that is no fault of ours.
func TestLongPollEndsWithItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		var ended time.Time
		b.service.wait = func(ctx context.Context, _ time.Duration) error {
			<-ctx.Done()
			ended = time.Now()
			return ctx.Err()
		}
		_, client := serve(t, b.h)
		for _, target := range holding {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			r, _ := http.NewRequestWithContext(ctx, "GET", "http://bank"+target, nil)
			r.Header.Set("Authorization", "Bearer "+b.ledger)
			b.log.Reset()
			start := time.Now()
			if _, err := client.Do(r); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			synctest.Wait()
			if ended.Sub(start) != 3*time.Second {
				t.Errorf("the wait ended after %s", ended.Sub(start))
			}
			if log := b.log.String(); !strings.Contains(log, `"status":499`) || !strings.Contains(log, `"level":"INFO"`) {
				t.Errorf("log %s", log)
			}
		}
	})
}

// Where a body comes in chunks, a proxy may have seen another end of the request: what follows it is not read.
func TestNothingFollowsChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		l, _ := serve(t, b.h)
		const create = "POST /v1/step-ups HTTP/1.1\r\nHost: bank\r\nContent-Type: application/json\r\nIdempotency-Key: k\r\nAuthorization: Bearer "
		for _, tt := range []struct {
			name, body string
			answers    int
		}{
			{"a length", "\r\nContent-Length: 2\r\n\r\n{}", 2},
			{"chunks", "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1},
			{"chunks and a length", "\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 1},
		} {
			conn := l.dial()
			go io.WriteString(conn, create+b.ledger+tt.body+nothing)
			text, _ := io.ReadAll(conn)
			if n := strings.Count(string(text), "HTTP/1.1 "); n != tt.answers || !strings.HasPrefix(string(text), "HTTP/1.1 400") {
				t.Errorf("%s: %d answers, want %d:\n%s", tt.name, n, tt.answers, text)
			}
			conn.Close()
		}
	})
}
