package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/config"
)

var update = flag.Bool("update", false, "write what is told into testdata/broken/broken.golden")

// TestBroken holds `stepup check` to its promise: a mistake is told once, with file, line, key and remedy, and repeats no
// secret. Each case of the golden file makes one mistake in a complete configuration; adding a case is adding text there.
// What check tells stops serve, in the same words.
func TestBroken(t *testing.T) {
	golden, err := filepath.Abs("testdata/broken/broken.golden")
	if err != nil {
		t.Fatal(err)
	}
	head, cases := readBroken(t, golden)
	if len(cases) < 40 {
		t.Fatalf("%d cases", len(cases))
	}
	good, err := os.ReadFile("testdata/broken/stepup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOGC", "100") // serve leaves it alone then
	t.Chdir(t.TempDir())
	makeGood(t)
	makeWrong(t)
	secrets := secretWords(t)

	t.Run("nothing wrong", func(t *testing.T) {
		write(t, ".", "stepup.yaml", string(good))
		if code, out, _ := runOn(t, "check"); code != exitDone || out != "stepup.yaml: good: 2 providers, 2 callers\n" {
			t.Fatalf("exit code %d:\n%s", code, out)
		}
	})
	for i := range cases {
		c := &cases[i]
		t.Run(c.name, func(t *testing.T) {
			text, taken := c.apply(t, string(good))
			write(t, ".", "stepup.yaml", text)
			for _, v := range c.environ {
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			code, out, stderr := runOn(t, "check")
			told, ok := strings.CutSuffix(out, "\nstepup.yaml: 1 mistake\n")
			if code != exitUsage || !ok || stderr != "" || strings.Contains(told, "\n") {
				t.Fatalf("exit code %d, want one mistake; told:\n%s%s", code, out, stderr)
			}
			if *update {
				c.want = told
			}
			if told != c.want {
				t.Errorf("told:\n%s\nwant:\n%s", told, c.want)
			}
			judgePlace(t, told, taken)
			code, _, log := runOn(t, "serve")
			if refused := refusals(t, log); code != exitUsage || len(refused) != 1 || refused[0] != told {
				t.Errorf("serve: exit code %d:\n%s", code, log)
			}
			for _, s := range secrets {
				if strings.Contains(out+log, s) {
					t.Errorf("a secret is repeated: %q in\n%s%s", s, out, log)
				}
			}
		})
	}
	if *update && !t.Failed() {
		for _, c := range cases {
			head += "\n" + c.String()
		}
		if err := os.WriteFile(golden, []byte(head), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEverySecretFileIsGuarded: the golden file has a case for each member that names a secret file, in which others may
// read it.
func TestEverySecretFileIsGuarded(t *testing.T) {
	_, cases := readBroken(t, "testdata/broken/broken.golden")
	names := regexp.MustCompile(`\[\d+\]|^(providers|callers)\.\w+`)
	guarded := map[string]bool{}
	for _, c := range cases {
		if m := toldForm.FindStringSubmatch(c.want); m != nil && strings.Contains(c.want, "its mode is 0640, so group or others may use it; chmod 600 it") {
			guarded[names.ReplaceAllString(m[2], "$1")] = true
		}
	}
	var look func(at reflect.Type, key string)
	look = func(at reflect.Type, key string) {
		switch {
		case at == reflect.TypeFor[config.Secret]():
			if key = strings.TrimPrefix(key, "."); !guarded[key] {
				t.Errorf("no case in which others may read %s", key)
			}
			delete(guarded, key)
		case at.Kind() == reflect.Map || at.Kind() == reflect.Slice:
			look(at.Elem(), key)
		case at.Kind() == reflect.Struct:
			for i := range at.NumField() {
				look(at.Field(i).Type, key+"."+at.Field(i).Tag.Get("yaml"))
			}
		}
	}
	look(reflect.TypeFor[config.Config](), "")
	if len(guarded) > 0 {
		t.Errorf("%v: not seen in the configuration", guarded)
	}
}

// runOn runs one command on the case's configuration, in this process.
func runOn(t *testing.T, command string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	code = run(ctx, append([]string{command, "--config", "stepup.yaml"}, more...), nil, &out, &errs)
	return code, out.String(), errs.String()
}

// refusals are the mistakes in a log of serve, as check prints them.
func refusals(t *testing.T, log string) (all []string) {
	t.Helper()
	for line := range strings.Lines(log) {
		var l struct {
			Level, File, Key, Error string
			Line                    int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.Level == "ERROR" {
			all = append(all, config.Problem{File: l.File, Line: l.Line, Key: l.Key, Text: l.Error}.String())
		}
	}
	return all
}

// brokenCase is a mistake: a diff against the good configuration, or variables of the environment.
type brokenCase struct {
	name    string
	hunks   []string // lines that begin with a blank, - or +, with @@ between hunks
	environ []string
	want    string
}

func (c brokenCase) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n", c.name)
	for _, l := range c.hunks {
		fmt.Fprintln(&b, l)
	}
	for _, v := range c.environ {
		fmt.Fprintln(&b, "$ "+v)
	}
	fmt.Fprintln(&b, "> "+c.want)
	return b.String()
}

// readBroken reads the golden file: what stands before the first case, and the cases.
func readBroken(t *testing.T, path string) (head string, cases []brokenCase) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(text), "\n## ")
	for one := range strings.SplitSeq(rest, "\n## ") {
		name, body, _ := strings.Cut(one, "\n")
		c := brokenCase{name: name}
		for line := range strings.SplitSeq(strings.TrimRight(body, "\n"), "\n") {
			switch {
			case strings.HasPrefix(line, "> "):
				c.want = line[2:]
			case strings.HasPrefix(line, "$ "):
				c.environ = append(c.environ, line[2:])
			case line != "" && strings.Contains(" -+@", line[:1]):
				c.hunks = append(c.hunks, line)
			case line != "":
				t.Fatalf("%s: what is %q?", name, line)
			}
		}
		cases = append(cases, c)
	}
	return strings.TrimRight(head, "\n") + "\n", cases
}

// apply makes the mistake, and says which lines of the file it takes.
func (c brokenCase) apply(t *testing.T, good string) (text string, taken []int) {
	t.Helper()
	lines := strings.Split(good, "\n")
	from := 0
	for hunk := range strings.SplitSeq(strings.Join(c.hunks, "\n"), "\n@@\n") {
		var before, after []string
		for l := range strings.SplitSeq(hunk, "\n") {
			if l != "" && l[0] != '+' {
				before = append(before, l[1:])
			}
			if l != "" && l[0] != '-' {
				after = append(after, l[1:])
			}
		}
		at := from
		for ; at < len(lines) && !fits(lines[at:], before); at++ {
		}
		if at == len(lines) {
			t.Fatalf("does not fit:\n%s", hunk)
		}
		lines = slices.Replace(lines, at, at+len(before), after...)
		for from = at; from < at+len(after); from++ {
			taken = append(taken, from+1)
		}
	}
	return strings.Join(lines, "\n"), taken
}

func fits(lines, hunk []string) bool {
	return len(lines) >= len(hunk) && slices.Equal(lines[:len(hunk)], hunk)
}

var toldForm = regexp.MustCompile(`^(?:stepup\.yaml:(\d+)|environment): (?:([\w.\[\]-]+): )?\S.*$`)

// judgePlace wants the mistake told at a line of the edit, with its key. What is missing is told at the nearest line above
// it, and text that is not YAML has no keys.
func judgePlace(t *testing.T, told string, taken []int) {
	t.Helper()
	m := toldForm.FindStringSubmatch(told)
	if m == nil || m[2] == "" && !strings.Contains(told, "YAML") {
		t.Fatalf("told without a place: %s", told)
	}
	var line int
	fmt.Sscan(m[1], &line)
	if m[1] != "" && !slices.Contains(taken, line) && !strings.Contains(told, "is missing") {
		t.Errorf("told at line %d, but the mistake is in %v", line, taken)
	}
}
