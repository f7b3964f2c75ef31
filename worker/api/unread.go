package api

import "net/http"

// mostUnread is how many answers over HTTP/2 a stranger may leave unread at once. Each holds 17 KB of ours until its time
// is over, and a connection has room for a hundred.
const mostUnread = 4

// limitUnread resets a stranger's further streams.
func limitUnread(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, _ := r.Context().Value(placeKey{}).(*place); p != nil && r.ProtoMajor == 2 {
			w = &unread{w, p}
		}
		h.ServeHTTP(w, r)
	})
}

type unread struct {
	http.ResponseWriter
	place *place
}

func (u *unread) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// Write waits, for strangers, until the client has made room: net/http would wait where it cannot be counted.
func (u *unread) Write(b []byte) (int, error) {
	stranger, ok := u.place.owe()
	if !ok {
		panic(http.ErrAbortHandler)
	}
	if !stranger {
		return u.ResponseWriter.Write(b)
	}
	defer u.place.settle()
	n, err := u.ResponseWriter.Write(b)
	if err == nil {
		err = http.NewResponseController(u.ResponseWriter).Flush()
	}
	return n, err
}

// owe counts an answer of a stranger, unless there are too many.
func (p *place) owe() (stranger, ok bool) {
	p.hall.mu.Lock()
	defer p.hall.mu.Unlock()
	if p.known {
		return false, true
	}
	if p.owing == mostUnread {
		return true, false
	}
	p.owing++
	return true, true
}

func (p *place) settle() {
	p.hall.mu.Lock()
	defer p.hall.mu.Unlock()
	p.owing--
}
