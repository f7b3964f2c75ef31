package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"html"
	"html/template"
	"iter"
	"slices"
	"strings"
)

// schema shows a named type: what it adds to the one that it extends, or what it is one of.
func (d reference) schema(name string, s *node) schema {
	v := schema{ID: name, Text: markdown(s.at("description").text())}
	own := s
	if parts := s.at("allOf").list(); len(parts) == 2 {
		_, v.Extends = d.follow(parts[0])
		own = parts[1]
	}
	for _, one := range s.at("oneOf").list() {
		if _, other := d.follow(one); other != "" {
			v.OneOf = append(v.OneOf, other)
		}
	}
	for member, m := range own.at("properties").members() {
		f := d.field(member, m)
		f.Required = slices.ContainsFunc(own.at("required").list(), func(r *node) bool { return r.text() == member })
		if name != "Problem" || member != "code" { // the codes have a table of their own
			f.Values = d.values(m)
		}
		v.Fields = append(v.Fields, f)
	}
	if len(v.Fields) == 0 && len(v.OneOf) == 0 {
		v.Type, _ = d.typeOf(s)
	}
	return v
}

func (d reference) field(name string, s *node) field {
	f := field{Name: name, Text: markdown(s.at("description").text())}
	f.Type, f.Link = d.typeOf(s)
	for i, part := range s.at("allOf").list() {
		if _, other := d.follow(part); i > 0 && other != "" {
			f.With = append(f.With, other)
		}
	}
	return f
}

// typeOf says in words what a value may be; link names the schema that says more.
func (d reference) typeOf(s *node) (text, link string) {
	if _, name := d.follow(s); name != "" {
		return name, name
	}
	if c := s.at("const"); c != nil {
		return c.text(), ""
	}
	for _, choice := range slices.Concat(s.at("oneOf").list(), s.at("allOf").list()) {
		if choice.at("type").text() == "null" {
			return text + " or null", link
		}
		if part, l := d.typeOf(choice); l != "" {
			text, link = cmp.Or(text, part), cmp.Or(link, l)
		} else if code, _ := d.typeOf(choice.at("properties", "code")); code != "" {
			text += " with code " + code
		}
	}
	if text != "" {
		return text, link
	}
	if words := s.at("enum").list(); len(words) > 0 && s.at("x-enumDescriptions") == nil {
		return joined(words, " | "), ""
	}
	switch kind := s.at("type"); {
	case kind == nil:
		return "", ""
	case kind.text() == "array":
		item, l := d.typeOf(s.at("items"))
		return "list of " + item, l
	case kind.text() == "object" && s.at("additionalProperties", "type") != nil:
		return "object of " + s.at("additionalProperties", "type").text() + "s", ""
	case len(kind.list()) > 0:
		text = joined(kind.list(), " or ")
	default:
		text = kind.text()
	}
	return text + limits(s), ""
}

// limits says how long or large a value may be.
func limits(s *node) string {
	least, most, unit := s.at("minLength").text(), s.at("maxLength").text(), " characters"
	if s.at("minimum") != nil || s.at("maximum") != nil {
		least, most, unit = s.at("minimum").text(), s.at("maximum").text(), ""
	}
	out := ""
	switch {
	case least != "" && most != "":
		out = ", " + least + " to " + most + unit
	case most != "":
		out = ", at most " + most + unit
	case unit == "" && least != "":
		out = ", at least " + least
	}
	if f := s.at("format").text(); f != "" {
		out += ", " + f
	}
	if v := s.at("default").text(); v != "" {
		out += ", else " + v
	}
	return out
}

func joined(list []*node, sep string) string {
	var words []string
	for _, n := range list {
		words = append(words, n.text())
	}
	return strings.Join(words, sep)
}

// node is a JSON value that remembers the order of its members, because the page keeps the document's. A nil node has
// nothing in it.
type node struct {
	raw   json.RawMessage
	names []string
	named map[string]*node
	items []*node
}

// parseNode reads a document that is part of the program.
func parseNode(document string) *node {
	n := &node{}
	if err := json.Unmarshal([]byte(document), n); err != nil {
		panic("api: the document is not JSON: " + err.Error())
	}
	return n
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *node) UnmarshalJSON(raw []byte) error {
	n.raw = bytes.Clone(raw)
	switch raw[0] {
	case '[':
		return json.Unmarshal(raw, &n.items)
	case '{':
		if err := json.Unmarshal(raw, &n.named); err != nil {
			return err
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.Token() // the brace
		for dec.More() {
			name, _ := dec.Token()
			n.names = append(n.names, name.(string))
			var skipped json.RawMessage
			if err := dec.Decode(&skipped); err != nil {
				return err
			}
		}
	}
	return nil
}

// at is what lies at a path, nil where nothing does.
func (n *node) at(path ...string) *node {
	for _, name := range path {
		if n == nil {
			return nil
		}
		n = n.named[name]
	}
	return n
}

func (n *node) list() []*node {
	if n == nil {
		return nil
	}
	return n.items
}

func (n *node) members() iter.Seq2[string, *node] {
	return func(yield func(string, *node) bool) {
		if n == nil {
			return
		}
		for _, name := range n.names {
			if !yield(name, n.named[name]) {
				return
			}
		}
	}
}

// text is a string, or another value as it is written.
func (n *node) text() string {
	if n == nil {
		return ""
	}
	var s string
	if json.Unmarshal(n.raw, &s) == nil {
		return s
	}
	return string(n.raw)
}

// anchor makes an id of a heading.
func anchor(title string) string {
	return strings.ReplaceAll(strings.ToLower(title), " ", "-")
}

// sectionsOf cuts a text at its `## ` headings.
func sectionsOf(text string) (before template.HTML, sections []section) {
	parts := strings.Split("\n\n"+text, "\n\n## ")
	for _, part := range parts[1:] {
		title, content, _ := strings.Cut(part, "\n")
		sections = append(sections, section{anchor(title), title, markdown(content)})
	}
	return markdown(parts[0]), sections
}

// markdown renders what the document uses of CommonMark: paragraphs, lists, `code` and **weight**. The text is ours.
func markdown(text string) template.HTML {
	var out strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		list := ""
		switch first := lines[0]; {
		case first == "":
			continue
		case strings.HasPrefix(first, "- "):
			list = "ul"
		case strings.HasPrefix(first, "1. "):
			list = "ol"
		}
		if list == "" {
			out.WriteString("<p>" + inline(strings.Join(lines, " ")) + "</p>")
			continue
		}
		out.WriteString("<" + list + ">")
		for _, line := range lines {
			_, item, _ := strings.Cut(line, " ")
			out.WriteString("<li>" + inline(item) + "</li>")
		}
		out.WriteString("</" + list + ">")
	}
	return template.HTML(out.String())
}

func inline(text string) string {
	text = html.EscapeString(text)
	for _, mark := range []struct{ sign, tag string }{{"**", "strong"}, {"`", "code"}} {
		for i, part := range strings.Split(text, mark.sign) {
			switch {
			case i == 0:
				text = part
			case i%2 == 1:
				text += "<" + mark.tag + ">" + part
			default:
				text += "</" + mark.tag + ">" + part
			}
		}
	}
	return text
}
