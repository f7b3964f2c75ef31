package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the wanted problems into testdata/broken")

// TestBroken holds every file of testdata/broken to the problems that it says it has: all of them, with line, key and
// remedy. Adding a case is adding a file.
func TestBroken(t *testing.T) {
	files, err := filepath.Glob("testdata/broken/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			file, _ := filepath.Abs(file)
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given, want, _ := strings.Cut(string(text), "-- want --\n")
			t.Chdir(t.TempDir())
			writeSecrets(t)
			var environ []string
			for name, content := range sections(given) {
				if name == "environ" {
					environ = strings.Split(strings.TrimSpace(content), "\n")
					continue
				}
				mode := os.FileMode(0o600)
				if strings.Contains(name, "open") {
					mode = 0o644
				}
				write(t, name, content, mode)
			}

			_, err = Load("stepup.yaml", environ)
			problems, ok := errors.AsType[Problems](err)
			if !ok {
				t.Fatalf("Load: %v, want Problems", err)
			}
			got := problems.Error() + "\n"
			if *update {
				want = got
				if err := os.WriteFile(file, []byte(given+"-- want --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got != want {
				t.Errorf("problems:\n%s\nwant:\n%s", got, want)
			}
			if strings.Contains(got, "hunter2") || strings.Contains(got, "whsec_") && !strings.Contains(got, "`whsec_…`") {
				t.Errorf("a secret is repeated:\n%s", got)
			}
		})
	}
}

// sections are a case's files by name: each follows a line `-- name --`.
func sections(text string) map[string]string {
	files := map[string]string{}
	name := ""
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "-- "); ok && strings.HasSuffix(n, " --\n") {
			name = strings.TrimSuffix(n, " --\n")
			files[name] = ""
		} else if name != "" {
			files[name] += line
		}
	}
	return files
}

// writeSecrets makes the files that a good configuration names; their content is not this package's business.
func writeSecrets(t *testing.T) {
	t.Helper()
	for _, name := range []string{"seal.keys", "other.keys", "private.jwks.json", "bank.apikeys", "ledger.whsec", "redis", "admin.token"} {
		write(t, filepath.Join("secrets", name), "content of "+name+"\n", 0o600)
	}
	pair := tlsPair()
	write(t, "secrets/tls.pem", pair.cert, 0o644)
	write(t, "secrets/tls.key", pair.key, 0o600)
}

type pemPair struct{ cert, key string }

// tlsPair is one certificate, which is its own authority, and its key.
var tlsPair = sync.OnceValue(func() pemPair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pemPair{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}
})

func write(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}
