package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one mistake. Text says what is wrong and what to do; it never holds a secret's content.
type Problem struct {
	File string // the configuration file, or "environment"
	Line int    // 1 is the first; 0 where a line makes no sense
	Key  string // such as providers.singpass.issuer or callers.bank.webhooks[0].url, or a variable's name
	Text string
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
	}
	if p.Key != "" {
		fmt.Fprintf(&b, ": %s", p.Key)
	}
	fmt.Fprintf(&b, ": %s", p.Text)
	return b.String()
}

// Problems is every mistake that was found, in the order of the file. As an error it is one line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Text, b.Text))
	})
}
