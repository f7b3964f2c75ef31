//go:build !failpoints

package worker

// failpoint is a place where a crash test may stop the process. In this build
// there is none.
func failpoint(string) {}
