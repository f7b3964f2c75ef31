package jose

import (
	"fmt"
	"strings"
)

// parties are good signatures over wrong parties and persons.
func (w *world) parties() []forged {
	var cases []forged
	add := func(file, name, expect string, changes ...string) {
		cases = append(cases, forged{file, name, expect, "singpass direct", w.jws(changes...)})
	}
	raw := func(file, name, expect, payload string) {
		cases = append(cases, forged{file, name, expect, "singpass direct", sign(w.es256(), plainHeader, payload)})
	}
	add("iss-wrong", "another issuer", "wrong issuer", "iss", `"https://evil.example"`)
	add("iss-slash", "the issuer with a slash behind", "wrong issuer", "iss", `"https://id.example/"`)
	add("iss-case", "the issuer in other case", "wrong issuer", "iss", `"https://ID.example"`)
	add("iss-missing", "no issuer", "missing iss", "iss", "")
	add("iss-empty", "an empty issuer", "malformed iss", "iss", `""`)
	add("iss-list", "the issuer in a list", "malformed iss", "iss", `["https://id.example"]`)
	add("aud-wrong", "another client", "wrong audience", "aud", `"bank-2"`)
	add("aud-case", "the client in other case", "wrong audience", "aud", `"Bank-1"`)
	add("aud-missing", "no audience", "missing aud", "aud", "")
	add("aud-empty-list", "nobody in the audience", "malformed aud", "aud", `[]`)
	add("aud-null", "aud is null", "malformed aud", "aud", `null`)
	add("aud-number-in-list", "a number in the audience", "malformed aud", "aud", `["bank-1",1]`)
	add("aud-second", "another client besides us", "wrong audience", "aud", `["bank-1","bank-2"]`)
	add("aud-second-azp", "another client besides us, azp is us", "wrong audience", "aud", `["bank-1","bank-2"]`, "azp", `"bank-1"`)
	add("aud-twice-no-azp", "several audiences without azp", "wrong azp", "aud", `["bank-1","bank-1"]`)
	add("azp-wrong", "issued to another client", "wrong azp", "azp", `"bank-2"`)
	add("azp-number", "azp is a number", "wrong azp", "azp", `1`)
	add("sub-missing", "nobody", "missing sub", "sub", "")
	add("sub-empty", "an empty sub", "malformed sub", "sub", `""`)
	add("sub-number", "sub is a number", "malformed sub", "sub", `7`)
	add("sub-long", "a sub of 256 characters", "malformed sub", "sub", `"`+strings.Repeat("x", 256)+`"`)
	add("sub-control", "a line feed in sub", "malformed sub", "sub", `"s=S1234567D\n"`)
	add("acr-number", "acr is a number", "malformed acr", "acr", `2`)
	add("amr-text", "amr is a string", "malformed amr", "amr", `"pwd"`)
	add("amr-number", "a number in amr", "malformed amr", "amr", `["pwd",1]`)
	twice := strings.TrimSuffix(w.claims(), "}")
	raw("iss-second", "two issuers, the right one first", "duplicate member in claims", twice+`,"iss":"https://evil.example"}`)
	raw("iss-second-last", "two issuers, the right one last", "duplicate member in claims", `{"iss":"https://evil.example",`+w.claims()[1:])
	raw("sub-second", "two persons", "duplicate member in claims", twice+`,"sub":"s=T0000001E"}`)
	raw("aud-second-member", "two audiences as two members, one written with an escape", "duplicate member in claims", twice+`,"\u0061ud":"bank-1"}`)
	raw("claims-nested-twice", "a duplicate deep in the claims", "duplicate member in claims", twice+`,"x":{"a":{"b":1,"b":1}}}`)
	raw("claims-list", "the claims are a list", "malformed claims", "["+w.claims()+"]")
	raw("claims-text", "the claims are a string", "malformed claims", `"claims"`)
	raw("claims-trailing", "something behind the claims", "malformed claims", w.claims()+"{}")
	raw("claims-cut", "the claims are cut short", "malformed claims", w.claims()[:40])
	raw("claims-utf8", "the claims are not UTF-8", "malformed claims", twice+",\"x\":\"\xc3\x28\"}")
	raw("claims-deep", "claims nested too deep", "malformed claims", twice+`,"x":`+strings.Repeat(`{"a":`, 30)+"1"+strings.Repeat("}", 30)+"}")
	raw("claims-empty", "no claims at all", "missing iss", "{}")
	raw("claims-nested-jws", "another JWS inside the JWS", "malformed claims", w.jws())
	return cases
}

// times are good signatures over wrong times. Now is 02:03:20, notBefore 02:02:04.123.
func (w *world) times() []forged {
	var cases []forged
	add := func(file, name, expect string, changes ...string) {
		cases = append(cases, forged{file, name, expect, "singpass direct", w.jws(changes...)})
	}
	add("exp-missing", "no exp", "missing exp", "exp", "")
	add("exp-null", "exp is null", "missing exp", "exp", "null")
	add("exp-60s", "expired 60 s ago", "expired", "exp", w.at(-60))
	add("exp-hour", "expired an hour ago", "expired", "exp", w.at(-3600))
	add("exp-text", "exp is a string", "malformed exp", "exp", `"`+w.at(600)+`"`)
	add("exp-zero", "exp is 0", "malformed exp", "exp", "0")
	add("exp-negative", "exp is negative", "malformed exp", "exp", "-1")
	add("exp-huge", "exp is beyond the year 9999", "malformed exp", "exp", "253402300800")
	add("exp-infinite", "exp is more than a float holds", "malformed exp", "exp", "1e999")
	add("exp-milliseconds", "exp in milliseconds", "malformed exp", "exp", w.at(600)+"000")
	add("iat-missing", "no iat", "missing iat", "iat", "")
	add("iat-61s-ahead", "issued 61 s from now", "issued in the future", "iat", w.at(61))
	add("iat-before", "issued in the second before it was asked for", "issued before it was asked for", "iat", fmt.Sprint(w.NotBefore.Unix()))
	add("iat-week", "issued a week ago, still valid", "issued before it was asked for", "iat", w.at(-7*24*3600))
	add("iat-true", "iat is true", "malformed iat", "iat", "true")
	add("iat-text", "iat is a string", "malformed iat", "iat", `"`+w.at(0)+`"`)
	add("nbf-ahead", "valid from 61 s from now", "not valid yet", "nbf", w.at(61))
	add("nbf-text", "nbf is a string", "malformed nbf", "nbf", `"now"`)
	add("auth-time-ahead", "the person will prove themselves in 61 s", "auth_time in the future", "auth_time", w.at(61))
	add("auth-time-text", "auth_time is a string", "malformed auth_time", "auth_time", `"now"`)
	return cases
}
