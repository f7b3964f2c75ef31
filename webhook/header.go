package webhook

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Our own rules: what every server takes beside our own headers.
const (
	maxHeaders     = 16
	maxHeaderBytes = 4 << 10 // names and values
)

// Header is one more header of every request to an endpoint. Its value may be a token, so it
// prints as "[redacted]". The zero value adds nothing.
type Header struct {
	hidden // the value
	name   string
}

// reserved are headers that are ours, that frame the message, or that belong to the
// connection. Besides them everything that begins with reservedStarts.
var (
	reserved = []string{
		"accept-encoding", "baggage", "connection", "expect", "host", "http2-settings", "keep-alive", "te", "traceparent",
		"tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent",
		"idempotency-key", "x-idempotency-key", // with these net/http would repeat a request on its own
	}
	reservedStarts = []string{"webhook-", "content-", "proxy-"}
)

// ParseHeaders reads a headers file: `Name: value` a line, empty lines and # comments between
// them. The error joins every mistake; each names its line and never shows a value.
func ParseHeaders(file []byte) ([]Header, error) {
	var (
		all   []Header
		wrong []error
		seen  = map[string]int{} // name in lower case -> line
		n     int
		size  int
	)
	for raw := range bytes.Lines(file) {
		n++
		text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
		if text == "" || text[0] == '#' || strings.Trim(text, " \t") == "" {
			continue
		}
		h, err := parseHeader(text)
		if lower := strings.ToLower(h.name); lower != "" {
			if first := seen[lower]; first != 0 {
				err = fmt.Errorf("the same name as line %d; remove one of them", first)
			} else {
				seen[lower] = n
			}
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		size += len(h.name) + len(h.key())
		all = append(all, h)
	}
	switch {
	case len(wrong) > 0:
		return nil, errors.Join(wrong...)
	case len(all) == 0:
		return nil, errors.New("no header in it; add at least one line `Name: value`, or leave headers_file out")
	case len(all) > maxHeaders:
		return nil, fmt.Errorf("%d headers in it, and at most %d are sent; remove some", len(all), maxHeaders)
	case size > maxHeaderBytes:
		return nil, fmt.Errorf("%d bytes of headers in it, and at most %d are sent; make them shorter", size, maxHeaderBytes)
	}
	return all, nil
}

func parseHeader(text string) (Header, error) {
	name, value, ok := strings.Cut(text, ":")
	if !ok || name == "" || strings.ContainsFunc(name, notToken) {
		// What stands there may be a value, and is not repeated.
		return Header{}, errors.New("must be `Name: value`, beginning with the name and without a blank before the colon")
	}
	value = strings.Trim(value, " \t")
	lower := strings.ToLower(name)
	switch {
	case slices.Contains(reserved, lower):
		return Header{}, fmt.Errorf("%s is set by stepup or belongs to the connection; remove it", lower)
	case slices.ContainsFunc(reservedStarts, func(start string) bool { return strings.HasPrefix(lower, start) }):
		return Header{}, errors.New("webhook-, content- and proxy- headers are set by stepup or belong to the connection; remove it")
	case value == "":
		return Header{}, errors.New("has no value after the colon; write one or remove the line")
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }):
		return Header{}, errors.New("the value has a character that is not printable ASCII; remove it")
	}
	content := []byte(value)
	return Header{hidden{func() []byte { return content }}, name}, nil
}

// notToken: RFC 9110 §5.6.2.
func notToken(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
