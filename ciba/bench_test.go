package ciba

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// What one poll costs us, without the network: the assertion's signature is most of it.
func BenchmarkToken(b *testing.B) {
	cfg := singpassConfig("http://op.example")
	cfg.HTTP = &http.Client{Transport: pending{}}
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	to, _ := url.Parse("http://op.example/token")
	c.discovery.known.Store(&endpoints{auth: to, token: to, keys: to})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Token(b.Context(), canaryID); !isA[*Pending](err) {
			b.Fatal(err)
		}
	}
}

func BenchmarkJudgeToken(b *testing.B) {
	r := reply{status: 400, body: []byte(coded("authorization_pending"))}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := judgeToken(r, time.Time{}); !isA[*Pending](err) {
			b.Fatal(err)
		}
	}
}

// pending is a transport that answers at once that there is no answer.
type pending struct{}

func (pending) RoundTrip(r *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, r.Body)
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	body := []byte(coded("authorization_pending"))
	return &http.Response{StatusCode: 400, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
}

// BenchmarkTokenLoopback is a poll over a real connection to a peer that reads and answers with the least code: with -cpu 1 it is the CPU of
// both, system calls included.
func BenchmarkTokenLoopback(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go answerAll(l)
	cfg := singpassConfig("http://" + l.Addr().String())
	if cfg.HTTP, err = NewHTTPClient(nil); err != nil {
		b.Fatal(err)
	}
	c, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	to, _ := url.Parse("http://" + l.Addr().String() + "/token")
	c.discovery.known.Store(&endpoints{auth: to, token: to, keys: to})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Token(b.Context(), canaryID); !isA[*Pending](err) {
			b.Fatal(err)
		}
	}
}

// answerAll answers every request with "pending"; a request of this package comes in one piece.
func answerAll(l net.Listener) {
	body := coded("authorization_pending")
	answer := []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for room := make([]byte, 8<<10); ; {
				if _, err := conn.Read(room); err != nil {
					return
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
