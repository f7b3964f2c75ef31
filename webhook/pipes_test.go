package webhook

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// pipes is a network inside the process, so that a test's clock can be synctest's.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	dials  atomic.Int64
	read   atomic.Int64 // bytes that the sender took off the wire
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.dials.Add(1)
	p.accept <- server
	return &counted{client, &p.read}, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

type counted struct {
	net.Conn
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// serve runs a receiver until the test's end and returns a sender whose every dial reaches it.
func serve(t *testing.T, h http.HandlerFunc) (*Sender, *pipes) {
	t.Helper()
	p := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	var running sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		h(w, r)
	})}
	running.Go(func() { _ = server.Serve(p) })
	client := NewClient(nil)
	client.Transport.(*http.Transport).DialContext = p.dial
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = server.Close()
		running.Wait()
	})
	return &Sender{Client: client}, p
}
