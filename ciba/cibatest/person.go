package cibatest

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// PersonOf gives the two identifiers of the simulated person behind a login hint: the hint itself and the other one, derived from
// it so that it is always the same. ok is false for anything but an upper-case NRIC/FIN or a lower-case UUID. A derived NRIC has a
// right check letter; that of a hint is not judged (the provider's own samples have wrong ones).
func PersonOf(hint string) (nric, uuid string, ok bool) {
	sum := sha256.Sum256([]byte("cibatest person " + hint))
	a, b := binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])
	switch {
	case isNRIC(hint):
		return hint, uuidFrom(a, b), true
	case isUUID(hint):
		return nricFrom(a), hint, true
	}
	return "", "", false
}

// singpassSubject is the `sub` for a hint: "s=<NRIC>,u=<uuid>", for identifiers of foreign users (Y…) also fid and coi; "u=<uuid>" without NRIC.
func singpassSubject(hint string, withNRIC bool) string {
	nric, uuid, _ := PersonOf(hint)
	switch {
	case !withNRIC:
		return "u=" + uuid
	case nric[0] == 'Y':
		return "s=" + nric + ",fid=FID" + nric[1:8] + ",coi=MY,u=" + uuid
	}
	return "s=" + nric + ",u=" + uuid
}

// somebodyElse is another person's hint of the same form.
func somebodyElse(hint string) string {
	sum := sha256.Sum256([]byte("cibatest somebody else " + hint))
	a, b := binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:16])
	if isNRIC(hint) {
		if other := nricFrom(a); other != hint {
			return other
		}
		return nricFrom(b)
	}
	return uuidFrom(a, b)
}

// nricFrom makes an NRIC of the S series with its check letter.
func nricFrom(n uint64) string {
	digits := fmt.Sprintf("%07d", n%10_000_000)
	sum := 0
	for i, weight := range [7]int{2, 7, 6, 5, 4, 3, 2} {
		sum += int(digits[i]-'0') * weight
	}
	return "S" + digits + string("JZIHGFEDCBA"[sum%11])
}

func uuidFrom(a, b uint64) string {
	a = a&^0xf000 | 0x4000       // version 4
	b = b&^(0b11<<62) | 0b10<<62 // RFC 9562 variant
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", a>>32, a>>16&0xffff, a&0xffff, b>>48, b&0xffff_ffff_ffff)
}

func isNRIC(s string) bool {
	if len(s) != 9 {
		return false
	}
	switch s[0] {
	case 'S', 'T', 'F', 'G', 'M', 'Y':
	default:
		return false
	}
	for i := 1; i < 8; i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s[8] >= 'A' && s[8] <= 'Z'
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}
