package webhook

import (
	"crypto/ed25519"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
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
	// maxSignatures of a header are looked at: each may cost a receiver a v1a verification by
	// each of its keys, before anybody is known. Twice what a file may hold.
	maxSignatures = 2 * maxKeys
)

// Verify tells a receiver whether a message came from a sender that has one of the keys
// and was sent within five minutes of now. A receiver must also remember the ids it has
// seen: the same event is sent again until it is answered with 2xx.
//
// Each of the three headers must be there exactly once. One signature that verifies is enough:
// a v1 by a `whsec_` secret, compared in the same time wherever it differs, or a v1a by a
// `whpk_` public key. Other versions are passed over. The first 32 signatures are looked at;
// a sender that is in the middle of a rotation needs two or three.
func Verify(h http.Header, body []byte, keys []Key, now time.Time) error {
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
	if !matches(signatures, keys, content(id, timestamp, body)) {
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
func matches(header string, keys []Key, signed []byte) bool {
	entries := strings.SplitN(header, " ", maxSignatures+1)
	entries = entries[:min(len(entries), maxSignatures)]
	found := false
	for _, k := range keys {
		switch {
		case k.key == nil:
		case k.asymmetric:
			found = found || slices.ContainsFunc(entries, func(entry string) bool { return verifies(k.key(), entry, signed) })
		default:
			want := []byte(versionSymmetric + mac(k.key(), signed))
			for _, entry := range entries {
				if hmac.Equal([]byte(entry), want) {
					found = true
				}
			}
		}
	}
	return found
}

// verifies reports whether an entry of the header is the v1a signature of a public key's owner.
func verifies(public ed25519.PublicKey, entry string, signed []byte) bool {
	text, ok := strings.CutPrefix(entry, versionAsymmetric)
	if !ok {
		return false
	}
	signature, err := base64.StdEncoding.DecodeString(text)
	return err == nil && base64.StdEncoding.EncodeToString(signature) == text && ed25519.Verify(public, signed, signature)
}

// Read is Verify for an HTTP handler: it reads the body, 64 KiB at most, and returns the
// message once it is verified. Answer 2xx when the event is stored, 401 after an error; a
// body that is too long is an *http.MaxBytesError.
func Read(r *http.Request, keys []Key, now time.Time) (Message, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxMessage))
	if err != nil {
		return Message{}, fmt.Errorf("reading webhook: %w", err)
	}
	if err := Verify(r.Header, body, keys, now); err != nil {
		return Message{}, err
	}
	return Message{ID: r.Header.Get(headerID), Body: body}, nil
}
