package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// pages are all commands that somebody can find.
func pages(t *testing.T) []*kong.Node {
	t.Helper()
	all := newParser(&commands{}, nil, nil).Model.Leaves(true)
	if len(all) < 10 {
		t.Fatalf("%d commands: the walk is wrong", len(all))
	}
	return all
}

// printed is what a command line with --help prints.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	parser := newParser(&commands{}, &out, &out)
	parser.Exit = func(int) {}
	_, _ = parser.Parse(append(args, "--help")) // goes on after the page, and misses what is required
	return out.String()
}

// Every command's page has the same parts in the same order, and fits a terminal.
func TestHelpPages(t *testing.T) {
	for _, columns := range []string{"80", "300"} {
		t.Setenv("COLUMNS", columns)
		for _, node := range append(pages(t), &kong.Node{}) {
			page := printed(t, strings.Fields(node.Path())...)
			parts := []string{"Usage: stepup " + node.Path(), "\nFlags:\n", "\nReads:\n  ", "\nExit codes:\n  0  ", "\n  2  ", "\nExamples:\n  "}
			if node.Path() == "" {
				parts = []string{"Usage: stepup <command>", "\nFlags:\n", "\nTry it:\n", "\nExit codes:\n  0  "}
			} else if !strings.Contains(page, node.Help) || strings.Index(page, "\nFlags:\n")-strings.Index(page, node.Help) < 100 {
				t.Errorf("%s: does not say what it is for:\n%s", node.Path(), page)
			}
			at := 0
			for _, part := range parts {
				i := strings.Index(page[at:], part)
				if i < 0 {
					t.Errorf("%s: %q is missing, or not in its place:\n%s", node.Path(), part, page)
					break
				}
				at += i
			}
			for l := range strings.Lines(page) {
				if utf8.RuneCountInString(strings.TrimRight(l, "\n")) > helpWidth {
					t.Errorf("%s: wider than %d columns: %s", node.Path(), helpWidth, l)
				}
			}
		}
	}
}

var called = regexp.MustCompile("stepup [^&|)#>\"\n]*")

// Whoever copies an example has a command line that stepup takes.
func TestHelpExamples(t *testing.T) {
	for _, node := range pages(t) {
		_, examples, _ := strings.Cut(node.Detail, "\nExamples:\n")
		own := 0
		for _, example := range called.FindAllString(strings.ReplaceAll(examples, "\\\n", " "), -1) {
			args := strings.Fields(example)[1:]
			parsed, err := newParser(&commands{}, nil, nil).Parse(args)
			if err != nil {
				t.Errorf("%s: %s: %v", node.Path(), example, err)
			} else if parsed.Selected().Path() == node.Path() {
				own++
			}
		}
		if own == 0 {
			t.Errorf("%s: no example of it:\n%s", node.Path(), examples)
		}
	}
}
