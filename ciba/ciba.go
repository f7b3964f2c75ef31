// Package ciba is a client of OpenID Connect CIBA in poll mode, as Singpass speaks it and as CIBA Core 1.0 describes it.
//
// Every method makes at most one exchange that matters to the provider and repeats nothing: no loop, no sleep, no store. When to ask again is the
// caller's decision, and the error type says what is known: not yet (Pending, SlowDown), no (Refusal), not processed (Transient), nobody
// knows (Ambiguous), not believed (Untrusted), not judged yet (Unverified).
//
// It trusts its Config and the TLS connection to the configured issuer for the endpoints and the key set. It believes an ID token only
// after jose has verified it and bind has compared it with the question. Keeping the person's data sealed, and accepting a token only
// once, is left to the caller.
package ciba

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"stepup/ciba/jose"
)

// A Profile says which parameters are sent and how an ID token is bound to the question.
type Profile string

const (
	// Singpass sends what Singpass documents and nothing else; the subject is a list (s=NRIC,u=UUID) that is compared with the login_hint.
	Singpass Profile = "singpass"
	// Standard sends whatever CIBA Core 1.0 §7.1 defines; the subject is opaque.
	Standard Profile = "standard"
)

// Config is one registration with one provider.
type Config struct {
	Name     string // what telemetry calls the provider
	Issuer   string // must equal the provider's own "issuer"; endpoints and keys are found from it
	ClientID string // must be set
	Audience string // aud of client assertions; if empty, Issuer (CIBA §7.1)
	Profile  Profile

	Keys      *jose.Keys // must be set; signs assertions and decrypts ID tokens
	Encrypted bool       // ID tokens must come encrypted to Keys; false: they must come signed only
	Algs      jose.Algs  // what a token may use; never taken from a token. Signing must not be empty

	Bind         bool // Standard: sub must equal the login_hint; false: the identity is marked as not bound
	Evidence     bool // Identity carries the signed ID token
	NRICChecksum bool // Singpass: refuse an NRIC/FIN with a wrong check letter

	HTTP         *http.Client  // must be set, see NewHTTPClient. Only its Transport is used: redirects, cookies and Timeout have no part in this
	AllowHTTP    bool          // endpoints without TLS; development only
	TokenTimeout time.Duration // for a whole Token call; default 40 s: a provider may hold a request for 30 s (CIBA §10.1)
	AuthTimeout  time.Duration // for a whole Authenticate call; default 15 s
}

// Client speaks for one registration. It is safe for concurrent use.
type Client struct {
	cfg    Config
	opener jose.Opener
	http   http.RoundTripper
	met    func() *instruments
	labels sync.Map // of telemetry, by ending
	clock  clock

	asserter   *jose.Asserter
	askPrefix  string        // the parts of the two forms that never change, encoded
	pollPrefix string        //
	blank      *http.Request // what all POSTs have in common; copied for each, its header shared, so never written to

	discovery discovery
	keys      *jose.KeySet
}

// New checks the configuration, all of it at once, and makes no call.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("ciba client: %w", err)
	}
	if cfg.Audience == "" {
		cfg.Audience = cfg.Issuer
	}
	if cfg.TokenTimeout == 0 {
		cfg.TokenTimeout = 40 * time.Second
	}
	if cfg.AuthTimeout == 0 {
		cfg.AuthTimeout = 15 * time.Second
	}
	asserter, err := cfg.Keys.Asserter(cfg.ClientID, cfg.Audience)
	if err != nil {
		return nil, fmt.Errorf("ciba client: %w", err)
	}
	c := &Client{
		cfg:      cfg,
		http:     cfg.HTTP.Transport,
		met:      sync.OnceValue(newInstruments),
		asserter: asserter,
		blank: &http.Request{
			Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{
				"Content-Type":    {"application/x-www-form-urlencoded"},
				"Accept":          {"application/json"},
				"Accept-Encoding": {"identity"}, // whatever the Transport's setting: an inflated answer has no honest size
				"User-Agent":      {"stepup"},
			},
		},
		askPrefix:  assertionType + "&client_assertion=",
		pollPrefix: "grant_type=" + url.QueryEscape(grantType) + "&" + assertionType + "&client_assertion=",
	}
	if c.http == nil {
		c.http = http.DefaultTransport
	}
	c.keys = jose.NewKeySet(cfg.Algs.Signing, c.fetchKeys)
	c.opener = jose.Opener{
		Issuer: cfg.Issuer, ClientID: cfg.ClientID, Encrypted: cfg.Encrypted,
		Algs: cfg.Algs, Keys: cfg.Keys, Set: c.keys,
	}
	return c, nil
}

const grantType = "urn:openid:params:grant-type:ciba"

var assertionType = "client_assertion_type=" + url.QueryEscape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")

func (cfg *Config) check() error {
	var errs []error
	no := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	if u, err := address(cfg.Issuer, cfg.AllowHTTP); err != nil {
		errs = append(errs, fmt.Errorf("issuer: %w", err))
	} else {
		no(u.RawQuery != "", "issuer: must have no query")
	}
	no(cfg.Profile != Singpass && cfg.Profile != Standard, "profile: must be singpass or standard")
	no(cfg.ClientID == "", "client id: must be set")
	no(cfg.Keys == nil, "keys: must be set")
	no(len(cfg.Algs.Signing) == 0, "signing algorithms: at least one must be named")
	no(cfg.Encrypted && cfg.Keys != nil && !cfg.Keys.CanDecrypt(), "keys: encrypted ID tokens need a key with use enc")
	no(cfg.HTTP == nil, "HTTP client: must be set")
	no(cfg.TokenTimeout < 0 || cfg.AuthTimeout < 0, "time-outs: must not be negative")
	return errors.Join(errs...)
}

// Ready loads what the first call needs, the provider's endpoints and its keys, and keeps what is already there. It fails only when
// one of them is missing and cannot be had.
func (c *Client) Ready(ctx context.Context) error {
	if _, err := c.endpoints(ctx); err != nil {
		return err
	}
	if err := c.RefreshKeys(ctx, time.Time{}); err != nil && c.keys.FetchedAt().IsZero() {
		return err
	}
	return nil
}

// RefreshKeys fetches the provider's key set when the one in hand is older than since; with a zero since, when it is older than an hour
// or there is none. Endpoints older than an hour are fetched again on the way. On failure the old keys stay. jose.ErrTooSoon means
// that the provider was asked a moment ago; use what is there.
func (c *Client) RefreshKeys(ctx context.Context, since time.Time) error {
	if since.IsZero() {
		if since = time.Now(); !c.keys.Stale(since) && !c.keys.FetchedAt().IsZero() {
			return nil
		}
	}
	return c.keys.Refresh(ctx, since)
}

// LeakedKeys is how many of the provider's keys in hand were published with their secret part. They are not used: whoever
// has seen them can sign with them, so somebody should tell the provider.
func (c *Client) LeakedKeys() int { return c.keys.Leaked() }

// PublicKeys is the JWKS that the provider must be able to fetch.
func (c *Client) PublicKeys() []byte { return c.cfg.Keys.Public() }

// address reads an address that we are about to send a client assertion to, or to take keys from.
func address(raw string, allowHTTP bool) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || strings.ContainsAny(raw, " \t\r\n"):
		return nil, errors.New("must be an absolute https:// address")
	case u.Scheme != "https" && (u.Scheme != "http" || !allowHTTP):
		return nil, errors.New("must be https")
	case u.User != nil || strings.Contains(raw, "#"):
		return nil, errors.New("must have no user name and no fragment")
	}
	return u, nil
}
