// Package redistest starts real redis-server processes for tests: one alone, a
// master with replicas and sentinels, a cluster. It is used by tests only and
// imports nothing of ours.
package redistest

import (
	"context"
	"testing"
	"time"
)

// Start starts a redis-server on a random loopback port, with persistence off
// unless args say otherwise, and returns its address. It ends with the test. It
// fails the test, and never skips it, when the program is missing.
func Start(t testing.TB, args ...string) (addr string) {
	t.Helper()
	addr, stop, err := Run(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return addr
}

// StartTLS is Start for a server that speaks TLS alone, and only to those whose
// certificate the authority signed. All three are PEM files.
func StartTLS(t testing.TB, ca, cert, key string) (addr string) {
	t.Helper()
	dir := t.TempDir()
	n, err := onFreePort(dir, func(port string) []string {
		return []string{"--port", "0", "--tls-port", port, "--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key,
			"--save", "", "--appendonly", "no"}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	return n.Addr
}

// Run is Start for TestMain, where there is no test to end with: dir is the
// server's folder, stop ends the process.
func Run(dir string, args ...string) (addr string, stop func(), err error) {
	n, err := RunNode(dir, args...)
	if err != nil {
		return "", nil, err
	}
	return n.Addr, n.Kill, nil
}

// until tries again and again until ok is nil, and gives up with its last error.
func until(within time.Duration, ok func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
