package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever happens to the service, no core file holds its keys, and no other process of its user can look into it.
func TestHarden(t *testing.T) {
	if err := harden(); err != nil {
		t.Fatal(err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core != (unix.Rlimit{}) {
		t.Errorf("core files of %d bytes, %v", core.Cur, err)
	}
}

// Connections leave files for what the service itself must open.
func TestSpareFiles(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if got, want := spareFiles(1<<40), int(files.Cur/2); got != want {
		t.Errorf("more than half of %d files: %d", files.Cur, got)
	}
	if got := spareFiles(2); got != 2 {
		t.Errorf("%d, want 2", got)
	}
}
