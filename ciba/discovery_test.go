package ciba

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMetadata(t *testing.T) {
	const issuer = "https://op.example"
	doc := func(auth, token, keys string) string {
		return fmt.Sprintf(`{"issuer":%q,"backchannel_authentication_endpoint":%q,"token_endpoint":%q,"jwks_uri":%q,"other":[{}]}`, issuer, auth, token, keys)
	}
	good := doc(issuer+"/bc-auth", issuer+"/token?x=y", "https://keys.example/k")
	for _, row := range []struct {
		name, body string
		http       bool
		want       string // part of the error; empty: accepted
	}{
		{"good", good, false, ""},
		{"http in development", doc("http://a/1", "http://a/2", "http://a/3"), true, ""},
		{"http", doc(issuer, issuer, "http://op.example/keys"), false, "jwks_uri: must be https"},
		{"another scheme", doc("file:///etc/passwd", issuer, issuer), true, "backchannel_authentication_endpoint: "},
		{"user name", doc(issuer, "https://a:b@op.example/token", issuer), false, "token_endpoint: must have no user name"},
		{"fragment", doc(issuer, "https://op.example/token#", issuer), false, "token_endpoint: must have no user name and no fragment"},
		{"relative", doc("/bc-auth", issuer, issuer), false, "backchannel_authentication_endpoint: must be an absolute"},
		{"all wrong", doc("", "", ""), false, "jwks_uri: must be an absolute"},
		{"another issuer", strings.Replace(good, issuer, issuer+"/", 1), false, "issuer is not the configured one"},
		{"no issuer", `{}`, false, "issuer is not the configured one"},
		{"two token endpoints", strings.Replace(good, "{", `{"token_endpoint":"https://evil.example",`, 1), false, "duplicate member"},
		{"page", page, false, "not a JSON object"},
		{"list", "[" + good + "]", false, "not a JSON object"},
		{"cut", good[:len(good)-3], false, "cut short"},
	} {
		t.Run(row.name, func(t *testing.T) {
			found, err := readMetadata([]byte(row.body), issuer, row.http)
			if row.want == "" {
				if err != nil || found.auth == nil || found.token == nil || found.keys == nil {
					t.Fatalf("%+v %v", found, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

// Metadata is fetched once for everybody, kept for an hour, and kept on when it cannot be had again.
func TestMetadataIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fetched atomic.Int32
		var broken atomic.Bool
		key := newSigner(t, "k")
		network := newPipes()
		mux := http.NewServeMux()
		mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
			fetched.Add(1)
			if broken.Load() {
				w.WriteHeader(503)
				return
			}
			metadata("http://op.example")(w, r)
		})
		mux.HandleFunc("/keys", says(200, nil, key.jwks()))
		mux.HandleFunc("/token", says(400, nil, coded("authorization_pending")))
		server := &http.Server{Handler: mux}
		go server.Serve(network)
		defer server.Close()
		cfg := singpassConfig("http://op.example")
		cfg.HTTP = &http.Client{Transport: &http.Transport{DialContext: network.dial, DisableKeepAlives: true}}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		polls := func(n int) (pending, transient int) {
			var wg sync.WaitGroup
			var p, tr atomic.Int32
			for range n {
				wg.Go(func() {
					switch _, err := c.Token(t.Context(), "a"); err.(type) {
					case *Pending:
						p.Add(1)
					case *Transient:
						tr.Add(1)
					}
				})
			}
			wg.Wait()
			return int(p.Load()), int(tr.Load())
		}

		broken.Store(true) // the provider is down when we start: nothing is sent, and it is asked now and then, not by everybody
		if err := c.Ready(t.Context()); err == nil {
			t.Error("ready without endpoints")
		}
		if _, transient := polls(20); transient != 20 {
			t.Errorf("%d of 20 polls are Transient", transient)
		}
		if n := fetched.Load(); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
		broken.Store(false)
		<-time.After(metadataGap)
		if pending, _ := polls(20); pending != 20 {
			t.Errorf("%d of 20 polls got an answer", pending)
		}
		if n := fetched.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
		if err := c.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		<-time.After(2 * time.Hour)
		broken.Store(true)
		if pending, _ := polls(5); pending != 5 || fetched.Load() != 2 {
			t.Errorf("%d of 5 polls, %d fetches: a poll must not wait for metadata that is there", pending, fetched.Load())
		}
		if err := c.RefreshKeys(t.Context(), time.Time{}); err != nil || fetched.Load() != 3 {
			t.Errorf("old endpoints must serve on: %v, %d fetches", err, fetched.Load())
		}
	})
}

// A poll is held by the provider from when it is asked, and not while we look for its endpoints or for a connection.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := newPipes()
		mux := http.NewServeMux()
		mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
			<-time.After(6 * time.Second)
			metadata("http://op.example")(w, r)
		})
		mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
			<-time.After(7 * time.Second)
			says(400, nil, coded("authorization_pending"))(w, r)
		})
		server := &http.Server{Handler: mux}
		go server.Serve(network)
		defer server.Close()
		cfg := singpassConfig("http://op.example")
		cfg.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, n, a string) (net.Conn, error) {
			<-time.After(2 * time.Second)
			return network.dial(ctx, n, a)
		}}}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = c.Token(t.Context(), "a")
		if p, ok := errors.AsType[*Pending](err); !ok || p.Held != 7*time.Second || time.Since(began) != 17*time.Second {
			t.Errorf("%v after %v, held %+v; want 7s of 17s", err, time.Since(began), p)
		}
	})
}

func TestNewNamesEveryMistake(t *testing.T) {
	_, err := New(Config{Issuer: "http://op.example", Profile: "other", TokenTimeout: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"issuer: must be https", "profile:", "client id:", "keys:", "signing algorithms:", "HTTP client:", "time-outs:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := NewHTTPClient([]byte("CANARY")); err == nil || errors.Is(err, nil) {
		t.Error("accepted a CA file without a certificate")
	}
	h, err := NewHTTPClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	if tr := h.Transport.(*http.Transport); tr.Proxy != nil || !tr.DisableCompression || h.CheckRedirect == nil {
		t.Error("the client must not use a proxy, inflate or follow")
	}
}
