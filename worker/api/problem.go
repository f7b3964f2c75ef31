package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"stepup/worker"
)

// problem is RFC 9457 with our members code, errors and id.
type problem struct {
	Type   string              `json:"type"`
	Title  string              `json:"title"`
	Status int                 `json:"status"`
	Detail string              `json:"detail,omitempty"`
	Code   string              `json:"code"`
	Errors []worker.FieldError `json:"errors,omitempty"`
	ID     string              `json:"id,omitempty"` // of the step-up that it is about
}

// row is how one code is told. Retry is the least Retry-After, where the code always has one.
type row struct {
	status int
	title  string
	detail string // when the error has none
	retry  time.Duration
}

// table is every code there is.
var table = map[string]row{
	"invalid_request":    {400, "The request is not valid", "", 0},
	"unauthorized":       {401, "Unauthorized", "Send a valid API key as a bearer token.", 0},
	"not_found":          {404, "Not found", "There is nothing here for this caller.", 0},
	"method_not_allowed": {405, "Method not allowed", "The Allow header names the methods of this path.", 0},
	"already_final":      {409, "The step-up is already final", "", 0},
	"result_gone":        {409, "The result is gone", "", 0},
	"idempotency_in_progress": {409, "Still in progress",
		"The first request with this Idempotency-Key is still being answered. Repeat it with the same key.", time.Second},
	"too_large":              {413, "The body is too large", "A body may have 16 KiB.", 0},
	"unsupported_media_type": {415, "Unsupported media type", "Send the header Content-Type: application/json, and the body in UTF-8, not compressed.", 0},
	"idempotency_key_reused": {422, "The Idempotency-Key was used for another request", "", 0},
	"unknown_user":           {422, "The provider does not know this person", "", 0},
	"not_eligible":           {422, "This person may not be asked", "", 0},
	"provider_rejected":      {422, "The provider refused the request", "", 0},
	"rate_limited":           {429, "Too many requests", "", time.Second},
	"person_busy":            {429, "This person is being asked already", "", time.Second},
	"person_limited":         {429, "This person was asked too often", "", time.Second},
	"internal":               {500, "Internal error", "The operators find it in the log under the X-Request-Id.", 0},
	"provider_error":         {502, "The provider does not accept us", "", 0},
	"initiation_unknown": {502, "A push may have been sent",
		"The provider's answer was lost. Do not repeat the request before the person was asked whether a prompt arrived.", 0},
	"provider_unavailable": {503, "The provider is not available", "Nothing was sent.", time.Second},
	"storage_unavailable":  {503, "Storage is not available", "", time.Second},
	"overloaded":           {503, "Too many step-ups are in flight", "Nothing was sent.", time.Second},
	"paused":               {503, "Step-ups are paused", "Nothing was sent.", time.Second},
	"draining":             {503, "This instance is shutting down", "Nothing was sent.", time.Second},
}

// fail answers with the error's row, or with 500 and the whole error in the log.
func (x *exchange) fail(err error) {
	e, ok := errors.AsType[*worker.Error](err)
	if ok {
		_, ok = table[e.Code]
	}
	switch {
	case !ok:
		x.err = err
		e = &worker.Error{Code: "internal"}
	case err != error(e): // a cause around the refusal: for the log
		x.err = err
	}
	if e.Code == "not_found" { // one answer, whatever is known of the id
		e = &worker.Error{Code: e.Code}
	}
	r := table[e.Code]
	x.code = e.Code
	x.stepUp = cmp.Or(e.ID, x.stepUp)
	p := problem{Type: "urn:stepup:problem:" + e.Code, Title: r.title, Status: r.status, Detail: cmp.Or(e.Detail, r.detail), Code: e.Code, Errors: e.Fields, ID: e.ID}
	if after := retryAfter(e, r); after > 0 {
		x.Header().Set("Retry-After", strconv.Itoa(after))
	}
	if r.status == http.StatusUnauthorized {
		x.Header().Set("WWW-Authenticate", "Bearer")
	}
	raw, _ := json.Marshal(p) // strings and numbers: cannot fail
	x.write(r.status, "application/problem+json", append(raw, '\n'))
}

// retryAfter is in whole seconds, rounded up: a wait is never undercut.
func retryAfter(e *worker.Error, r row) int {
	after := max(e.RetryAfter, r.retry)
	if e.Code == "idempotency_in_progress" {
		after = r.retry
	}
	return int((after + time.Second - 1) / time.Second)
}
