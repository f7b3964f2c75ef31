package worker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
)

// auditFile is a file that lines are added to, each by one write at its end, so that
// several processes on one machine can share it.
type auditFile struct {
	*os.File
	regular  bool
	torn     bool // it may end with a part of a line; only whoever writes looks at it
	unsynced atomic.Bool
	syncing  sync.Mutex // what one has begun to bring to the disk is there when the other is done
}

// openAuditFile opens a file, or with create makes one that nobody else may read.
func openAuditFile(path string, create bool) (*auditFile, error) {
	if info, err := os.Stat(path); err == nil { // before opening: a pipe would block
		if err := usable(info); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, pathless(err)
	}
	flags := os.O_RDWR | os.O_APPEND
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, pathless(err)
	}
	info, err := f.Stat()
	if err == nil {
		err = usable(info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	file := &auditFile{File: f, regular: info.Mode().IsRegular()}
	if last := make([]byte, 1); file.regular && info.Size() > 0 { // a crash of the machine may have cut it
		_, err := f.ReadAt(last, info.Size()-1)
		file.torn = err != nil || last[0] != '\n'
	}
	return file, nil
}

// usable says what is wrong with a file for lines that nobody else may change.
func usable(info fs.FileInfo) error {
	mode := info.Mode()
	switch {
	case mode.IsRegular() && mode.Perm()&0o022 != 0:
		return fmt.Errorf("its mode is %04o, so group or others may change it; chmod go-w it", mode.Perm())
	case !mode.IsRegular() && mode&fs.ModeCharDevice == 0:
		return errors.New("it is not a regular file; name one")
	}
	return nil
}

// pathless is the error without the path, which whoever tells it has already.
func pathless(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// CheckAudit says why lines could not be added to the file, without adding any and
// without creating it.
func CheckAudit(path string) error {
	f, err := openAuditFile(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		if err := creatable(filepath.Dir(path)); err != nil {
			return fmt.Errorf("it cannot be created: %w", err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// add adds a whole line or nothing. Where a part of it stands and cannot be taken away,
// the next line begins on a line of its own. No file takes every line, and keeps none.
func (f *auditFile) add(line []byte) error {
	if f == nil {
		return nil
	}
	if f.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.Write(line)
	f.unsynced.Store(true) // not before: an fsync that is just beginning must not count for this line
	if err != nil {
		f.torn = f.torn || n > 0 && !f.takeBack(n)
		return err
	}
	f.torn = false
	return nil
}

// takeBack cuts the n bytes off that were written last, unless another process has added
// a line behind them.
func (f *auditFile) takeBack(n int) bool {
	end, err := f.Seek(0, io.SeekCurrent)
	if err != nil || !f.regular {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Size() == end && f.Truncate(end-int64(n)) == nil
}

// flushed brings what was added to the disk, if anything was.
func (f *auditFile) flushed() error {
	f.syncing.Lock()
	defer f.syncing.Unlock()
	if !f.regular || !f.unsynced.Swap(false) {
		return nil
	}
	err := f.Sync()
	if err != nil {
		f.unsynced.Store(true)
	}
	return pathless(err)
}
