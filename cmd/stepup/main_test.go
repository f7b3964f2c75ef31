package main

import (
	"errors"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the program: scripts and compose tests run it as `stepup`.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"stepup": main})
}

// The program is tested as its users meet it: each script is one command.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PORT_BASE", strconv.Itoa(freePorts(t, 4)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "waitport": waitPort},
	})
}

// exits CODE COMMAND... wants that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		failed, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = failed.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitport PORT waits until somebody listens there.
func waitPort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitport PORT")
	}
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", args[0]))
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("nobody listens on %s", args[0])
		}
	}
}

// freePorts finds n ports in a row that are free on loopback, below those that
// systems give to outgoing connections: they come and go.
func freePorts(t *testing.T, n int) (base int) {
	t.Helper()
	for range 200 {
		if base = 10000 + rand.IntN(20000); inARow(base, n) {
			return base
		}
	}
	t.Fatal("found no free ports in a row")
	return 0
}

func inARow(base, n int) bool {
	for i := range n {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(base+i)))
		if err != nil {
			return false
		}
		defer l.Close()
	}
	return true
}
