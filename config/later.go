package config

import (
	"strings"

	"github.com/goccy/go-yaml/ast"
)

const notYet = "is not available in this version; remove it"

// later names the members that the file's format has and this version cannot honour. They may be written with an
// empty value; set, they are refused, because a setting that is silently ignored is worse than none.
var later = []string{
	"telemetry.otlp_endpoint",
}

// laterMembers are the next words of the table's entries below a pattern: "providers.*" gives "rate".
func laterMembers(pattern string) []string {
	var names []string
	for _, l := range later {
		if pattern != "" {
			rest, ok := strings.CutPrefix(l, pattern+".")
			if !ok {
				continue
			}
			l = rest
		}
		name, _, _ := strings.Cut(l, ".")
		names = append(names, name)
	}
	return names
}

// isLater says whether the pattern is in the table, or leads to an entry.
func isLater(pattern string) (entry, leads bool) {
	for _, l := range later {
		entry = entry || l == pattern
		leads = leads || strings.HasPrefix(l, pattern+".")
	}
	return entry, leads
}

// unset says whether a value asks for nothing: "", 0, false, [] or {}.
func unset(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value == ""
	case *ast.BoolNode:
		return !n.Value
	case *ast.IntegerNode:
		return n.Value == int64(0) || n.Value == uint64(0)
	case *ast.SequenceNode:
		return len(n.Values) == 0
	case *ast.MappingNode:
		return len(n.Values) == 0
	}
	return false
}
