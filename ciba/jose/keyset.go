package jose

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fetchGap     = 30 * time.Second // between the starts of two fetches, whatever came of the first
	fetchTimeout = 15 * time.Second // for one fetch, beside what the fetcher itself allows
	freshFor     = time.Hour
)

// KeySet is the provider's published keys, as they were last read. Many goroutines may use it.
type KeySet struct {
	signing []string
	fetch   func(context.Context) ([]byte, error)

	current atomic.Pointer[published] // nil: never read

	mu     sync.Mutex
	flight *flight   // nil: no fetch under way
	tried  time.Time // start of the last fetch
	failed error     // what the last fetch died of; nil: it was good
}

// published is what one fetch gave. It never changes.
type published struct {
	keys   []verifier
	at     time.Time          // when that fetch began: a key published later is not in it
	leaked int                // keys that came with their secret part, and are not among keys
	spoilt []crypto.PublicKey // the public halves of those
}

type verifier struct {
	kid, alg string // alg is empty where the provider names none: then the curve decides
	public   crypto.PublicKey
}

type flight struct {
	done chan struct{}
	err  error // read after done
}

// NewKeySet makes an empty set that uses keys for these signature algorithms only. Fetch gives the JWKS document; it must bound what it
// reads (more than 256 KiB is refused) and its errors must not quote it.
func NewKeySet(signing []string, fetch func(context.Context) (jwks []byte, err error)) *KeySet {
	return &KeySet{signing: slices.Clone(signing), fetch: fetch}
}

// Refresh reads the provider's keys again, unless a fetch that began at `since` or later has already been good. Callers at the same time share one
// fetch, which outlives the caller that began it. There is at most one fetch in 30 s: before that the answer is ErrTooSoon, together
// with what the last fetch died of. A fetch that fails, or gives no usable key, leaves the old set in place.
func (s *KeySet) Refresh(ctx context.Context, since time.Time) error {
	for {
		if at := s.FetchedAt(); !at.IsZero() && !at.Before(since) {
			return nil
		}
		f, err := s.join(ctx)
		if err != nil {
			return err
		}
		select {
		case <-f.done:
			if f.err != nil {
				return f.err
			}
			// Good, but perhaps begun before `since`: look again.
		case <-ctx.Done():
			return fmt.Errorf("reading key set: %w", ctx.Err())
		}
	}
}

// join gives the fetch under way, or begins one if that is allowed.
func (s *KeySet) join(ctx context.Context) (*flight, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, nil
	}
	now := time.Now()
	if !s.tried.IsZero() && now.Sub(s.tried) < fetchGap {
		if s.failed != nil {
			return nil, fmt.Errorf("%w; it failed: %w", ErrTooSoon, s.failed)
		}
		return nil, ErrTooSoon
	}
	f := &flight{done: make(chan struct{})}
	s.flight, s.tried = f, now
	go s.fly(context.WithoutCancel(ctx), f, now)
	return f, nil
}

func (s *KeySet) fly(ctx context.Context, f *flight, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	p, err := s.read(ctx)
	switch old := s.current.Load(); {
	case err == nil:
		p.at = began
		s.current.Store(&p)
	case old != nil && len(p.spoilt) > 0: // the old set stays in place, without what everybody can sign with now
		s.current.Store(&published{keys: unspoilt(old.keys, p.spoilt), at: old.at, leaked: p.leaked})
	}
	s.mu.Lock()
	s.flight, s.failed = nil, err
	s.mu.Unlock()
	f.err = err
	close(f.done)
}

func (s *KeySet) read(ctx context.Context) (published, error) {
	jwks, err := s.fetch(ctx)
	if err != nil {
		return published{}, fmt.Errorf("reading key set: %w", err)
	}
	p, err := readPublished(jwks, s.signing)
	if err != nil {
		return p, fmt.Errorf("reading key set: %w", err)
	}
	return p, nil
}

// readPublished takes the usable keys out of a provider's JWKS and passes over all others, whatever is wrong with them: the provider may
// publish what we do not know. Two keys with one kid are both kept. A key that stands there with its secret part is
// everybody's: it proves nothing, also where the same key stands there once more without it.
func readPublished(jwks []byte, signing []string) (p published, err error) {
	if len(jwks) > maxJWKS {
		return p, errors.New("larger than 256 KiB")
	}
	raw, err := document(jwks)
	if err != nil {
		return p, err
	}
	if len(raw) > maxKeys {
		return p, errors.New("more than 100 keys")
	}
	for _, r := range raw {
		m, err := object(r)
		if err != nil {
			continue
		}
		if hasSecret(m) {
			p.leaked++
			if k, err := publicKey(m); err == nil {
				p.spoilt = append(p.spoilt, k)
			}
		} else if v, ok := readVerifier(m, signing); ok {
			p.keys = append(p.keys, v)
		}
	}
	p.keys = unspoilt(p.keys, p.spoilt)
	switch {
	case len(p.keys) > 0:
		return p, nil
	case p.leaked > 0:
		return p, errors.New("no usable key: the provider publishes private keys, which prove nothing")
	}
	return p, errors.New("no usable key")
}

// unspoilt are the keys that are none of spoilt, under whatever kid.
func unspoilt(keys []verifier, spoilt []crypto.PublicKey) []verifier {
	var good []verifier
	for _, v := range keys {
		if !slices.ContainsFunc(spoilt, v.public.(interface{ Equal(crypto.PublicKey) bool }).Equal) {
			good = append(good, v)
		}
	}
	return good
}

// hasSecret says whether a JWK holds more than the public half: a private part of any kind (RFC 7518 §6.2.2, §6.3.2) or a
// symmetric key (§6.4.1).
func hasSecret(m map[string]any) bool {
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if m[name] != nil {
			return true
		}
	}
	return false
}

func readVerifier(m map[string]any, signing []string) (verifier, bool) {
	if use, ok := m["use"]; ok && use != "sig" {
		return verifier{}, false
	}
	if ops, ok := m["key_ops"].([]any); ok && !slices.Contains(ops, any("verify")) {
		return verifier{}, false
	}
	v := verifier{}
	var ok bool
	if v.kid, ok = optional(m, "kid"); !ok {
		return verifier{}, false
	}
	if v.alg, ok = optional(m, "alg"); !ok {
		return verifier{}, false
	}
	var err error
	if v.public, err = publicKey(m); err != nil {
		return verifier{}, false
	}
	return v, slices.ContainsFunc(signing, v.does)
}

// optional is a member that must be a string if it is there.
func optional(m map[string]any, name string) (string, bool) {
	v, there := m[name]
	s, ok := v.(string)
	return s, ok || !there
}

// does says whether the key is meant for an algorithm, and of the right kind and curve for it.
func (v verifier) does(alg string) bool {
	return (v.alg == "" || v.alg == alg) && fits(alg, v.public)
}

// FetchedAt is when the last good fetch began; zero before the first.
func (s *KeySet) FetchedAt() time.Time {
	if p := s.current.Load(); p != nil {
		return p.at
	}
	return time.Time{}
}

// Leaked is how many keys of the set in hand came with their secret part. None of them is used; somebody should tell the
// provider.
func (s *KeySet) Leaked() int {
	if p := s.current.Load(); p != nil {
		return p.leaked
	}
	return 0
}

// Stale says whether the set is older than an hour, or was never read. A stale set is still used.
func (s *KeySet) Stale(now time.Time) bool {
	at := s.FetchedAt()
	return at.IsZero() || now.Sub(at) > freshFor
}
