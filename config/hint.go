package config

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// didYouMean is the known word nearest to the one given, as the end of a sentence; empty if none is near.
func didYouMean(word string, known []string) string {
	if best := nearest(word, known); best != "" {
		return "; did you mean " + best + "?"
	}
	return ""
}

// belongs says in which section a member of this name is known, as the end of a sentence; empty if in none.
func belongs(name string) string {
	var section func(t reflect.Type, at string) (string, bool)
	section = func(t reflect.Type, at string) (string, bool) {
		switch t.Kind() {
		case reflect.Map:
			return section(t.Elem(), join(at, "*"))
		case reflect.Slice:
			return section(t.Elem(), at)
		case reflect.Struct:
			fields := fieldsOf(t)
			if _, ok := fields[name]; ok {
				return cmp.Or(at, "the top of the file"), true
			}
			for _, below := range slices.Sorted(maps.Keys(fields)) {
				if at, ok := section(t.Field(fields[below]).Type, join(at, below)); ok {
					return at, true
				}
			}
		}
		return "", false
	}
	if at, ok := section(reflect.TypeFor[Config](), ""); ok {
		return "; it belongs to " + at
	}
	return ""
}

// nearest is the known word nearest to the one given; empty if none is near.
func nearest(word string, known []string) string {
	best, least := "", 3
	slices.Sort(known)
	for _, k := range known {
		if d := edits(strings.ToLower(word), strings.ToLower(k)); k != "" && d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// edits counts the letters to add, drop, change or swap with the next to turn a into b.
func edits(a, b string) int {
	var before []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next := make([]int, len(b)+1)
		next[0] = i
		for j := 1; j <= len(b); j++ {
			change := row[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			next[j] = min(change, row[j]+1, next[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
