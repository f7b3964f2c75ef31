package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"stepup/worker"
)

// What is not a create request is a 400 that names the member, and nobody is asked.
func TestCreateRefuses(t *testing.T) {
	with := func(member string) string { return `{"provider":"singpass","login_hint":"S1234567D",` + member + `}` }
	keys17, _ := json.Marshal(func() map[string]string {
		m := map[string]string{}
		for i := range 17 {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}())
	tests := []struct{ name, body, field string }{
		{"empty", "", ""},
		{"not JSON", "{", ""},
		{"an array", "[]", ""},
		{"a string", `"S1234567D"`, ""},
		{"null", "null", ""},
		{"two objects", goodBody + goodBody, ""},
		{"a word after it", goodBody + " x", ""},
		{"a byte order mark", "\ufeff" + goodBody, ""},
		{"invalid UTF-8 value", with("\"reference\":\"\xff\""), ""},
		{"invalid UTF-8 name", with("\"\xff\":\"\""), ""},
		{"UTF-16", "{\x00\"\x00}\x00", ""},
		{"single quotes", `{'provider':'singpass'}`, ""},
		{"a comment", with(`"reference":"a"/* */`), ""},
		{"trailing comma", `{"provider":"singpass",}`, ""},

		{"unknown member", with(`"surprise":1`), "surprise"},
		{"unknown member with content", with(`"surprise":{"a":[1,{"b":2}]}`), "surprise"},
		{"a member of the record", with(`"status":"approved"`), "status"},
		{"empty name", with(`"":1`), ""},
		{"another case", with(`"Reference":"a"`), "Reference"},
		{"another case of a key member", `{"PROVIDER":"singpass","provider":"singpass"}`, "PROVIDER"},
		{"Kelvin sign for k", with(`"login_hint_to` + "\u212a" + `en":"a"`), "login_hint_to\u212aen"},
		{"duplicate", with(`"provider":"other"`), "provider"},
		{"duplicate by escape", with(`"pr\u006fvider":"other"`), "provider"},
		{"duplicate in metadata", with(`"metadata":{"a":"1","a":"2"}`), "metadata.a"},
		{"duplicate metadata", with(`"metadata":{},"metadata":{}`), "metadata"},
		{"long unknown name", with(`"` + strings.Repeat("é", 100) + `":1`), strings.Repeat("é", 32) + "…"},

		{"number for text", `{"provider":1}`, "provider"},
		{"null for text", with(`"reference":null`), "reference"},
		{"null in metadata", with(`"metadata":{"a":null}`), "metadata.a"},
		{"number in metadata", with(`"metadata":{"a":1}`), "metadata.a"},
		{"object in metadata", with(`"metadata":{"a":{}}`), "metadata.a"},
		{"number behind text in metadata", with(`"metadata":{"a":"{","b":"1","c":1,"d":2}`), "metadata.c"},
		{"number under a long name", with(`"metadata":{"` + strings.Repeat("é", 100) + `":1}`), "metadata." + strings.Repeat("é", 32) + "…"},
		{"metadata is a list", with(`"metadata":[]`), "metadata"},
		{"object for text", with(`"scope":{}`), "scope"},
		{"object with a number for text", with(`"scope":{"a":1}`), "scope"},
		{"text for number", with(`"requested_expiry":"120"`), "requested_expiry"},
		{"fraction of nothing", with(`"requested_expiry":60.0`), "requested_expiry"},
		{"fraction", with(`"requested_expiry":1.5`), "requested_expiry"},
		{"huge number", with(`"requested_expiry":1e999`), "requested_expiry"},
		{"more than 64 bits", with(`"requested_expiry":18446744073709551617`), "requested_expiry"},
		{"zero", with(`"requested_expiry":0`), "requested_expiry"},
		{"negative", with(`"requested_expiry":-1`), "requested_expiry"},
		{"more than an hour", with(`"requested_expiry":3601`), "requested_expiry"},
		{"half a surrogate pair", with(`"reference":"\ud800"`), "reference"},
		{"half a pair in a name", with(`"metadata":{"\udfff":"a"}`), "metadata.\ufffd"},
		{"too deep", with(`"metadata":{"a":[[[[["b"]]]]]}`), "metadata.a"},
		{"very deep", with(`"metadata":` + strings.Repeat("[", 4000) + strings.Repeat("]", 4000)), "metadata"},

		{"no provider", `{"login_hint":"S1234567D"}`, "provider"},
		{"empty provider", `{"provider":"","login_hint":"S1234567D"}`, "provider"},
		{"long login hint", `{"provider":"singpass","login_hint":"` + strings.Repeat("é", 1025) + `"}`, "login_hint"},
		{"long login hint token", `{"provider":"singpass","login_hint_token":"` + strings.Repeat("a", 8193) + `"}`, "login_hint_token"},
		{"long ID token hint", `{"provider":"singpass","id_token_hint":"` + strings.Repeat("a", 8193) + `"}`, "id_token_hint"},
		{"long reference", with(`"reference":"` + strings.Repeat("é", 129) + `"`), "reference"},
		{"long binding message", with(`"binding_message":"` + strings.Repeat("a", 257) + `"`), "binding_message"},
		{"17 keys", with(`"metadata":` + string(keys17)), "metadata"},
		{"2 KiB and a byte", with(`"metadata":{"k":"` + strings.Repeat("a", 2048) + `"}`), "metadata"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBank(t)
			w := b.do(b.request("POST", "/v1/step-ups", tt.body))
			p := problemOf(t, w)
			if w.Code != 400 || p.Code != "invalid_request" || len(b.asked) != 0 {
				t.Fatalf("%d %s, asked %d", w.Code, w.Body, len(b.asked))
			}
			if utf8.ValidString(tt.body) == strings.Contains(p.Detail, "UTF-8") {
				t.Errorf("detail %q", p.Detail)
			}
			if tt.field == "" {
				return
			}
			if len(p.Errors) == 0 || p.Errors[0].Field != tt.field || p.Errors[0].Message == "" {
				t.Errorf("errors %v, want field %q", p.Errors, tt.field)
			}
		})
	}
}

// What a member may not hold is told of the value in it, what it may not be of the member.
func TestCreateTellsWhichValue(t *testing.T) {
	for member, want := range map[string]worker.FieldError{
		`"metadata":{"b":"1","a":1}`:   {Field: "metadata.a", Message: "must be text"},
		`"metadata":{"a":["b"]}`:       {Field: "metadata.a", Message: "must be text"},
		`"metadata":"a"`:               {Field: "metadata", Message: "must be an object"},
		`"metadata":[1]`:               {Field: "metadata", Message: "must be an object"},
		`"scope":{"a":1}`:              {Field: "scope", Message: "must be text"},
		`"scope":1,"metadata":{"a":1}`: {Field: "scope", Message: "must be text"},
		`"requested_expiry":{"a":"1"}`: {Field: "requested_expiry", Message: "must be a whole number"},
	} {
		b := newBank(t)
		p := problemOf(t, b.do(b.request("POST", "/v1/step-ups", `{"provider":"singpass","login_hint":"S1234567D",`+member+`}`)))
		if !slices.Equal(p.Errors, []worker.FieldError{want}) {
			t.Errorf("%s: %v, want %v", member, p.Errors, want)
		}
	}
}

func TestCreateTellsAllFaults(t *testing.T) {
	b := newBank(t)
	p := problemOf(t, b.do(b.request("POST", "/v1/step-ups", `{"provider":"","requested_expiry":0,"reference":"`+strings.Repeat("r", 129)+`"}`)))
	if len(p.Errors) != 3 {
		t.Errorf("%v, want three", p.Errors)
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	w := b.do(b.request("POST", "/v1/step-ups", "{"+many.String()+`"y":1}`))
	if n := len(problemOf(t, w).Errors); n == 0 || n > 16 {
		t.Errorf("%d errors in one answer", n)
	}
}

func TestIdempotencyKey(t *testing.T) {
	tests := []struct {
		name   string
		values []string
		status int
	}{
		{"one character", []string{"k"}, 201},
		{"255", []string{strings.Repeat("k", 255)}, 201},
		{"spaces and quotes", []string{`"a key" ~`}, 201},
		{"missing", nil, 400},
		{"empty", []string{""}, 400},
		{"256", []string{strings.Repeat("k", 256)}, 400},
		{"two", []string{"a", "b"}, 400},
		{"the same twice", []string{"a", "a"}, 400},
		{"not ASCII", []string{"clé"}, 400},
		{"tab", []string{"a\tb"}, 400},
		{"DEL", []string{"a\x7fb"}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBank(t)
			r := b.request("POST", "/v1/step-ups", goodBody)
			r.Header["Idempotency-Key"] = tt.values
			w := b.do(r)
			if w.Code != tt.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
			if tt.status == 201 && b.asked[0].IdempotencyKey != tt.values[0] {
				t.Errorf("asked with key %q", b.asked[0].IdempotencyKey)
			}
			if tt.status == 400 && (problemOf(t, w).Errors[0].Field != "Idempotency-Key" || len(b.asked) != 0) {
				t.Errorf("%s", w.Body)
			}
		})
	}
}

func TestContentType(t *testing.T) {
	tests := []struct {
		name   string
		types  []string
		coding string
		status int
	}{
		{"plain", []string{"application/json"}, "", 201},
		{"with charset", []string{"Application/JSON; charset=UTF-8"}, "", 201},
		{"missing", nil, "", 415},
		{"form", []string{"application/x-www-form-urlencoded"}, "", 415},
		{"text", []string{"text/plain"}, "", 415},
		{"a relative", []string{"application/problem+json"}, "", 415},
		{"another charset", []string{"application/json; charset=utf-16"}, "", 415},
		{"two", []string{"application/json", "application/json"}, "", 415},
		{"broken", []string{"application/json;;;="}, "", 415},
		{"compressed", []string{"application/json"}, "gzip", 415},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBank(t)
			r := b.request("POST", "/v1/step-ups", goodBody)
			r.Header["Content-Type"] = tt.types
			if tt.coding != "" {
				r.Header.Set("Content-Encoding", tt.coding)
			}
			if w := b.do(r); w.Code != tt.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.status)
			}
		})
	}
}

// FuzzCreate: no body makes a fault of ours, and what is accepted means what any JSON reader takes it to mean.
func FuzzCreate(f *testing.F) {
	for _, body := range []string{goodBody, "{}", "[]", "{", `{"provider":"singpass","provider":"other"}`, `{"Provider":"singpass"}`,
		`{"provider":"singpass","metadata":{"a":"b","c":"\u00e9"},"requested_expiry":60}`, `{"provider":"singpass","metadata":{"a":[[[[[[1]]]]]]}}`,
		`{"provider":"singpass","reference":"\ud83d\ude00"}`, "{\"provider\":\"\xc3\x28\"}", `{"provider":null}`, goodBody + " 1"} {
		f.Add([]byte(body))
	}
	b := newBank(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		b.asked = nil
		b.log.Reset()
		w := b.do(b.request("POST", "/v1/step-ups", string(body)))
		switch w.Code {
		case 400, 413:
			if len(b.asked) != 0 {
				t.Errorf("asked, yet %d", w.Code)
			}
			problemOf(t, w)
		case 201:
			sameMeaning(t, b, body)
		default:
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

func sameMeaning(t *testing.T, b *bank, body []byte) {
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil || !utf8.Valid(body) {
		t.Fatalf("accepted what is not a JSON object: %v", err)
	}
	r := b.asked[0]
	taken := map[string]any{"provider": r.Provider, "scope": r.Question.Scope, "login_hint": r.Question.LoginHint, "login_hint_token": r.Question.LoginHintToken,
		"id_token_hint": r.Question.IDTokenHint, "binding_message": r.Question.BindingMessage, "acr_values": r.Question.ACRValues, "user_code": r.Question.UserCode,
		"reference": r.Reference}
	for name, sent := range m {
		switch name {
		case "requested_expiry":
			if sent != float64(r.Question.RequestedExpiry) {
				t.Errorf("requested_expiry %v taken as %d", sent, r.Question.RequestedExpiry)
			}
		case "metadata":
			for k, v := range sent.(map[string]any) {
				if r.Metadata[k] != v {
					t.Errorf("metadata %q: %v taken as %q", k, v, r.Metadata[k])
				}
			}
		default:
			if want, known := taken[name]; !known || want != sent && !(name == "scope" && sent == "") {
				t.Errorf("member %q: %v taken as %v", name, sent, want)
			}
		}
	}
}
