package jose

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	skew   = 60 * time.Second // how far the provider's clock and ours may be apart
	maxSub = 255              // bytes of sub (OpenID Connect Core §2)
)

// judge reads the claims of a payload whose signature held (OpenID Connect Core §3.1.3.7).
func (o *Opener) judge(payload []byte, notBefore, now time.Time) (Token, error) {
	m, err := object(payload)
	if errors.Is(err, errDuplicate) {
		return Token{}, refuse("duplicate member in claims")
	}
	if err != nil {
		return Token{}, refuse("malformed claims")
	}
	t := Token{Claims: m}
	if err := o.parties(m); err != nil {
		return Token{}, err
	}
	if err := t.person(m); err != nil {
		return Token{}, err
	}
	if err := t.times(m, notBefore, now); err != nil {
		return Token{}, err
	}
	return t, nil
}

// parties checks who says it and to whom: iss is the configured issuer byte for byte, and nobody but us is an audience.
func (o *Opener) parties(m map[string]any) error {
	iss, err := required(m, "iss")
	if err != nil {
		return err
	}
	if iss != o.Issuer {
		return refuse("wrong issuer")
	}
	auds, err := audiences(m)
	if err != nil {
		return err
	}
	// Another audience could have shown us a token that was meant for it; we trust no other (§3.1.3.7 step 3).
	for _, aud := range auds {
		if aud != o.ClientID {
			return refuse("wrong audience")
		}
	}
	if azp, there := m["azp"]; (there || len(auds) > 1) && azp != o.ClientID {
		return refuse("wrong azp")
	}
	return nil
}

// audiences reads aud: a string, or a list of them that is not empty (RFC 7519 §4.1.3).
func audiences(m map[string]any) ([]string, error) {
	list, ok := m["aud"].([]any)
	if !ok {
		aud, err := required(m, "aud")
		return []string{aud}, err
	}
	var auds []string
	for _, v := range list {
		aud, ok := v.(string)
		if !ok || aud == "" {
			return nil, refuse("malformed aud")
		}
		auds = append(auds, aud)
	}
	if len(auds) == 0 {
		return nil, refuse("malformed aud")
	}
	return auds, nil
}

// person reads who it is about and how they proved it. A null acr or amr counts as none.
func (t *Token) person(m map[string]any) (err error) {
	if t.Subject, err = required(m, "sub"); err != nil {
		return err
	}
	if len(t.Subject) > maxSub || strings.ContainsFunc(t.Subject, unicode.IsControl) {
		return refuse("malformed sub")
	}
	if v := m["acr"]; v != nil {
		acr, ok := v.(string)
		if !ok {
			return refuse("malformed acr")
		}
		t.ACR = acr
	}
	if v := m["amr"]; v != nil {
		list, ok := v.([]any)
		if !ok {
			return refuse("malformed amr")
		}
		for _, v := range list {
			s, ok := v.(string)
			if !ok {
				return refuse("malformed amr")
			}
			t.AMR = append(t.AMR, s)
		}
	}
	return nil
}

// times checks when it was said: exp and iat must be there, nbf and auth_time hold if they are.
func (t *Token) times(m map[string]any, notBefore, now time.Time) (err error) {
	if m["exp"] == nil {
		return refuse("missing exp")
	}
	if m["iat"] == nil {
		return refuse("missing iat")
	}
	if t.ExpiresAt, err = date(m, "exp"); err != nil {
		return err
	}
	if t.IssuedAt, err = date(m, "iat"); err != nil {
		return err
	}
	if t.AuthTime, err = date(m, "auth_time"); err != nil {
		return err
	}
	nbf, err := date(m, "nbf")
	if err != nil {
		return err
	}
	latest := now.Add(skew)
	switch {
	case !t.ExpiresAt.After(now.Add(-skew)):
		return refuse("expired")
	case t.IssuedAt.After(latest):
		return refuse("issued in the future")
	case t.IssuedAt.Before(notBefore):
		return refuse("issued before it was asked for")
	case nbf.After(latest):
		return refuse("not valid yet")
	case t.AuthTime.After(latest):
		return refuse("auth_time in the future")
	}
	return nil
}

// required is a claim that must be a string with something in it.
func required(m map[string]any, name string) (string, error) {
	v, there := m[name]
	if !there {
		return "", refuse("missing " + name)
	}
	s, ok := v.(string)
	if !ok || s == "" {
		return "", refuse("malformed " + name)
	}
	return s, nil
}

// lastSecond is the end of the year 9999, the last that RFC 3339 can write.
const lastSecond = 253402300799

// date reads a NumericDate: a JSON number of seconds since 1970, with or without a fraction (RFC 7519 §2). Zero time: the claim is not there.
func date(m map[string]any, name string) (time.Time, error) {
	v := m[name]
	if v == nil {
		return time.Time{}, nil
	}
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, refuse("malformed " + name)
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || f <= 0 || f > lastSecond {
		return time.Time{}, refuse("malformed " + name)
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)).UTC(), nil
}
