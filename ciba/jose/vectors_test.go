package jose

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is missing or out of date in testdata/tokens, from the cases in cases_*_test.go, and testdata/world.json if it is missing")

// vector is one file of testdata/tokens: `name: value` lines, an empty line, the token, one line feed.
// To add a case is to add a file. Those that a case in the code makes are made again with -update; delete one first to have it signed anew.
type vector struct {
	name, expect, opener, sub, token string
}

func readVector(t testing.TB, path string) vector {
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, token, ok := strings.Cut(string(raw), "\n\n")
	if !ok {
		t.Fatalf("%s: no empty line", path)
	}
	v := vector{token: strings.TrimSuffix(token, "\n"), opener: "singpass"}
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		to, ok := map[string]*string{"name": &v.name, "expect": &v.expect, "opener": &v.opener, "sub": &v.sub}[name]
		if !ok {
			t.Fatalf("%s: unknown line %q", path, name)
		}
		*to = value
	}
	if v.name == "" || v.expect == "" {
		t.Fatalf("%s: name and expect must be set", path)
	}
	return v
}

func TestVectors(t *testing.T) {
	w := loadWorld(t)
	if *update {
		w.writeCases(t)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "tokens", "*.txt"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d vectors, want at least 50 (%v)", len(files), err)
	}
	seen := map[string]bool{}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			v := readVector(t, f)
			seen[v.expect] = true
			got, err := w.open(w.opener(t, v.opener), v.token)
			if v.expect == "ok" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				if got.Subject != v.sub || got.Claims["sub"] != v.sub || got.IssuedAt.IsZero() || got.ExpiresAt.IsZero() {
					t.Fatalf("opened as %q, want %q", got.Subject, v.sub)
				}
				return
			}
			bad, ok := errors.AsType[*Invalid](err)
			if !ok {
				t.Fatalf("accepted or not final: %v", err)
			}
			if bad.Reason != v.expect {
				t.Fatalf("refused as %q, want %q", bad.Reason, v.expect)
			}
			if !reflect.DeepEqual(got, Token{}) {
				t.Fatal("a refused token gave something back")
			}
		})
	}
	for _, reason := range reasons(t) {
		if !seen[reason] {
			t.Errorf("no vector for the reason %q", reason)
		}
	}
}

// A token that is refused for its algorithm, its size or its header is refused before the keys are looked at: with no keys at all the verdict is the same.
func TestRefusedBeforeKeys(t *testing.T) {
	w := loadWorld(t)
	blind := &Keys{}
	for name, want := range map[string]string{
		"key-management-pbes2-bare": "key management algorithm not allowed", "key-management-rsa1_5": "key management algorithm not allowed",
		"content-not-listed": "content algorithm not allowed", "zip-bomb": "header has zip", "p2c-beside-ecdh": "header has p2c",
		"header-duplicate-alg": "duplicate member in header", "alg-none": "signature algorithm not allowed",
		"alg-hs256-public-key": "signature algorithm not allowed", "alg-es384-not-listed": "signature algorithm not allowed",
	} {
		v := readVector(t, filepath.Join("testdata", "tokens", name+".txt"))
		o := w.opener(t, v.opener)
		o.Keys, o.Set = blind, NewKeySet(nil, nil)
		_, err := w.open(o, v.token)
		if bad, ok := errors.AsType[*Invalid](err); !ok || bad.Reason != want {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// reasons are all that an Invalid can give, read from the source: each must have its vector.
func reasons(t *testing.T) []string {
	all := []string{malformedToken, malformedBase64, malformedHeader, wrongLength, "unknown key", "wrong signature", "names no key, and there are several"}
	for _, name := range forbidden {
		all = append(all, "header has "+name)
	}
	for _, name := range []string{"iss", "aud", "sub", "exp", "iat"} {
		all = append(all, "missing "+name, "malformed "+name)
	}
	for _, name := range []string{"nbf", "auth_time", "acr", "amr"} {
		all = append(all, "malformed "+name)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	literal := regexp.MustCompile(`refuse\("([^"]+)"\)`)
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range literal.FindAllStringSubmatch(string(src), -1) {
			all = append(all, m[1])
		}
	}
	return all
}
