package worker

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Sealer keeps personal fields unreadable in Redis: AES-256-GCM with a random
// nonce and additional data that names step-up, field, caller and provider, so
// that a blob can be neither edited nor moved. The index key makes keyed hashes
// of what must be found again without being readable.
type Sealer struct {
	first string // kid that seals
	keys  map[string]cipher.AEAD
	index func() []byte // a closure: fmt prints what stands in unexported fields, whatever methods it has
}

// errNoKey: this process lacks the seal key. The blob is another's to open, it
// has not been tampered with.
var errNoKey = errors.New("seal key not in the key file")

// errTampered: a blob that one of our keys must open does not open.
var errTampered = errors.New("sealed field does not open")

// ParseSealKeys reads a seal key file: `seal <kid> <base64 of 32 bytes>` lines,
// of which the first seals and all open, one `index <base64 of 32 bytes>` line,
// blank lines and # comments. The error joins every mistake; each names its line,
// never its content.
func ParseSealKeys(file []byte) (*Sealer, error) {
	s := &Sealer{keys: map[string]cipher.AEAD{}}
	var wrong []error
	sc := bufio.NewScanner(bytes.NewReader(file))
	for n := 1; sc.Scan(); n++ {
		f := strings.Fields(sc.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if err := s.add(f); err != nil {
			wrong = append(wrong, fmt.Errorf("line %d: %w", n, err))
		}
	}
	switch {
	case sc.Err() != nil:
		wrong = append(wrong, errors.New("a line is too long; name the file that `stepup keygen` wrote"))
	case len(wrong) > 0: // the line that is missing may be the wrong one
	case s.first == "":
		wrong = append(wrong, errors.New("no `seal <kid> <base64>` line; `stepup keygen` writes one"))
	case s.index == nil:
		wrong = append(wrong, errors.New("no `index <base64>` line; put back the one that the data was written with, or take a new file of `stepup keygen`"))
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return s, nil
}

func (s *Sealer) add(f []string) error {
	switch {
	case f[0] == "seal" && len(f) == 3:
		kid := f[1]
		if len(kid) > 64 {
			return errors.New("the key id is longer than 64 characters; shorten it")
		}
		if s.keys[kid] != nil {
			return errors.New("the key id is there already; give each key its own")
		}
		key, err := sealKey(f[2])
		if err != nil {
			return err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return err
		}
		if s.keys[kid], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return err
		}
		if s.first == "" {
			s.first = kid
		}
		return nil
	case f[0] == "index" && len(f) == 2:
		if s.index != nil {
			return errors.New("a second index line; keep the first, there is one for the life of the data")
		}
		key, err := sealKey(f[1])
		if err != nil {
			return err
		}
		s.index = func() []byte { return key }
		return nil
	}
	return errors.New("must be `seal <kid> <base64>` or `index <base64>`; `stepup keygen` writes such lines")
}

func sealKey(b64 string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(b64)
	if err != nil || len(key) != 32 {
		return nil, errors.New("the key must be the base64 of 32 bytes; `stepup keygen` makes such keys")
	}
	return key, nil
}

// NewSealKeys is a fresh seal key file.
func NewSealKeys() []byte {
	return fmt.Appendf(nil, "# The first seal key seals, all open. Keep the index line for the life of the data.\n%sindex %s\n", NewSealKey(), newSealKey())
}

// NewSealKey is one more line for a seal key file, with a key id of its own.
func NewSealKey() []byte {
	return fmt.Appendf(nil, "seal %s %s\n", strings.ToLower(rand.Text()[:12]), newSealKey())
}

func newSealKey() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

// binding is what a blob of a step-up's field is tied to.
func binding(r *record, field string) []byte {
	return []byte(r.ID + "\x00" + field + "\x00" + r.Caller + "\x00" + r.Provider)
}

// fieldPrompt is the name under which a prompt is sealed.
const fieldPrompt = "ask"

// seal seals plain for one field of a step-up: kid, a zero byte, nonce and ciphertext.
func (s *Sealer) seal(r *record, field string, plain []byte) string {
	out := append([]byte(s.first), 0)
	return string(s.keys[s.first].Seal(out, nil, plain, binding(r, field)))
}

// open opens what seal sealed for the same field of the same step-up. It fails
// with errNoKey or errTampered.
func (s *Sealer) open(r *record, field, blob string) ([]byte, error) {
	kid, box, ok := strings.Cut(blob, "\x00")
	if !ok {
		return nil, fmt.Errorf("%s: %w", field, errTampered)
	}
	key := s.keys[kid]
	if key == nil {
		return nil, fmt.Errorf("%s: %w", field, errNoKey)
	}
	plain, err := key.Open(nil, nil, []byte(box), binding(r, field))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", field, errTampered)
	}
	return plain, nil
}

// sealJSON is seal for plain data.
func (s *Sealer) sealJSON(r *record, field string, v any) string {
	plain, err := json.Marshal(v)
	if err != nil {
		panic("worker: plain data does not marshal: " + err.Error())
	}
	return s.seal(r, field, plain)
}

// unsealJSON opens what sealJSON sealed.
func (s *Sealer) unsealJSON(r *record, field, blob string, v any) error {
	plain, err := s.open(r, field, blob)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%s: %w", field, errTampered)
	}
	return nil
}

// hash is a keyed hash of parts, 12 bytes in URL-safe base64. Nobody without the index
// key can look for two that meet, and by chance ten thousand million of them meet with
// a probability of one in a thousand million. What meets is refused, never mixed up: an
// idempotency key counts as used with another body, a token as used before, two
// persons share their limits.
func (s *Sealer) hash(parts ...string) string {
	m := hmac.New(sha256.New, s.index())
	for _, p := range parts {
		fmt.Fprintf(m, "%d:%s", len(p), p)
	}
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:12])
}

// The keys print as nothing, whatever prints them, also out of a copy.

func (s Sealer) String() string               { return "[seal keys]" }
func (s Sealer) GoString() string             { return s.String() }
func (s Sealer) Format(f fmt.State, _ rune)   { fmt.Fprint(f, s.String()) }
func (s Sealer) LogValue() slog.Value         { return slog.StringValue(s.String()) }
func (s Sealer) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
