package ciba

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
)

// counted is a connection that counts what is written to the network.
type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A poll leaves in one piece, headers and form, over a connection that is already there: each more would cost every poll a system call.
func TestPollIsOneWrite(t *testing.T) {
	s := provider(t, map[string]http.HandlerFunc{"/token": says(400, nil, coded("authorization_pending"))})
	var writes, dials atomic.Int32
	cfg := singpassConfig(s.URL)
	cfg.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return counted{conn, &writes}, err
	}}}
	c := newClient(t, cfg)
	for i := range 21 {
		if i == 1 { // the metadata is there
			writes.Store(0)
		}
		if _, err := c.Token(t.Context(), canaryID); !isA[*Pending](err) {
			t.Fatal(err)
		}
	}
	if writes.Load() != 20 || dials.Load() != 1 {
		t.Errorf("%d writes on %d connections for 20 polls", writes.Load(), dials.Load())
	}
}
