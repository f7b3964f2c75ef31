// Package jose holds a client's private keys and judges what the provider signed: it makes client assertions,
// keeps the provider's published keys, and opens ID tokens.
//
// It trusts its configuration: which algorithms may be used, who the issuer is, who we are. It trusts nothing in a token
// until the signature over it has been checked with one of the provider's published keys; no key, algorithm or address is ever taken
// from a token. It does no I/O of its own: the caller hands in what fetches the key set.
// Whether a token answers the question that was asked is left to the caller.
package jose

import (
	"errors"
	"time"
)

// Algs are the algorithms an ID token may use, by their JOSE names. They come from the configuration, never from a token.
// A name this package does not know (none, HS256, dir, RSA1_5, PBES2 …) allows nothing.
type Algs struct {
	Signing       []string // ES256, ES384, ES512, PS256, RS256
	KeyManagement []string // ECDH-ES+A128KW, ECDH-ES+A192KW, ECDH-ES+A256KW, RSA-OAEP-256
	Content       []string // A128CBC-HS256, A192CBC-HS384, A256CBC-HS512, A128GCM, A192GCM, A256GCM
}

// Opener opens the ID tokens of one provider for one client. All members are set before the first Open and not changed after.
type Opener struct {
	Issuer    string  // must be set: what iss must be, byte for byte
	ClientID  string  // must be set: the only audience
	Encrypted bool    // true: only a JWS inside a JWE is accepted; false: only a bare JWS
	Algs      Algs    // what the headers may say
	Keys      *Keys   // must be set when Encrypted: our keys
	Set       *KeySet // must be set: the provider's keys
}

// Token is what an ID token said, after all of it held.
type Token struct {
	Subject   string
	ACR       string         // empty: the token names none
	AMR       []string       // nil: the token names none
	IssuedAt  time.Time      // UTC
	ExpiresAt time.Time      // UTC
	AuthTime  time.Time      // UTC; zero: the token names none
	Claims    map[string]any // all claims as they came; numbers are json.Number
	Signed    string         // the compact JWS: the evidence. The token itself, or what was inside the JWE
}

// ErrKeys says that the token's key is unknown or its signature does not hold, and that the key set in hand is older than the token:
// after a Refresh since the token was received, Open may judge again.
var ErrKeys = errors.New("jose: the key set in hand does not verify the token and is older than it")

// ErrTooSoon says that the key set was asked for less than 30 s ago, so it was not asked for again.
var ErrTooSoon = errors.New("jose: key set was fetched less than 30 s ago")

// Invalid is the verdict on a token that must not be accepted, now or later.
type Invalid struct {
	Reason string // one of a fixed set of short phrases; never anything out of the token
}

func (e *Invalid) Error() string { return "ID token refused: " + e.Reason }
