package api

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// KeyHash is the SHA-256 of a whole API key. Keys are random and long, so no slow hash is needed.
type KeyHash [sha256.Size]byte

// Caller is one bank backend, as far as the edge judges it. Whether it is paused is the worker's to judge, because a repeat
// of an earlier request gets its first answer all the same.
type Caller struct {
	Keys      []KeyHash // any of them is accepted
	Providers []string  // that it may use
	MayList   bool      // GET /v1/step-ups exists for it
}

// Callers is an immutable set of callers; a reload makes a new one.
type Callers struct {
	keys []callerKey
}

type callerKey struct {
	hash   KeyHash
	name   string
	caller Caller
}

// NewCallers makes a set. A key of two callers is refused: the caller is all that separates their step-ups.
func NewCallers(callers map[string]Caller) (*Callers, error) {
	set := &Callers{}
	owner := map[KeyHash]string{}
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		for _, h := range callers[name].Keys {
			if other, taken := owner[h]; taken && other != name {
				return nil, fmt.Errorf("callers %s and %s share an API key: give each its own", other, name)
			}
			owner[h] = name
			set.keys = append(set.keys, callerKey{h, name, callers[name]})
		}
	}
	return set, nil
}

// authenticate finds the caller of a request's bearer key (RFC 6750 §2.1). It compares with every stored hash, so that
// time tells neither which key matched nor how many there are before it.
func (c *Callers) authenticate(h http.Header) (name string, caller Caller, ok bool) {
	key, ok := bearer(h)
	if !ok || c == nil {
		return "", Caller{}, false
	}
	sum := sha256.Sum256([]byte(key))
	match := -1
	for i := range c.keys {
		match = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], c.keys[i].hash[:]), i, match)
	}
	if match < 0 {
		return "", Caller{}, false
	}
	return c.keys[match].name, c.keys[match].caller, true
}

func bearer(h http.Header) (string, bool) {
	v := h.Values("Authorization")
	if len(v) != 1 {
		return "", false
	}
	scheme, key, ok := strings.Cut(v[0], " ")
	return key, ok && strings.EqualFold(scheme, "Bearer") && key != "" && len(key) <= 256
}

// ParseAPIKeys reads a key file: one `sha256:<hex of the key>` a line, either case; empty lines and lines that begin with #
// do not count. Errors name every bad line by its number, never by its content: somebody may have stored the key itself.
func ParseAPIKeys(file []byte) ([]KeyHash, error) {
	var keys []KeyHash
	var faults []error
	lines := bufio.NewScanner(bytes.NewReader(file))
	n := 0
	for lines.Scan() {
		n++
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		var h KeyHash
		digits, ok := strings.CutPrefix(line, "sha256:")
		raw, err := hex.DecodeString(digits)
		if !ok || err != nil || copy(h[:], raw) != len(h) || len(raw) != len(h) {
			faults = append(faults, fmt.Errorf("line %d: want sha256: and 64 hexadecimal digits (stepup apikey prints one)", n))
			continue
		}
		keys = append(keys, h)
	}
	if lines.Err() != nil {
		faults = append(faults, fmt.Errorf("line %d: too long", n+1))
	}
	if len(keys) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("holds no key (stepup apikey prints one)"))
	}
	return keys, errors.Join(faults...)
}

// NewAPIKey makes a key of 260 random bits and the line that stores it. The key is shown once and kept nowhere.
func NewAPIKey() (key, line string) {
	key = "sk_" + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(key))
	return key, "sha256:" + hex.EncodeToString(sum[:])
}
