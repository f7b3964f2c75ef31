//go:build failpoints

package worker

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A failpoint build is for crash tests alone. STEPUP_FAILPOINT names one place, as
// `name` or `name:n` for the n-th time it is passed, and STEPUP_FAILPOINT_DIR a
// folder. The first process that passes the place writes `fired` there, with the
// name and its process id, and waits until `go` is there too. Meanwhile the test
// does its worst; a process that survives it goes on as if nothing had been.
var (
	armed, armedAt = arm(os.Getenv("STEPUP_FAILPOINT"))
	failDir        = os.Getenv("STEPUP_FAILPOINT_DIR")
	passed         atomic.Int64
)

// failWaits bounds the wait of a process that its test forgot.
const failWaits = time.Minute

func arm(v string) (name string, at int64) {
	name, n, _ := strings.Cut(v, ":")
	if at, _ = strconv.ParseInt(n, 10, 64); at < 1 {
		at = 1
	}
	return name, at
}

func failpoint(name string) {
	if name != armed || passed.Add(1) != armedAt {
		return
	}
	// Whole or not at all: whoever sees the file can read it.
	mine := filepath.Join(failDir, fmt.Sprintf("firing.%d", os.Getpid()))
	if err := os.WriteFile(mine, fmt.Appendf(nil, "%s %d\n", name, os.Getpid()), 0o600); err != nil {
		slog.Error("failpoint not reported", "name", name, "error", err)
		return
	}
	if os.Link(mine, filepath.Join(failDir, "fired")) != nil {
		return // another process was first
	}
	slog.Warn("failpoint fired", "name", name)
	for end := time.Now().Add(failWaits); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(failDir, "go")); err == nil {
			return
		}
	}
}
