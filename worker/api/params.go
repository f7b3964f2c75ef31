package api

import (
	"fmt"
	"maps"
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
	if bad := b.check(); len(bad) > 0 {
		return worker.Request{}, invalid(bad)
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
func (b createBody) check() (bad faults) {
	if b.Provider == "" {
		bad.add("provider", "is required")
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
			bad.add(m.name, fmt.Sprintf("must have at most %d characters", m.most))
		}
	}
	if e := b.RequestedExpiry; e != nil && (*e < 1 || *e > 3600) { // CIBA §7.1: positive; longer lives are not polled
		bad.add("requested_expiry", "must be 1 to 3600 seconds")
	}
	size := 0
	for k, v := range b.Metadata {
		size += len(k) + len(v)
	}
	if len(b.Metadata) > 16 || size > 2<<10 {
		bad.add("metadata", "must have at most 16 keys and 2 KiB of keys and values")
	}
	return bad
}

// parseQuery refuses parameters that the route does not know, and doubles.
func parseQuery(raw string, known []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse("invalid_request", "The query cannot be read.")
	}
	var bad faults
	for _, name := range slices.Sorted(maps.Keys(q)) {
		switch values := q[name]; {
		case !slices.Contains(known, name):
			bad.add(join("", name), "is not known")
		case len(values) > 1:
			bad.add(name, "must be given once")
		case !utf8.ValidString(values[0]):
			bad.add(name, "must be UTF-8")
		}
	}
	if len(bad) > 0 {
		return nil, invalid(bad)
	}
	return q, nil
}

// waitShape is the form of ?wait that the document promises: whole seconds or milliseconds, at most a minute.
var waitShape = regexp.MustCompile(`^(([1-5]?[0-9]|60)s|([1-5]?[0-9]{1,4}|60000)ms)$`)

// wait reads ?wait=30s. No wait is 0.
func (f *faults) wait(q url.Values) time.Duration {
	if !q.Has("wait") {
		return 0
	}
	d, err := time.ParseDuration(q.Get("wait"))
	if err != nil || !waitShape.MatchString(q.Get("wait")) {
		f.add("wait", "must be whole seconds or milliseconds such as 30s, at most 60s")
	}
	return d
}

// limit reads ?limit=10; usual is the limit of who names none.
func (f *faults) limit(q url.Values, usual int) int {
	if !q.Has("limit") {
		return usual
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 || n > 100 || strconv.Itoa(n) != q.Get("limit") {
		f.add("limit", "must be a whole number from 1 to 100")
	}
	return n
}

// cursor judges the form of one that is given. Its content is the worker's to judge.
func (f *faults) cursor(name, value string, most int) string {
	if value == "" || utf8.RuneCountInString(value) > most {
		f.add(name, "is not a cursor of this list")
	}
	return value
}

// webhook judges the form of a webhook's name that is given. Whether there is one is the worker's to judge.
func (f *faults) webhook(name string) string {
	if n := utf8.RuneCountInString(name); n < 1 || n > 63 {
		f.add("webhook", "must have 1 to 63 characters")
	}
	return name
}

var statuses = []string{"pending", "approved", "denied", "expired", "cancelled", "failed", "unknown"}

// parseFilter reads the query of the list of step-ups.
func parseFilter(q url.Values) (worker.Filter, error) {
	var bad faults
	f := worker.Filter{Status: q.Get("status"), Reference: q.Get("reference"), Limit: bad.limit(q, 20)}
	if q.Has("status") && !slices.Contains(statuses, f.Status) {
		bad.add("status", "must be one of "+strings.Join(statuses, ", "))
	}
	if n := utf8.RuneCountInString(f.Reference); n > 128 || n == 0 && q.Has("reference") {
		bad.add("reference", "must have 1 to 128 characters")
	}
	if q.Has("cursor") {
		f.Cursor = bad.cursor("cursor", q.Get("cursor"), 512)
	}
	if len(bad) > 0 {
		return f, invalid(bad)
	}
	return f, nil
}
