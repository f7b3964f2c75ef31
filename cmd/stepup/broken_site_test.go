package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

// makeGood makes the files that the good configuration names, in secrets/.
func makeGood(t *testing.T) {
	t.Helper()
	if _, err := newKeys("secrets"); err != nil {
		t.Fatal(err)
	}
	selfSigned(t, "secrets", "server")
	for _, caller := range []string{"core", "branch"} {
		_, line := api.NewAPIKey()
		write(t, "secrets", caller+".apikeys", line+"\n")
	}
	for _, hook := range []string{"ledger", "fraud", "till"} {
		write(t, "secrets", hook+".whsec", webhook.NewSecret()+"\n")
	}
	_, public := webhook.NewEncryptionKey()
	write(t, "secrets", "desk.jwks.json", public+"\n")
	write(t, "secrets", "admin.token", "hunter2-operators-only\n")
	write(t, "secrets", "redis", "hunter2-redis\n")
	write(t, "secrets", "fraud.headers", "X-Tenant-Token: hunter2-fraud-desk-canary\n")
}

// makeWrong makes files with one mistake in each, in wrong/, named for what is wrong.
func makeWrong(t *testing.T) {
	t.Helper()
	if err := os.Mkdir("wrong", 0o700); err != nil {
		t.Fatal(err)
	}
	selfSigned(t, "wrong", "another")
	makeWrongKeySets(t)
	makeWrongLines(t)
	write(t, "wrong", "empty", "\n")
	for _, name := range []string{"private.jwks.json", "seal.keys", "core.apikeys", "ledger.whsec", "server.key", "redis", "admin.token", "fraud.headers"} {
		write(t, "wrong", "readable-"+name, read(t, "secrets/"+name))
		if err := os.Chmod("wrong/readable-"+name, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// makeWrongLines makes files that are read line by line.
func makeWrongLines(t *testing.T) {
	t.Helper()
	seal := strings.SplitAfter(string(worker.NewSealKeys()), "\n") // comment, seal, index
	short := base64.StdEncoding.EncodeToString(make([]byte, 16))
	key, line := api.NewAPIKey()
	secret := webhook.NewSecret()
	private, public := webhook.NewKeyPair()
	for name, content := range map[string]string{
		"short-seal-key":    "seal k1 " + short + "\n" + seal[2],
		"not-base64":        "seal k1 hunter2-hunter2-hunter2-hunter2\n" + seal[2],
		"no-seal-line":      seal[2],
		"no-index-line":     seal[1],
		"two-index-lines":   seal[1] + seal[2] + seal[2],
		"two-of-one-kid":    seal[1] + seal[1] + seal[2],
		"only-the-base64":   strings.Fields(seal[1])[2] + "\n" + seal[2],
		"only-comments":     "# nothing yet\n",
		"key-itself":        key + "\n",
		"key-in-capitals":   strings.ToUpper(line) + "\n",
		"half-a-hash":       line[:40] + "\n",
		"two-files-in-one":  line + "\n" + strings.TrimSpace(read(t, "secrets/ledger.whsec")) + "\n",
		"no-prefix":         strings.TrimPrefix(secret, "whsec_") + "\n",
		"short-secret":      "whsec_" + short + "\n",
		"short-private":     "whsk_" + short + "\n",
		"mixed-halves":      "whsk_" + base64.StdEncoding.EncodeToString(make([]byte, 64)) + "\n",
		"public-key":        public + "\n",
		"seed-as-secret":    private + "\n" + strings.Replace(private, "whsk_", "whsec_", 1) + "\n",
		"not-padded":        strings.TrimRight(secret, "=") + "\n",
		"same-secret-twice": secret + "\n" + secret + "\n",
		"header-of-ours":    "Authorization: Bearer hunter2\nWebhook-Signature: v1,hunter2\n",
		"value-alone":       "Bearer hunter2\n",
		"length-of-headers": "Content-Length: 2\n",
		"header-twice":      "X-Token: hunter2\nx-token: hunter3\n",
		"broken-header":     "X-Token: hunter2\x00\n",
	} {
		write(t, "wrong", name, content)
	}
}

// makeWrongKeySets makes private key sets for providers.
func makeWrongKeySets(t *testing.T) {
	t.Helper()
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal([]byte(read(t, "secrets/private.jwks.json")), &set); err != nil {
		t.Fatal(err)
	}
	sig, enc := set.Keys[0], set.Keys[1]
	keySet := func(name string, keys ...map[string]any) {
		text, err := json.MarshalIndent(map[string]any{"keys": keys}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		write(t, "wrong", name+".jwks.json", string(text))
	}
	// with is a copy of a key; a nil value drops the member.
	with := func(key map[string]any, changes ...any) map[string]any {
		c := map[string]any{}
		for name, v := range key {
			c[name] = v
		}
		for i := 0; i < len(changes); i += 2 {
			if c[changes[i].(string)] = changes[i+1]; changes[i+1] == nil {
				delete(c, changes[i].(string))
			}
		}
		return c
	}
	keySet("public-only", with(sig, "d", nil), with(enc, "d", nil))
	keySet("secp256k1", with(sig, "crv", "secp256k1"), enc)
	keySet("ed25519", with(sig, "kty", "OKP", "crv", "Ed25519", "alg", "EdDSA", "y", nil), enc)
	keySet("point-of-another-key", with(sig, "x", enc["x"], "y", enc["y"]), enc)
	keySet("enc-on-wrong-curve", sig, with(enc, "crv", "P-384"))
	keySet("wrong-curve-for-alg", with(sig, "alg", "ES384"), enc)
	keySet("symmetric", with(sig, "kty", "oct", "crv", nil, "x", nil, "y", nil, "d", nil, "k", sig["d"]), enc)
	keySet("no-use", with(sig, "use", nil), enc)
	keySet("use-signing", with(sig, "use", "signing"), enc)
	keySet("no-kid", with(sig, "kid", nil), enc)
	keySet("same-kid", sig, with(enc, "kid", sig["kid"]))
	keySet("no-enc", sig)
	keySet("no-sig", enc)
	keySet("no-keys", []map[string]any{}...)
	keySet("rsa-sig", with(rsaKey(t, 2048), "use", "sig", "alg", "RS256", "kid", "rsa"), enc)
	keySet("rsa-1024", sig, with(rsaKey(t, 1024), "use", "enc", "alg", "RSA-OAEP-256", "kid", "rsa"))
	keySet("ecdh-es-direct", sig, with(enc, "alg", "ECDH-ES"))
	receivers := with(enc, "d", nil) // key, which events are encrypted to
	keySet("receivers-private", receivers, enc)
	keySet("receivers-shared", receivers, map[string]any{"kty": "oct", "k": sig["d"]})
	keySet("receivers-sig", with(sig, "d", nil))
	keySet("receivers-no-kid", with(receivers, "kid", nil))
	keySet("receivers-same-kid", receivers, with(sig, "d", nil, "use", nil, "alg", nil, "kid", enc["kid"]))
	keySet("receivers-off-curve", with(receivers, "y", sig["y"]))
	one, err := json.Marshal(sig)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "wrong", "single-key.jwks.json", string(one))
	write(t, "wrong", "cut.jwks.json", string(one[:len(one)-1]))
}

// rsaKey is a private RSA key as JWK, without use, alg and kid.
func rsaKey(t *testing.T, bits int) map[string]any {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	text := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	return map[string]any{"kty": "RSA", "n": text(k.N), "e": "AQAB", "d": text(k.D), "p": text(k.Primes[0]), "q": text(k.Primes[1])}
}

// secretWords are the long words of all files: none of them is ever repeated.
func secretWords(t *testing.T) []string {
	t.Helper()
	words := []string{"hunter2"}
	for _, pattern := range []string{"secrets/*", "wrong/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) < 10 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, f := range files {
			for _, word := range strings.FieldsFunc(read(t, f), func(r rune) bool { return strings.ContainsRune(" \n\",:", r) }) {
				if len(word) >= 20 {
					words = append(words, word[:20])
				}
			}
		}
	}
	return words
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
