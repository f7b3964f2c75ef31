package ciba

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	fetchTimeout = 10 * time.Second // for the provider's metadata or its key set
	metadataLife = time.Hour        // Singpass: cache for at least an hour, never fetch per operation
	metadataGap  = 5 * time.Second  // between two tries while there is none: ten thousand polls must not become ten thousand fetches
)

// endpoints are what we need of the provider's metadata (OpenID Connect Discovery §3, CIBA §4).
type endpoints struct {
	auth, token, keys *url.URL
}

// discovery keeps the provider's endpoints. What was once good stays in use until something newer is good.
type discovery struct {
	known  atomic.Pointer[endpoints]
	flight singleflight.Group

	// Touched only inside the flight, of which there is one at a time.
	fetched time.Time // last success
	tried   time.Time // last try
	err     error     // its outcome
}

// endpoints returns the provider's endpoints and fetches them only where there are none yet.
func (c *Client) endpoints(ctx context.Context) (*endpoints, error) {
	if known := c.discovery.known.Load(); known != nil {
		return known, nil
	}
	return c.discover(ctx, 0)
}

// discover returns endpoints not older than life; 0 means that any will do. The fetch is shared by everybody who waits for it, so it does not end
// with the one who happened to be first.
func (c *Client) discover(ctx context.Context, life time.Duration) (*endpoints, error) {
	d := &c.discovery
	flight := d.flight.DoChan("", func() (any, error) {
		known := d.known.Load()
		if known != nil && (life == 0 || time.Since(d.fetched) < life) {
			return known, nil
		}
		if d.err != nil && time.Since(d.tried) < metadataGap {
			return nil, d.err
		}
		var found *endpoints
		found, d.err = c.fetchEndpoints(context.WithoutCancel(ctx))
		d.tried = time.Now()
		if d.err != nil {
			d.err = fmt.Errorf("reading provider metadata: %w", d.err)
			return nil, d.err
		}
		d.fetched = d.tried
		d.known.Store(found)
		return found, nil
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case got := <-flight:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*endpoints), nil
	}
}

func (c *Client) fetchEndpoints(ctx context.Context) (*endpoints, error) {
	from, err := address(strings.TrimRight(c.cfg.Issuer, "/")+"/.well-known/openid-configuration", c.cfg.AllowHTTP)
	if err != nil {
		return nil, err
	}
	body, err := c.get(ctx, discoveryEndpoint, from)
	if err != nil {
		return nil, err
	}
	return readMetadata(body, c.cfg.Issuer, c.cfg.AllowHTTP)
}

// readMetadata takes the endpoints from the provider's metadata. A document that names another issuer is not this provider's, whoever
// served it (OpenID Connect Discovery §4.3).
func readMetadata(body []byte, issuer string, allowHTTP bool) (*endpoints, error) {
	var iss, auth, token, keys member
	err := readObject(body, func(name []byte) *member {
		switch string(name) {
		case "issuer":
			return &iss
		case "backchannel_authentication_endpoint":
			return &auth
		case "token_endpoint":
			return &token
		case "jwks_uri":
			return &keys
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if iss.text() != issuer {
		return nil, errors.New("issuer is not the configured one")
	}
	var found endpoints
	var errs []error
	for _, e := range []struct {
		name string
		raw  member
		to   **url.URL
	}{
		{"backchannel_authentication_endpoint", auth, &found.auth},
		{"token_endpoint", token, &found.token},
		{"jwks_uri", keys, &found.keys},
	} {
		u, err := address(e.raw.text(), allowHTTP)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.name, err))
		}
		*e.to = u
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &found, nil
}

// fetchKeys is what the key set calls when it wants to be renewed. Endpoints past their hour are renewed first; if that fails, the old ones
// serve on.
func (c *Client) fetchKeys(ctx context.Context) ([]byte, error) {
	to, err := c.discover(ctx, metadataLife)
	if err != nil {
		if to = c.discovery.known.Load(); to == nil {
			return nil, err
		}
	}
	return c.get(ctx, keysEndpoint, to.keys)
}
