package jose

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
)

// world is what all vectors share, testdata/world.json: who the parties are, what time it is, and their keys, private parts included.
type world struct {
	Issuer    string          `json:"issuer"`
	ClientID  string          `json:"client_id"`
	Now       time.Time       `json:"now"`
	NotBefore time.Time       `json:"not_before"`
	Ours      json.RawMessage `json:"ours"`     // the client's private JWKS
	Provider  json.RawMessage `json:"provider"` // the provider's private keys; their public halves are its key set
	Stranger  json.RawMessage `json:"stranger"` // a key nobody published

	keys     *Keys
	provider map[string]crypto.Signer // by kid; the second of two with one kid has "+" behind it
	public   []byte                   // the provider's JWKS
	set      *KeySet
}

func loadWorld(tb testing.TB) *world {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "world.json"))
	if os.IsNotExist(err) && *update {
		raw = newWorld(tb)
		if err := os.WriteFile(filepath.Join("testdata", "world.json"), raw, 0o644); err != nil {
			tb.Fatal(err)
		}
	} else if err != nil {
		tb.Fatal(err)
	}
	w := &world{provider: map[string]crypto.Signer{}}
	if err := json.Unmarshal(raw, w); err != nil {
		tb.Fatal(err)
	}
	if w.keys, err = ReadKeys(w.Ours); err != nil {
		tb.Fatal(err)
	}
	published := w.read(tb, w.Provider)
	w.read(tb, w.Stranger)
	set, err := jwk.PublicSetOf(published)
	if err != nil {
		tb.Fatal(err)
	}
	if w.public, err = json.Marshal(set); err != nil {
		tb.Fatal(err)
	}
	w.set = NewKeySet(everything.Signing, func(context.Context) ([]byte, error) { return w.public, nil })
	if err := w.set.Refresh(tb.Context(), time.Time{}); err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *world) read(tb testing.TB, jwks []byte) jwk.Set {
	set, err := jwk.Parse(jwks)
	if err != nil {
		tb.Fatal(err)
	}
	for i := range set.Len() {
		k, _ := set.Key(i)
		var s crypto.Signer
		switch k.KeyType() {
		case jwa.RSA:
			var p rsa.PrivateKey
			err = k.Raw(&p)
			s = &p
		default:
			var p ecdsa.PrivateKey
			err = k.Raw(&p)
			s = &p
		}
		if err != nil {
			tb.Fatal(err)
		}
		kid := k.KeyID()
		if w.provider[kid] != nil {
			kid += "+"
		}
		w.provider[kid] = s
	}
	return set
}

// newWorld makes the keys once; with -update and no world.json.
func newWorld(tb testing.TB) []byte {
	key := func(kid, use, alg string, curve elliptic.Curve) map[string]any {
		var raw any
		var err error
		if curve == nil {
			raw, err = rsa.GenerateKey(rand.Reader, 2048)
		} else {
			raw, err = ecdsa.GenerateKey(curve, rand.Reader)
		}
		if err != nil {
			tb.Fatal(err)
		}
		k, err := jwk.FromRaw(raw)
		if err != nil {
			tb.Fatal(err)
		}
		b, err := json.Marshal(k)
		if err != nil {
			tb.Fatal(err)
		}
		m := map[string]any{}
		if err := json.Unmarshal(b, &m); err != nil {
			tb.Fatal(err)
		}
		for name, v := range map[string]string{"kid": kid, "use": use, "alg": alg} {
			if v != "" {
				m[name] = v
			}
		}
		return m
	}
	set := func(keys ...map[string]any) any { return map[string]any{"keys": keys} }
	p256, p384, p521 := elliptic.P256(), elliptic.P384(), elliptic.P521()
	b, err := json.MarshalIndent(map[string]any{
		"issuer": "https://id.example", "client_id": "bank-1",
		"now": "2026-11-21T02:03:20Z", "not_before": "2026-11-21T02:02:04.123Z",
		"ours": set(
			key("our-sig", "sig", "ES256", p256),
			key("our-enc-2", "enc", "ECDH-ES+A256KW", p256), key("our-enc-1", "enc", "ECDH-ES+A256KW", p256),
			key("our-enc-384", "enc", "ECDH-ES+A192KW", p384), key("our-enc-521", "enc", "ECDH-ES+A128KW", p521),
			key("our-enc-rsa", "enc", oaep, nil), key("our-enc-rsa-1", "enc", oaep, nil)),
		"provider": set(
			key("ndi/2026/11", "sig", "", p256), key("k384", "sig", "", p384), key("k521", "sig", "ES512", p521), key("rsa", "", "", nil),
			key("twin", "sig", "", p256), key("twin", "sig", "", p256)),
		"stranger": set(key("stranger", "sig", "", p256)),
	}, "", "  ")
	if err != nil {
		tb.Fatal(err)
	}
	return append(b, '\n')
}

// everything is what this package can do; singpass what the profile of that name allows.
var (
	everything = Algs{
		Signing: []string{"ES256", "ES384", "ES512", "PS256", "RS256"}, KeyManagement: append(slices.Clone(wraps), oaep),
		Content: []string{"A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512", "A128GCM", "A192GCM", "A256GCM"},
	}
	singpass = Algs{Signing: []string{"ES256"}, KeyManagement: wraps, Content: []string{"A256CBC-HS512"}}
	// careless is a configuration that lists what must never be used: it must be refused all the same.
	careless = Algs{
		Signing:       []string{"ES256", "none", "None", "HS256", "EdDSA", "ES256K", ""},
		KeyManagement: []string{"ECDH-ES+A256KW", "dir", "RSA1_5", "RSA-OAEP", "RSA-OAEP-512", "A256KW", "A256GCMKW", "ECDH-ES", "PBES2-HS256+A128KW", ""},
		Content:       []string{"A256CBC-HS512", "none", ""},
	}
)

// opener makes the opener that a vector names.
func (w *world) opener(tb testing.TB, name string) *Opener {
	o := &Opener{Issuer: w.Issuer, ClientID: w.ClientID, Keys: w.keys, Set: w.set}
	switch name {
	case "singpass":
		o.Encrypted, o.Algs = true, singpass
	case "singpass direct":
		o.Algs = singpass
	case "standard":
		o.Encrypted, o.Algs = true, everything
	case "standard signed":
		o.Algs = everything
	case "narrow":
		o.Encrypted, o.Algs = true, Algs{singpass.Signing, wraps[2:], singpass.Content}
	case "keyless": // our keys have no P-256 one
		o.Encrypted, o.Algs, o.Keys = true, singpass, &Keys{enc: w.keys.enc[2:]}
	case "keyless standard": // and no RSA one
		o.Encrypted, o.Algs, o.Keys = true, everything, &Keys{enc: w.keys.enc[:4]}
	case "careless":
		o.Encrypted, o.Algs = true, careless
	case "careless signed":
		o.Algs = careless
	default:
		tb.Fatalf("no opener %q", name)
	}
	return o
}

// open judges with a key set that is newer than the token: the verdict is final.
func (w *world) open(o *Opener, token string) (Token, error) {
	return o.Open(token, w.set.FetchedAt(), w.NotBefore, w.Now)
}
