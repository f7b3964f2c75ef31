package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"stepup/ciba/cibatest"
	"stepup/worker/api"
)

type fakeopCmd struct {
	Listen        string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Where to listen (default ${default})."`
	Issuer        string        `placeholder:"URL" help:"Under which URL it is reached; if not given, http:// and the address."`
	ClientID      string        `placeholder:"ID" help:"The only client_id to accept; if not given, any."`
	ClientJwks    string        `placeholder:"FILE" xor:"keys" help:"The client's public keys: public.jwks.json."`
	ClientJwksURL string        `placeholder:"URL" name:"client-jwks-url" xor:"keys" help:"Where the client publishes its keys: http://…/providers/NAME/jwks.json."`
	AnyClient     bool          `xor:"keys" help:"Accept every client and every signature; ID tokens come signed only (id_token: signed)."`
	ExpiresIn     time.Duration `default:"300s" help:"How long a person has to answer (default ${default})."`
	Interval      int           `default:"0" help:"Seconds between polls that it asks for; 0: names none, like Singpass."`
	Hold          time.Duration `default:"0s" help:"How long a poll without an answer is held open."`
	Plain         bool          `help:"ID tokens are signed only, not encrypted."`
}

func (fakeopCmd) Help() string {
	return `A provider that speaks like Singpass, with a phone in the browser on which you answer. It knows no real people, and whoever
reaches it can approve: keep it on this machine. It prints what to write into the configuration.

Reads:
  the client's public keys, from --client-jwks or --client-jwks-url

Exit codes:
  0  ended by Ctrl-C or SIGTERM
  1  a file cannot be used, or the address is taken
  2  wrong usage

Examples:
  stepup fakeop --client-jwks secrets/public.jwks.json
  stepup fakeop --any-client --expires-in 60s`
}

func (c fakeopCmd) Run(e *env) error {
	if c.ClientJwks == "" && c.ClientJwksURL == "" && !c.AnyClient {
		e.log.Warn("no client keys: every client and every signature is accepted, and ID tokens are signed only; --client-jwks FILE checks them")
		c.AnyClient = true
	}
	cfg := cibatest.Config{
		ClientID: c.ClientID, ClientJWKSURL: c.ClientJwksURL, AllowAnyClient: c.ClientID == "" || c.AnyClient,
		ExpiresIn: c.ExpiresIn, Interval: c.Interval, Hold: c.Hold, Manual: true, Plain: c.Plain || c.AnyClient,
	}
	if c.ClientJwks != "" {
		var err error
		if cfg.ClientJWKS, err = os.ReadFile(c.ClientJwks); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	cfg.Issuer = c.issuer(l)
	op, err := cibatest.New(cfg)
	if err != nil {
		return usageError{err.Error()}
	}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		e.log.Warn("the simulated provider is reachable from other machines; whoever reaches it can approve", "addr", l.Addr().String())
	}
	c.describe(e, cfg)
	srv := api.NewHTTPServer(op, e.log)
	srv.WriteTimeout = c.Hold + time.Minute // a held poll is no slow client
	return serveHTTP(e.ctx, l, srv)
}

// issuer is the URL of the listener. The host stays as it was written, because it may be a name that others resolve too.
func (c fakeopCmd) issuer(l net.Listener) string {
	if c.Issuer != "" {
		return strings.TrimRight(c.Issuer, "/")
	}
	host, _, _ := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://" + net.JoinHostPort(host, port)
}

func (c fakeopCmd) describe(e *env, cfg cibatest.Config) {
	id, token := cfg.ClientID, "encrypted"
	if id == "" {
		id = "any"
	}
	if cfg.Plain {
		token = "signed"
	}
	fmt.Fprintf(e.stdout, `phone:   %[1]s/phone
ledger:  %[1]s/ledger

In the configuration:

  development: true
  providers:
    fake:
      issuer: %[1]s
      profile: singpass
      client_id: %[2]s
      id_token: %[3]s
      keys_file: secrets/private.jwks.json

`, cfg.Issuer, id, token)
}
