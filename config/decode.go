package config

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// go-yaml's own strict decoding stops at the first mistake; this walks its syntax tree instead, so that all are told.

// place is where the walk is.
type place struct {
	key   string
	words string // the two words, no and yes, that stand for a bool
}

func (p place) member(name string) place { return place{key: join(p.key, name)} }

func (p place) item(i int) place { return place{key: fmt.Sprintf("%s[%d]", p.key, i)} }

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "." + b
}

var (
	secretType   = reflect.TypeFor[Secret]()
	bytesType    = reflect.TypeFor[[]byte]()
	durationType = reflect.TypeFor[time.Duration]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
)

func structValue(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// decode puts the node's value into v, or notes why it cannot.
func (r *reader) decode(at place, n ast.Node, v reflect.Value) {
	switch t := v.Type(); {
	case isKind[*ast.NullNode](n):
		r.wrong(at.key, "has no value; give one or remove the line")
	case isKind[*ast.AnchorNode](n), isKind[*ast.AliasNode](n), isKind[*ast.TagNode](n):
		r.wrong(at.key, "uses an anchor, an alias or a tag; write the value itself")
	case t == secretType || t == bytesType || t == durationType || t == prefixType:
		r.decodeText(at, n, v)
	case t.Kind() == reflect.Struct:
		r.decodeStruct(at, n, v)
	case t.Kind() == reflect.Map:
		r.decodeMap(at, n, v)
	case t.Kind() == reflect.Slice:
		r.decodeList(at, n, v)
	default:
		r.decodeScalar(at, n, v)
	}
}

func isKind[T ast.Node](n ast.Node) bool { _, ok := n.(T); return ok }

func (r *reader) decodeStruct(at place, n ast.Node, v reflect.Value) {
	fields := fieldsOf(v.Type())
	all := r.members(at, n)
	for _, m := range all {
		here := at.member(m.name)
		if i, ok := fields[m.name]; ok {
			here.words = v.Type().Field(i).Tag.Get("words")
			r.decode(here, m.value, v.Field(i))
		} else {
			meant := r.refuseMember(here, m.name, fields)
			if meant != "" && !slices.ContainsFunc(all, func(m member) bool { return m.name == meant }) {
				r.bad[at.member(meant).key] = true // that it is missing follows from the spelling
			}
		}
	}
}

// refuseMember is for members that no struct has. It returns the member that a misspelt one may stand for.
func (r *reader) refuseMember(at place, name string, fields map[string]int) (meant string) {
	known := slices.Collect(maps.Keys(fields))
	r.wrong(at.key, "is not a known member%s", cmp.Or(didYouMean(name, known), belongs(name), "; remove it"))
	return nearest(name, known)
}

func (r *reader) decodeMap(at place, n ast.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	for _, m := range r.members(at, n) {
		elem := newElem(v.Type().Elem())
		r.decode(at.member(m.name), m.value, elem)
		v.SetMapIndex(reflect.ValueOf(m.name), elem)
	}
}

func (r *reader) decodeList(at place, n ast.Node, v reflect.Value) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		r.wrong(at.key, "must be a list, such as [a, b]")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, len(list.Values)))
	for i, item := range list.Values {
		here := at.item(i)
		r.from[here.key] = origin{file: r.file, line: item.GetToken().Position.Line}
		elem := newElem(v.Type().Elem())
		r.decode(here, item, elem)
		v.Set(reflect.Append(v, elem))
	}
}

func newElem(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if d, ok := p.Interface().(presetter); ok {
		d.preset()
	}
	return p.Elem()
}

func (r *reader) decodeScalar(at place, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.BoolNode:
		if v.Kind() == reflect.Bool && at.words == "" {
			v.SetBool(n.Value)
			return
		}
	case *ast.IntegerNode:
		if number, ok := asInt(n.Value); ok && v.Kind() == reflect.Int {
			v.SetInt(number)
			return
		}
	case *ast.StringNode:
		if v.Kind() == reflect.String || at.words != "" {
			r.setText(at, n.Value, v)
			return
		}
	case *ast.LiteralNode:
		if v.Kind() == reflect.String {
			r.setText(at, n.Value.Value, v)
			return
		}
	}
	r.wrong(at.key, "must be %s", at.wants(v))
}

func asInt(value any) (int64, bool) {
	switch i := value.(type) {
	case int64:
		return i, true
	case uint64:
		return int64(i), i <= math.MaxInt64
	}
	return 0, false
}

func (r *reader) decodeText(at place, n ast.Node, v reflect.Value) {
	text, ok := n.(*ast.StringNode)
	if !ok {
		r.wrong(at.key, "must be %s", at.wants(v))
		return
	}
	r.setText(at, text.Value, v)
}

// setText takes a value as text, from the file or the environment.
func (r *reader) setText(at place, text string, v reflect.Value) {
	var err error
	switch p := v.Addr().Interface().(type) {
	case *Secret:
		err = r.readSecret(at.key, text, p)
		if err != nil {
			r.wrong(at.key, "%v", err)
		}
		return
	case *[]byte:
		if *p, err = r.readNamed(at.key, text, false); err != nil {
			r.wrong(at.key, "%v", err)
		}
		return
	case *time.Duration:
		*p, err = time.ParseDuration(text)
	case *netip.Prefix:
		*p, err = netip.ParsePrefix(text)
		*p = p.Masked()
	case *int:
		*p, err = strconv.Atoi(text)
	case *string:
		*p = text
	case *bool:
		no, yes, _ := strings.Cut(at.words, ",")
		if *p = text == yes; text != yes && text != no {
			err = strconv.ErrSyntax
		}
	}
	if err != nil {
		r.wrong(at.key, "must be %s%s", at.wants(v), didYouMean(text, strings.Split(at.words, ",")))
	}
}

// wants names what a member takes, with an example where the form is not plain.
func (p place) wants(v reflect.Value) string {
	switch v.Addr().Interface().(type) {
	case *Secret, *[]byte:
		return "the path of a file"
	case *time.Duration:
		return "a duration, such as 5s, 2m or 24h"
	case *netip.Prefix:
		return "a network, such as 10.1.0.0/16"
	}
	switch {
	case strings.HasPrefix(p.key, "listen."):
		return addressForm
	case p.words != "":
		return strings.Replace(p.words, ",", " or ", 1)
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.Kind() == reflect.Int:
		return "a whole number, in digits alone"
	}
	return "text; put it in quotes"
}

type member struct {
	name  string
	value ast.Node
}

// members are a mapping's, each name once.
func (r *reader) members(at place, n ast.Node) []member {
	mapping, ok := n.(ast.MapNode)
	if !ok {
		r.wrong(at.key, "must be a section; write each of its members as `name: value`")
		return nil
	}
	var ms []member
	lines := map[string]int{}
	for it := mapping.MapRange(); it.Next(); {
		line := it.Key().GetToken().Position.Line
		text, ok := it.Key().(*ast.StringNode)
		if !ok || text.Value == "" {
			r.problems = append(r.problems, Problem{File: r.file, Line: line, Key: at.key, Text: "has a member whose name is not plain text; put it in quotes"})
			continue
		}
		name, key := text.Value, at.member(text.Value).key
		if first, twice := lines[name]; twice {
			r.problems = append(r.problems, Problem{File: r.file, Line: line, Key: key, Text: fmt.Sprintf("is there already, on line %d; remove one", first)})
			continue
		}
		lines[name] = line
		r.from[key] = origin{file: r.file, line: line}
		ms = append(ms, member{name, it.Value()})
	}
	return ms
}

// fieldsOf maps a struct's members, as the file names them, to its fields.
func fieldsOf(t reflect.Type) map[string]int {
	fields := map[string]int{}
	for i := range t.NumField() {
		fields[t.Field(i).Tag.Get("yaml")] = i
	}
	return fields
}
