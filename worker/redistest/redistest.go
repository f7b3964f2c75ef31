// Package redistest starts real redis-server processes for tests. It is used by
// tests only and imports nothing of ours.
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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

// Run is Start for TestMain, where there is no test to end with: dir is the
// server's folder, stop ends the process.
func Run(dir string, args ...string) (addr string, stop func(), err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return "", nil, fmt.Errorf("redis-server is not installed; `make test` installs it, or: apt-get install redis-server")
	}
	// Another process may take the port between the choice and the start.
	for range 5 {
		if addr, stop, err = start(program, dir, args); err == nil {
			return addr, stop, nil
		}
	}
	return "", nil, err
}

func start(program, dir string, args []string) (string, func(), error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	var out bytes.Buffer
	cmd := exec.Command(program, append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "", "--appendonly", "no"}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, os.Environ()
	endWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("starting redis-server: %w", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := func() { _ = cmd.Process.Kill(); <-ended }
	if err := await(addr, ended); err != nil {
		stop()
		return "", nil, fmt.Errorf("redis-server on %s: %w: %s", addr, err, out.String())
	}
	return addr, stop, nil
}

// await pings until the server answers.
func await(addr string, ended <-chan struct{}) error {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if c.Ping(ctx).Err() == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("ended at once")
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
