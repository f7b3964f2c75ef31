package jose

import (
	"crypto/sha256"
	"strings"
	"time"
)

// maxToken is the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// Open judges an ID token with the keys in hand; it never does I/O. Received is when the answer that held it arrived, notBefore the earliest iat that
// can belong to the question, now the time to judge at. The provider's clock may be off by 60 s either way.
//
// ErrKeys: the token's key is unknown or its signature does not hold, and the key set in hand was fetched before the token was received;
// the caller may Refresh since `received` and Open again. Any other error is *Invalid and final. Nothing is returned unless all of it held.
func (o *Opener) Open(token string, received, notBefore, now time.Time) (Token, error) {
	if len(token) > maxToken {
		return Token{}, refuse("larger than 16 KiB")
	}
	signed := token
	switch parts := strings.Count(token, ".") + 1; {
	case parts == 5 && o.Encrypted:
		var err error
		if signed, err = o.decrypt(token); err != nil {
			return Token{}, err
		}
	case parts == 5:
		return Token{}, refuse("encrypted, but configured as signed only")
	case parts != 3:
		return Token{}, refuse(malformedToken)
	case o.Encrypted:
		return Token{}, refuse("not encrypted")
	}
	payload, err := o.verify(signed, received)
	if err != nil {
		return Token{}, err
	}
	t, err := o.judge(payload, notBefore, now)
	if err != nil {
		return Token{}, err
	}
	t.Signed = signed
	return t, nil
}

// Fingerprint tells one ID token from another, however it is wrapped: the SHA-256 of what the provider signed. Compare this, not the
// token's bytes, to see whether a token was there before: anybody can encrypt the same JWS to us again, and every ECDSA signature has a
// second form that verifies (s and n − s).
func (t Token) Fingerprint() [sha256.Size]byte {
	return sha256.Sum256([]byte(t.Signed[:max(0, strings.LastIndexByte(t.Signed, '.'))]))
}
