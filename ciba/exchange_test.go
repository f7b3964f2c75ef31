package ciba

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What goes over the wire: exactly the documented parameters, all of them in the body, and nothing that lets anybody repeat or redirect it.
func TestRequestsOnTheWire(t *testing.T) {
	var got *http.Request
	var form url.Values
	record := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r
		form, _ = url.ParseQuery(string(body))
		fmt.Fprintf(w, `{"auth_req_id":%q,"expires_in":300,"id_token":%q}`, canaryID, canaryToken)
	}
	s := provider(t, map[string]http.HandlerFunc{"/bc-auth": record, "/token": record})
	standard := singpassConfig(s.URL)
	standard.Profile = Standard

	const grant, assertion = "urn:openid:params:grant-type:ciba", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	for _, row := range []struct {
		name string
		cfg  Config
		call func(*Client) error
		want url.Values
	}{
		{"singpass asks", singpassConfig(s.URL), func(c *Client) error {
			ack, err := c.Authenticate(t.Context(), Request{LoginHint: canaryNRIC})
			if ack.AuthReqID != canaryID || ack.ExpiresIn != 5*time.Minute || ack.Interval != 0 {
				t.Error("ack is not what the provider said")
			}
			return err
		}, url.Values{"scope": {"openid"}, "login_hint": {canaryNRIC}}},
		{"standard asks", standard, func(c *Client) error {
			_, err := c.Authenticate(t.Context(), Request{
				Scope: "openid profile", LoginHint: "jo+1@bank.example", BindingMessage: "W4-R7 & 你好", ACRValues: "a b", UserCode: "12 34", RequestedExpiry: 90,
			})
			return err
		}, url.Values{"scope": {"openid profile"}, "login_hint": {"jo+1@bank.example"}, "binding_message": {"W4-R7 & 你好"}, "acr_values": {"a b"},
			"user_code": {"12 34"}, "requested_expiry": {"90"}}},
		{"standard asks by login_hint_token", standard, func(c *Client) error {
			_, err := c.Authenticate(t.Context(), Request{LoginHintToken: "a.b.c"})
			return err
		}, url.Values{"scope": {"openid"}, "login_hint_token": {"a.b.c"}}},
		{"singpass polls", singpassConfig(s.URL), func(c *Client) error {
			token, err := c.Token(t.Context(), canaryID)
			if token != canaryToken {
				t.Error("token is not what the provider said")
			}
			return err
		}, url.Values{"grant_type": {grant}, "auth_req_id": {canaryID}}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := newClient(t, row.cfg)
			if err := row.call(c); err != nil {
				t.Fatal(err)
			}
			first := form.Get("client_assertion")
			if err := row.call(c); err != nil {
				t.Fatal(err)
			}
			if second := form.Get("client_assertion"); strings.Count(first, ".") != 2 || first == second {
				t.Error("every request must have an assertion of its own")
			}
			form.Del("client_assertion")
			row.want.Set("client_assertion_type", assertion)
			if form.Encode() != row.want.Encode() {
				t.Errorf("sent %v\nwant %v", form, row.want)
			}
			if got.Method != "POST" || got.URL.RawQuery != "" || got.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("%s %s as %q", got.Method, got.URL, got.Header.Get("Content-Type"))
			}
			for _, name := range []string{"Authorization", "Idempotency-Key", "X-Idempotency-Key", "Cookie"} {
				if got.Header[name] != nil {
					t.Errorf("header %s was sent", name)
				}
			}
			if got.Header.Get("Accept-Encoding") != "identity" || got.ContentLength <= 0 {
				t.Errorf("accept-encoding %q, length %d", got.Header.Get("Accept-Encoding"), got.ContentLength)
			}
		})
	}
}

// No redirect is followed, from no endpoint, whatever the http.Client would do.
func TestRedirectsAreNeverFollowed(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(elsewhere.Close)
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{elsewhere.URL + "/token", "http://%zz CANARY"} {
			t.Run(fmt.Sprint(status, len(location)), func(t *testing.T) {
				away := says(status, http.Header{"Location": {location}}, "")
				s := provider(t, map[string]http.HandlerFunc{"/bc-auth": away, "/token": away, "/keys": away})
				c := newClient(t, singpassConfig(s.URL))
				_, authErr := c.Authenticate(t.Context(), Request{LoginHint: canaryNRIC})
				_, tokenErr := c.Token(t.Context(), canaryID)
				for _, err := range []error{authErr, tokenErr} {
					if e, ok := errors.AsType[*Ambiguous](err); !ok || !e.Alarm || e.Status != status {
						t.Errorf("got %v, want *Ambiguous with an alarm", err)
					}
					tellsNothing(t, err)
				}
				if err := c.RefreshKeys(t.Context(), time.Time{}); err == nil {
					t.Error("key set: no error")
				} else {
					tellsNothing(t, err)
				}
				s = provider(t, map[string]http.HandlerFunc{"/.well-known/openid-configuration": away})
				if err := newClient(t, singpassConfig(s.URL)).Ready(t.Context()); err == nil {
					t.Error("metadata: no error")
				}
			})
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the other listener saw %d requests", n)
	}
}

// A reused connection that dies after the provider has executed the request: one execution, and nobody knows.
func TestDeadReusedConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	issuer := "http://" + listener.Addr().String()
	var executed, connections atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					body := coded("authorization_pending")
					if req.URL.Path == "/token" {
						if executed.Add(1) > 1 {
							return // executed, and cut before a byte of the answer
						}
						fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
						continue
					}
					rec := httptest.NewRecorder()
					metadata(issuer)(rec, req)
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", rec.Body.Len(), rec.Body)
				}
			}()
		}
	}()
	c := newClient(t, singpassConfig(issuer))
	if _, err := c.Token(t.Context(), canaryID); !isA[*Pending](err) {
		t.Fatalf("first poll: %v", err)
	}
	_, err = c.Token(t.Context(), canaryID)
	if !isA[*Ambiguous](err) {
		t.Errorf("got %v, want *Ambiguous", err)
	}
	tellsNothing(t, err)
	if executed.Load() != 2 || connections.Load() != 1 {
		t.Errorf("%d executions on %d connections, want 2 on 1", executed.Load(), connections.Load())
	}
}

// The same over HTTP/2, on a new stream of a connection in use.
func TestDeadStream(t *testing.T) {
	var executed atomic.Int32
	mux := http.NewServeMux()
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	mux.HandleFunc("/.well-known/openid-configuration", metadata(s.URL))
	mux.HandleFunc("/token", func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("spoken: %s", r.Proto)
		}
		executed.Add(1)
		panic(http.ErrAbortHandler)
	})
	cfg := singpassConfig(s.URL)
	cfg.HTTP = s.Client()
	c := newClient(t, cfg)
	for i := range 3 {
		_, err := c.Token(t.Context(), canaryID)
		if !isA[*Ambiguous](err) {
			t.Errorf("got %v, want *Ambiguous", err)
		}
		if n := executed.Load(); int(n) != i+1 {
			t.Fatalf("%d executions after %d calls", n, i+1)
		}
	}
}

// "Could not connect" is Transient; from the moment there is a connection it is Ambiguous.
func TestWhetherAnythingWasSent(t *testing.T) {
	listen := func(serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer conn.Close(); serve(conn) }()
			}
		}()
		return l.Addr().String()
	}
	says := func(answer string) func(net.Conn) {
		return func(conn net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(conn, answer)
		}
	}
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)

	for _, row := range []struct {
		name, address string
		sent          bool
	}{
		{"nobody listens", "http://" + dead.Addr().String(), false},
		{"no such name", "http://nobody.invalid", false},
		{"certificate of an unknown authority", untrusted.URL, false},
		{"TLS is cut", "https://" + listen(func(net.Conn) {}), false},
		{"TLS is something else", "https://" + listen(func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 CANARY\r\n\r\n") }), false},
		{"cut before it was read", "http://" + listen(func(net.Conn) {}), true},
		{"cut after it was read", "http://" + listen(says("")), true},
		{"cut inside the status line", "http://" + listen(says("HTTP/1.1 20")), true},
		{"malformed status line", "http://" + listen(says("HTTP/1.1 CANARY\r\n\r\n")), true},
		{"malformed header", "http://" + listen(says("HTTP/1.1 200 OK\r\nCANARY canary\r\n\r\n")), true},
		{"malformed length", "http://" + listen(says("HTTP/1.1 200 OK\r\nContent-Length: CANARY\r\n\r\n")), true},
		{"headers of 10 MB", "http://" + listen(func(c net.Conn) {
			says("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 10<<20))(c)
		}), true},
		{"body cut", "http://" + listen(says("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id_token\":\"x\"}")), true},
		{"chunked body cut", "http://" + listen(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"id_token\":\"x\"}\r\n")), true},
		{"protocol switch", "http://" + listen(func(c net.Conn) {
			says("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: canary\r\n\r\n")(c)
			io.Copy(io.Discard, c)
		}), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := singpassConfig(row.address)
			http, err := NewHTTPClient(nil)
			if err != nil {
				t.Fatal(err)
			}
			cfg.HTTP = http
			c := newClient(t, cfg)
			to, _ := url.Parse(row.address + "/token")
			c.discovery.known.Store(&endpoints{auth: to, token: to, keys: to})
			_, err = c.Token(t.Context(), canaryID)
			if err == nil || isA[*Ambiguous](err) != row.sent || isA[*Transient](err) == row.sent {
				t.Fatalf("got %T %v", err, err)
			}
			tellsNothing(t, err)
		})
	}

	t.Run("given up before the call", func(t *testing.T) {
		s := provider(t, nil)
		c := newClient(t, singpassConfig(s.URL))
		if _, err := c.endpoints(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Token(ctx, canaryID); !isA[*Transient](err) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("transport that tells nothing", func(t *testing.T) {
		cfg := singpassConfig("http://a.example")
		cfg.HTTP = &http.Client{Transport: mute{}}
		c := newClient(t, cfg)
		to, _ := url.Parse("http://a.example/token")
		c.discovery.known.Store(&endpoints{token: to})
		if _, err := c.Token(t.Context(), canaryID); !isA[*Ambiguous](err) {
			t.Errorf("got %v, want *Ambiguous", err)
		}
	})
}

type mute struct{}

func (mute) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("CANARY") }

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
