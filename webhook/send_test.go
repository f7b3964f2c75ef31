package webhook

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func send(t *testing.T, s *Sender) Attempt {
	t.Helper()
	return s.Send(t.Context(),
		Endpoint{URL: "http://bank.example/hooks/canary-path?token=canary-query", Secrets: secretsOf(t, vectorSecret)},
		Message{"evt_7K3", []byte(`{"type":"step_up.approved","data":{"nric":"canary-person"}}`)})
}

func TestSendIsStandardWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := secretsOf(t, vectorSecret, NewSecret(), vectorPrivate)
		var seen []http.Header
		s, p := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != "POST" || r.Host != "bank.example" || r.URL.RequestURI() != "/hook?a=b" || r.ContentLength != 15 {
				t.Errorf("%s %s %s, %d bytes", r.Method, r.Host, r.URL, r.ContentLength)
			}
			seen = append(seen, r.Header)
			for _, one := range Keys(secrets) {
				m, err := Read(r, []Key{one}, time.Now())
				if err != nil || m.ID != "evt_7K3" || string(m.Body) != `{"type":"test"}` {
					t.Errorf("%+v, error %v", m, err)
				}
				r.Body = io.NopCloser(bytes.NewReader(m.Body))
			}
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, "thanks")
		})
		for range 2 {
			a := s.Send(t.Context(), Endpoint{URL: "http://bank.example/hook?a=b", Secrets: secrets}, Message{"evt_7K3", []byte(`{"type":"test"}`)})
			if a.Outcome != Delivered || a.Status != 202 || a.Err != nil || a.Reason != "" || a.RetryAfter != 0 {
				t.Fatalf("%+v", a)
			}
			time.Sleep(10 * time.Second) // the bubble's clock
		}
		for name, want := range map[string]string{
			"Content-Type": "application/json", "User-Agent": "stepup", "Webhook-Id": "evt_7K3",
			"Accept-Encoding": "", "Idempotency-Key": "", "Baggage": "", "Authorization": "", "Cookie": "",
		} {
			if got := seen[0].Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		first, _ := strconv.Atoi(seen[0].Get("Webhook-Timestamp"))
		second, _ := strconv.Atoi(seen[1].Get("Webhook-Timestamp"))
		if second-first != 10 {
			t.Errorf("timestamps %d and %d: each attempt has its own", first, second)
		}
		if n := p.dials.Load(); n != 1 {
			t.Errorf("%d connections for two sends: the first was not kept", n)
		}
	})
}

// What each answer means.
func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			status     int
			retryAfter string
			outcome    Outcome
			wait       time.Duration
			reason     string
		}{
			{200, "", Delivered, 0, ""},
			{201, "7", Delivered, 0, ""},
			{204, "", Delivered, 0, ""},
			{299, "", Delivered, 0, ""},
			{300, "", Failed, 0, ReasonRedirect},
			{301, "", Failed, 0, ReasonRedirect},
			{302, "", Failed, 0, ReasonRedirect},
			{303, "", Failed, 0, ReasonRedirect},
			{304, "", Failed, 0, ReasonRedirect},
			{307, "7", Failed, 0, ReasonRedirect},
			{308, "", Failed, 0, ReasonRedirect},
			{400, "7", Failed, 0, ReasonStatus},
			{404, "", Failed, 0, ReasonStatus},
			{410, "7", Gone, 0, ReasonGone},
			{429, "7", Failed, 7 * time.Second, ReasonStatus},
			{429, "", Failed, 0, ReasonStatus},
			{429, "1000000", Failed, 24 * time.Hour, ReasonStatus},
			{500, "7", Failed, 0, ReasonStatus},
			{502, "7", Failed, 0, ReasonStatus},
			{503, "7", Failed, 7 * time.Second, ReasonStatus},
			{503, "Sat, 01 Jan 2000 00:00:07 GMT", Failed, 7 * time.Second, ReasonStatus}, // bubbles start at 2000-01-01
			{599, "", Failed, 0, ReasonStatus},
			{999, "", Failed, 0, ReasonStatus},
		} {
			requests := 0
			s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				w.Header().Set("Location", "http://elsewhere.example/")
				w.Header().Set("Retry-After", c.retryAfter)
				w.WriteHeader(c.status)
				if c.status != 204 && c.status != 304 {
					fmt.Fprint(w, "canary-answer")
				}
			})
			a := send(t, s)
			if a.Outcome != c.outcome || a.Status != c.status || a.RetryAfter != c.wait || a.Reason != c.reason || (a.Err != nil) != (c.outcome == Failed) {
				t.Errorf("%d, Retry-After %q: %+v", c.status, c.retryAfter, a)
			}
			if requests != 1 {
				t.Errorf("%d: %d requests", c.status, requests)
			}
			checkSafe(t, a)
			// The wait that the caller makes of it: never shorter than what was asked for.
			if wait := max(Gap(1, 0), a.RetryAfter); wait < c.wait {
				t.Errorf("%d: waits %v, asked for %v", c.status, wait, c.wait)
			}
		}
	})
}

// checkSafe: nothing of the answer, the URL's path or query, or the message in the error.
func checkSafe(t *testing.T, a Attempt) {
	t.Helper()
	for _, text := range []string{fmt.Sprint(a.Err), fmt.Sprintf("%+v", a), fmt.Sprintf("%#v", a.Err)} {
		if strings.Contains(text, "canary") {
			t.Errorf("leaks: %s", text)
		}
	}
	if a.Err != nil && !strings.HasPrefix(a.Err.Error(), a.Reason+": ") {
		t.Errorf("error %q does not begin with %q", a.Err, a.Reason)
	}
}

// hijack hands the raw connection of the receiver to do, after the request was read whole.
func hijack(t *testing.T, do func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		do(conn)
	}
}

func say(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// trickle says one letter a second until the sender hangs up.
func trickle(head string) func(net.Conn) {
	return func(c net.Conn) {
		for _, err := io.WriteString(c, head); err == nil; _, err = io.WriteString(c, "a") {
			time.Sleep(time.Second)
		}
	}
}

// Hostile receivers. Whatever they do, an attempt ends in time and little is read.
func TestHostileReceivers(t *testing.T) {
	bomb := new(bytes.Buffer)
	zip := gzip.NewWriter(bomb)
	_, _ = zip.Write(make([]byte, 8<<20))
	_ = zip.Close()
	endless := func(c net.Conn) {
		junk := bytes.Repeat([]byte("canary-answer"), 1000)
		for {
			if _, err := c.Write(junk); err != nil {
				return
			}
		}
	}
	const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: canary-answer\r\nConnection: Upgrade\r\n\r\n"
	hang := func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }
	for _, c := range []struct {
		name    string
		handler func(*testing.T) http.HandlerFunc
		outcome Outcome
		status  int
		reason  string
		took    time.Duration
	}{
		{"hang", raw(hang), Failed, 0, ReasonTimeout, 15 * time.Second},
		{"trickled status line", raw(trickle("HTTP/1.1 20")), Failed, 0, ReasonTimeout, 15 * time.Second},
		{"trickled headers", raw(trickle("HTTP/1.1 200 OK\r\nX-A: ")), Failed, 0, ReasonTimeout, 15 * time.Second},
		{"slow body after yes", raw(trickle("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")), Delivered, 200, "", time.Second},
		{"slow body after no", raw(trickle("HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n")), Failed, 500, ReasonStatus, time.Second},
		{"body that never comes", raw(both(say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), hang)), Delivered, 200, "", time.Second},
		{"body cut short", raw(say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")), Delivered, 200, "", 0},
		{"endless body after yes", raw(both(say("HTTP/1.1 200 OK\r\n\r\n"), endless)), Delivered, 200, "", 0},
		{"endless body after no", raw(both(say("HTTP/1.1 500 No\r\n\r\n"), endless)), Failed, 500, ReasonStatus, 0},
		{"endless header", raw(both(say("HTTP/1.1 200 OK\r\nX-A: "), endless)), Failed, 0, ReasonProtocol, 0},
		{"endless status line", raw(both(say("HTTP/1.1 200 "), endless)), Failed, 0, ReasonProtocol, 0},
		{"cut without an answer", raw(func(net.Conn) {}), Failed, 0, ReasonReset, 0},
		{"cut in the status line", raw(say("HTTP/1.1 2")), Failed, 0, ReasonProtocol, 0},
		{"cut in the headers", raw(say("HTTP/1.1 200 OK\r\nX-A: canary-answer")), Failed, 0, ReasonReset, 0},
		{"not HTTP", raw(say("canary-answer\r\n\r\n")), Failed, 0, ReasonProtocol, 0},
		{"odd header", raw(say("HTTP/1.1 200 OK\r\ncanary-answer\r\n\r\n")), Failed, 0, ReasonProtocol, 0},
		{"odd status", raw(say("HTTP/1.1 canary-answer OK\r\n\r\n")), Failed, 0, ReasonProtocol, 0},
		{"odd Location", raw(say("HTTP/1.1 302 No\r\nLocation: http://canary-answer:%zz/\r\nContent-Length: 0\r\n\r\n")), Failed, 302, ReasonRedirect, 0},
		{"another protocol", raw(say(switching)), Failed, 101, ReasonStatus, 0},
		{"another protocol that never ends", raw(both(say(switching), hang)), Failed, 101, ReasonStatus, 0},
		{"gzip bomb", func(*testing.T) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(bomb.Bytes())
			}
		}, Delivered, 200, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := serve(t, c.handler(t))
				a := send(t, s)
				if a.Outcome != c.outcome || a.Status != c.status || a.Reason != c.reason {
					t.Errorf("%+v", a)
				}
				if a.Duration != c.took {
					t.Errorf("took %v, want %v", a.Duration, c.took)
				}
				// 4 KiB of body or 16 KiB of header, and what the transport's 4 KiB buffer had.
				if n := p.read.Load(); n > 21<<10 {
					t.Errorf("%d bytes read", n)
				}
				checkSafe(t, a)
			})
		})
	}
}

func raw(do func(net.Conn)) func(*testing.T) http.HandlerFunc {
	return func(t *testing.T) http.HandlerFunc { return hijack(t, do) }
}

func both(first, then func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) { first(c); then(c) }
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type zeros struct{ read, closed int }

func (z *zeros) Read(p []byte) (int, error) { z.read += len(p); return len(p), nil }
func (z *zeros) Close() error               { z.closed++; return nil }

func TestAtMost4KiBOfABody(t *testing.T) {
	body := new(zeros)
	s := &Sender{Client: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.GetBody != nil {
			t.Error("net/http may repeat the request")
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}, nil
	})}}
	if a := send(t, s); a.Outcome != Delivered || body.read > 4096 || body.closed != 1 {
		t.Errorf("%+v, %d bytes read, closed %d times", a, body.read, body.closed)
	}
}

// net/http repeats some requests by itself when a kept connection breaks; ours never.
func TestNoRepetitionOnAReusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		s, p := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if requests++; requests > 1 {
				hijack(t, func(net.Conn) {})(w, r)
			}
		})
		if a := send(t, s); a.Outcome != Delivered {
			t.Fatalf("%+v", a)
		}
		a := send(t, s)
		if a.Outcome != Failed || a.Reason != ReasonReset || requests != 2 || p.dials.Load() != 1 {
			t.Errorf("%+v, %d requests, %d connections", a, requests, p.dials.Load())
		}
	})
}

func TestOwnTimeoutAndCancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := serve(t, hijack(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }))
		s.Timeout = 3 * time.Second
		if a := send(t, s); a.Reason != ReasonTimeout || a.Duration != 3*time.Second {
			t.Errorf("%+v", a)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a := s.Send(ctx, Endpoint{URL: "http://bank.example/", Secrets: secretsOf(t, vectorSecret)}, Message{"evt_1", nil})
		if a.Outcome != Failed || a.Reason != ReasonCancelled || !errors.Is(a.Err, context.DeadlineExceeded) || a.Duration != time.Second {
			t.Errorf("%+v", a)
		}
	})
}

// A mistake of ours sends nothing, least of all an unsigned message or one past the guard.
func TestNothingIsSent(t *testing.T) {
	sent := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("a request was sent")
		return nil, io.EOF
	})}
	secrets := secretsOf(t, vectorSecret)
	good := Endpoint{URL: "https://bank.example/", Secrets: secrets}
	for name, c := range map[string]struct {
		client *http.Client
		e      Endpoint
		m      Message
	}{
		"no client":          {nil, good, Message{ID: "evt_1"}},
		"default transport":  {&http.Client{}, good, Message{ID: "evt_1"}},
		"no secret":          {sent, Endpoint{URL: "https://bank.example/", Secrets: nil}, Message{ID: "evt_1"}},
		"zero secret":        {sent, Endpoint{URL: "https://bank.example/", Secrets: []Secret{{}}}, Message{ID: "evt_1"}},
		"no id":              {sent, good, Message{}},
		"id with a dot":      {sent, good, Message{ID: "evt.1"}},
		"id with a line end": {sent, good, Message{ID: "evt_1\r\nX: y"}},
		"unreadable URL":     {sent, Endpoint{URL: "https://canary%zz/\n", Secrets: secrets}, Message{ID: "evt_1"}},
	} {
		a := (&Sender{Client: c.client}).Send(t.Context(), c.e, c.m)
		if a.Outcome != Failed || a.Status != 0 || a.Reason != ReasonConfiguration {
			t.Errorf("%s: %+v", name, a)
		}
		checkSafe(t, a)
	}
}

func TestOutcomeWords(t *testing.T) {
	for o, want := range map[Outcome]string{Delivered: "delivered", Gone: "gone", Failed: "failed", 0: "none", 9: "none"} {
		if o.String() != want {
			t.Errorf("%d: %s", int(o), o)
		}
	}
}
