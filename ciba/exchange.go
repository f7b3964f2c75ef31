package ciba

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// maxAnswer is the most we read of any answer. The largest honest one, a key set or an encrypted ID token, has a few KiB.
const maxAnswer = 64 << 10

var (
	errTooLarge = errors.New("answer larger than 64 KiB")
	errBroken   = errors.New("exchange broke off")
)

// reply is what came back of an exchange. Its body is borrowed: it is gone when the function that judges it returns.
type reply struct {
	Private
	status     int
	retryAfter string
	sent       []byte // the form that it answers
	body       []byte
	err        error // why body is not all of it
}

// post sends one form, once, and has the reply judged. A *Transient of its own means that not a byte was sent, an *Ambiguous that
// some may have been; every other error is judge's.
//
// net/http repeats a POST by itself when a reused connection turns out dead and either nothing at all was written on it, which is safe
// and why there is a GetBody (an idle connection that the provider has just closed costs nothing), or the request carries an
// Idempotency-Key header, which would not be safe and which we never send. Nor is there an http.Client, whose business redirects are:
// 307 and 308 would carry the client assertion to another address.
func (c *Client) post(ctx context.Context, endpoint string, to *url.URL, form []byte, judge func(reply) error) (err error) {
	var w wire
	req := c.blank.WithContext(httptrace.WithClientTrace(ctx, w.watch()))
	req.URL, req.Host = to, to.Host
	req.Body, req.ContentLength = bodyOf(form), int64(len(form))
	req.GetBody = func() (io.ReadCloser, error) { return bodyOf(form), nil }

	if err := ctx.Err(); err != nil {
		return &Transient{Err: printable(err)}
	}
	s, status := sent{endpoint, req.Method, to, time.Now()}, 0
	defer func() { c.told(ctx, s, status, err) }()
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		if w.untouched() {
			return &Transient{Err: printable(err)}
		}
		return &Ambiguous{Err: printable(err)}
	}
	status = resp.StatusCode
	c.clock.read(resp.Header)
	err = withReply(resp, form, judge)
	if p, ok := errors.AsType[*Pending](err); ok {
		p.Held = w.held()
	}
	return err
}

// bodyOf is of a type that net/http knows to be in memory: any other would cost a second write to the network, after the headers'.
func bodyOf(form []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(form)) }

// get fetches something public. It may be repeated by anybody.
func (c *Client) get(ctx context.Context, endpoint string, from *url.URL) (body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, errBroken
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "stepup")
	s, status := sent{endpoint, req.Method, from, time.Now()}, 0
	defer func() { c.told(ctx, s, status, err) }()
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		return nil, printable(err)
	}
	status = resp.StatusCode
	err = withReply(resp, nil, func(r reply) error {
		if r.status != http.StatusOK {
			return fmt.Errorf("status %d", r.status)
		}
		body = append([]byte(nil), r.body...)
		return r.err
	})
	return body, err
}

// buffers holds answers while they are read. They start small and grow: a provider may send headers to tens of thousands of polls and
// hold every body.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// withReply reads the reply and has it judged. A 1xx that arrives here is a protocol switch, whose body never ends and minds no
// deadline, and a redirect's body says nothing: neither is read.
func withReply(resp *http.Response, sent []byte, judge func(reply) error) error {
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After"), sent: sent}
	if r.status < 200 || r.status >= 300 && r.status < 400 {
		return judge(r)
	}
	buf := buffers.Get().(*bytes.Buffer)
	n, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		r.err = errCut
	case err != nil:
		r.err = printable(err)
	case n > maxAnswer:
		r.err = errTooLarge
	}
	r.body = buf.Bytes()
	err = judge(r)
	if clear(r.body); buf.Cap() <= 8<<10 { // a token may have been in it
		buf.Reset()
		buffers.Put(buf)
	}
	return err
}

// wire notes how far a request got. A Transport tells GetConn when it looks for a connection and GotConn when it has one, dialled and
// with TLS up; only after that can a byte of the request be written. Later marks (WroteHeaders) are no use: a request that is given up
// may still be written a moment later by another goroutine.
type wire struct {
	begun  time.Time
	sought atomic.Bool
	found  atomic.Int64 // so many ns after begun; 0: not yet
	trace  httptrace.ClientTrace
}

func (w *wire) watch() *httptrace.ClientTrace {
	w.begun = time.Now()
	w.trace.GetConn = func(string) { w.sought.Store(true) }
	w.trace.GotConn = func(httptrace.GotConnInfo) { w.found.Store(max(1, int64(time.Since(w.begun)))) }
	return &w.trace
}

// untouched reports that nothing was sent. A RoundTripper that tells nothing is not believed to have sent nothing.
func (w *wire) untouched() bool { return w.sought.Load() && w.found.Load() == 0 }

// held is how long ago the connection was found.
func (w *wire) held() time.Duration { return time.Since(w.begun) - time.Duration(w.found.Load()) }

// printable keeps of an error from below what names the network's fault, and drops what may quote the peer (net/http repeats malformed
// status lines and headers, HTTP/2 the peer's debug data).
func printable(err error) error {
	for _, known := range []error{context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, known) {
			return known
		}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return dns
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errors.New("peer does not speak TLS")
	}
	return errBroken
}
