package worker

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Rotation: the file is moved away and the log told so; no line is missing, none is in two files.
func TestRotationLosesNothing(t *testing.T) {
	t.Parallel()
	log, dir := &logBook{}, t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	first, second := openAudit(t, path, log), openAudit(t, path, log) // two processes
	var writers sync.WaitGroup
	for n, a := range []*Audit{first, second, first, second} {
		writers.Go(func() {
			for i := range 500 {
				if i%2 == 0 {
					a.note(decided(whatFinal, n*500+i))
				} else if err := a.write(decided(whatAsk, n*500+i)); err != nil {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	for i := range 5 {
		if err := os.Rename(path, filepath.Join(dir, fmt.Sprint("audit.", i))); err != nil {
			t.Fatal(err)
		}
		for _, a := range []*Audit{first, second} {
			if err := a.Reopen(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	writers.Wait()
	first.Close()
	second.Close()
	files, _ := filepath.Glob(filepath.Join(dir, "audit.*"))
	seen := map[string]bool{}
	for _, file := range files {
		for _, d := range readAudit(t, file) {
			if seen[d.Outcome] {
				t.Errorf("line %s is there twice", d.Outcome)
			}
			seen[d.Outcome] = true
		}
	}
	if len(seen) != 2000 || len(files) != 6 {
		t.Errorf("%d lines in %d files, want 2000 in 6", len(seen), len(files))
	}
}

// A new path is taken into use, an empty one ends the log, and one that cannot be opened changes nothing.
func TestReopen(t *testing.T) {
	t.Parallel()
	log, dir := &logBook{}, t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	a := openAudit(t, "", log)
	write := func(n int) {
		t.Helper()
		if err := a.write(decided(whatAsk, n)); err != nil {
			t.Error(err)
		}
	}
	write(0) // nobody keeps it
	for i, name := range []string{"one", "two", "no/folder", ""} {
		path := name
		if name != "" {
			path = at(name)
		}
		if err := a.Reopen(path); (err != nil) != (name == "no/folder") {
			t.Errorf("%q: %v", name, err)
		}
		write(i + 1)
	}
	a.Close()
	for name, want := range map[string]string{"one": "ask 1", "two": "ask 2,ask 3"} {
		if got := strings.Join(shorts(readAudit(t, at(name))), ","); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

// The file is nobody else's to write, and looking whether it can be used changes nothing.
func TestAuditFileMustBeOurs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{at("mine", 0o600), ""},
		{at("read by a group", 0o640), ""},
		{at("read by all", 0o644), ""},
		{at("written by a group", 0o660), "mode is 0660, so group or others may change it; chmod go-w"},
		{at("written by all", 0o666), "mode is 0666, so group or others may change it; chmod go-w"},
		{dir, "not a regular file"},
		{pipe, "not a regular file"},
		{filepath.Join(dir, "new"), ""},
		{filepath.Join(dir, "no", "folder"), "no such file or directory"},
	} {
		check := CheckAudit(c.path)
		if filepath.Base(c.path) == "new" {
			if _, err := os.Stat(c.path); err == nil {
				t.Error("a look created the file")
			}
		}
		a, err := OpenAudit(c.path, (&logBook{}).logger())
		if err == nil {
			a.Close()
		}
		for _, err := range []error{check, err} {
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", filepath.Base(c.path), err, c.want)
			}
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "new")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file: %v %v", info, err)
	}
}

// What a line costs: alone, and in a create against a real Redis.
func BenchmarkAudit(b *testing.B) {
	b.Run("line", func(b *testing.B) {
		a := openAudit(b, auditPath(b), &logBook{})
		defer a.Close()
		c := &create{Request: &Request{}, rec: record{ID: newID(1), Caller: "core-banking", Provider: "singpass"}, who: "0123456789abcdef", known: true, begun: true}
		for b.Loop() {
			if err := a.write(c.decision(whatAsk)); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, kept := range []string{"", "audit.jsonl"} {
		b.Run("create "+kept, func(b *testing.B) {
			path := kept
			if kept != "" {
				path = filepath.Join(b.TempDir(), kept)
			}
			r := auditRig(b, path, func(o *Options, _ *Settings) { o.MaxInFlightTotal, o.Log = 1<<30, slog.New(slog.DiscardHandler) })
			n := 0
			for b.Loop() {
				n++
				q := Request{Caller: "bank", IdempotencyKey: fmt.Sprint(n), Provider: "singpass", Question: Question{LoginHint: fmt.Sprint(n)}}
				if _, err := r.Ask(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
