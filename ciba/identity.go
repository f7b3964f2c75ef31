package ciba

import (
	"crypto/subtle"
	"errors"
	"slices"
	"strings"
	"time"

	"stepup/ciba/jose"
)

// Expect is the question that an ID token must answer.
type Expect struct {
	Private
	Request  Request
	Created  time.Time // when the question was asked; a token issued more than 60 s before answers something else
	Received time.Time // when the token arrived; must be set: keys fetched later have the last word about it
}

// Identity is who answered, as verified. It is personal data and prints as nothing; only json.Marshal tells it.
type Identity struct {
	Private
	Subject     string         `json:"subject"`
	Bound       bool           `json:"bound"` // the subject was compared with the person who was asked; false: the answer allows no comparison
	NRIC        *string        `json:"nric"`  // nil, here and below: the token does not say
	UUID        *string        `json:"uuid"`
	ForeignID   *string        `json:"foreign_id"`
	Country     *string        `json:"country"`
	ACR         string         `json:"acr"`
	AMR         []string       `json:"amr"`
	AuthTime    *time.Time     `json:"auth_time"`
	IssuedAt    *time.Time     `json:"issued_at"`
	Claims      map[string]any `json:"claims"`             // all of the token's
	IDToken     string         `json:"id_token,omitempty"` // the signed token, with Config.Evidence
	Fingerprint [32]byte       `json:"-"`                  // of what the provider signed: tells one token from another
}

// skew is how far the provider's clock may be off from ours.
const skew = 60 * time.Second

// Open judges an ID token with the keys in hand and compares it with the question; it does no I/O. *Unverified: RefreshKeys, then Open
// again. *Untrusted is final. That a token is accepted only once is the caller's to see to, by its Fingerprint.
func (c *Client) Open(idToken string, e Expect) (Identity, error) {
	said, err := c.opener.Open(idToken, e.Received, e.Created.Add(-skew), time.Now())
	if errors.Is(err, jose.ErrKeys) {
		return Identity{}, &Unverified{IDToken: idToken, Err: jose.ErrKeys}
	}
	if err != nil {
		reason := "token cannot be read"
		if invalid, ok := errors.AsType[*jose.Invalid](err); ok {
			reason = invalid.Reason
		}
		return Identity{}, &Untrusted{Reason: reason}
	}
	id := Identity{
		Fingerprint: said.Fingerprint(),
		Subject:     said.Subject, ACR: said.ACR, AMR: said.AMR, Claims: said.Claims,
		AuthTime: known(said.AuthTime), IssuedAt: known(said.IssuedAt),
	}
	if id.AMR == nil {
		id.AMR = []string{} // JSON: a list, never null
	}
	if c.cfg.Evidence {
		id.IDToken = said.Signed
	}
	if c.cfg.Profile == Singpass {
		subject, ok := jose.ParseSubject(said.Subject)
		if !ok {
			return Identity{}, &Untrusted{Reason: "sub is not a list of names"}
		}
		id.NRIC, id.UUID, id.ForeignID, id.Country = known(subject.NRIC), known(subject.UUID), known(subject.ForeignID), known(subject.Country)
	}
	if id.Bound, err = c.bind(id, e.Request); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// bind compares the answer with the question. There is no nonce in this flow (CIBA §7.1), so this is all that stands between one person's
// approval and another's question.
func (c *Client) bind(id Identity, asked Request) (bound bool, _ error) {
	if asked.ACRValues != "" && !slices.Contains(strings.Fields(asked.ACRValues), id.ACR) {
		return false, &Untrusted{Mismatch: true, Reason: "acr is none of those asked for"}
	}
	want, got := asked.LoginHint, &id.Subject
	switch {
	case c.cfg.Profile == Singpass && uuidShaped(asked.LoginHint):
		got = id.UUID
	case c.cfg.Profile == Singpass:
		got = id.NRIC
	case asked.IDTokenHint != "":
		// iss is the issuer's by now, in the token because it verified, in the hint because Check saw it.
		iss, sub, err := Hinted(asked.IDTokenHint)
		if err != nil || iss != c.cfg.Issuer {
			return false, &Untrusted{Reason: "id_token_hint cannot be compared"}
		}
		want = sub
	case !c.cfg.Bind || asked.LoginHint == "": // a login_hint_token is the provider's to read
		return false, nil
	}
	if got == nil {
		return false, &Untrusted{Reason: "sub does not name what was asked for"}
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(*got)) != 1 {
		return false, &Untrusted{Mismatch: true, Reason: "token is another person's"}
	}
	return true, nil
}

// known is nil for what the token does not say.
func known[T comparable](v T) *T {
	var none T
	if v == none {
		return nil
	}
	return &v
}
