package cibatest

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// The client's key set is fetched with 3 s a try, 3 tries, and kept for an hour (Singpass, "JWKS URL Service Level Expectations").
const (
	jwksTries   = 3
	jwksTimeout = 3 * time.Second
	jwksLife    = time.Hour
	jwksGap     = time.Second // between fetches for unknown key ids; this package's own
)

// clientKeys are the public keys of the registered client, given or fetched.
type clientKeys struct {
	url  string
	http *http.Client

	fetching sync.Mutex // one fetch at a time
	mu       sync.RWMutex
	set      *clientSet
}

type clientSet struct {
	fetched time.Time
	sig     map[string]*signKey
	enc     jwk.Key // the first; nil: none
}

// signKey verifies assertions.
type signKey struct {
	alg    string // by the curve
	public *ecdsa.PublicKey
}

func newClientKeys(cfg Config) (*clientKeys, error) {
	c := &clientKeys{url: cfg.ClientJWKSURL, http: cfg.HTTP}
	if c.http == nil {
		c.http = &http.Client{Timeout: jwksTimeout}
	}
	if len(cfg.ClientJWKS) == 0 {
		return c, nil
	}
	set, err := readClientSet(cfg.ClientJWKS)
	if err == nil && set.enc == nil && !cfg.Plain {
		err = errors.New("no key for encryption")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the client's key set: %w", err)
	}
	c.set = set
	return c, nil
}

// known tells whether there are keys at all; without, every signature passes (Config.AllowAnyClient).
func (c *clientKeys) known() bool { return c.url != "" || c.set != nil }

// signing finds the key for an assertion, fetching the set when it is old or lacks the key id.
func (c *clientKeys) signing(ctx context.Context, kid string) (*signKey, error) {
	set, err := c.current(ctx, func(set *clientSet) bool { return set.sig[kid] != nil })
	if err != nil {
		return nil, err
	}
	if key := set.sig[kid]; key != nil {
		return key, nil
	}
	return nil, errors.New("the key id is not in the client's key set")
}

func (c *clientKeys) encryptionKey(ctx context.Context) (jwk.Key, error) {
	set, err := c.current(ctx, func(*clientSet) bool { return true })
	if err != nil {
		return nil, err
	}
	if set.enc == nil {
		return nil, errors.New("the client's key set has no key for encryption")
	}
	return set.enc, nil
}

// current returns the set in hand when it is fresh and good enough, else fetches it.
func (c *clientKeys) current(ctx context.Context, enough func(*clientSet) bool) (*clientSet, error) {
	fine := func() (*clientSet, bool) {
		c.mu.RLock()
		defer c.mu.RUnlock()
		if c.set == nil {
			return nil, false
		}
		age := time.Since(c.set.fetched)
		return c.set, c.url == "" || age < jwksLife && (enough(c.set) || age < jwksGap)
	}
	if set, ok := fine(); ok {
		return set, nil
	}
	c.fetching.Lock()
	defer c.fetching.Unlock()
	if set, ok := fine(); ok { // somebody fetched it while we waited
		return set, nil
	}
	set, err := c.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("fetching the client's key set: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set = set
	return set, nil
}

func (c *clientKeys) fetch(ctx context.Context) (set *clientSet, err error) {
	for range jwksTries {
		if set, err = c.fetchOnce(ctx); err == nil {
			return set, nil
		}
	}
	return nil, err
}

func (c *clientKeys) fetchOnce(ctx context.Context) (*clientSet, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jwksTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	return readClientSet(body)
}

// readClientSet holds a set to what Singpass asks ("Client JWK Requirements"): EC keys on P-256, P-384 or P-521; `use` sig with
// `kid`; `use` enc with `kid` and an ECDH-ES+A…KW `alg`; nothing private.
func readClientSet(raw []byte) (*clientSet, error) {
	parsed, err := jwk.Parse(raw)
	if err != nil {
		return nil, errors.New("not a key set")
	}
	set := &clientSet{fetched: time.Now(), sig: map[string]*signKey{}}
	for i := range parsed.Len() {
		key, _ := parsed.Key(i)
		if err := set.add(key); err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	if len(set.sig) == 0 {
		return nil, errors.New("no key for signatures")
	}
	return set, nil
}

func (set *clientSet) add(key jwk.Key) error {
	if private, err := jwk.IsPrivateKey(key); err != nil || private {
		return errors.New("it is private")
	}
	public := new(ecdsa.PublicKey)
	if err := key.Raw(public); err != nil {
		return errors.New("it is not an EC key")
	}
	alg := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[public.Curve.Params().Name]
	if alg == "" || key.KeyID() == "" {
		return errors.New("it lacks a kid or is on a curve other than P-256, P-384, P-521")
	}
	named := key.Algorithm().String()
	switch key.KeyUsage() {
	case "sig":
		if named != "" && named != alg {
			return errors.New("its alg does not fit its curve")
		}
		set.sig[key.KeyID()] = &signKey{alg: alg, public: public}
	case "enc":
		switch named {
		case "ECDH-ES+A128KW", "ECDH-ES+A192KW", "ECDH-ES+A256KW":
		default:
			return errors.New("a key for encryption needs an ECDH-ES+A128KW, A192KW or A256KW alg")
		}
		if set.enc == nil {
			set.enc = key
		}
	default:
		return errors.New("its use is neither sig nor enc")
	}
	return nil
}
