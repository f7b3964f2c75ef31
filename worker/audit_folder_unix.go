//go:build unix

package worker

import "syscall"

// creatable says why no file can be made in a folder.
func creatable(folder string) error {
	const writeAndSearch = 0o3
	return syscall.Access(folder, writeAndSearch)
}
