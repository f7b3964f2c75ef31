package api_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"stepup/worker/api"
)

// crowd is a server with few places, in a bubble.
type crowd struct {
	*bank
	l   *pipes
	srv *http.Server
}

func newCrowd(t *testing.T, places int) *crowd {
	c := &crowd{bank: newBank(t), l: newPipes()}
	c.service.wait = func(ctx context.Context, d time.Duration) error {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	c.srv = api.NewHTTPServer(c.h, slog.New(slog.DiscardHandler))
	go c.srv.Serve(api.Limit(c.l, places))
	t.Cleanup(func() { c.srv.Close() })
	return c
}

// guest is one connection and what has become of it.
type guest struct {
	net.Conn
	answered, gone atomic.Bool
}

func (c *crowd) enter(t *testing.T) *guest {
	g := &guest{Conn: c.l.dial()}
	t.Cleanup(func() { g.Close() })
	go func() {
		rd := bufio.NewReader(g)
		for {
			resp, err := http.ReadResponse(rd, nil)
			if err != nil {
				g.gone.Store(true)
				return
			}
			io.Copy(io.Discard, resp.Body)
			g.answered.Store(resp.StatusCode == 200)
		}
	}()
	synctest.Wait()
	return g
}

// asks sends a caller's request, which is held for a while.
func (g *guest) asks(c *crowd, wait string) {
	go io.WriteString(g, strings.Replace(strings.Replace(ledgers, keyHere, c.ledger, 1), " HTTP", "?wait="+wait+" HTTP", 1))
	synctest.Wait()
}

func crowded(t *testing.T, places int, f func(*testing.T, *crowd)) {
	synctest.Test(t, func(t *testing.T) { f(t, newCrowd(t, places)) })
}

// Whoever connects and says nothing gives way to who comes later, the longest first.
func TestStrangersGiveWay(t *testing.T) {
	crowded(t, 8, func(t *testing.T, c *crowd) { // two of the eight for strangers
		first, second := c.enter(t), c.enter(t)
		time.Sleep(2 * time.Second)
		third := c.enter(t)
		if !first.gone.Load() || second.gone.Load() || third.gone.Load() {
			t.Errorf("gone: %v %v %v, want the first alone", first.gone.Load(), second.gone.Load(), third.gone.Load())
		}
		second.asks(c, "0s")
		fourth := c.enter(t)
		time.Sleep(2 * time.Second)
		fifth := c.enter(t)
		if second.gone.Load() || !third.gone.Load() || fourth.gone.Load() || fifth.gone.Load() {
			t.Errorf("gone: %v %v %v %v, want the third alone: the second is a caller's", second.gone.Load(), third.gone.Load(), fourth.gone.Load(), fifth.gone.Load())
		}
	})
}

// Callers who all come at once, after a restart say, are strangers for a moment; while there is room nobody is sent away.
func TestCallersWhoComeTogether(t *testing.T) {
	crowded(t, 40, func(t *testing.T, c *crowd) {
		var all []*guest
		for range 40 {
			all = append(all, c.enter(t))
		}
		for i, g := range all {
			if g.asks(c, "0s"); !g.answered.Load() {
				t.Fatalf("caller %d was sent away", i)
			}
		}
	})
}

// A request over HTTP/2 that is taken back before its caller is known leaves the connection idle: it gives way.
func TestTakenBackRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBank(t)
		known := make(chan struct{})
		b.Server.Callers = func() *api.Callers { <-known; return b.callers }
		at := &slowSite{tls: newPipes()}
		srv := api.NewHTTPServer(b.h, slog.New(slog.DiscardHandler))
		ca := newAuthority(t, "bank", eternity)
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, x509.Certificate{DNSNames: []string{"bank"}})}}
		go srv.ServeTLS(api.Limit(at.tls, 1), "", "")
		defer srv.Close()

		conn := at.connect(t, "h2")
		defer conn.Close()
		go frames(conn, func(byte, byte, []byte) {})
		io.WriteString(conn, hello+frame(framesHeaders, endHeaders|endStream, 1, strings.Replace(ledgersGet, keyHere, b.ledger, 1)))
		synctest.Wait()
		io.WriteString(conn, frame(framesReset, 0, 1, "\x00\x00\x00\x08"))
		synctest.Wait()
		close(known)
		synctest.Wait()
		start := time.Now()
		at.connect(t, "h2").Close()
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the next connection waited %s for a place", waited)
		}
	})
}

// A flood of connections that say nothing, as many each second as there are places, keeps no caller out.
func TestFloodOfStrangers(t *testing.T) {
	crowded(t, 100, func(t *testing.T, c *crowd) {
		poll := c.enter(t)
		poll.asks(c, "30s")
		for range 10 {
			caller := c.enter(t)
			for range 10 { // a tenth of a second goes by before the caller has shown a key
				c.enter(t)
				time.Sleep(10 * time.Millisecond)
			}
			caller.asks(c, "0s")
			if !caller.answered.Load() {
				t.Fatal("a caller was kept out")
			}
			caller.Close()
		}
		if time.Sleep(30 * time.Second); !poll.answered.Load() {
			t.Error("a long poll was cut off")
		}
	})
}

// Where every place is a caller's with a request under way, a new connection waits; none is closed.
func TestBusyCallersStay(t *testing.T) {
	crowded(t, 4, func(t *testing.T, c *crowd) {
		var polls []*guest
		for i := range 4 {
			polls = append(polls, c.enter(t))
			polls[i].asks(c, "30s")
			time.Sleep(time.Second)
		}
		late := c.enter(t)
		late.asks(c, "0s")
		for _, p := range polls {
			if p.gone.Load() || p.answered.Load() {
				t.Fatal("a long poll was cut off")
			}
		}
		if late.answered.Load() {
			t.Fatal("more connections than places")
		}
		time.Sleep(26500 * time.Millisecond) // the first poll is over, its connection idle: it goes
		if !late.answered.Load() || !polls[0].answered.Load() || !polls[0].gone.Load() || polls[1].gone.Load() {
			t.Error("the idle connection did not give way, or another did")
		}
		busy := c.enter(t) // the late one is idle
		busy.asks(c, "30s")
		if !late.gone.Load() || busy.gone.Load() {
			t.Error("the idle connection did not give way")
		}
		c.enter(t) // waits for a place while the server ends
	})
}

// Places that are given up are there again.
func TestPlacesAreGivenBack(t *testing.T) {
	crowded(t, 4, func(t *testing.T, c *crowd) {
		for range 20 {
			g := c.enter(t)
			g.asks(c, "10s")
			g.Close()
			synctest.Wait()
		}
		for range 4 {
			g := c.enter(t)
			if g.asks(c, "0s"); !g.answered.Load() {
				t.Error("no place")
			}
		}
	})
}

// Over HTTP/2 a stranger may leave four answers unread, so that a connection's hundred streams cannot fill memory; a caller's
// hundred are answered.
func TestUnreadAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, first string
		reset       int
	}{
		{"stranger", "", 96},
		{"caller", frame(framesHeaders, endHeaders|endStream, 1, ledgersGet), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBank(t)
				conn := serveSlow(t, b.h).connect(t, "h2")
				defer conn.Close()
				resets := 0
				go frames(conn, func(kind, _ byte, _ []byte) {
					if kind == framesReset {
						resets++
					}
				})
				io.WriteString(conn, noRoom+strings.Replace(tt.first, keyHere, b.ledger, 1))
				synctest.Wait()
				for i := range uint32(99) {
					io.WriteString(conn, frame(framesHeaders, endHeaders|endStream, 2*i+3, get))
				}
				if tt.first == "" {
					io.WriteString(conn, frame(framesHeaders, endHeaders|endStream, 201, get))
				}
				synctest.Wait()
				if resets != tt.reset {
					t.Errorf("%d streams were reset, want %d", resets, tt.reset)
				}
			})
		})
	}
}
