package ciba

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
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
