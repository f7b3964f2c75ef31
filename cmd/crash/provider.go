package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"stepup/ciba/cibatest"
)

// provider is the simulated provider of one site, in this process: no fault reaches it, so its ledger is the truth.
type provider struct {
	*cibatest.Server
	url    string
	server *http.Server

	mu     sync.Mutex
	tokens []string          // every token that was handed out
	sends  map[string][]send // of each auth_req_id, in the order of arrival
}

// send is one arrival at the token endpoint.
type send struct {
	at  time.Time
	kid string // of the key that signed the client's assertion: it tells the processes of a site apart
}

const clientID = "crash-bank"

// openProvider listens on loopback. jwks are the client's public keys; edit may change the rest.
func openProvider(jwks []byte, edit func(*cibatest.Config)) (*provider, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &provider{url: "http://" + l.Addr().String(), sends: map[string][]send{}}
	cfg := cibatest.Config{Issuer: p.url, ClientID: clientID, ClientJWKS: jwks, Interval: 1, Manual: true, Detail: true}
	if edit != nil {
		edit(&cfg)
	}
	if p.Server, err = cibatest.New(cfg); err != nil {
		l.Close()
		return nil, err
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = p.server.Serve(l) }()
	return p, nil
}

// ServeHTTP notes who polls, and the tokens that go out, to look for them where they must not be.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		p.Server.ServeHTTP(w, r)
		return
	}
	p.noteSend(r)
	copied := &copier{ResponseWriter: w}
	defer func() {
		var answer struct {
			ID     string `json:"id_token"`
			Access string `json:"access_token"`
		}
		if json.Unmarshal(copied.body.Bytes(), &answer) == nil && answer.ID != "" {
			p.mu.Lock()
			p.tokens = append(p.tokens, answer.ID, answer.Access)
			p.mu.Unlock()
		}
	}()
	p.Server.ServeHTTP(copied, r)
}

func (p *provider) noteSend(r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	if err != nil {
		return // the simulator judges what is left
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	head, _, _ := strings.Cut(form.Get("client_assertion"), ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Kid string }
	_ = json.Unmarshal(text, &header)
	id := form.Get("auth_req_id")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sends[id] = append(p.sends[id], send{at, header.Kid})
}

// sent is who polled and when, by auth_req_id.
func (p *provider) sent() map[string][]send {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := map[string][]send{}
	for id, s := range p.sends {
		list[id] = slices.Clone(s)
	}
	return list
}

type copier struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (c *copier) Write(b []byte) (int, error) {
	c.body.Write(b)
	return c.ResponseWriter.Write(b)
}

func (c *copier) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// secrets is what came and went here and must be nowhere in the clear.
func (p *provider) secrets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := append([]string{}, p.tokens...)
	for _, r := range p.Ledger().Requests {
		list = append(list, r.AuthReqID)
	}
	return list
}

func (p *provider) close() { p.server.Close() }
