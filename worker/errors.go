package worker

import (
	"time"
)

// Error is a refusal that a caller is told of. Code is one of the problem codes
// of the API; anything that is not an Error is an internal fault.
type Error struct {
	Code       string
	Detail     string        // for people; nothing personal
	Fields     []FieldError  // with invalid_request
	RetryAfter time.Duration // 0: says nothing
	ID         string        // the step-up, where one exists
}

// The problem codes that the worker gives.
const (
	CodeInvalidRequest      = "invalid_request"
	CodeNotFound            = "not_found"
	CodeAlreadyFinal        = "already_final"
	CodeResultGone          = "result_gone"
	CodeInProgress          = "idempotency_in_progress"
	CodeKeyReused           = "idempotency_key_reused"
	CodeUnknownUser         = "unknown_user"
	CodeNotEligible         = "not_eligible"
	CodeProviderRejected    = "provider_rejected"
	CodeRateLimited         = "rate_limited"
	CodePersonBusy          = "person_busy"
	CodePersonLimited       = "person_limited"
	CodeProviderError       = "provider_error"
	CodeInitiationUnknown   = "initiation_unknown"
	CodeProviderUnavailable = "provider_unavailable"
	CodeStorageUnavailable  = "storage_unavailable"
	CodeOverloaded          = "overloaded"
	CodePaused              = "paused"
	CodeDraining            = "draining"
)

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Code
	}
	return e.Code + ": " + e.Detail
}

// storageDown is what a caller is told while Redis does not answer. The cause
// goes to the log, not to strangers.
func storageDown() *Error {
	return &Error{Code: CodeStorageUnavailable, Detail: "The store does not answer. Nothing is lost; try again.", RetryAfter: time.Second}
}

// draining is what a caller is told by a process on its way out.
func draining() *Error {
	return &Error{Code: CodeDraining, Detail: "This process is stopping. Nothing was sent; try again.", RetryAfter: time.Second}
}

// wrongField is what a caller is told of a request with one mistake.
func wrongField(field, message string) *Error {
	return &Error{Code: CodeInvalidRequest, Detail: "The request has mistakes.", Fields: []FieldError{{Field: field, Message: message}}}
}
