package jose

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

// withRSA is a private JWKS of a sig key and an RSA enc key.
func withRSA(t testing.TB, bits int, change func(enc map[string]any)) []byte {
	t.Helper()
	raw, err := newRSA(bits, loadWorld(t).Now)
	if err != nil {
		t.Fatal(err)
	}
	enc := map[string]any{}
	if err := json.Unmarshal(raw, &enc); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(enc)
	}
	b, err := json.Marshal(map[string]any{"keys": []any{jwks(t, mustGenerate(t))[0], enc}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadKeysRefusesRSA(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const bad, alg = "key 2: its values are not an RSA key of 2048 to 4096 bits", "key 2: alg of an RSA enc key must be RSA-OAEP-256"
	for _, c := range []struct {
		name, want string
		bits       int
		change     func(k map[string]any)
	}{
		{"1024 bits", bad, 1024, nil},
		{"2040 bits", bad, 2040, nil},
		{"n beyond 4096 bits", bad, 2048, func(k map[string]any) { k["n"] = strings.Repeat("_", 4*513/3) }},
		{"n of another key", bad, 2048, func(k map[string]any) { k["n"] = encode(other.N.Bytes()) }},
		{"d of another key", bad, 2048, func(k map[string]any) { k["d"] = encode(other.D.Bytes()) }},
		{"p of another key", bad, 2048, func(k map[string]any) { k["p"] = encode(other.Primes[0].Bytes()) }},
		{"no d", bad, 2048, func(k map[string]any) { delete(k, "d") }},
		{"no p", bad, 2048, func(k map[string]any) { delete(k, "p") }},
		{"no q", bad, 2048, func(k map[string]any) { delete(k, "q") }},
		{"d a number", bad, 2048, func(k map[string]any) { k["d"] = 7 }},
		{"n not base64url", bad, 2048, func(k map[string]any) { k["n"] = "+/" }},
		{"more than two primes", bad, 2048, func(k map[string]any) { k["oth"] = []any{} }},
		{"e is 1", bad, 2048, func(k map[string]any) { k["e"] = "AQ" }},
		{"e even", bad, 2048, func(k map[string]any) { k["e"] = "AQAA" }},
		{"e beyond 32 bits", bad, 2048, func(k map[string]any) { k["e"] = "AQAAAAAAAAAB" }},
		{"no e", bad, 2048, func(k map[string]any) { delete(k, "e") }},
		{"alg RSA1_5", alg, 2048, func(k map[string]any) { k["alg"] = "RSA1_5" }},
		{"alg RSA-OAEP", alg, 2048, func(k map[string]any) { k["alg"] = "RSA-OAEP" }},
		{"alg ECDH-ES+A256KW", alg, 2048, func(k map[string]any) { k["alg"] = "ECDH-ES+A256KW" }},
		{"no alg", alg, 2048, func(k map[string]any) { delete(k, "alg") }},
		{"use sig", "key 2: kty must be EC", 2048, func(k map[string]any) { k["use"], k["alg"] = "sig", "PS256" }},
		{"no kid", "key 2: kid must be", 2048, func(k map[string]any) { delete(k, "kid") }},
	} {
		raw := withRSA(t, c.bits, c.change)
		k, err := ReadKeys(raw)
		if err == nil || k != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			continue
		}
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi"} {
			if v, _ := jwks(t, raw)[1][name].(string); v != "" && strings.Contains(err.Error(), v) {
				t.Errorf("%s: the error holds a private key", c.name)
			}
		}
	}
}

// What only speeds a key up may be missing or wrong: it is not read.
func TestReadKeysComputesRSAAnew(t *testing.T) {
	for name, change := range map[string]func(map[string]any){
		"missing": func(k map[string]any) { delete(k, "dp"); delete(k, "dq"); delete(k, "qi") },
		"wrong":   func(k map[string]any) { k["dp"], k["dq"], k["qi"] = k["dq"], k["dp"], "AQ" },
	} {
		w := loadWorld(t)
		var err error
		if w.keys, err = ReadKeys(withRSA(t, 2048, change)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := w.open(w.opener(t, "standard"), envelope{to: w.newest()}.seal(w.jws())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPublicRSA(t *testing.T) {
	raw := withRSA(t, 3072, nil)
	k, err := ReadKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := jwks(t, k.Public())
	private := jwks(t, raw)[1]
	if len(got) != 2 || len(got[1]) != 6 || !k.CanDecrypt() {
		t.Fatalf("published: %v", got)
	}
	for _, name := range []string{"kty", "use", "alg", "kid", "n", "e"} {
		if got[1][name] != private[name] {
			t.Errorf("%s is published as %v", name, got[1][name])
		}
	}
	set, err := jwk.Parse(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	var public rsa.PublicKey
	if key, _ := set.Key(1); key.Raw(&public) != nil || public.N.Cmp(k.enc[0].rsa.N) != 0 || public.E != 65537 {
		t.Error("jwx reads another key")
	}
}

// The next key after an RSA key is as long and has every member that other readers want; the old one still decrypts.
func TestRotateRSA(t *testing.T) {
	w := loadWorld(t)
	raw := withRSA(t, 2048, nil)
	before, err := ReadKeys(raw)
	if err != nil {
		t.Fatal(err)
	}
	next, err := Rotate(raw, "enc", w.Now)
	if err != nil {
		t.Fatal(err)
	}
	made := jwks(t, next)[0]
	for _, name := range []string{"n", "e", "d", "p", "q", "dp", "dq", "qi"} {
		if s, _ := made[name].(string); s == "" {
			t.Errorf("no %s", name)
		}
	}
	if _, curve := made["crv"]; curve || made["alg"] != oaep || made["use"] != "enc" {
		t.Error("not an RSA enc key")
	}
	if w.keys, err = ReadKeys(next); err != nil {
		t.Fatal(err)
	}
	e := w.keys.enc
	if len(e) != 2 || e[0].rsa.N.BitLen() != 2048 || e[1].jwk.Kid != before.enc[0].jwk.Kid {
		t.Fatal("the new key must come first and be as long as the old one")
	}
	pre := e[0].rsa.Precomputed
	for name, want := range map[string]*big.Int{"dp": pre.Dp, "dq": pre.Dq, "qi": pre.Qinv} {
		if b, err := decode(made[name].(string)); err != nil || new(big.Int).SetBytes(b).Cmp(want) != 0 {
			t.Errorf("%s is wrong", name)
		}
	}
	public := string(w.keys.Public())
	if !strings.Contains(public, e[0].jwk.Kid) || strings.Contains(public, e[1].jwk.Kid) {
		t.Error("the new enc key must be published in place of the old")
	}
	for i, to := range slices.Concat(e, before.enc) {
		if _, err := w.open(w.opener(t, "standard"), envelope{to: to}.seal(w.jws())); err != nil {
			t.Errorf("token to key %d: %v", i+1, err)
		}
	}
}
