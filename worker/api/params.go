package api

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"stepup/worker"
)

// createBody is the body of POST /v1/step-ups. What a hint may look like is the provider's profile's business, not ours.
type createBody struct {
	Provider        string            `json:"provider"`
	Scope           string            `json:"scope"`
	LoginHint       string            `json:"login_hint"`
	LoginHintToken  string            `json:"login_hint_token"`
	IDTokenHint     string            `json:"id_token_hint"`
	BindingMessage  string            `json:"binding_message"`
	ACRValues       string            `json:"acr_values"`
	UserCode        string            `json:"user_code"`
	RequestedExpiry *int              `json:"requested_expiry"` // seconds
	Reference       string            `json:"reference"`
	Metadata        map[string]string `json:"metadata"`
}

// request makes the worker's request of a create call.
func request(c *call[createBody]) (worker.Request, error) {
	key, err := idempotencyKey(c.header)
	if err != nil {
		return worker.Request{}, err
	}
	b := c.body
	if faults := b.check(); len(faults) > 0 {
		return worker.Request{}, invalid(faults)
	}
	ask := worker.Question{Scope: b.Scope, LoginHint: b.LoginHint, LoginHintToken: b.LoginHintToken, IDTokenHint: b.IDTokenHint,
		BindingMessage: b.BindingMessage, ACRValues: b.ACRValues, UserCode: b.UserCode}
	if ask.Scope == "" {
		ask.Scope = "openid"
	}
	if b.RequestedExpiry != nil {
		ask.RequestedExpiry = *b.RequestedExpiry
	}
	return worker.Request{Caller: c.caller, IdempotencyKey: key, Provider: b.Provider, Question: ask, Reference: b.Reference, Metadata: b.Metadata}, nil
}

// idempotencyKey wants exactly one key of 1–255 printable ASCII characters.
func idempotencyKey(h http.Header) (string, error) {
	v := h.Values("Idempotency-Key")
	if len(v) != 1 || len(v[0]) < 1 || len(v[0]) > 255 || strings.ContainsFunc(v[0], func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", refuse("invalid_request", "Send one Idempotency-Key of 1 to 255 printable ASCII characters.",
			worker.FieldError{Field: "Idempotency-Key", Message: "must be one header of 1 to 255 printable ASCII characters"})
	}
	return v[0], nil
}

// check judges what every profile has in common; the limits without a source in CONTRACT.md are ours.
func (b createBody) check() []worker.FieldError {
	var faults []worker.FieldError
	if b.Provider == "" {
		faults = append(faults, worker.FieldError{Field: "provider", Message: "is required"})
	}
	for _, m := range []struct {
		name, value string
		most        int
	}{
		{"scope", b.Scope, 1024}, {"login_hint", b.LoginHint, 1024}, {"login_hint_token", b.LoginHintToken, 8192},
		{"id_token_hint", b.IDTokenHint, 8192}, {"binding_message", b.BindingMessage, 256}, {"acr_values", b.ACRValues, 1024},
		{"user_code", b.UserCode, 256}, {"reference", b.Reference, 128},
	} {
		if utf8.RuneCountInString(m.value) > m.most {
			faults = append(faults, worker.FieldError{Field: m.name, Message: fmt.Sprintf("must have at most %d characters", m.most)})
		}
	}
	if e := b.RequestedExpiry; e != nil && (*e < 1 || *e > 3600) { // CIBA §7.1: positive; longer lives are not polled
		faults = append(faults, worker.FieldError{Field: "requested_expiry", Message: "must be 1 to 3600 seconds"})
	}
	size := 0
	for k, v := range b.Metadata {
		size += len(k) + len(v)
	}
	if len(b.Metadata) > 16 || size > 2<<10 {
		faults = append(faults, worker.FieldError{Field: "metadata", Message: "must have at most 16 keys and 2 KiB of keys and values"})
	}
	return faults
}

// parseQuery refuses parameters that the route does not know, and doubles.
func parseQuery(raw string, known []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse("invalid_request", "The query cannot be read.")
	}
	var faults []worker.FieldError
	for name, values := range q {
		switch {
		case !slices.Contains(known, name):
			faults = append(faults, worker.FieldError{Field: join("", name), Message: "is not known"})
		case len(values) > 1:
			faults = append(faults, worker.FieldError{Field: name, Message: "must be given once"})
		case !utf8.ValidString(values[0]):
			faults = append(faults, worker.FieldError{Field: name, Message: "must be UTF-8"})
		}
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(a, b worker.FieldError) int { return strings.Compare(a.Field, b.Field) })
		return nil, invalid(faults[:min(len(faults), maxFaults)])
	}
	return q, nil
}

// waitShape is the form of ?wait that the document promises: whole seconds or milliseconds, at most a minute.
var waitShape = regexp.MustCompile(`^(([1-5]?[0-9]|60)s|([1-5]?[0-9]{1,4}|60000)ms)$`)

// parseWait reads ?wait=30s. No wait is 0.
func parseWait(q url.Values) (time.Duration, error) {
	if !q.Has("wait") {
		return 0, nil
	}
	if !waitShape.MatchString(q.Get("wait")) {
		return 0, invalid([]worker.FieldError{{Field: "wait", Message: "must be whole seconds or milliseconds such as 30s, at most 60s"}})
	}
	return time.ParseDuration(q.Get("wait"))
}

var statuses = []string{"pending", "approved", "denied", "expired", "cancelled", "failed", "unknown"}

// parseFilter reads the query of the list. The cursor's content is the worker's to judge.
func parseFilter(q url.Values) (worker.Filter, error) {
	f := worker.Filter{Status: q.Get("status"), Reference: q.Get("reference"), Limit: 20, Cursor: q.Get("cursor")}
	var faults []worker.FieldError
	if q.Has("status") && !slices.Contains(statuses, f.Status) {
		faults = append(faults, worker.FieldError{Field: "status", Message: "must be one of " + strings.Join(statuses, ", ")})
	}
	if n := utf8.RuneCountInString(f.Reference); n > 128 || n == 0 && q.Has("reference") {
		faults = append(faults, worker.FieldError{Field: "reference", Message: "must have 1 to 128 characters"})
	}
	if q.Has("limit") {
		var err error
		if f.Limit, err = strconv.Atoi(q.Get("limit")); err != nil || f.Limit < 1 || f.Limit > 100 || strconv.Itoa(f.Limit) != q.Get("limit") {
			faults = append(faults, worker.FieldError{Field: "limit", Message: "must be a whole number from 1 to 100"})
		}
	}
	if len(f.Cursor) > 512 || f.Cursor == "" && q.Has("cursor") {
		faults = append(faults, worker.FieldError{Field: "cursor", Message: "is not a cursor of this list"})
	}
	if len(faults) > 0 {
		return f, invalid(faults)
	}
	return f, nil
}
