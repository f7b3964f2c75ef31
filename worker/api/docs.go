package api

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"slices"
	"strings"
)

var (
	//go:embed docs.html
	docsTemplate string
	//go:embed docs.css
	docsStyle string
)

// renderDocs makes the page of the document. It holds no script and asks for nothing from anywhere, and its policy says so:
// the one thing that a browser may use is the style with this hash.
func renderDocs() static {
	var page bytes.Buffer
	err := template.Must(template.New("docs").Parse(docsTemplate)).Execute(&page, newDocs(openAPI))
	if err != nil {
		panic("api: the documentation does not render: " + err.Error()) // both are part of the program
	}
	sum := sha256.Sum256([]byte(docsStyle))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return newStatic("text/html; charset=utf-8", policy, page.Bytes())
}

// docs is what the page shows.
type docs struct {
	Title, Version, Summary string
	Style                   template.CSS
	Intro                   []section
	Access                  []entry // the ways to say who calls
	Groups                  []group
	Problems                []entry
	Schemas                 []schema
}

// section is a heading of the introduction with its text.
type section struct {
	ID, Title string
	Text      template.HTML
}

// entry is a word and what it means.
type entry struct {
	Name   string
	Status string // of a problem
	Text   template.HTML
}

// group is the operations or webhooks of one tag.
type group struct {
	ID, Name string
	Text     template.HTML
	Routes   []operation
}

// operation is one method of one path, or one webhook.
type operation struct {
	ID, Method, Path, Summary string
	Text                      template.HTML
	Samples                   []string
	Params                    []field
	Body                      *body
	Answers                   []answer
}

// field is a parameter, a header or a member of an object.
type field struct {
	Name, In, Type, Link string
	With                 []string // names of further schemas that the value has the members of
	Required             bool
	Text                 template.HTML
	Values               []entry // of an enum that explains them
}

// body is what a request or a webhook carries.
type body struct {
	Schema   string // its name
	Examples []example
}

type example struct{ Title, Text string }

// answer is one status that an operation answers with.
type answer struct {
	Status, Schema string
	Text           template.HTML
	Headers        []field
	Codes          []string
	Examples       []example
}

// schema is one named type.
type schema struct {
	ID      string
	Text    template.HTML
	Fields  []field
	OneOf   []string // names of the schemas that it is one of
	Extends string   // name of the schema that it narrows
	Type    string   // where it is not an object
}

func newDocs(document string) docs {
	d := reference{parseNode(document)}
	info := d.root.at("info")
	intro, sections := sectionsOf(info.at("description").text())
	p := docs{
		Title: info.at("title").text(), Version: info.at("version").text(), Summary: info.at("summary").text(),
		Style: template.CSS(docsStyle), Groups: d.groups(), Problems: d.problems(),
	}
	p.Intro = append([]section{{ID: "about", Text: intro}}, sections...)
	for name, s := range d.root.at("components", "securitySchemes").members() {
		p.Access = append(p.Access, entry{Name: name, Text: markdown(s.at("description").text())})
	}
	for name, s := range d.root.at("components", "schemas").members() {
		p.Schemas = append(p.Schemas, d.schema(name, s))
	}
	return p
}

// reference reads the document for the page.
type reference struct{ root *node }

// follow resolves a $ref; name is the last part of what it refers to.
func (d reference) follow(n *node) (target *node, name string) {
	path, ok := strings.CutPrefix(n.at("$ref").text(), "#/")
	if !ok {
		return n, ""
	}
	parts := strings.Split(path, "/")
	return d.root.at(parts...), parts[len(parts)-1]
}

func (d reference) groups() []group {
	var groups []group
	for _, tag := range d.root.at("tags").items {
		name := tag.at("name").text()
		groups = append(groups, group{ID: anchor(name), Name: name, Text: markdown(tag.at("description").text())})
	}
	add := func(path string, item *node) {
		for method, op := range item.members() {
			if method == "parameters" || method == "head" { // a HEAD says what its GET does
				continue
			}
			at := slices.IndexFunc(groups, func(g group) bool { return g.Name == op.at("tags").items[0].text() })
			groups[at].Routes = append(groups[at].Routes, d.operation(method, path, item, op))
		}
	}
	for path, item := range d.root.at("paths").members() {
		add(path, item)
	}
	for name, item := range d.root.at("webhooks").members() {
		add(name, item)
	}
	return groups
}

func (d reference) operation(method, path string, item, op *node) operation {
	o := operation{
		ID: op.at("operationId").text(), Method: strings.ToUpper(method), Path: path, Summary: op.at("summary").text(),
		Text: markdown(op.at("description").text()),
	}
	if item.at("head") != nil {
		o.Method += ", HEAD"
	}
	for _, s := range op.at("x-codeSamples").list() {
		o.Samples = append(o.Samples, s.at("source").text())
	}
	for _, p := range slices.Concat(item.at("parameters").list(), op.at("parameters").list()) {
		p, _ = d.follow(p)
		f := d.field(p.at("name").text(), p.at("schema"))
		f.In, f.Required, f.Text = p.at("in").text(), p.at("required").text() == "true", markdown(p.at("description").text())
		o.Params = append(o.Params, f)
	}
	if request, _ := d.follow(op.at("requestBody")); request != nil {
		content := request.at("content", "application/json")
		_, name := d.follow(content.at("schema"))
		o.Body = &body{name, d.examples(content)}
	}
	for status, r := range op.at("responses").members() {
		o.Answers = append(o.Answers, d.answer(status, r))
	}
	return o
}

func (d reference) answer(status string, r *node) answer {
	r, _ = d.follow(r)
	a := answer{Status: status, Text: markdown(r.at("description").text())}
	for name, h := range r.at("headers").members() {
		if name == "X-Request-Id" { // everywhere
			continue
		}
		h, _ = d.follow(h)
		a.Headers = append(a.Headers, field{Name: name, Text: markdown(h.at("description").text())})
	}
	for _, content := range r.at("content").members() {
		_, a.Schema = d.follow(content.at("schema"))
		a.Codes = codesOf(content)
		a.Examples = d.examples(content)
	}
	return a
}

// codesOf are the problem codes that an answer narrows the general problem to.
func codesOf(content *node) []string {
	var codes []string
	for _, part := range content.at("schema", "allOf").list() {
		code := part.at("properties", "code")
		for _, c := range append(code.at("enum").list(), code.at("const")) {
			if c != nil {
				codes = append(codes, c.text())
			}
		}
	}
	return codes
}

func (d reference) examples(content *node) []example {
	var all []example
	for name, e := range content.at("examples").members() {
		e, _ = d.follow(e)
		var text bytes.Buffer
		_ = json.Indent(&text, e.at("value").raw, "", "  ") // it was read as JSON before
		title := e.at("summary").text()
		if title == "" {
			title = name
		}
		all = append(all, example{title, text.String()})
	}
	return all
}

// problems are all codes, with the status that they come with.
func (d reference) problems() []entry {
	status := map[string]string{}
	for _, r := range d.root.at("components", "responses").members() {
		for _, content := range r.at("content").members() {
			for _, code := range codesOf(content) {
				status[code] = content.at("schema", "allOf").list()[1].at("properties", "status", "const").text()
			}
		}
	}
	all := d.values(d.root.at("components", "schemas", "Problem", "properties", "code"))
	for i := range all {
		all[i].Status = status[all[i].Name]
	}
	return all
}

// values are the words of an enum that says what each means.
func (d reference) values(s *node) []entry {
	var all []entry
	for name, text := range s.at("x-enumDescriptions").members() {
		all = append(all, entry{Name: name, Text: markdown(text.text())})
	}
	return all
}
