package jose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep JSON may nest: far beyond what any ID token or key needs.
const maxDepth = 16

var (
	errMalformed = errors.New("malformed JSON")
	errDuplicate = errors.New("duplicate member")
	errBase64    = errors.New("malformed base64url")
)

// object reads exactly one JSON object, in UTF-8, in which no member stands twice at any depth: two readers of the same bytes must not
// see two values (RFC 8725 §2.4). Numbers stay json.Number.
func object(raw []byte) (map[string]any, error) {
	// Valid refuses bytes behind the value and what the token reader alone would let pass.
	if !utf8.Valid(raw) || !json.Valid(raw) {
		return nil, errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errMalformed
	}
	return m, nil
}

func value(d *json.Decoder, depth int) (any, error) {
	tok, err := d.Token()
	if err != nil || depth > maxDepth {
		return nil, errMalformed
	}
	switch tok {
	case json.Delim('{'):
		return members(d, depth)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return tok, nil
}

func members(d *json.Decoder, depth int) (map[string]any, error) {
	m := map[string]any{}
	for d.More() {
		tok, err := d.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, errMalformed
		}
		if _, twice := m[name]; twice {
			return nil, errDuplicate
		}
		if m[name], err = value(d, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

var base64url = base64.RawURLEncoding.Strict()

// decode reads base64url as RFC 7515 §2 has it: no padding, no line breaks (which the standard library skips), no loose bits at the end.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errBase64
	}
	b, err := base64url.DecodeString(s)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}

func encode(b []byte) string { return base64url.EncodeToString(b) }
