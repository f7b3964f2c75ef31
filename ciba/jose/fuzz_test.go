package jose

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// FuzzOpen looks for a token that opens and is not the good one. Whatever opens must be a good token byte for byte; the one exception is
// ECDSA's own, the second form of a signature, which says the same and has the same fingerprint.
func FuzzOpen(f *testing.F) {
	w := loadWorld(f)
	good := map[string]Token{}
	openers := map[bool]*Opener{true: w.opener(f, "standard"), false: w.opener(f, "standard signed")}
	for _, v := range fuzzSeeds(f) {
		for _, o := range openers {
			if t, err := w.open(o, v); err == nil {
				good[v] = t
			}
		}
		if len(v) < 4<<10 {
			f.Add(v)
			f.Add(twin(v))
		}
	}
	if len(good) < 10 {
		f.Fatalf("%d good tokens", len(good))
	}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := w.open(openers[strings.Count(token, ".") == 4], token)
		if err != nil {
			_, final := errors.AsType[*Invalid](err)
			if !final || !reflect.DeepEqual(got, Token{}) {
				t.Fatalf("neither opened nor refused for good: %v", err)
			}
			return
		}
		want, known := good[token]
		if !known {
			want, known = good[twin(token)]
		}
		if !known {
			t.Fatalf("opened a token nobody made: %q", token)
		}
		if !reflect.DeepEqual(got.Claims, want.Claims) || got.Fingerprint() != want.Fingerprint() {
			t.Fatal("a known token opened with other claims")
		}
	})
}

// fuzzSeeds are the tokens of all vectors.
func fuzzSeeds(f *testing.F) []string {
	files, err := filepath.Glob(filepath.Join("testdata", "tokens", "*.txt"))
	if err != nil {
		f.Fatal(err)
	}
	var seeds []string
	for _, name := range files {
		seeds = append(seeds, readVector(f, name).token)
	}
	return seeds
}

// FuzzInner changes the signed part only and encrypts it anew, as anybody can who knows our public key.
func FuzzInner(f *testing.F) {
	w := loadWorld(f)
	o := w.opener(f, "standard")
	honest := readVector(f, filepath.Join("testdata", "tokens", "ok-signed.txt")).token // fixed: every fuzzing process has the same
	f.Add(honest)
	f.Add(twin(honest))
	for _, seed := range fuzzSeeds(f) {
		if strings.Count(seed, ".") == 2 && len(seed) < 2<<10 {
			if _, err := w.open(w.opener(f, "standard signed"), seed); err != nil {
				f.Add(seed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, inner string) {
		got, err := w.open(o, w.jwe(inner))
		if err != nil {
			return
		}
		if inner != honest && twin(inner) != honest {
			t.Fatalf("opened a JWS nobody made: %q", inner)
		}
		if got.Subject != person || got.Signed != inner {
			t.Fatal("opened as somebody else")
		}
	})
}

// FuzzReadPublished: no key set panics, and no key comes out that is not of a kind we use.
func FuzzReadPublished(f *testing.F) {
	w := loadWorld(f)
	f.Add(w.public)
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AAAA"},7]}`))
	f.Add([]byte(`{"keys":[],"keys":[]}`))
	f.Fuzz(func(t *testing.T, jwks []byte) {
		p, err := readPublished(jwks, everything.Signing)
		if (err == nil) != (len(p.keys) > 0) {
			t.Fatalf("%d keys and %v", len(p.keys), err)
		}
		for _, k := range p.keys {
			ok := false
			for _, alg := range everything.Signing {
				ok = ok || k.does(alg)
			}
			if !ok {
				t.Fatalf("a key for no algorithm: %T", k.public)
			}
		}
	})
}

// FuzzReadKeys: no key file panics, and what is read can sign, publishes no private part, and is read back by Rotate.
func FuzzReadKeys(f *testing.F) {
	w := loadWorld(f)
	f.Add([]byte(w.Ours))
	f.Add(mustGenerate(f))
	f.Fuzz(func(t *testing.T, jwks []byte) {
		k, err := ReadKeys(jwks)
		if err != nil {
			return
		}
		asserter, err := k.Asserter("c", "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asserter.Append(nil, w.Now); err != nil {
			t.Fatal(err)
		}
		if _, err := readPublished(k.Public(), everything.Signing); err != nil {
			t.Fatalf("nobody can use what we publish: %v", err)
		}
		next, err := Rotate(jwks, "sig", w.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(next); err != nil && !strings.Contains(err.Error(), "more than 100 keys") {
			t.Fatal(err)
		}
	})
}
