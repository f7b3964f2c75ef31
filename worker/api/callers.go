package api

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// KeyHash is the SHA-256 of a whole API key. Keys are random and long, so no slow hash is needed.
type KeyHash [sha256.Size]byte

// Caller is how one bank backend is known. What it may do is the worker's to judge.
type Caller struct {
	Keys []KeyHash // any of them is accepted
	SANs []string  // names in a client certificate, any of them: DNS names, URIs, e-mail or IP addresses, compared exactly
}

// Callers is an immutable set of callers; a reload makes a new one.
type Callers struct {
	keys        []callerKey
	sans        map[string]string // name in a certificate -> caller
	authorities *Authorities
}

type callerKey struct {
	hash KeyHash
	name string
}

// NewCallers makes a set; certificates count for something only if they come from the authorities, which may be nil. A key or
// a certificate's name of two callers is refused: the caller is all that separates their step-ups.
func NewCallers(callers map[string]Caller, authorities *Authorities) (*Callers, error) {
	set := &Callers{sans: map[string]string{}, authorities: authorities}
	owner := map[KeyHash]string{}
	for _, name := range slices.Sorted(maps.Keys(callers)) {
		for _, h := range callers[name].Keys {
			if other, taken := owner[h]; taken && other != name {
				return nil, fmt.Errorf("callers %s and %s share an API key: give each its own", other, name)
			}
			owner[h] = name
			set.keys = append(set.keys, callerKey{h, name})
		}
		for _, san := range callers[name].SANs {
			if other, taken := set.sans[san]; taken && other != name {
				return nil, fmt.Errorf("callers %s and %s share a certificate's name: give each its own", other, name)
			}
			set.sans[san] = name
		}
	}
	return set, nil
}

// authenticate finds the caller of a request by its bearer key, its client certificate, or both, which must then agree. A
// certificate that is no caller's now, because its name or its authority was removed or it has lapsed, counts as none: the
// gateway that a key comes through may show one of its own.
func (c *Callers) authenticate(r *http.Request) (name string, ok bool) {
	if c == nil {
		return "", false
	}
	name, ok = c.byCertificate(r.TLS)
	if len(r.Header.Values("Authorization")) == 0 || !ok {
		return name, ok && name != ""
	}
	owner, ok := c.byKey(r.Header)
	return owner, ok && (name == "" || name == owner)
}

// who finds the caller. A stranger's connection ends with the answer if there is a body, for which net/http would wait
// before it answers, or a certificate and no key: the next handshake may show a certificate that was renewed. Where there
// is a key, others' requests may come over the same connection from a gateway.
func (s *Server) who(x *exchange, r *http.Request) bool {
	name, ok := s.Callers().authenticate(r)
	if !ok {
		body := r.ContentLength != 0 && r.ProtoMajor == 1
		if body || r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && len(r.Header.Values("Authorization")) == 0 {
			x.Header().Set("Connection", "close")
		}
		return false
	}
	x.caller = name
	Keep(r.Context())
	return true
}

// byCertificate is "" for a certificate that is no caller's, and not ok for one with the names of two.
func (c *Callers) byCertificate(t *tls.ConnectionState) (name string, ok bool) {
	cert := c.authorities.Client(t, time.Now())
	if cert == nil {
		return "", true
	}
	for _, n := range names(cert) {
		owner, known := c.sans[n]
		if known && name != "" && name != owner {
			return "", false
		}
		name = cmp.Or(name, owner)
	}
	return name, true
}

// byKey finds the caller of a bearer key (RFC 6750 §2.1). It compares with every stored hash, so that time tells neither
// which key matched nor how many there are before it.
func (c *Callers) byKey(h http.Header) (name string, ok bool) {
	key, ok := bearer(h)
	if !ok {
		return "", false
	}
	sum := sha256.Sum256([]byte(key))
	match := -1
	for i := range c.keys {
		match = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], c.keys[i].hash[:]), i, match)
	}
	if match < 0 {
		return "", false
	}
	return c.keys[match].name, true
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
			faults = append(faults, fmt.Errorf("line %d: must be `sha256:` and 64 hexadecimal digits, the hash of a key and not the key; `stepup apikey` prints such a line", n))
			continue
		}
		keys = append(keys, h)
	}
	if lines.Err() != nil {
		faults = append(faults, fmt.Errorf("line %d: is too long; `stepup apikey` prints what it must hold", n+1))
	}
	if len(keys) == 0 && len(faults) == 0 {
		faults = append(faults, errors.New("no key in it; add a line that `stepup apikey` prints"))
	}
	return keys, errors.Join(faults...)
}

// NewAPIKey makes a key of 260 random bits and the line that stores it. The key is shown once and kept nowhere.
func NewAPIKey() (key, line string) {
	key = "sk_" + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(key))
	return key, "sha256:" + hex.EncodeToString(sum[:])
}
