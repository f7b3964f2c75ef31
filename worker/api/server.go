package api

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// strangerTime is how long an answer to a request may take until its caller is known. Over HTTP/2 each answer that is never
// read holds a stream, so strangers get little; answerTime follows authentication.
const strangerTime = 10 * time.Second

// NewHTTPServer makes the server of any of our listeners, with limits that a slow or greedy client runs into. Its TLSConfig
// is the caller's to set, and its listener's to limit (see Limit). Routes that hold a request move the write deadline
// themselves.
//
// A connection costs 20 to 40 KB until its first request. TLS must be agreed within the header's 5 s, the header read within 5 s
// more, the body within 10 s of the header's first byte. HTTP/2 is for TLS only.
func NewHTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	told := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	told.SetOutput(unquoted{told.Writer()})
	return &http.Server{
		Handler:                      limitUnread(h),
		DisableGeneralOptionsHandler: true, // OPTIONS * is a stranger's request like any other
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  10 * time.Second,
		WriteTimeout:                 answerTime,
		IdleTimeout:                  120 * time.Second, // longer than load balancers keep theirs, or they would use a dead one
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     told,
		ConnContext:                  withPlace,
		ConnState:                    followPlace,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,      // requests at once on a connection, long polls among them (RFC 9113 §6.5.2 wants no fewer)
			MaxReadFrameSize:              16 << 10, // no body is longer
			MaxReceiveBufferPerConnection: 128 << 10,
			MaxReceiveBufferPerStream:     32 << 10,
			MaxDecoderHeaderTableSize:     4 << 10,
			SendPingTimeout:               30 * time.Second, // a long poll whose client is gone without a word
			PingTimeout:                   15 * time.Second,
			WriteByteTimeout:              10 * time.Second, // a client that takes nothing at all
		},
	}
}

// unquoted is a server's error log, each line ending where net/http or crypto/tls quote what a client wrote: the beginning of
// what is no HTTP/2, the protocols that it offers, the names in a certificate. A panic is ours and keeps its stack.
type unquoted struct{ to io.Writer }

func (u unquoted) Write(line []byte) (int, error) {
	kept := line
	if i := bytes.IndexByte(line, '"'); i >= 0 && !bytes.HasPrefix(line, []byte("http: panic ")) && !bytes.HasPrefix(line, []byte("http2: panic ")) {
		kept = bytes.TrimRight(line[:i], " ([")
	}
	if _, err := u.to.Write(kept); err != nil {
		return 0, err
	}
	return len(line), nil
}
