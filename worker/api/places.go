package api

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limit bounds how many connections of a listener are open at once, for a server of NewHTTPServer; strangers, on whose
// connections no caller has shown a key or a certificate yet, have a quarter of the places, and all that are free while
// they are new: callers who all come at once are strangers too.
//
// A bound alone would let whoever opens that many connections and says nothing keep everybody out. So where there is no
// room, a new connection gets the place of the stranger who has held one longest or, if all are callers', of the one that
// has been idle longest. To be in a caller's way, somebody must fill a quarter of the places anew in the time that one
// handshake and one request take. A connection with a caller's request under way is never closed: if all are such, new
// ones wait in the system's backlog.
func Limit(l net.Listener, most int) net.Listener {
	h := &hall{Listener: l, most: most}
	h.changed.L = &h.mu
	return h
}

// newFor is how long a stranger is new: a handshake and a request of one among thousands who come at once.
const newFor = 2 * time.Second

type hall struct {
	net.Listener
	most int

	mu        sync.Mutex
	changed   sync.Cond // there may be room, or the listener is closed
	taken     int
	closed    bool
	strangers list.List // of *place; longest first
	idle      list.List // of *place; a caller's, without a request; longest first
}

// place is a connection with what is known of it. Its fields are guarded by the hall's mutex.
type place struct {
	net.Conn
	hall  *hall
	came  time.Time
	known bool       // a caller's
	rests bool       // has no request under way
	list  *list.List // the one that it is in; nil while a caller's request is under way
	at    *list.Element
	left  bool
	owing int // answers that a stranger has not read
}

// Accept gives the next connection its place.
func (h *hall) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for !h.closed && !h.room() {
		h.changed.Wait()
	}
	if h.closed {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	p := &place{Conn: c, hall: h, came: time.Now()}
	p.move(&h.strangers)
	h.taken++
	return p, nil
}

// room sends one away if there is none.
func (h *hall) room() bool {
	first := h.strangers.Front()
	few := h.strangers.Len() < max(1, h.most/4)
	if h.taken < h.most && (few || time.Since(first.Value.(*place).came) < newFor) {
		return true
	}
	if first == nil {
		first = h.idle.Front()
	}
	if first == nil {
		return false
	}
	p := first.Value.(*place)
	p.leave()
	_ = p.Conn.Close() // not through TLS, whose goodbye could wait for a reader; the server sees that the connection ended
	return true
}

// Close ends Accept, also one that waits for a place.
func (h *hall) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.changed.Broadcast()
	return h.Listener.Close()
}

// move puts the place at the end of a list, or in none.
func (p *place) move(to *list.List) {
	if p.list != nil {
		p.list.Remove(p.at)
	}
	if p.list = to; to != nil {
		p.at = to.PushBack(p)
	}
	p.hall.changed.Broadcast()
}

// leave frees the place, once.
func (p *place) leave() {
	if !p.left {
		p.left = true
		p.hall.taken--
		p.move(nil)
	}
}

// Close frees the place.
func (p *place) Close() error {
	p.hall.mu.Lock()
	p.leave()
	p.hall.mu.Unlock()
	return p.Conn.Close()
}

// CloseWrite lets net/http end a connection so that its last answer is still read.
func (p *place) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

type placeKey struct{}

func withPlace(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, placeOf(c))
}

// placeOf is nil for a connection of a listener without a limit.
func placeOf(c net.Conn) *place {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	p, _ := c.(*place)
	return p
}

// followPlace takes a caller's connection in and out of idleness; a stranger's stays where it is.
func followPlace(c net.Conn, state http.ConnState) {
	p := placeOf(c)
	if p == nil {
		return
	}
	p.hall.mu.Lock()
	defer p.hall.mu.Unlock()
	p.rests = state == http.StateIdle
	if !p.left && p.known {
		p.sort()
	}
}

// sort puts a caller's connection where it belongs.
func (p *place) sort() {
	if p.rests {
		p.move(&p.hall.idle)
	} else {
		p.move(nil)
	}
}

// Keep says that the request's sender is known: its connection is a stranger's no longer. Over HTTP/2 the request may have
// been taken back meanwhile.
func Keep(ctx context.Context) {
	p, _ := ctx.Value(placeKey{}).(*place)
	if p == nil {
		return
	}
	p.hall.mu.Lock()
	defer p.hall.mu.Unlock()
	if !p.left && !p.known {
		p.known = true
		p.sort()
	}
}
