// Package peers starts other people's programs for tests: npm oidc-provider,
// a certified OpenID provider, as a CIBA provider in poll mode; npm
// standardwebhooks, a receiver's library, as the judge of our signatures; and
// npm jose, which opens what we encrypt. They run under Node on loopback from
// this folder, where `npm ci` has put them; nothing is installed here. What they
// say counts more in a test than what our own simulator says, because nobody who
// wrote them read our code.
//
// It imports nothing of ours and is meant for tests alone.
package peers

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

const remedy = "run `npm ci` in that folder, or `make test` at the root"

// folder is where this file and the programs lie.
func folder(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("peers: the test binary does not know where its source is (built with -trimpath?)")
	}
	return filepath.Dir(file)
}

// Need fails the test when Node or the packages that package.json names, in
// exactly those versions, are missing. It never skips: a peer that did not run
// has proved nothing.
func Need(t testing.TB) {
	t.Helper()
	NeedIn(t, folder(t))
}

// NeedIn is Need for another folder with a package.json.
func NeedIn(t testing.TB, dir string) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Fatalf("peers: node (20 or later) is not on the PATH; install it. For the packages of %s: %s", dir, remedy)
	}
	var want struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	readJSON(t, filepath.Join(dir, "package.json"), &want)
	for name, version := range want.Dependencies {
		var have struct {
			Version string `json:"version"`
		}
		readJSON(t, filepath.Join(dir, "node_modules", name, "package.json"), &have)
		if have.Version != version {
			t.Fatalf("peers: npm %s in %s is %s and should be %s: %s", name, dir, have.Version, version, remedy)
		}
	}
}

func readJSON(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("peers: %v: %s", err, remedy)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("peers: reading %s: %v: %s", path, err, remedy)
	}
}

// output collects what a process says; it is shown only if the test fails.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
