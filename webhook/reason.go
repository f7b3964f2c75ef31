package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The words of Attempt.Reason.
const (
	ReasonDNS           = "dns"             // the name has no address, or nobody said so in time
	ReasonRefused       = "refused address" // the dial guard, see Allowed
	ReasonDial          = "dial"            // no connection
	ReasonProxy         = "proxy"           // the endpoint's proxy cannot be reached, or did not open the way
	ReasonTLS           = "tls"             // handshake or certificate, theirs or ours
	ReasonTimeout       = "timeout"         // no answer in time
	ReasonReset         = "reset"           // the connection ended before the answer
	ReasonProtocol      = "protocol"        // the answer was not HTTP
	ReasonRedirect      = "redirect"        // 3xx; not followed
	ReasonStatus        = "status"          // any other status
	ReasonGone          = "gone"            // 410
	ReasonCancelled     = "cancelled"       // the caller of Send gave up
	ReasonConfiguration = "configuration"   // nothing was sent: URL, secrets or message
)

// proxyConnect is net/http's word for dialling a proxy.
const proxyConnect = "proxyconnect"

// handshake watches the TLS handshake, because an EOF in it looks like one after it. The
// transport's goroutines outlive a cancelled request, hence the atomic.
type handshake struct{ failed atomic.Bool }

func (h *handshake) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) { h.failed.Store(err != nil) },
	})
}

// classify says in fixed words why no answer came. An error of the transport is never passed
// on: some of them quote what the receiver sent. caller is the context of Send, within the
// same with the time-out.
func classify(caller, within context.Context, timeout time.Duration, watch *handshake, err error) (string, error) {
	if caller.Err() != nil {
		return ReasonCancelled, caller.Err()
	}
	if errors.Is(err, errRefused) {
		return ReasonRefused, refusal(err)
	}
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errProxy):
		return ReasonProxy, err // our own words
	case errors.Is(err, errPlain):
		return ReasonConfiguration, errPlain
	case isOp && op.Op == proxyConnect && within.Err() == nil:
		return ReasonProxy, errors.New("no connection to the proxy")
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return ReasonDNS, lookup(dns)
	}
	timedOut, isNet := errors.AsType[net.Error](err)
	switch {
	case within.Err() != nil:
		return ReasonTimeout, fmt.Errorf("no answer within %v", timeout)
	case isOp && op.Op == "dial":
		return ReasonDial, connection(op)
	case isNet && timedOut.Timeout():
		return ReasonTimeout, errors.New("the connection was not ready in time")
	case watch.failed.Load():
		return ReasonTLS, certificate(err)
	case isOp && op.Op == "remote error": // an alert of TLS 1.3 comes when our side has finished
		return ReasonTLS, certificate(err)
	case isReset(err):
		return ReasonReset, errors.New("the connection ended before the answer")
	}
	return ReasonProtocol, errors.New("the answer is not HTTP/1.1, or its headers are too long")
}

func refusal(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if ok && op.Op == proxyConnect {
		op, ok = errors.AsType[*net.OpError](op.Err)
	}
	if ok && op.Addr != nil {
		return fmt.Errorf("%s: %w", op.Addr, errRefused)
	}
	return errRefused
}

func lookup(err *net.DNSError) error {
	switch {
	case err.IsNotFound:
		return errors.New("no such host")
	case err.IsTimeout:
		return errors.New("no answer from the name server")
	}
	return errors.New("lookup failed")
}

func connection(op *net.OpError) error {
	if errno, ok := errors.AsType[syscall.Errno](op); ok {
		return fmt.Errorf("%s: %w", op.Addr, errno)
	}
	if op.Timeout() {
		return errors.New("no connection in time")
	}
	return errors.New("no connection")
}

// What can be wrong with a handshake, beside errOwnCertificate.
var (
	errClientCertificate = errors.New("the receiver wants a client certificate, or refuses ours")
	errAnotherHost       = errors.New("the certificate is for another host")
	errUnknownAuthority  = errors.New("the certificate is signed by an unknown authority")
	errExpired           = errors.New("the certificate has expired or is not yet valid")
	errInvalid           = errors.New("the certificate is not valid")
	errNoTLS             = errors.New("the receiver does not speak TLS")
	errHandshake         = errors.New("handshake failed")
)

// certificate leaves out the names in a stranger's certificate.
func certificate(err error) error {
	if errors.Is(err, errOwnCertificate) {
		return errOwnCertificate
	}
	// crypto/tls has no exported type for an alert; its text is the library's own.
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" && strings.Contains(op.Err.Error(), "certificate") {
		return errClientCertificate
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return errAnotherHost
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return errUnknownAuthority
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return errExpired
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errInvalid
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return errNoTLS
	}
	return errHandshake
}

func isReset(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	// net/http has no name for this one: the receiver closed a kept connection as we wrote.
	return err.Error() == "http: server closed idle connection"
}
