package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds the configuration and every file that it names, in bytes.
const maxFile = 1 << 20

// Load reads the file, lays the environment over it ("NAME=value" as from os.Environ; only the STEPUP_LISTEN_,
// STEPUP_REDIS_ and STEPUP_TELEMETRY_ groups, and OTEL_ for Exports, are looked at) and checks the result. The error is nil or Problems.
// With Problems the Config holds what could be read, so that a check can go on into its files; it must not be run.
func Load(path string, environ []string) (*Config, error) {
	r := newReader(path)
	c := &Config{}
	c.preset()
	if r.env = r.readEnviron(c, environ); r.decodeFile(c) {
		r.applyEnv()
		r.check(c)
		r.checkExports(c, environ)
		c.settle()
	}
	if len(r.problems) > 0 {
		r.problems.sort()
		return c, r.problems
	}
	return c, nil
}

// Line is where the file sets the key, or the nearest one above it: for whoever finds out later what is wrong with it.
func Line(path, key string) int {
	r := newReader(path)
	r.decodeFile(&Config{})
	return r.origin(key).line
}

func newReader(path string) *reader {
	return &reader{file: path, dir: filepath.Dir(path), from: map[string]origin{"": {file: path, line: 1}}, bad: map[string]bool{}}
}

// reader carries what is known about one file while it is read.
type reader struct {
	file, dir string
	env       map[string]override // by key
	from      map[string]origin   // where a key was set
	bad       map[string]bool     // keys whose value could not be taken: one problem is enough for each
	problems  Problems
}

type origin struct {
	file string
	line int
	name string // the variable, if the environment set it
}

// decodeFile says whether the file could be parsed at all.
func (r *reader) decodeFile(c *Config) bool {
	text, err := readFile(r.file, false)
	if err != nil {
		r.problems = append(r.problems, Problem{File: r.file, Text: fmt.Sprintf("cannot be read: %v", err)})
		return false
	}
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.syntax(err)
		return false
	}
	if len(file.Docs) > 1 {
		r.from[""] = origin{file: r.file, line: file.Docs[1].Start.Position.Line}
		r.wrong("", "is not one YAML document but several; remove the `---` line")
		return false
	}
	if len(file.Docs) == 0 {
		return true
	}
	switch body := file.Docs[0].Body.(type) {
	case nil, *ast.CommentGroupNode: // empty: everything that must be set is told as missing
	default:
		r.decode(place{}, body, structValue(c))
	}
	return true
}

func (r *reader) syntax(err error) {
	p := Problem{File: r.file, Line: 1, Text: "is not YAML"}
	if e, ok := errors.AsType[yaml.Error](err); ok {
		if t := e.GetToken(); t != nil && t.Position != nil {
			p.Line = t.Position.Line
		}
		p.Text += ": " + strings.ReplaceAll(e.GetMessage(), "\t", `\t`)
	}
	p.Text += "; " + syntaxRemedy(p.Text)
	r.problems = append(r.problems, p)
}

// syntaxRemedy is what helps where the text is not YAML, by what the parser stumbled over.
func syntaxRemedy(text string) string {
	for part, remedy := range map[string]string{
		`'\t'`:               "indent with blanks, not with tabs",
		"mapping value":      "indent members of one section alike, and put a value that holds `: ` in quotes",
		"must be specified":  "close the bracket",
		"could not find end": "close the quotes",
	} {
		if strings.Contains(text, part) {
			return remedy
		}
	}
	return "correct this line or one above it"
}

// wrong notes a problem with the key's value, at the line that set it or, if it is missing, at the nearest one above it.
// Where the key or something around it could not be taken, that has been told already.
func (r *reader) wrong(key, format string, args ...any) {
	if r.told(key) {
		return
	}
	r.bad[key] = true
	r.note(key, format, args...)
}

// told says that the key or something around it could not be taken.
func (r *reader) told(key string) bool {
	for k := key; k != ""; k = parent(k) {
		if r.bad[k] {
			return true
		}
	}
	return false
}

// toldBelow says that something in the key's value could not be taken.
func (r *reader) toldBelow(key string) bool {
	for k := range r.bad {
		if strings.HasPrefix(k, key) {
			return true
		}
	}
	return false
}

func (r *reader) note(key, format string, args ...any) {
	o := r.origin(key)
	p := Problem{File: o.file, Line: o.line, Key: key, Text: fmt.Sprintf(format, args...)}
	if o.name != "" {
		p.Key = o.name
	}
	r.problems = append(r.problems, p)
}

func (r *reader) origin(key string) origin {
	for {
		if o, ok := r.from[key]; ok {
			return o
		}
		key = parent(key)
	}
}

// parent of a.b[0] is a.b, of a.b a, of a the file itself.
func parent(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

func (r *reader) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(r.dir, name)
}

// readFile reads a whole regular file. A private one must be closed to group and others; the judgement is on the opened
// file, so nobody can exchange it in between. The error does not repeat the path.
func readFile(path string, private bool) ([]byte, error) {
	if info, err := os.Stat(path); err != nil { // before opening: a pipe would block
		return nil, bare(err)
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is a folder, a pipe or the like; name a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	if mode := info.Mode().Perm(); private && mode&0o077 != 0 {
		return nil, fmt.Errorf("its mode is %04o, so group or others may use it; chmod 600 it", mode)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, bare(err)
	case len(content) > maxFile:
		return nil, errors.New("longer than 1 MiB")
	}
	return content, nil
}

// bare is the error without the path, which the problem's text has already.
func bare(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
