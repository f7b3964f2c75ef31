package cibatest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Kind is one way to answer a request.
type Kind int

// The kinds. At /bc-auth only Accept (the zero Kind), Fail, SlowDown, Unavailable, HTML, Redirect, Cut and Raw make sense.
const (
	Pending      Kind = iota // authorization_pending, held for Config.Hold; if the person has answered, their answer instead
	Approve                  // tokens, once
	Deny                     // access_denied, once
	Expire                   // the auth_req_id expires now: expired_token, from here on
	SlowDown                 // slow_down; the interval grows by 5 s (CIBA Core §11)
	Fail                     // JSON error Step.Code with Step.Status; default SERVER_SIDE_ERROR with 500
	Unavailable              // 503 with Retry-After (Step.RetryAfter, default 2)
	HTML                     // an HTML page with Step.Status, default 403, as a gateway in front would
	Redirect                 // Step.Status (default 307) to Step.Location
	Cut                      // the request is read, then the connection is cut; at /bc-auth the push has been sent
	Lost                     // tokens are consumed, the connection is cut; then invalid_grant
	Truncated                // tokens are consumed, half of the answer is sent, the connection is cut; then invalid_grant
	OtherPerson              // a valid token of somebody else
	UnknownKey               // a token signed by a key that is not published
	BadSignature             // a token whose key id is published but whose signature is another key's
	Replay                   // the last token that was handed out to anybody, again
	Raw                      // Step.Do answers
)

// Accept is the zero Kind at /bc-auth: the request is accepted.
const Accept = Pending

var kindNames = [...]string{"authorization_pending", "tokens", "access_denied", "expired_token", "slow_down", "error", "unavailable",
	"html", "redirect", "cut", "tokens_lost", "tokens_truncated", "tokens_other_person", "tokens_unknown_key", "tokens_bad_signature",
	"tokens_replayed", "raw"}

// String names the answer as the ledger does.
func (k Kind) String() string { return kindNames[k] }

func (k Kind) givesTokens() bool {
	switch k {
	case Approve, Lost, Truncated, OtherPerson, UnknownKey, BadSignature, Replay:
		return true
	}
	return false
}

// Step is one answer, given Times times (0: once).
type Step struct {
	Kind       Kind
	Times      int
	Status     int    // Fail, HTML, Redirect
	Code       string // Fail: the `error`
	RetryAfter int    // Unavailable, Fail: seconds
	Location   string // Redirect
	// Claims, if set, edits an ID token's claims before they are signed.
	Claims func(map[string]any)
	// Do answers a Raw step. The answer counts as given when Do returns, so it should not flush its last byte long before.
	Do http.HandlerFunc
}

// Script is what happens to one step-up. The zero Script accepts it and waits for the person.
type Script struct {
	Auth  Step           // the answer of /bc-auth
	Ack   map[string]any // members that replace or join those of an accepting answer; nil removes one, an int `interval` is kept to
	Polls []Step         // the answers of /token in order; when they are used up: pending until the person has answered
	// Decision (Approve or Deny) comes by itself After the push, if set.
	Decision Kind
	After    time.Duration
	// ExpiresIn replaces Config.ExpiresIn.
	ExpiresIn time.Duration
}

// ends tells whether the script comes to a final answer without the person.
func (sc Script) ends() bool {
	return sc.Decision != Pending || slices.ContainsFunc(sc.Polls, func(step Step) bool {
		return step.Kind == Deny || step.Kind == Expire || step.Kind.givesTokens()
	})
}

// ScriptOf reads a UUID hint that scripts itself: 000000CC-NNNN-4000-8000-xxxxxxxxxxxx, all lower-case hex, N is a count.
//
//	01 tokens after N pending answers            09 tokens consumed and the answer lost, after N pending
//	02 access_denied after N pending             0a another person's token
//	03 nobody answers; expires in N s (0: usual) 0b unknown_user_id at /bc-auth
//	04 slow_down N times, then tokens            0c access_denied at /bc-auth
//	05 500 N times, then tokens                  0d invalid_client at /bc-auth
//	06 503 with Retry-After 2 N times, then …    0e /bc-auth pushes, then cuts the connection
//	07 HTML N times, then tokens                 0f a token signed by an unknown key
//	08 connection cut N times, then tokens       10 approved, 11 refused: N seconds after the push
func ScriptOf(hint string) (Script, bool) {
	if !isUUID(hint) || hint[:6] != "000000" || hint[13:24] != "-4000-8000-" {
		return Script{}, false
	}
	code, _ := strconv.ParseUint(hint[6:8], 16, 8) // isUUID: it is hex
	n64, _ := strconv.ParseUint(hint[9:13], 16, 16)
	n := int(n64)
	times := func(k Kind, then Kind) Script {
		if n == 0 {
			return Script{Polls: []Step{{Kind: then}}}
		}
		return Script{Polls: []Step{{Kind: k, Times: n}, {Kind: then}}}
	}
	switch code {
	case 0x01:
		return times(Pending, Approve), true
	case 0x02:
		return times(Pending, Deny), true
	case 0x03:
		return Script{ExpiresIn: time.Duration(n) * time.Second}, true
	case 0x04:
		return times(SlowDown, Approve), true
	case 0x05:
		return times(Fail, Approve), true
	case 0x06:
		return times(Unavailable, Approve), true
	case 0x07:
		return times(HTML, Approve), true
	case 0x08:
		return times(Cut, Approve), true
	case 0x09:
		return times(Pending, Lost), true
	case 0x0a:
		return times(Pending, OtherPerson), true
	case 0x0b:
		return Script{Auth: Step{Kind: Fail, Code: "unknown_user_id", Status: 400}}, true
	case 0x0c:
		return Script{Auth: Step{Kind: Fail, Code: "access_denied", Status: 403}}, true
	case 0x0d:
		return Script{Auth: Step{Kind: Fail, Code: "invalid_client", Status: 401}}, true
	case 0x0e:
		return Script{Auth: Step{Kind: Cut}}, true
	case 0x0f:
		return times(Pending, UnknownKey), true
	case 0x10:
		return Script{Decision: Approve, After: time.Duration(n) * time.Second}, true
	case 0x11:
		return Script{Decision: Deny, After: time.Duration(n) * time.Second}, true
	}
	return Script{}, false
}

// HintFor writes the hint that [ScriptOf] reads. serial tells people apart.
func HintFor(code uint8, n uint16, serial uint64) string {
	return fmt.Sprintf("000000%02x-%04x-4000-8000-%012x", code, n, serial&0xffff_ffff_ffff)
}
