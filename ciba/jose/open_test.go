package jose

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"math/big"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// ErrKeys is for what a newer key set could cure, and only while the set in hand is older than the token.
func TestOpenErrKeys(t *testing.T) {
	w := loadWorld(t)
	direct := w.opener(t, "singpass direct")
	unknown := sign(w.provider["stranger"], `{"alg":"ES256","kid":"stranger"}`, w.claims())
	wrong := sign(w.provider["stranger"], plainHeader, w.claims())
	older, newer := w.set.FetchedAt().Add(time.Nanosecond), w.set.FetchedAt()
	empty := *direct
	empty.Set = NewKeySet(singpass.Signing, nil)
	for _, c := range []struct {
		name, token string
		o           *Opener
		received    time.Time
		keys        bool
	}{
		{"unknown kid, set older than the token", unknown, direct, older, true},
		{"wrong signature, set older than the token", wrong, direct, older, true},
		{"unknown kid, set newer than the token", unknown, direct, newer, false},
		{"wrong signature, set newer than the token", wrong, direct, newer, false},
		{"set never fetched", w.jws(), &empty, time.Time{}, true},
		{"wrong claims cannot be cured", w.jws("aud", `"bank-2"`), direct, older, false},
		{"a forbidden algorithm cannot be cured", sign(w.es256(), `{"alg":"none"}`, w.claims()), direct, older, false},
		{"no signature cannot be cured", w.jws()[:strings.LastIndexByte(w.jws(), '.')+1], direct, older, false},
	} {
		_, err := c.o.Open(c.token, c.received, w.NotBefore, w.Now)
		_, final := errors.AsType[*Invalid](err)
		if errors.Is(err, ErrKeys) != c.keys || final == c.keys {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// A provider that rotates between our fetch and its answer costs one refresh, not a step-up.
func TestOpenAfterRotation(t *testing.T) {
	w := loadWorld(t)
	published := `{"keys":[` + w.strangersJWK() + `]}` // before the rotation
	set := NewKeySet(singpass.Signing, func(context.Context) ([]byte, error) { return []byte(published), nil })
	if err := set.Refresh(t.Context(), time.Time{}); err != nil {
		t.Fatal(err)
	}
	o := &Opener{Issuer: w.Issuer, ClientID: w.ClientID, Encrypted: true, Algs: singpass, Keys: w.keys, Set: set}
	token, received := w.jwe(w.jws()), time.Now()
	if _, err := o.Open(token, received, w.NotBefore, w.Now); !errors.Is(err, ErrKeys) {
		t.Fatalf("before the refresh: %v", err)
	}
	published = string(w.public)
	set.tried = time.Time{} // half a minute later
	if err := set.Refresh(t.Context(), received); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Open(token, received, w.NotBefore, w.Now); err != nil {
		t.Fatalf("after the refresh: %v", err)
	}
}

func TestOpenToken(t *testing.T) {
	w := loadWorld(t)
	inner := w.jws("acr", `"urn:loa:2"`, "auth_time", w.at(-7), "big", "12345678901234567890")
	got, err := w.open(w.opener(t, "singpass"), w.jwe(inner))
	if err != nil {
		t.Fatal(err)
	}
	want := Token{
		Subject: person, ACR: "urn:loa:2", AMR: []string{"pwd", "swk"}, Signed: inner, Claims: got.Claims,
		IssuedAt: w.Now.Add(-5 * time.Second), ExpiresAt: w.Now.Add(595 * time.Second), AuthTime: w.Now.Add(-7 * time.Second),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("times or members differ: %v %v %v %q", got.IssuedAt, got.ExpiresAt, got.AuthTime, got.ACR)
	}
	if got.Claims["iss"] != w.Issuer || got.Claims["big"].(interface{ String() string }).String() != "12345678901234567890" {
		t.Error("claims did not come as they were")
	}
}

// One statement of the provider has one fingerprint, whoever wraps it again; another statement has another.
func TestFingerprint(t *testing.T) {
	w := loadWorld(t)
	inner := w.jws()
	var prints [][32]byte
	for _, token := range []string{w.jwe(inner), w.jwe(inner), w.jwe(twin(inner)), w.jwe(w.jws("jti", `"2"`))} {
		got, err := w.open(w.opener(t, "singpass"), token)
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, got.Fingerprint())
	}
	if prints[0] != prints[1] || prints[0] != prints[2] {
		t.Error("the same JWS, wrapped again or with the other form of its signature, has another fingerprint")
	}
	if prints[0] == prints[3] {
		t.Error("another JWS has the same fingerprint")
	}
	if (Token{}).Fingerprint() == prints[0] {
		t.Error("an empty token has the same fingerprint")
	}
}

// twin is the JWS with the other form of its P-256 signature, n − s for s: every ECDSA verifier takes both.
func twin(jws string) string {
	end := strings.LastIndexByte(jws, '.')
	sig, err := decode(jws[end+1:])
	if err != nil || len(sig) != 64 {
		return jws
	}
	s := new(big.Int).SetBytes(sig[32:])
	n := curves["P-256"].curve.Params().N
	if s.Cmp(n) >= 0 {
		return jws
	}
	s.Sub(n, s).FillBytes(sig[32:])
	return jws[:end+1] + encode(sig)
}

// What a stranger sends must not cost memory: everything large is refused by its length, everything that grows by its header.
func TestOpenMemory(t *testing.T) {
	w := loadWorld(t)
	o := w.opener(t, "careless")
	tokens := map[string]string{
		"1 MiB kid":        sign(w.es256(), `{"alg":"ES256","kid":"`+strings.Repeat("k", 1<<20)+`"}`, w.claims()),
		"1 MiB kid in JWE": envelope{to: w.newest(), kid: strings.Repeat("k", 1<<20)}.seal(w.jws()),
		"a million dots":   strings.Repeat(".", 1<<20),
		"dots up to 16 k":  strings.Repeat(".", maxToken),
		"deep header":      encode([]byte(strings.Repeat(`{"a":`, 2000))) + "....",
	}
	for _, name := range []string{"zip-bomb", "key-management-pbes2", "key-management-pbes2-careless"} {
		tokens[name] = readVector(t, filepath.Join("testdata", "tokens", name+".txt")).token
	}
	for name, token := range tokens {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := w.open(o, token)
		runtime.ReadMemStats(&after)
		if _, ok := errors.AsType[*Invalid](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 256<<10 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
}

// Our own key rotation: what was encrypted to the key before the newest still opens, and two keys of one algorithm are told apart by kid.
func TestOpenAfterOwnRotation(t *testing.T) {
	w := loadWorld(t)
	next, err := Rotate(w.Ours, "enc", w.Now)
	if err != nil {
		t.Fatal(err)
	}
	o := w.opener(t, "singpass")
	if o.Keys, err = ReadKeys(next); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]*decrypter{"new": o.Keys.enc[0], "old": w.keys.enc[0], "older": w.keys.enc[1]} {
		for _, kid := range []string{"", "-"} {
			if _, err := w.open(o, envelope{to: to, kid: kid}.seal(w.jws())); err != nil {
				t.Errorf("%s key, kid %q: %v", name, kid, err)
			}
		}
	}
	// At most four of ours are tried where the kid is not ours.
	many := w.Ours
	for range maxTries {
		if many, err = Rotate(many, "enc", w.Now); err != nil {
			t.Fatal(err)
		}
	}
	if o.Keys, err = ReadKeys(many); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(o, envelope{to: w.keys.enc[0], kid: "-"}.seal(w.jws())); err == nil {
		t.Error("a fifth key was tried")
	}
	if _, err := w.open(o, envelope{to: w.keys.enc[0]}.seal(w.jws())); err != nil {
		t.Errorf("the fifth key, by its kid: %v", err)
	}
}

func TestParseSubject(t *testing.T) {
	const uuid = "178478de-fed7-4c03-a75e-e68c44d0d5f0"
	for sub, want := range map[string]Subject{
		"u=" + uuid:                                {UUID: uuid},
		"s=S1234567D,u=" + uuid:                    {NRIC: "S1234567D", UUID: uuid},
		"u=" + uuid + ",s=S1234567D":               {NRIC: "S1234567D", UUID: uuid},
		"s=Y1234567A,u=" + uuid + ",fid=G7,coi=DE": {NRIC: "Y1234567A", UUID: uuid, ForeignID: "G7", Country: "DE"},
		"x=1,s=S1234567D,new_key=a=b,u=" + uuid:    {NRIC: "S1234567D", UUID: uuid},
		"s=S1234567D,S=other,u=" + uuid:            {NRIC: "S1234567D", UUID: uuid},
		"fid=G7":                                   {ForeignID: "G7"},
		"":                                         {},
		"bob":                                      {},
		uuid:                                       {},
		"s=":                                       {},
		"=S1234567D":                               {},
		"s=,u=" + uuid:                             {},
		"s=S1234567D,":                             {},
		",s=S1234567D":                             {},
		"s=S1234567D,s=S1234567D":                  {},
		"s=S1234567D,s=T0000001E":                  {},
		"s=S1234567D,x=1,x=2":                      {},
		"s=S1234567D, u=" + uuid:                   {},
		"s=S1234567D,u":                            {},
		"x=1":                                      {},
		"coi=DE":                                   {},
		"s=S1234567D\x00,s\x00=T0000001E,u=" + uuid: {},
	} {
		got, ok := ParseSubject(sub)
		if got != want || ok != (want != Subject{}) {
			t.Errorf("%q: %q %q %q %q %v", sub, got.NRIC, got.UUID, got.ForeignID, got.Country, ok)
		}
	}
}

// The keys must not be able to reach a verdict by another way: an opener whose set holds a key of every kind refuses each under each other algorithm.
func TestFits(t *testing.T) {
	w := loadWorld(t)
	right := map[string]string{"ndi/2026/11": "ES256", "k384": "ES384", "k521": "ES512", "rsa": "PS256 RS256"}
	for kid, algs := range right {
		for _, alg := range append([]string{"", "none", "HS256", "EdDSA", "ES256K", "PS384"}, everything.Signing...) {
			want := alg != "" && strings.Contains(algs, alg)
			if got := fits(alg, w.provider[kid].Public()); got != want {
				t.Errorf("%s with %s: %v", alg, kid, got)
			}
		}
	}
	if fits("ES256", &ecdsa.PublicKey{Curve: otherCurve{curves["P-256"].curve}}) {
		t.Error("a curve of another name fits")
	}
}
