package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep JSON may nest: an event with an identity's claims needs far less.
const maxDepth = 32

var (
	errJSON      = errors.New("is not one JSON object")
	errDuplicate = errors.New("has a member twice")
)

// object reads exactly one JSON object, in UTF-8, in which no member stands twice at any
// depth: two readers of the same bytes must not see two values.
func object(raw []byte) (map[string]any, error) {
	// Valid refuses bytes behind the value, which the token reader alone would let pass.
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, errJSON
	}
	v, err := value(json.NewDecoder(bytes.NewReader(raw)), 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errJSON
	}
	return m, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	tok, err := d.Token()
	if err != nil || depth > maxDepth {
		return nil, errJSON
	}
	switch tok {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			name, err := d.Token() // valid JSON: a string
			if err != nil {
				return nil, errJSON
			}
			if _, twice := m[name.(string)]; twice {
				return nil, errDuplicate
			}
			if m[name.(string)], err = value(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err = d.Token()
		return m, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = d.Token()
		return list, err
	}
	return tok, nil
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// fromBase64url reads base64url as RFC 7515 §2 has it: no padding, no line breaks (which the
// standard library skips), no loose bits at the end.
func fromBase64url(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("malformed base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}
