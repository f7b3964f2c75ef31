package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"stepup/worker"
)

// maxDepth is how deep a body may nest; ours needs two (the object and its metadata).
const maxDepth = 4

// maxFaults is how many faults of one request are told.
const maxFaults = 16

// decode reads exactly one JSON object into a struct of strings, numbers, lists of strings and string maps. What
// encoding/json lets pass is refused: members it does not know or matches only without regard to case, duplicates at any
// depth, null, text that is not Unicode, anything after the object. So one body has one meaning, here and at every proxy that
// looked at it before.
func decode(raw []byte, into any) error {
	if !utf8.Valid(raw) {
		return refuse("invalid_request", "The body is not UTF-8.")
	}
	if !json.Valid(raw) {
		return refuse("invalid_request", "The body is not one JSON object.")
	}
	w := walk{dec: json.NewDecoder(bytes.NewReader(raw)), known: members(into)}
	w.dec.UseNumber()
	if first, _ := w.dec.Token(); first != json.Delim('{') {
		return refuse("invalid_request", "The body is not a JSON object.")
	}
	w.object("", 1)
	if len(w.bad) == 0 {
		w.assign(raw, into)
	}
	if len(w.bad) > 0 {
		return invalid(w.bad)
	}
	return nil
}

// faults are what is wrong with a request.
type faults []worker.FieldError

func (f *faults) add(field, message string) {
	if len(*f) < maxFaults {
		*f = append(*f, worker.FieldError{Field: field, Message: message})
	}
}

func invalid(bad faults) error {
	return refuse("invalid_request", "The members named in errors are not valid.", bad...)
}

// members lists the JSON names of a struct's fields, and what each is.
func members(into any) map[string]reflect.Kind {
	names := map[string]reflect.Kind{}
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names[name] = t.Field(i).Type.Kind()
	}
	return names
}

// walk looks at every token of a body that json.Valid has passed, so Token cannot fail.
type walk struct {
	dec   *json.Decoder
	known map[string]reflect.Kind // members of the outermost object
	bad   faults
	deep  bool // gave up: nested too deep
}

// object reads the members of an object whose brace was read.
func (w *walk) object(path string, depth int) {
	seen := map[string]bool{}
	for !w.deep && w.dec.More() {
		token, _ := w.dec.Token()
		name := token.(string)
		at := join(path, name)
		switch {
		case seen[name]:
			w.bad.add(at, "must be given once")
		case path == "" && w.known[name] == reflect.Invalid:
			w.bad.add(at, "is not known")
		case strings.ContainsRune(name, utf8.RuneError):
			w.bad.add(at, "must be Unicode text")
		}
		seen[name] = true
		w.value(at, depth)
	}
	w.dec.Token() // the closing brace
}

func (w *walk) value(path string, depth int) {
	token, _ := w.dec.Token()
	switch v := token.(type) {
	case nil:
		w.bad.add(path, "must not be null; leave it out")
	case string:
		// encoding/json writes U+FFFD for half a surrogate pair; nobody means it as text.
		if strings.ContainsRune(v, utf8.RuneError) {
			w.bad.add(path, "must be Unicode text")
		}
	case json.Delim:
		if depth == maxDepth {
			w.bad.add(path, "is nested too deep")
			w.deep = true
			return
		}
		if v == '{' {
			w.object(path, depth+1)
			return
		}
		for !w.deep && w.dec.More() {
			w.value(path, depth+1)
		}
		w.dec.Token() // the closing bracket
	}
}

// assign fills the struct. The error's own text would tell the value.
func (w *walk) assign(raw []byte, into any) {
	err := json.Unmarshal(raw, into)
	if err == nil {
		return
	}
	e, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		w.bad.add("", "is not valid")
		return
	}
	want, at := "text", e.Field
	switch e.Type.Kind() {
	case reflect.Int:
		want = "a whole number"
	case reflect.Map:
		want = "an object"
	case reflect.Slice:
		want = "a list"
	case reflect.String:
		if of := w.known[at]; of == reflect.Map || of == reflect.Slice { // one of its values
			at = notText(raw, at)
		}
	}
	w.bad.add(at, "must be "+want)
}

// notText names the first value of a member that is not text, by its name or its index: encoding/json tells the member alone.
func notText(raw []byte, member string) string {
	var all map[string]json.RawMessage
	json.Unmarshal(raw, &all)
	dec := json.NewDecoder(bytes.NewReader(all[member]))
	open, _ := dec.Token()
	for i := 0; dec.More(); i++ {
		at := strconv.Itoa(i)
		if open == json.Delim('{') {
			name, _ := dec.Token()
			at = name.(string)
		}
		var v json.RawMessage
		if dec.Decode(&v); v[0] != '"' {
			return join(member, at)
		}
	}
	return member
}

// join names a member. A stranger's name is cut: it is only told back.
func join(path, name string) string {
	if len(name) > 64 {
		name = strings.ToValidUTF8(name[:64], "") + "…"
	}
	if path == "" {
		return name
	}
	return path + "." + name
}
