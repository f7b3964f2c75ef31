package jose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// publisher is a provider's key set endpoint.
type publisher struct {
	mu      sync.Mutex
	body    string
	err     error
	takes   time.Duration
	fetches []time.Time
}

func (p *publisher) fetch(ctx context.Context) ([]byte, error) {
	p.mu.Lock()
	p.fetches = append(p.fetches, time.Now())
	body, err, takes := p.body, p.err, p.takes
	p.mu.Unlock()
	select {
	case <-time.After(takes):
		return []byte(body), err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *publisher) set(body string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body, p.err = body, err
}

func TestRefresh(t *testing.T) {
	w := loadWorld(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: string(w.public), takes: 10 * time.Millisecond}
		s := NewKeySet(everything.Signing, p.fetch)
		if !s.FetchedAt().IsZero() || !s.Stale(time.Now()) {
			t.Fatal("an empty set says it was fetched")
		}
		began := time.Now()
		if err := s.Refresh(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if !s.FetchedAt().Equal(began) || s.Stale(began.Add(time.Hour)) || !s.Stale(began.Add(time.Hour+time.Second)) {
			t.Fatalf("fetched at %v, want %v", s.FetchedAt(), began)
		}
		// Fetched since: nothing to do. Not since, but half a minute is not over: too soon.
		if err := s.Refresh(t.Context(), began); err != nil || len(p.fetches) != 1 {
			t.Fatalf("%v after %d fetches", err, len(p.fetches))
		}
		if err := s.Refresh(t.Context(), time.Now()); !errors.Is(err, ErrTooSoon) || len(p.fetches) != 1 {
			t.Fatalf("%v after %d fetches", err, len(p.fetches))
		}
		time.Sleep(30*time.Second - 10*time.Millisecond)
		if err := s.Refresh(t.Context(), time.Now()); err != nil || len(p.fetches) != 2 {
			t.Fatalf("%v after %d fetches", err, len(p.fetches))
		}
	})
}

// A provider that is down, or publishes nothing usable, for a day: the old keys stay, and it is asked at most every 30 s.
func TestRefreshFailing(t *testing.T) {
	w := loadWorld(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: string(w.public)}
		s := NewKeySet(everything.Signing, p.fetch)
		if err := s.Refresh(t.Context(), time.Time{}); err != nil {
			t.Fatal(err)
		}
		first := s.FetchedAt()
		down := errors.New("endpoint down")
		for i, bad := range []struct {
			body string
			err  error
		}{
			{"", down}, {"", nil}, {"<html>", nil}, {"{}", nil}, {`{"keys":[]}`, nil}, {`{"keys":[{"kty":"oct","k":"AAAA","kid":"ndi/2026/11"}]}`, nil},
			{`{"keys":[],"keys":[]}`, nil}, {string(w.public) + strings.Repeat(" ", maxJWKS), nil},
		} {
			p.set(bad.body, bad.err)
			time.Sleep(30 * time.Second)
			err := s.Refresh(t.Context(), time.Now())
			if err == nil || errors.Is(err, ErrTooSoon) {
				t.Errorf("case %d: %v", i, err)
			}
			// The next one is told why.
			if again := s.Refresh(t.Context(), time.Now()); !errors.Is(again, ErrTooSoon) || (bad.err != nil && !errors.Is(again, down)) {
				t.Errorf("case %d, again: %v", i, again)
			}
		}
		p.set("", down)
		start, before := time.Now(), len(p.fetches)
		for time.Since(start) < 24*time.Hour {
			_ = s.Refresh(t.Context(), time.Now())
			time.Sleep(time.Second)
		}
		if n := len(p.fetches) - before; n > 24*120+1 {
			t.Errorf("%d fetches in a day", n)
		}
		if !s.FetchedAt().Equal(first) || !s.Stale(time.Now()) {
			t.Error("a failed fetch counts as fetched")
		}
		o := w.opener(t, "singpass direct")
		o.Set = s
		if _, err := o.Open(w.jws(), first, w.NotBefore, w.Now); err != nil {
			t.Errorf("the old keys are gone: %v", err)
		}
		p.set(string(w.public), nil)
		time.Sleep(30 * time.Second)
		if err := s.Refresh(t.Context(), time.Now()); err != nil {
			t.Errorf("after the outage: %v", err)
		}
	})
}

// A thousand tokens a second with kids nobody published: one fetch in 30 s.
func TestRefreshUnknownKids(t *testing.T) {
	w := loadWorld(t)
	token := sign(w.provider["stranger"], `{"alg":"ES256","kid":"stranger"}`, w.claims())
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: string(w.public), takes: 200 * time.Millisecond}
		s := NewKeySet(everything.Signing, p.fetch)
		o := w.opener(t, "singpass direct")
		o.Set = s
		var wg sync.WaitGroup
		for range 10_000 { // ten seconds' worth a step
			wg.Go(func() {
				received := time.Now()
				if _, err := o.Open(token, received, w.NotBefore, w.Now); errors.Is(err, ErrKeys) {
					_ = s.Refresh(t.Context(), received)
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if len(p.fetches) != 1 {
			t.Errorf("%d fetches in ten seconds", len(p.fetches))
		}
		for range 60 {
			received := time.Now()
			if _, err := o.Open(token, received, w.NotBefore, w.Now); errors.Is(err, ErrKeys) {
				_ = s.Refresh(t.Context(), received)
			}
			time.Sleep(time.Second)
		}
		if len(p.fetches) > 3 {
			t.Errorf("%d fetches in 70 seconds", len(p.fetches))
		}
		for i := range len(p.fetches) - 1 {
			if gap := p.fetches[i+1].Sub(p.fetches[i]); gap < fetchGap {
				t.Errorf("two fetches %v apart", gap)
			}
		}
	})
}

// Callers at the same time share one fetch; it outlives the one that began it, and ends by itself.
func TestRefreshOneFlight(t *testing.T) {
	w := loadWorld(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: string(w.public), takes: time.Second}
		s := NewKeySet(everything.Signing, p.fetch)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 101)
		go func() { errs <- s.Refresh(ctx, time.Time{}) }()
		synctest.Wait()
		for range 100 {
			go func() { errs <- s.Refresh(t.Context(), time.Time{}) }()
		}
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that gave up: %v", err)
		}
		for range 100 {
			if err := <-errs; err != nil {
				t.Errorf("one that waited: %v", err)
			}
		}
		if len(p.fetches) != 1 {
			t.Errorf("%d fetches", len(p.fetches))
		}
		// A fetch that was under way before the token came does not count as fetched since.
		time.Sleep(time.Minute)
		go func() { errs <- s.Refresh(t.Context(), time.Now()) }()
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		if err := s.Refresh(t.Context(), time.Now()); !errors.Is(err, ErrTooSoon) {
			t.Errorf("a fetch begun before the token: %v", err)
		}
		if err := <-errs; err != nil {
			t.Error(err)
		}
		// One that hangs ends after 15 s.
		time.Sleep(time.Minute)
		p.takes = time.Hour
		start := time.Now()
		if err := s.Refresh(t.Context(), start); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != fetchTimeout {
			t.Errorf("a hanging fetch: %v after %v", err, time.Since(start))
		}
	})
}

// A key that the provider publishes with its private part is dropped at once, also out of the set in hand, where it was
// good before; the keys beside it stay.
func TestLeakedKeyIsDropped(t *testing.T) {
	w := loadWorld(t)
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: string(w.public)}
		s := NewKeySet(singpass.Signing, p.fetch)
		o := w.opener(t, "singpass")
		o.Set = s
		refresh := func() error {
			time.Sleep(fetchGap)
			return s.Refresh(t.Context(), time.Now())
		}
		if err := refresh(); err != nil || s.Leaked() != 0 || len(s.current.Load().keys) != 3 {
			t.Fatalf("%v, %d leaked", err, s.Leaked())
		}
		token := w.jwe(w.jws())
		if _, err := w.open(o, token); err != nil {
			t.Fatal(err)
		}
		leaked := jwks(t, w.public)[:1]
		leaked[0]["d"] = "AAAA"
		body, err := json.Marshal(map[string]any{"keys": leaked})
		if err != nil {
			t.Fatal(err)
		}
		p.set(string(body), nil)
		if err := refresh(); err == nil || !strings.Contains(err.Error(), "publishes private keys") {
			t.Errorf("a set of private keys alone: %v", err)
		}
		if n := len(s.current.Load().keys); n != 2 || s.Leaked() != 1 {
			t.Errorf("%d keys in hand, %d leaked; want 2 and 1", n, s.Leaked())
		}
		if _, err := w.open(o, token); err == nil {
			t.Error("a token by the key that everybody has is believed")
		}
		p.set(string(w.public), nil)
		if err := refresh(); err != nil || s.Leaked() != 0 {
			t.Errorf("after the provider has mended it: %v, %d leaked", err, s.Leaked())
		}
	})
}

// What a provider may publish, and which of it is used.
func TestReadPublished(t *testing.T) {
	w := loadWorld(t)
	all := jwks(t, w.public)
	ec := func(more string) string {
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"%s}`, all[0]["x"], all[0]["y"], more)
	}
	x, y := all[0]["x"].(string), all[0]["y"].(string)
	small := `{"kty":"RSA","e":"AQAB","n":"` + encode(append([]byte{0xff}, make([]byte, 127)...)) + `"}`
	other := jwks(t, mustGenerate(t))[0]
	otherEC := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"}`, other["x"], other["y"])
	for name, c := range map[string]struct {
		keys   string
		want   int
		leaked bool // a key stands there with its secret part
	}{
		"no alg, a kid with slashes":  {ec(`,"kid":"ndi/2026/11"`), 1, false},
		"no kid":                      {ec(""), 1, false},
		"use sig, alg ES256":          {ec(`,"use":"sig","alg":"ES256"`), 1, false},
		"members nobody knows":        {ec(`,"x5c":["junk"],"x5u":7,"nbf":{}`), 1, false},
		"key_ops verify":              {ec(`,"key_ops":["verify"]`), 1, false},
		"key_ops other":               {ec(`,"key_ops":["deriveKey"]`), 0, false},
		"use enc":                     {ec(`,"use":"enc"`), 0, false},
		"use null":                    {ec(`,"use":null`), 0, false},
		"alg of another curve":        {ec(`,"alg":"ES384"`), 0, false},
		"alg of encryption":           {ec(`,"alg":"ECDH-ES+A256KW"`), 0, false},
		"alg none":                    {ec(`,"alg":"none"`), 0, false},
		"alg HS256":                   {ec(`,"alg":"HS256"`), 0, false},
		"kid a number":                {ec(`,"kid":7`), 0, false},
		"private part":                {ec(`,"d":"AAAA"`), 0, true},
		"oct":                         {`{"kty":"oct","k":"AAAA"}`, 0, true},
		"oct called EC":               {ec(`,"k":"AAAA"`), 0, true},
		"private beside a good":       {ec(`,"kid":"a","d":"AAAA"`) + "," + otherEC, 1, true},
		"private, and public again":   {ec(`,"kid":"a","d":"AAAA"`) + "," + ec(`,"kid":"b"`), 0, true},
		"a null private part":         {ec(`,"d":null`), 1, false},
		"primes of RSA":               {fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s","p":"AAAA"}`, all[3]["n"], all[3]["e"]), 0, true},
		"OKP":                         {`{"kty":"OKP","crv":"Ed25519","x":"` + x + `"}`, 0, false},
		"unknown kty beside a good":   {`{"kty":"XYZ"},` + ec(""), 1, false},
		"junk beside a good":          {`7,null,"x",[],{},{"kty":7},` + ec(""), 1, false},
		"unknown curve":               {`{"kty":"EC","crv":"P-192","x":"` + x + `","y":"` + y + `"}`, 0, false},
		"secp256k1":                   {`{"kty":"EC","crv":"secp256k1","x":"` + x + `","y":"` + y + `"}`, 0, false},
		"off the curve":               {`{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + x + `"}`, 0, false},
		"zero":                        {`{"kty":"EC","crv":"P-256","x":"","y":""}`, 0, false},
		"duplicate member in one key": {ec(`,"kid":"a","kid":"b"`) + "," + ec(""), 1, false},
		"duplicate kid":               {ec(`,"kid":"a"`) + "," + ec(`,"kid":"a"`), 2, false},
		"RSA of 1024 bits":            {small, 0, false},
		"RSA of 8200 bits":            {`{"kty":"RSA","e":"AQAB","n":"` + encode(append([]byte{0xff}, make([]byte, 1024)...)) + `"}`, 0, false},
		"RSA":                         {fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s"}`, all[3]["n"], all[3]["e"]), 1, false},
		"a hundred keys":              {strings.Repeat(ec("")+",", 99) + ec(""), 100, false},
		"more than a hundred":         {strings.Repeat(ec("")+",", 100) + ec(""), 0, false},
	} {
		p, err := readPublished([]byte(`{"note":1,"keys":[`+c.keys+`]}`), everything.Signing)
		if len(p.keys) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d keys, want %d (%v)", name, len(p.keys), c.want, err)
		}
		if secret := p.leaked > 0; secret != c.leaked {
			t.Errorf("%s: %d keys with their secret part", name, p.leaked)
		}
	}
	if p, err := readPublished(w.public, singpass.Signing); err != nil || len(p.keys) != 3 {
		t.Errorf("%d keys for ES256 alone: %v", len(p.keys), err)
	}
	if _, err := readPublished(w.public, []string{"none", "HS256", ""}); err == nil {
		t.Error("keys for algorithms that must not be used")
	}
}
