package ciba

import "strings"

// How Singpass names a person: an NRIC or FIN in upper case or a UUID in lower case, ASCII only. Everything here works on bytes, so that
// a full-width digit is never a digit.

// nricShaped reports whether s looks like an NRIC or FIN: a series letter, seven digits, a check letter. Y stands before the
// identifiers of foreign users in Singpass's own samples.
func nricShaped(s string) bool {
	if len(s) != 9 || s[8] < 'A' || s[8] > 'Z' {
		return false
	}
	for i := 1; i < 8; i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	switch s[0] {
	case 'S', 'T', 'F', 'G', 'M', 'Y':
		return true
	}
	return false
}

// nricChecks reports whether the check letter of a well-shaped NRIC or FIN is right. The rule for Y is not published, so any letter is.
func nricChecks(s string) bool {
	weights := [7]int{2, 7, 6, 5, 4, 3, 2}
	sum := 0
	for i, w := range weights {
		sum += w * int(s[1+i]-'0')
	}
	switch s[0] {
	case 'S':
		return s[8] == "JZIHGFEDCBA"[sum%11]
	case 'T': // citizens and permanent residents registered since 2000
		return s[8] == "JZIHGFEDCBA"[(sum+4)%11]
	case 'F':
		return s[8] == "XWUTRQPNMLK"[sum%11]
	case 'G': // foreigners registered since 2000
		return s[8] == "XWUTRQPNMLK"[(sum+4)%11]
	case 'M': // foreigners registered since 2022: its own alphabet, J where M would stand
		return s[8] == "XWUTRQPNJLK"[(sum+3)%11]
	}
	return s[0] == 'Y'
}

// holdsNRIC reports whether an NRIC or FIN stands anywhere in s, in either case. Its check letter must be right: no hexadecimal
// digit is one in a number that begins with a hexadecimal digit, so ids that are such digits hold none.
func holdsNRIC(s string) bool {
	s = strings.ToUpper(s)
	for i := range max(0, len(s)-8) {
		if p := s[i : i+9]; nricShaped(p) && nricChecks(p) {
			return true
		}
	}
	return false
}

// uuidShaped reports whether s is a UUID as RFC 4122 §3 writes it, in lower case. Version and variant are the provider's business.
func uuidShaped(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; i {
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
