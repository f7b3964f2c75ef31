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
	keys []verifier
	at   time.Time // when that fetch began: a key published later is not in it
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
	keys, err := s.read(ctx)
	if err == nil {
		s.current.Store(&published{keys, began})
	}
	s.mu.Lock()
	s.flight, s.failed = nil, err
	s.mu.Unlock()
	f.err = err
	close(f.done)
}

func (s *KeySet) read(ctx context.Context) ([]verifier, error) {
	jwks, err := s.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading key set: %w", err)
	}
	keys, err := readPublished(jwks, s.signing)
	if err != nil {
		return nil, fmt.Errorf("reading key set: %w", err)
	}
	return keys, nil
}

// readPublished takes the usable keys out of a provider's JWKS and passes over all others, whatever is wrong with them: the provider may
// publish what we do not know. Two keys with one kid are both kept.
func readPublished(jwks []byte, signing []string) ([]verifier, error) {
	if len(jwks) > maxJWKS {
		return nil, errors.New("larger than 256 KiB")
	}
	raw, err := document(jwks)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxKeys {
		return nil, errors.New("more than 100 keys")
	}
	var keys []verifier
	for _, r := range raw {
		if v, ok := readVerifier(r, signing); ok {
			keys = append(keys, v)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("no usable key")
	}
	return keys, nil
}

func readVerifier(raw []byte, signing []string) (verifier, bool) {
	m, err := object(raw)
	if err != nil {
		return verifier{}, false
	}
	// A private or symmetric key in a public set is everybody's key: it proves nothing.
	if m["d"] != nil || m["k"] != nil {
		return verifier{}, false
	}
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

// Stale says whether the set is older than an hour, or was never read. A stale set is still used.
func (s *KeySet) Stale(now time.Time) bool {
	at := s.FetchedAt()
	return at.IsZero() || now.Sub(at) > freshFor
}
