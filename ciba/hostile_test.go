package ciba

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An answer may be slow, endless, huge or inflated: the call ends at its deadline, and little is read.
func TestHostileBodies(t *testing.T) {
	flush := func(w http.ResponseWriter) { w.(http.Flusher).Flush() }
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprintf(z, `{"auth_req_id":"a","expires_in":300,"id_token":%q}`, strings.Repeat("x", 9<<20))
	z.Close()

	for _, row := range []struct {
		name    string
		serve   http.HandlerFunc
		tokenIn time.Duration // when Token ends
		authIn  time.Duration
		cause   error
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 40 * time.Second, 15 * time.Second, context.DeadlineExceeded},
		{"headers only", func(w http.ResponseWriter, r *http.Request) { flush(w); <-r.Context().Done() }, 40 * time.Second, 15 * time.Second, context.DeadlineExceeded},
		{"a byte a second", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, " ")
				flush(w)
				select {
				case <-r.Context().Done():
				case <-time.After(time.Second):
				}
			}
		}, 40 * time.Second, 15 * time.Second, context.DeadlineExceeded},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, strings.Repeat(" ", 4096))
			}
		}, 0, 0, errTooLarge},
		{"endless after an object", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `{"auth_req_id":"a","expires_in":300,"id_token":"x"}`)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, strings.Repeat(" ", 4096))
			}
		}, 0, 0, errTooLarge},
		{"said to be huge", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1099511627776")
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, strings.Repeat(" ", 4096))
			}
		}, 0, 0, errTooLarge},
		{"gzip nobody asked for", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(packed.Bytes())
		}, 0, 0, errNotObject},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network := newPipes()
				mux := http.NewServeMux()
				mux.HandleFunc("/.well-known/openid-configuration", metadata("http://op.example"))
				mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body) // only then does a server notice that its peer has gone
					row.serve(w, r)
				})
				server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
				go server.Serve(network)
				defer server.Close()

				var read atomic.Int64
				cfg := singpassConfig("http://op.example")
				transport := &http.Transport{DialContext: func(ctx context.Context, n, a string) (net.Conn, error) {
					conn, err := network.dial(ctx, n, a)
					if err != nil {
						return nil, err
					}
					return &metered{conn, &read}, nil
				}}
				cfg.HTTP = &http.Client{Transport: transport}
				defer transport.CloseIdleConnections()
				c, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				check := func(what string, want time.Duration, call func() error) {
					began := time.Now()
					err := call()
					if took := time.Since(began); took != want {
						t.Errorf("%s ended after %v, want %v", what, took, want)
					}
					if e, ok := errors.AsType[*Ambiguous](err); !ok || e.Err != row.cause {
						t.Errorf("%s: got %v, want *Ambiguous for %v", what, err, row.cause)
					}
				}
				check("token", row.tokenIn, func() error { _, err := c.Token(t.Context(), "a"); return err })
				check("bc-auth", row.authIn, func() error {
					_, err := c.Authenticate(t.Context(), Request{LoginHint: canaryUUID})
					return err
				})
				if n := read.Load(); n > 3*maxAnswer {
					t.Errorf("%d bytes were read", n)
				}
			})
		})
	}
}

// metered counts what is read of a connection.
type metered struct {
	net.Conn
	read *atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	m.read.Add(int64(n))
	return n, err
}
