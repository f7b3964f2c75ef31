package ciba

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Reading what a stranger wrote. encoding/json alone is too kind here: it takes the last of two members and ignores the case of names.

var (
	errNotObject = errors.New("not a JSON object")
	errDuplicate = errors.New("duplicate member")
	errCut       = errors.New("answer cut short")
)

// member is one JSON member as it came; empty: absent. A null counts as absent. It is a part of the body that it was read from.
type member []byte

const blanks = " \t\r\n"

// readObject reads one JSON object and hands each member whose name `want` knows to where `want` says. A known member that comes
// twice spoils the object. Unknown members are ignored (CIBA §7.3).
//
// encoding/json judges whether it is JSON; after that only the ends of values need to be found, and nothing is copied. Every poll comes
// through here.
func readObject(body []byte, want func(name []byte) *member) error {
	if !json.Valid(body) {
		return whyInvalid(body)
	}
	rest := bytes.TrimLeft(body, blanks)
	if rest[0] != '{' {
		return errNotObject
	}
	rest = bytes.TrimLeft(rest[1:], blanks)
	for rest[0] != '}' {
		var name, value []byte
		name, rest = firstValue(rest)
		value, rest = firstValue(rest[1:]) // behind the colon
		if rest[0] == ',' {
			rest = bytes.TrimLeft(rest[1:], blanks)
		}
		switch m := want(member(name).bare()); {
		case m == nil:
		case *m != nil:
			return errDuplicate
		default:
			*m = value
		}
	}
	return nil
}

// firstValue cuts the first value off a piece of valid JSON, with the blanks around it. Something must follow it.
func firstValue(s []byte) (value, rest []byte) {
	s = bytes.TrimLeft(s, blanks)
	end := 0
	switch s[0] {
	case '"':
		end = stringEnd(s)
	case '{', '[':
		for depth := 1; depth > 0; {
			switch end++; s[end] {
			case '"':
				end += stringEnd(s[end:]) - 1
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
		}
		end++
	default:
		end = bytes.IndexAny(s, ",}"+blanks)
	}
	return s[:end], bytes.TrimLeft(s[end:], blanks)
}

// stringEnd is the length of the string that s begins with, quotes included.
func stringEnd(s []byte) int {
	i := 1
	for ; s[i] != '"'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// whyInvalid tells an object that stopped in the middle (the connection's doing) from something else (a page).
func whyInvalid(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	var value json.RawMessage
	if err := dec.Decode(&value); errors.Is(err, io.ErrUnexpectedEOF) && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) {
		return errCut
	}
	return errNotObject
}

// text is the member's string, or empty when it is absent, null or something else.
func (m member) text() string { return string(m.bare()) }

// bare is text as a part of the body, where nothing in it is escaped.
func (m member) bare() []byte {
	if len(m) == 0 || m[0] != '"' {
		return nil
	}
	for _, c := range m {
		if c == '\\' || c >= utf8.RuneSelf {
			var s string
			if err := json.Unmarshal(m, &s); err != nil {
				return nil
			}
			return []byte(s)
		}
	}
	return m[1 : len(m)-1]
}

func (m member) absent() bool { return len(m) == 0 || m[0] == 'n' }

// whole is the member's whole number between low and high; 300.0 and 3e2 are 300, "300" is no number.
func (m member) whole(low, high int) (int, bool) {
	f, err := strconv.ParseFloat(string(m), 64)
	if err != nil || f != math.Trunc(f) || f < float64(low) || f > float64(high) {
		return 0, false
	}
	return int(f), true
}

// answer holds the members that we read from either endpoint, in success and in error.
type answer struct {
	Private
	authReqID, expiresIn, interval member // bc-auth, CIBA §7.3
	idToken                        member // token, CIBA §10.1.1
	code, id, traceID              member // errors: RFC 6749 §5.2, and Singpass's two
}

func (a *answer) want(name []byte) *member {
	switch string(name) {
	case "auth_req_id":
		return &a.authReqID
	case "expires_in":
		return &a.expiresIn
	case "interval":
		return &a.interval
	case "id_token":
		return &a.idToken
	case "error":
		return &a.code
	case "id":
		return &a.id
	case "trace_id":
		return &a.traceID
	}
	return nil
}

// loggable is s where it is fit for a log, and nothing where it is not: a stranger's text can hold anything, give back
// to us what we have sent, and name the person, whom a poll's form does not.
func (r reply) loggable(s string) string {
	if len(s) > 128 || s != "" && (echoes(s, r.sent) || holdsNRIC(s)) {
		return ""
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && !strings.ContainsRune("._:/-", rune(s[i])) {
			return ""
		}
	}
	return s
}

// echoes says that s holds something of a form that no log may tell.
func echoes(s string, form []byte) bool {
	values, err := url.ParseQuery(string(form))
	if err != nil {
		return true
	}
	for _, name := range []string{"login_hint", "login_hint_token", "id_token_hint", "binding_message", "user_code", "auth_req_id", "client_assertion"} {
		if v := values.Get(name); v != "" && strings.Contains(strings.ToLower(s), strings.ToLower(v)) {
			return true
		}
	}
	return false
}

// authReqIDShaped is our limit on what is stored and sent back at every poll; the characters are CIBA §7.3's advice.
func authReqIDShaped(s string) bool {
	if len(s) == 0 || len(s) > 1<<10 {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '.' && s[i] != '-' && s[i] != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// jwsPayload is the middle of a compact JWS, decoded and not verified.
func jwsPayload(token string) ([]byte, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	return payload, err == nil
}
