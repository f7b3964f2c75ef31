package jose

import "strings"

// Subject is who a Singpass sub names. A member is empty when the sub does not name it.
type Subject struct {
	NRIC      string // s=
	UUID      string // u=
	ForeignID string // fid=
	Country   string // coi=, where the foreign identifier was issued
}

// ParseSubject reads Singpass's form of sub, a comma-separated list of key=value ("s=S1234567D,u=…"). Unknown keys are passed over.
// It is false, and the Subject empty, when the sub is not such a list, names nobody, or has a key twice or a key without a value.
func ParseSubject(sub string) (Subject, bool) {
	var s Subject
	seen := map[string]bool{}
	for pair := range strings.SplitSeq(sub, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || value == "" || !plain(key) || seen[key] {
			return Subject{}, false
		}
		seen[key] = true
		switch key {
		case "s":
			s.NRIC = value
		case "u":
			s.UUID = value
		case "fid":
			s.ForeignID = value
		case "coi":
			s.Country = value
		}
	}
	if s.NRIC == "" && s.UUID == "" && s.ForeignID == "" {
		return Subject{}, false
	}
	return s, true
}

// plain is true for a key of letters, digits and underscores: " u" must not pass for an unknown key beside "u".
func plain(key string) bool {
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return key != ""
}
