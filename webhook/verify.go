package webhook

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// tolerance is how far a message's timestamp may be from the receiver's clock, on both
	// sides. Five minutes is what the libraries of Standard Webhooks allow.
	tolerance = 5 * time.Minute
	// maxMessage bytes of a body are read by Read; ours are far smaller.
	maxMessage = 64 << 10
	maxID      = 256
)

// Verify tells a receiver whether a message came from a sender that has one of the secrets
// and was sent within five minutes of now. A receiver must also remember the ids it has
// seen: the same event is sent again until it is answered with 2xx.
//
// Each of the three headers must be there exactly once. Signatures of versions other than v1
// are passed over. Comparison takes the same time wherever a signature differs.
func Verify(h http.Header, body []byte, secrets []Secret, now time.Time) error {
	id, err := single(h, headerID)
	if err != nil {
		return err
	}
	timestamp, err := single(h, headerTimestamp)
	if err != nil {
		return err
	}
	signatures, err := single(h, headerSignature)
	if err != nil {
		return err
	}
	// Standard Webhooks, "Signature scheme": with a dot in the id two messages could share one
	// signed text.
	if !validID(id) {
		return errors.New("verifying webhook: malformed webhook-id")
	}
	if err := timely(timestamp, now); err != nil {
		return err
	}
	if !matches(signatures, secrets, id, timestamp, body) {
		return errors.New("verifying webhook: no signature matches")
	}
	return nil
}

func single(h http.Header, name string) (string, error) {
	values := h.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", fmt.Errorf("verifying webhook: header %s must be there once", name)
	}
	return values[0], nil
}

func validID(id string) bool {
	outside := func(r rune) bool { return r <= ' ' || r > '~' || r == '.' }
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, outside)
}

func timely(timestamp string, now time.Time) error {
	// Twelve digits last for thirty thousand years and cannot overflow.
	seconds, err := strconv.ParseUint(timestamp, 10, 63)
	if err != nil || len(timestamp) > 12 {
		return errors.New("verifying webhook: malformed webhook-timestamp")
	}
	switch at := time.Unix(int64(seconds), 0); {
	case now.Sub(at) > tolerance:
		return errors.New("verifying webhook: webhook-timestamp is more than 5 minutes old")
	case at.Sub(now) > tolerance:
		return errors.New("verifying webhook: webhook-timestamp is more than 5 minutes ahead")
	}
	return nil
}

// matches compares texts, not decoded bytes: base64 has several spellings of the same bytes,
// and only the one that Sign writes is accepted.
func matches(header string, secrets []Secret, id, timestamp string, body []byte) bool {
	found := false
	for _, s := range secrets {
		if s.key == nil {
			continue
		}
		want := []byte(s.signature(id, timestamp, body))
		for signature := range strings.SplitSeq(header, " ") {
			if text, ok := strings.CutPrefix(signature, "v1,"); ok && hmac.Equal([]byte(text), want) {
				found = true
			}
		}
	}
	return found
}

// Read is Verify for an HTTP handler: it reads the body, 64 KiB at most, and returns the
// message once it is verified. Answer 2xx when the event is stored, 401 after an error; a
// body that is too long is an *http.MaxBytesError.
func Read(r *http.Request, secrets []Secret, now time.Time) (Message, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxMessage))
	if err != nil {
		return Message{}, fmt.Errorf("reading webhook: %w", err)
	}
	if err := Verify(r.Header, body, secrets, now); err != nil {
		return Message{}, err
	}
	return Message{ID: r.Header.Get(headerID), Body: body}, nil
}
