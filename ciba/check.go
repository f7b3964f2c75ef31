package ciba

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sizes that this package sends at most. The specification names none; these are ours.
const (
	maxHint  = 8 << 10 // bytes of a login_hint_token or id_token_hint
	maxValue = 1 << 10 // bytes of everything else
)

// Check says, for every member at once, what this client would not send. It is pure, and whoever stores a Request must have asked it
// before: Authenticate refuses what Check refuses.
func (c *Client) Check(r Request) []FieldError {
	var p problems
	if c.cfg.Profile == Singpass {
		c.checkSingpass(&p, r)
	} else {
		c.checkStandard(&p, r)
	}
	return p
}

type problems []FieldError

func (p *problems) add(bad bool, field, message string) {
	if bad {
		*p = append(*p, FieldError{Field: field, Message: message})
	}
}

// checkSingpass lets through scope and login_hint: nothing else is documented.
func (c *Client) checkSingpass(p *problems, r Request) {
	p.add(r.Scope != "" && r.Scope != "openid", "scope", "must be openid")

	const undocumented = "is not supported by Singpass; leave it out"
	p.add(r.LoginHintToken != "", "login_hint_token", undocumented)
	p.add(r.IDTokenHint != "", "id_token_hint", undocumented)
	p.add(r.BindingMessage != "", "binding_message", undocumented)
	p.add(r.ACRValues != "", "acr_values", undocumented)
	p.add(r.UserCode != "", "user_code", undocumented)
	p.add(r.RequestedExpiry != 0, "requested_expiry", undocumented)

	switch {
	case r.LoginHint == "":
		p.add(true, "login_hint", "is required")
	case uuidShaped(r.LoginHint):
	case !nricShaped(r.LoginHint):
		p.add(true, "login_hint", "must be an NRIC or FIN in upper case or a UUID in lower case")
	case c.cfg.NRICChecksum && !nricChecks(r.LoginHint):
		p.add(true, "login_hint", "is an NRIC or FIN with a wrong check letter")
	case !c.cfg.Encrypted:
		// Such a token says u= only: the answer could not be compared with the question.
		p.add(true, "login_hint", "must be a UUID: signed-only ID tokens do not name the NRIC")
	}
}

// checkStandard holds a Request against CIBA Core 1.0 §7.1.
func (c *Client) checkStandard(p *problems, r Request) {
	p.add(r.Scope != "" && !slices.Contains(strings.Split(r.Scope, " "), "openid"), "scope", "must contain openid")
	p.add(!scopeShaped(r.Scope), "scope", "must be space separated words of printable ASCII without quote and backslash")

	hints := 0
	for _, hint := range []string{r.LoginHint, r.LoginHintToken, r.IDTokenHint} {
		if hint != "" {
			hints++
		}
	}
	p.add(hints != 1, "login_hint", "exactly one of login_hint, login_hint_token, id_token_hint is required")
	p.plain("login_hint", r.LoginHint, maxValue)
	p.plain("login_hint_token", r.LoginHintToken, maxHint)
	p.plain("id_token_hint", r.IDTokenHint, maxHint)
	if r.IDTokenHint != "" {
		if iss, _, err := Hinted(r.IDTokenHint); err != nil {
			p.add(true, "id_token_hint", "must be a signed ID token with iss and sub")
		} else {
			p.add(iss != c.cfg.Issuer, "id_token_hint", "must come from this provider")
		}
	}
	p.plain("binding_message", r.BindingMessage, maxValue)
	p.plain("user_code", r.UserCode, maxValue)
	p.plain("acr_values", r.ACRValues, maxValue)
	p.add(r.ACRValues != "" && len(strings.Fields(r.ACRValues)) == 0, "acr_values", "must name at least one value")
	p.add(r.RequestedExpiry < 0 || r.RequestedExpiry > maxExpiresIn, "requested_expiry",
		fmt.Sprintf("must be between 1 and %d seconds", maxExpiresIn))
}

// plain refuses what no person can have meant to send: control and format characters (they reorder what a phone shows), broken UTF-8.
func (p *problems) plain(field, value string, most int) {
	p.add(len(value) > most, field, fmt.Sprintf("must be at most %d bytes", most))
	hidden := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
	p.add(!utf8.ValidString(value) || strings.ContainsFunc(value, hidden), field, "must be plain text")
}

// scopeShaped is RFC 6749 §3.3, and our limit.
func scopeShaped(s string) bool {
	if len(s) > maxValue {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// Hinted reads who an id_token_hint speaks of: its iss and its sub, neither of them empty. It verifies nothing: the hint came from our
// caller, who answers for it. It narrows what answer is accepted, and says whose pushes are counted together.
func Hinted(token string) (iss, sub string, err error) {
	payload, ok := jwsPayload(token)
	if !ok {
		return "", "", errors.New("id_token_hint is not a compact JWS")
	}
	var claims struct{ iss, sub member }
	err = readObject(payload, func(name []byte) *member {
		switch string(name) {
		case "iss":
			return &claims.iss
		case "sub":
			return &claims.sub
		}
		return nil
	})
	iss, sub = claims.iss.text(), claims.sub.text()
	if err == nil && (iss == "" || sub == "") {
		err = errors.New("id_token_hint has no iss or no sub")
	}
	return iss, sub, err
}
