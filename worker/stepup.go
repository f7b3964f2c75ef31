package worker

import (
	"encoding/json"
	"time"

	"stepup/ciba"
)

// State is where a step-up stands. Asking is internal: the intent is on record
// and /bc-auth has not been answered yet; callers see it as pending.
type State string

// The states. All but Asking and Pending are final and never change.
const (
	Asking    State = "asking"
	Pending   State = "pending"
	Approved  State = "approved"
	Denied    State = "denied"    // the person said no
	Expired   State = "expired"   // nobody answered in time
	Cancelled State = "cancelled" // the caller took it back
	Failed    State = "failed"    // the reason says why
	Unknown   State = "unknown"   // an answer was lost: the person may have approved
)

// Final reports whether the state never changes again.
func (s State) Final() bool { return s != Asking && s != Pending && s != "" }

// seen is the state as callers see it.
func (s State) seen() State {
	if s == Asking {
		return Pending
	}
	return s
}

// answered reports whether the prompt is off the person's phone. Anything else
// may leave it there until it lapses by itself.
func (s State) answered() bool { return s == Approved || s == Denied || s == Expired }

// The reason codes that go with the final states.
const (
	DeniedByUser          = "denied_by_user"
	ExpiredCode           = "expired"
	CancelledCode         = "cancelled"
	TokenInvalid          = "token_invalid"
	TokenMismatch         = "token_mismatch"
	ProviderRejected      = "provider_rejected"
	ProviderMisconfigured = "provider_misconfigured"
	ResultLost            = "result_lost"
	InitiationUnknown     = "initiation_unknown"
)

var reasonText = map[string]string{
	DeniedByUser:          "The person refused.",
	ExpiredCode:           "The person did not answer in time.",
	CancelledCode:         "The caller cancelled. The prompt may still be on the person's phone.",
	TokenInvalid:          "The provider's answer did not verify.",
	TokenMismatch:         "The provider's answer belongs to another person or question.",
	ProviderRejected:      "The provider rejected the request.",
	ProviderMisconfigured: "The provider does not let this client use the flow.",
	ResultLost:            "The provider's answer was lost on the way. The person may have approved.",
	InitiationUnknown:     "Nobody knows whether the provider took the request. The person may have been asked.",
}

// Reason says why a final step-up is not approved.
type Reason struct {
	Code          string `json:"code"`
	Message       string `json:"message"`
	ProviderError string `json:"provider_error"` // the provider's OAuth code, `other` for one outside the specifications; null when it named none
	TraceID       string `json:"trace_id"`       // the provider's trace id, for its support desk; null when it named none
}

// MarshalJSON writes null for what the provider did not name.
func (r Reason) MarshalJSON() ([]byte, error) {
	named := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return json.Marshal(struct {
		Code          string  `json:"code"`
		Message       string  `json:"message"`
		ProviderError *string `json:"provider_error"`
		TraceID       *string `json:"trace_id"`
	}{r.Code, r.Message, named(r.ProviderError), named(r.TraceID)})
}

// StepUp is a step-up as callers see it, over the API and in webhooks.
type StepUp struct {
	Private
	ID              string            `json:"id"`
	Status          State             `json:"status"`
	Provider        string            `json:"provider"`
	Reference       *string           `json:"reference"`
	Metadata        map[string]string `json:"metadata"`
	CreatedAt       Time              `json:"created_at"`
	ExpiresAt       *Time             `json:"expires_at"`
	CompletedAt     *Time             `json:"completed_at"`
	Reason          *Reason           `json:"reason"`
	Identity        *ciba.Identity    `json:"identity"`
	ResultExpiresAt *Time             `json:"result_expires_at"`
	PurgedAt        *Time             `json:"identity_purged_at"`
	Encrypted       string            `json:"encrypted,omitempty"` // only in webhooks: the whole event, for the receiver alone
	Deliveries      []DeliveryView    `json:"deliveries,omitzero"` // not in webhooks
}

// Time is an instant in UTC with milliseconds, as callers see it.
type Time struct{ time.Time }

const timeLayout = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes RFC 3339 with milliseconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeLayout) + `"`), nil
}

// UnmarshalJSON reads RFC 3339.
func (t *Time) UnmarshalJSON(b []byte) error { return t.Time.UnmarshalJSON(b) }

// stamp is t as callers see it, nil for the zero time.
func stamp(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// record is the bookkeeping of one step-up. It holds nothing personal, so
// whoever reads Redis learns nothing of a person; what is personal lies sealed
// beside it.
type record struct {
	ID       string
	Caller   string
	Provider string

	// State is an index for scripts and lists. What a caller is told of a final
	// step-up is read from the sealed result while that exists.
	State  State
	Reason Reason

	Created   time.Time
	Expires   time.Time // by the provider's expires_in; zero while asking
	Completed time.Time
	Purged    time.Time

	// Owner and Gen are the fence: every write of an owner names both.
	Owner string
	Gen   int64

	Interval  time.Duration
	NotBefore time.Time // no poll before
	Ambiguous bool      // a request was sent and nobody knows whether the provider consumed it
	PendingAt time.Time // when the last poll was answered authorization_pending; zero when it was answered otherwise
	RawAt     time.Time // when the sealed success answer, not verified yet, arrived

	Tombstone  string     // the final state without the identity, sealed: what is told when the result is gone
	Member     string     // this push among its person's few
	Hooks      []string   // names of the webhooks that the step-up was created with
	Deliveries []Delivery // once it is final
	Trace      string     // the sampled trace that it was created in, see traceOf; else empty
	Acked      string     // acknowledgements that came while somebody sent, see acknowledgement
}

// shard is the key slot and poll queue the id names.
func (r *record) shard() int { n, _ := shardOf(r.ID); return n }

// face is what the caller gave to recognise the step-up by.
type face struct {
	Private
	Reference string            `json:"r,omitempty"`
	Metadata  map[string]string `json:"m,omitempty"`
}

// prompt is everything personal of a step-up that is not final: one sealed value,
// with an expiry of its own.
type prompt struct {
	face
	Question Question `json:"q"`
	ID       string   `json:"id,omitempty"`  // auth_req_id; empty while asking
	Raw      string   `json:"raw,omitempty"` // a success answer that cannot be verified yet
}

// result is what is told of a final step-up. It is stored sealed, so that an
// edit of the plain state in Redis can misreport nothing.
type result struct {
	Private
	State     State          `json:"state"`
	Reason    *Reason        `json:"reason,omitempty"`
	Identity  *ciba.Identity `json:"identity,omitempty"`
	Completed int64          `json:"completed"` // ms
	Until     int64          `json:"until"`     // ms; how long it can be fetched
}

// view is the step-up as callers see it.
func (r *record) view(f face, res *result) StepUp {
	v := StepUp{
		ID: r.ID, Status: r.State.seen(), Provider: r.Provider, Metadata: f.Metadata,
		CreatedAt: Time{r.Created}, ExpiresAt: stamp(r.Expires), PurgedAt: stamp(r.Purged),
	}
	if f.Reference != "" {
		v.Reference = &f.Reference
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if res != nil {
		v.Status, v.Reason, v.Identity = res.State, res.Reason, res.Identity
		v.CompletedAt = stamp(time.UnixMilli(res.Completed))
		v.ResultExpiresAt = stamp(time.UnixMilli(res.Until))
	}
	v.Deliveries = make([]DeliveryView, 0, max(len(r.Hooks), len(r.Deliveries)))
	if !r.State.Final() {
		for _, name := range r.Hooks {
			v.Deliveries = append(v.Deliveries, DeliveryView{Webhook: name, Status: DeliveryPending})
		}
	}
	for i := range r.Deliveries {
		v.Deliveries = append(v.Deliveries, r.Deliveries[i].view())
	}
	return v
}
