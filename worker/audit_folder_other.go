//go:build !unix

package worker

import "os"

// creatable says that a folder is missing; the rest shows when the file is made.
func creatable(folder string) error {
	_, err := os.Stat(folder)
	return pathless(err)
}
