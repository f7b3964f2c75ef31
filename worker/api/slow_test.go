package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2/hpack"

	"stepup/worker/api"
)

// frame is an HTTP/2 frame (RFC 9113 §4.1).
func frame(kind, flags byte, stream uint32, payload string) string {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return string(binary.BigEndian.AppendUint32(append(head, flags), stream)) + payload
}

// fields are header fields, each as a literal without an index (RFC 7541 §6.2.2).
func fields(pairs ...string) string {
	var b strings.Builder
	for i, s := range pairs {
		if i%2 == 0 {
			b.WriteByte(0)
		}
		b.WriteByte(byte(len(s))) // all are shorter than 127
		b.WriteString(s)
	}
	return b.String()
}

const (
	framesData, framesHeaders, framesReset, framesSettings, framesPing, framesMore = 0, 1, 3, 4, 6, 9
	endStream, endHeaders, ack                                                     = 1, 4, 1

	keyHere = "sk_0123456789012345678901234567890123456789012345678901" // as long as a key, which takes its place

	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	newPost = "POST /v1/step-ups HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer " + keyHere + "\r\nIdempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
	ledgers = "GET /v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA HTTP/1.1\r\nHost: bank\r\nAuthorization: Bearer " + keyHere + "\r\n\r\n"
	nothing = "GET /x HTTP/1.1\r\nHost: bank\r\n\r\n"
)

var (
	hello      = preface + frame(framesSettings, 0, 0, "")
	long       = strings.Repeat(fields("x", strings.Repeat("x", 100)), 200)
	noRoom     = preface + frame(framesSettings, 0, 0, "\x00\x04\x00\x00\x00\x00") // SETTINGS_INITIAL_WINDOW_SIZE 0
	get        = fields(":method", "GET", ":scheme", "https", ":authority", "bank", ":path", "/x")
	ledgersGet = fields(":method", "GET", ":scheme", "https", ":authority", "bank", ":path", "/v1/step-ups/su_00LEDGERAAAAAAAAAAAAAA",
		"authorization", "Bearer "+keyHere)
	post = fields(":method", "POST", ":scheme", "https", ":authority", "bank", ":path", "/v1/step-ups",
		"authorization", "Bearer "+keyHere, "idempotency-key", "k", "content-type", "application/json")
)

// slow is a client that does less than it should.
type slow struct {
	name   string
	sent   string
	drip   bool          // the rest of sent goes a byte a second
	proto  string        // of TLS; empty: no TLS
	mute   bool          // never reads what comes back
	alive  bool          // over HTTP/2: answers pings
	answer string        // how the first answer's status begins
	late   time.Duration // how long it takes
	after  time.Duration // the connection is closed
}

// Whatever a client does slowly, or not at all, its connection ends in bounded time and no step-up has begun.
func TestSlowClientsAreClosed(t *testing.T) {
	for _, tt := range []slow{
		{name: "nothing at all", after: 5 * time.Second},
		{name: "half a header", sent: "GET /v1/step-ups HTTP/1.1\r\nHost: b", after: 5 * time.Second},
		{name: "a byte of header a second", sent: nothing, drip: true, answer: "400", late: 5 * time.Second, after: 5 * time.Second},
		{name: "endless header", sent: "GET /x HTTP/1.1\r\nHost: bank\r\nX: " + strings.Repeat("x", 24<<10), answer: "431"},
		{name: "endless headers", sent: "GET /x HTTP/1.1\r\nHost: bank\r\n" + strings.Repeat("X: x\r\n", 8<<10), answer: "431"},
		{name: "half a body", sent: newPost, answer: "400", late: 10 * time.Second, after: 10 * time.Second},
		{name: "a byte of body a second", sent: newPost + strings.Repeat(" ", 98), drip: true, answer: "400", late: 10 * time.Second, after: 10 * time.Second},
		{name: "half a body of a stranger", sent: strings.Replace(newPost, keyHere, "sk_x", 1), answer: "401", after: 10 * time.Second},
		{name: "idle after an answer", sent: nothing, answer: "404", after: 120 * time.Second},
		{name: "a stranger who never reads", sent: nothing, mute: true, after: 10 * time.Second},
		{name: "a caller who never reads", sent: ledgers, mute: true, after: 60 * time.Second},
		{name: "a hundred requests, nothing read", sent: strings.Repeat(nothing, 100), mute: true, after: 10 * time.Second},

		{name: "TLS with nothing", proto: "none", after: 5 * time.Second},
		{name: "TLS with half a handshake", proto: "none", sent: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", after: 5 * time.Second},
		{name: "TLS and nothing more", proto: "http/1.1", after: 5 * time.Second},

		{name: "HTTP/2 without a preface", proto: "h2", after: 10 * time.Second},
		{name: "HTTP/2 without settings", proto: "h2", sent: preface, after: 2 * time.Second},
		{name: "HTTP/2 of the dead", proto: "h2", sent: hello, after: 45 * time.Second},
		{name: "HTTP/2 and nothing more", proto: "h2", alive: true, sent: hello, after: 121 * time.Second},
		{name: "HTTP/2 with half a header", proto: "h2", alive: true, sent: hello + frame(framesHeaders, 0, 1, get), after: 31 * time.Second},
		{name: "HTTP/2 with half a frame", proto: "h2", alive: true, sent: hello + frame(framesHeaders, endHeaders, 1, get)[:20], after: 45 * time.Second},
		{name: "HTTP/2 with half a body", proto: "h2", alive: true, answer: "400", late: 10 * time.Second, sent: hello + frame(framesHeaders, endHeaders, 1, post) + frame(framesData, 0, 1, "{"), after: 131 * time.Second},
		{name: "HTTP/2 of a stranger without room for the answer", proto: "h2", alive: true, answer: "404", sent: noRoom + frame(framesHeaders, endHeaders|endStream, 1, get), after: 131 * time.Second},
		{name: "HTTP/2 of a caller without room for the answer", proto: "h2", alive: true, answer: "200", sent: noRoom + frame(framesHeaders, endHeaders|endStream, 1, ledgersGet), after: 181 * time.Second},
		{name: "HTTP/2 with an endless header", proto: "h2", sent: hello + frame(framesHeaders, endStream, 1, get+long[:12<<10]) + frame(framesMore, endHeaders, 1, long[12<<10:]), after: time.Second},
		{name: "HTTP/2 that never reads", proto: "h2", sent: hello + frame(framesHeaders, endHeaders|endStream, 1, get), mute: true, after: 15 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) { synctest.Test(t, tt.run) })
	}
}

func (s slow) run(t *testing.T) {
	b := newBank(t)
	at := serveSlow(t, b.h)
	start := time.Now()
	conn := at.connect(t, s.proto)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer conn.Close()
	writer.Go(func() { s.write(conn, b.ledger) })
	if !s.mute {
		read := firstStatus
		if s.proto == "h2" {
			read = s.firstStatus2
		}
		got, at := read(conn)
		if !strings.HasPrefix(got, s.answer) || s.answer == "" && got != "" {
			t.Errorf("answer %q, want %q", got, s.answer)
		}
		if late := at.Sub(start).Truncate(time.Second); got != "" && late != s.late {
			t.Errorf("answered after %s, want %s", late, s.late)
		}
	}
	<-at.closed
	if took := time.Since(start).Truncate(time.Second); took != s.after {
		t.Errorf("closed after %s, want %s", took, s.after)
	}
	if len(b.asked) != 0 {
		t.Error("asked")
	}
}

func (s slow) write(conn net.Conn, key string) {
	text := strings.Replace(s.sent, keyHere, key, 1)
	at := len(text)
	if s.drip {
		at = max(0, len(text)-99)
	}
	if _, err := io.WriteString(conn, text[:at]); err != nil {
		return
	}
	for ; at < len(text); at++ {
		time.Sleep(time.Second)
		if _, err := io.WriteString(conn, text[at:at+1]); err != nil {
			return
		}
	}
}

// firstStatus reads until the connection ends and gives the first answer's status, "" if there was none, and when it came.
func firstStatus(conn net.Conn) (status string, at time.Time) {
	rd := bufio.NewReader(conn)
	line, _ := rd.ReadString('\n')
	at = time.Now()
	io.Copy(io.Discard, rd)
	_, status, _ = strings.Cut(strings.TrimSpace(line), " ")
	return status, at
}

// firstStatus2 does the same over HTTP/2, and answers pings if the client is alive.
func (s slow) firstStatus2(conn net.Conn) (status string, at time.Time) {
	dec := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			status, at = f.Value, time.Now()
		}
	})
	frames(conn, func(kind, flags byte, payload []byte) {
		switch {
		case kind == framesHeaders:
			dec.Write(payload)
		case kind == framesPing && flags&ack == 0 && s.alive:
			go io.WriteString(conn, frame(framesPing, ack, 0, string(payload)))
		}
	})
	return status, at
}

// frames reads HTTP/2 until the connection ends.
func frames(conn net.Conn, each func(kind, flags byte, payload []byte)) {
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		if _, err := io.ReadFull(conn, payload); err != nil {
			return
		}
		each(head[3], head[4], payload)
	}
}

// slowSite is a whole server in a bubble, with TLS or without, that tells when a connection has ended.
type slowSite struct {
	plain, tls *pipes
	closed     chan struct{}
}

func serveSlow(t *testing.T, h http.Handler) *slowSite {
	at := &slowSite{plain: newPipes(), tls: newPipes(), closed: make(chan struct{}, 1000)}
	server := func() *http.Server {
		srv := api.NewHTTPServer(h, slog.New(slog.DiscardHandler))
		follow := srv.ConnState
		srv.ConnState = func(c net.Conn, s http.ConnState) {
			if follow(c, s); s == http.StateClosed {
				at.closed <- struct{}{}
			}
		}
		t.Cleanup(func() { srv.Close() })
		return srv
	}
	ca := newAuthority(t, "bank", eternity)
	overTLS := server()
	overTLS.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, x509.Certificate{DNSNames: []string{"bank"}})}}
	go server().Serve(api.Limit(at.plain, 1000))
	go overTLS.ServeTLS(api.Limit(at.tls, 1000), "", "")
	return at
}

// connect dials; proto is what to agree on by TLS, or none for a client that never does.
func (at *slowSite) connect(t *testing.T, proto string) net.Conn {
	t.Helper()
	switch proto {
	case "":
		return at.plain.dial()
	case "none":
		return at.tls.dial()
	}
	raw := at.tls.dial()
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
	if err := conn.HandshakeContext(context.Background()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// What a client holds of us while it does nothing is little, so that thousands of them are no matter.
func TestSlowClientsCostLittle(t *testing.T) {
	const many = 50
	stalled := noRoom
	for i := range uint32(100) {
		stalled += frame(framesHeaders, endHeaders|endStream, 2*i+1, get)
	}
	for _, tt := range []struct {
		slow
		most int64 // bytes for each connection, both of its ends
	}{
		{slow{name: "half a header", sent: "GET /v1/step-ups HTTP/1.1\r\nHost: b"}, 48 << 10},
		{slow{name: "half a body", sent: newPost}, 48 << 10},
		{slow{name: "never reads", sent: nothing, mute: true}, 48 << 10},
		{slow{name: "half a handshake", proto: "none", sent: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"}, 32 << 10},
		{slow{name: "HTTP/2 with a hundred stalled answers", proto: "h2", sent: stalled}, 400 << 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBank(t)
				at := serveSlow(t, b.h)
				before := held()
				for range many {
					conn := at.connect(t, tt.proto)
					defer conn.Close()
					go tt.write(conn, b.ledger)
					if !tt.mute {
						go io.Copy(io.Discard, conn)
					}
				}
				synctest.Wait()
				if each := (held() - before) / many; each > tt.most {
					t.Errorf("a connection holds %d bytes, want at most %d", each, tt.most)
				}
			})
		})
	}
}

// held is the memory in use: what the heap holds and stacks.
func held() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
