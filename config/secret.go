package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
)

const redacted = "[redacted]"

// Secret is the content of a file that must stay private. However it is printed, encoded or logged, only "[redacted]"
// comes out. The content hangs behind a function so that it stays unprinted even in somebody's unexported field, where
// fmt reaches values, through pointers too, but not their methods.
type Secret struct{ file *secretFile }

type secretFile struct {
	path    string
	line    int
	content func() []byte
}

// Bytes is the content; nil for the zero Secret. The caller must not change it.
func (s Secret) Bytes() []byte {
	if s.file == nil {
		return nil
	}
	return s.file.content()
}

// Path is the file that was read, for error texts.
func (s Secret) Path() string {
	if s.file == nil {
		return ""
	}
	return s.file.path
}

// Line is the line in the configuration that names the file; 0 if the environment did.
func (s Secret) Line() int {
	if s.file == nil {
		return 0
	}
	return s.file.line
}

// IsZero says that the configuration names no such file, or that it could not be read.
func (s Secret) IsZero() bool { return s.file == nil }

// Format redacts under every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue redacts in slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText redacts in JSON, XML, YAML and whatever else encodes text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// readSecret reads the file that key names into s; an empty name leaves s zero.
func (r *reader) readSecret(key, name string, s *Secret) error {
	content, err := r.readNamed(key, name, true)
	if err == nil && content != nil {
		s.file = &secretFile{path: r.path(name), line: r.origin(key).line, content: func() []byte { return content }}
	}
	return err
}

// readNamed reads a file that the configuration names; nil if the name is empty or the environment names another.
func (r *reader) readNamed(key, name string, private bool) ([]byte, error) {
	if _, overridden := r.env[key]; overridden && r.origin(key).name == "" || name == "" {
		return nil, nil
	}
	if looksSecret(name) { // and must not be repeated
		return nil, errors.New("must be the path of a file, not what the file should hold; move that into a file")
	}
	content, err := readFile(r.path(name), private)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Not repeated either: what is no file may be a password.
		return nil, errors.New("names a file that does not exist, seen from the configuration's folder; create it or correct the path")
	case err != nil:
		return nil, fmt.Errorf("names the file %s, which cannot be used: %w", r.path(name), err)
	case len(bytes.TrimSpace(content)) == 0:
		return nil, fmt.Errorf("names the file %s, which is empty; write into it what it must hold", r.path(name))
	}
	return content, nil
}

// looksSecret says that somebody has written a secret where its file's path belongs.
func looksSecret(name string) bool {
	for _, start := range []string{"whsec_", "whsk_", "sha256:", "seal ", "index ", "{", "-----BEGIN"} {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	return strings.ContainsAny(name, "\n\r")
}
