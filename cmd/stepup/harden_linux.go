package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps what is in memory, keys and people's answers, out of core files and from other processes of the same user.
func harden() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process not dumpable: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching core files off: %w", err)
	}
	return nil
}

// spareFiles is most, or half of the files that the process may have open: connections of a listener must leave some for
// Redis, the provider and webhooks.
func spareFiles(most int) int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return most
	}
	return int(min(uint64(most), limit.Cur/2))
}
