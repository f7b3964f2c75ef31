package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"stepup/webhook"
	"stepup/worker/api"
)

type listenCmd struct {
	Listen    string `default:"127.0.0.1:9090" placeholder:"ADDR" help:"Where to listen (default ${default})."`
	Secret    string `placeholder:"FILE" help:"The webhook's secrets file: whsec_ lines verify v1, whsk_ lines v1a."`
	PublicKey string `placeholder:"KEY" complete:"files" help:"What verifies v1a: a whpk_ line, as keygen prints it, or a file with some, and whsec_ lines if need be."`
	Decrypt   string `placeholder:"FILE" help:"The receiver's private key set, as keygen --kind encryption writes it: opens encrypted content."`
}

func (listenCmd) Help() string {
	return `A receiver for trying things out: every path takes webhooks. Each is verified (Standard Webhooks) and printed, answered 204
when it is good and 401 when it is not. One signature that verifies is enough. With --decrypt the event inside encrypted content
is printed; what cannot be opened is answered 422, and so comes again.

In the configuration that sends here: url: http://127.0.0.1:9090/hooks, secrets_file: ledger.whsec, development: true.

Reads:
  the files that --secret, --public-key and --decrypt name

Exit codes:
  0  ended by Ctrl-C or SIGTERM
  1  a file cannot be used, or the address is taken
  2  wrong usage

Examples:
  stepup keygen --webhook ledger.whsec
  stepup listen --secret ledger.whsec
  stepup listen --public-key whpk_… --decrypt receiver.jwks.json`
}

func (c listenCmd) Run(e *env) error {
	keys, err := c.keys()
	if err != nil {
		return err
	}
	private, err := c.privateKeys()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "webhooks are awaited at http://%s/\n", l.Addr())
	in := &inbox{keys: keys, private: private, seen: map[string]bool{}, show: func(n news) { n.print(e.stdout) }}
	return serveHTTP(e.ctx, l, api.NewHTTPServer(in, e.log))
}

// keys are what a webhook may be verified with.
func (c listenCmd) keys() ([]webhook.Key, error) {
	if c.Secret == "" && c.PublicKey == "" {
		return nil, usageError{"listen needs --secret FILE, --public-key KEY or both (try `stepup listen --help`)"}
	}
	var all []webhook.Key
	if c.Secret != "" {
		file, err := os.ReadFile(c.Secret)
		if err != nil {
			return nil, err
		}
		secrets, err := webhook.ParseSecrets(file)
		if err != nil {
			if _, wrong := webhook.ParseKeys(file); wrong == nil {
				return nil, usageError{c.Secret + " has whpk_ keys, which receivers have: name it with --public-key"}
			}
			return nil, fmt.Errorf("%s: %w", c.Secret, err)
		}
		all = webhook.Keys(secrets)
	}
	if c.PublicKey != "" {
		text, from := []byte(c.PublicKey), "--public-key"
		if !strings.HasPrefix(c.PublicKey, "whpk_") {
			from = c.PublicKey
			var err error
			if text, err = os.ReadFile(from); err != nil {
				return nil, err
			}
		}
		more, err := webhook.ParseKeys(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
		all = append(all, more...)
	}
	return all, nil
}

// privateKeys are what encrypted content may be opened with; none without --decrypt.
func (c listenCmd) privateKeys() ([]webhook.PrivateKey, error) {
	if c.Decrypt == "" {
		return nil, nil
	}
	file, err := os.ReadFile(c.Decrypt)
	if err != nil {
		return nil, err
	}
	keys, err := webhook.ParsePrivateKeys(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Decrypt, err)
	}
	return keys, nil
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, l net.Listener, srv *http.Server) error {
	defer context.AfterFunc(ctx, func() {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(within) != nil {
			_ = srv.Close()
		}
	})()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// news is one request that came to an inbox.
type news struct {
	at     time.Time
	header http.Header
	id     string // webhook-id
	body   []byte // opened, where that was possible
	notes  string // what else there is to say of it
	again  bool   // the id was there before: stop here, a receiver has done its work already
	err    error
}

// inbox is a receiver of webhooks: it verifies, opens, remembers ids and shows what came.
type inbox struct {
	keys    []webhook.Key
	private []webhook.PrivateKey // none: encrypted content stays closed
	show    func(news)

	mu   sync.Mutex
	seen map[string]bool
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	m, err := webhook.Read(r, in.keys, now)
	in.mu.Lock()
	defer in.mu.Unlock()
	if err != nil {
		in.show(news{at: now, header: r.Header, err: err})
		http.Error(w, "not verified", http.StatusUnauthorized)
		return
	}
	n := news{at: now, header: r.Header, id: m.ID, body: m.Body, again: in.seen[m.ID]}
	if err := in.open(&n); err != nil {
		in.show(news{at: now, header: r.Header, err: err})
		http.Error(w, "not opened", http.StatusUnprocessableEntity)
		return
	}
	in.show(n)
	in.seen[m.ID] = true
	w.WriteHeader(http.StatusNoContent)
}

// open puts the event inside encrypted content in the body's place, and says what kind of event it is where that is not
// plain. A body that is no event is shown as it is.
func (in *inbox) open(n *news) error {
	var event struct {
		Type string
		Data struct{ Encrypted string }
	}
	if json.Unmarshal(n.body, &event) != nil {
		return nil
	}
	switch {
	case event.Type == "endpoint.test":
		n.notes = "  (a test of this endpoint, about nobody)"
	case strings.HasSuffix(event.Type, ".delivery_expired"):
		n.notes = "  (there was a result, and it could not be delivered in time: ask again)"
	}
	if event.Data.Encrypted == "" {
		return nil
	}
	plain, err := webhook.Open(n.body, in.private)
	if unknown, ok := errors.AsType[*webhook.UnknownKeyError](err); ok && len(in.private) == 0 {
		n.notes += fmt.Sprintf("  (encrypted to key %s; --decrypt FILE opens it)", unknown.KeyID)
		return nil
	}
	if err != nil {
		return err
	}
	n.body = plain
	n.notes += "  (was encrypted)"
	return nil
}

func (n news) print(w io.Writer) {
	at := n.at.Format("15:04:05.000")
	switch {
	case n.err != nil:
		fmt.Fprintf(w, "%s  REFUSED   %v\n", at, n.err)
		return
	case n.again:
		fmt.Fprintf(w, "%s  verified  %s  (again: the same event as before)\n", at, n.id)
		return
	}
	var text bytes.Buffer
	if json.Indent(&text, n.body, "  ", "  ") != nil {
		text.Reset()
		text.Write(n.body)
	}
	fmt.Fprintf(w, "%s  verified  %s%s\n  %s\n", at, n.id, n.notes, text.Bytes())
}
