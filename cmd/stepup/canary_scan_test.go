package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// canaries are words that must be found nowhere but where they belong.
type canaries struct {
	mu    sync.Mutex
	words map[string]canary
}

type canary struct {
	what  string
	known []string // the sinks that it belongs into
}

// add notes a word. Where it belongs is told by the names of sinks.
func (c *canaries) add(word, what string, known ...string) string {
	if len(word) < 8 {
		panic("a word that is found by chance")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.words[word] = canary{what, known}
	return word
}

// addToken notes the parts of a compact token, by which it is known also where it is cut.
func (c *canaries) addToken(token, what string, known ...string) {
	for i, part := range strings.Split(token, ".") {
		if i > 0 && len(part) >= 20 { // the first one is a header, the same in many
			c.add(part[:20], what, known...)
			c.add(part[len(part)-20:], what, known...)
		}
	}
}

// formsOf is a word in all the ways in which it may have been written, in lower case.
func formsOf(word string) []string {
	var escaped, unicode strings.Builder
	for _, b := range []byte(word) {
		fmt.Fprintf(&escaped, "%%%02x", b)
		fmt.Fprintf(&unicode, `\u%04x`, b)
	}
	forms := []string{word, url.QueryEscape(word), url.PathEscape(word), escaped.String(), unicode.String(), hex.EncodeToString([]byte(word)),
		strings.ReplaceAll(word, "-", ""), fmt.Sprint([]byte(word))}
	// In Base64 it looks another way at each of three places; what its neighbours reach into is left out.
	for before := range 3 {
		text := append(make([]byte, before), word...)
		first, last := (8*before+5)/6, 8*len(text)/6
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			forms = append(forms, enc.EncodeToString(text)[first:last])
		}
	}
	for i := range forms {
		forms[i] = strings.ToLower(forms[i])
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// sinks are all that was written anywhere, by the name of the place.
type sinks map[string]string

var anyToken = regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]*\.`)

// search tells which words are in which sinks and do not belong there, and what stands around them.
func (c *canaries) search(s sinks) (found []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	type form struct{ word, text string }
	byStart := map[uint64][]form{} // every form has eight bytes
	for word := range c.words {
		for _, f := range formsOf(word) {
			at := binary.LittleEndian.Uint64([]byte(f))
			byStart[at] = append(byStart[at], form{word, f})
		}
	}
	for name, content := range s {
		text, told := bytes.ToLower([]byte(content)), map[string]bool{}
		for i := range max(0, len(text)-7) {
			for _, f := range byStart[binary.LittleEndian.Uint64(text[i:])] {
				w := c.words[f.word]
				if told[f.word] || slices.Contains(w.known, name) || !bytes.HasPrefix(text[i:], []byte(f.text)) {
					continue
				}
				told[f.word] = true
				found = append(found, fmt.Sprintf("%s in %s: …%q…", w.what, name, text[max(0, i-100):min(len(text), i+len(f.text)+60)]))
			}
		}
	}
	slices.Sort(found)
	return found
}

// The search finds a word in whatever form and at whatever place it stands.
func TestEveryFormIsFound(t *testing.T) {
	const word = "S8765432Z/canary+of a-kind"
	c := &canaries{words: map[string]canary{}}
	c.add(word, "it")
	for name, write := range map[string]func(string) string{
		"plain":          func(s string) string { return s },
		"upper case":     strings.ToUpper,
		"Base64":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"base64url":      func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		"hex":            func(s string) string { return hex.EncodeToString([]byte(s)) },
		"HEX":            func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
		"a query":        url.QueryEscape,
		"a path":         url.PathEscape,
		"bytes":          func(s string) string { return fmt.Sprint([]byte(s)) },
		"without dashes": func(s string) string { return strings.ReplaceAll(s, "-", "") },
	} {
		for before := range 7 {
			for after := range 7 {
				text := write(strings.Repeat("x", before) + word + strings.Repeat("y", after))
				if name == "bytes" {
					text = strings.Repeat("x", before) + write(word) + strings.Repeat("y", after)
				}
				if len(c.search(sinks{"a log": "before " + text + " after"})) != 1 {
					t.Errorf("%s, with %d characters before and %d after: not found in %q", name, before, after, text)
				}
			}
		}
	}
	if found := c.search(sinks{"a log": "S8765432Y", "its place": ""}); len(found) != 0 {
		t.Errorf("found what is not there: %v", found)
	}
	c.add(word, "it", "its place")
	if found := c.search(sinks{"its place": word}); len(found) != 0 {
		t.Errorf("found where it belongs: %v", found)
	}
}
