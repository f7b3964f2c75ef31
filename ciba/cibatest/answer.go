package cibatest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
)

// answer is what goes back for one request.
type answer struct {
	kind        Kind
	name        string // in the ledger
	status      int
	code        string // the error's `error`; empty: body is sent
	description string
	body        []byte
	retryAfter  int // seconds
	location    string
	do          http.HandlerFunc
	final       bool
	gone        bool // the client hung up, there is nobody to answer
}

// orderly answers leave the client no freedom about when to poll next.
func (a answer) orderly() bool { return a.kind == Pending || a.kind == SlowDown }

// failure is an OAuth error.
func failure(status int, code, description string) answer {
	return answer{kind: Fail, name: code, status: status, code: code, description: description}
}

// answerFor renders a step that gives no tokens.
func answerFor(step Step) answer {
	a := answer{kind: step.Kind, name: step.Kind.String(), status: http.StatusBadRequest, code: step.Kind.String(), retryAfter: step.RetryAfter}
	switch step.Kind {
	case Fail:
		a.status = step.Status
		if a.status == 0 {
			a.status = http.StatusInternalServerError
			if step.Code != "" {
				a.status = http.StatusBadRequest
			}
		}
		a.code = cmp.Or(step.Code, "SERVER_SIDE_ERROR")
		a.name = a.code
	case Unavailable:
		a.status, a.code, a.retryAfter = http.StatusServiceUnavailable, "SERVER_SIDE_ERROR", cmp.Or(step.RetryAfter, 2)
	case HTML:
		a.status, a.code = cmp.Or(step.Status, http.StatusForbidden), ""
		a.body = []byte("<!DOCTYPE html><title>Request rejected</title><h1>Request rejected</h1>")
	case Redirect:
		a.status, a.code, a.location = cmp.Or(step.Status, http.StatusTemporaryRedirect), "", step.Location
	case Raw:
		a.do = step.Do
	}
	return a
}

// write sends the answer, or cuts the connection.
func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	switch {
	case a.gone:
		return
	case a.kind == Cut || a.kind == Lost:
		panic(http.ErrAbortHandler) // net/http closes the connection without an answer
	case a.kind == Raw && a.do != nil:
		a.do(w, r)
		return
	case a.kind == HTML:
		h.Set("Content-Type", "text/html; charset=utf-8")
	default:
		h.Set("Content-Type", "application/json")
	}
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(a.retryAfter))
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	body := a.body
	if a.code != "" {
		body = errorBody(a.code, a.description)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(a.status)
	if a.kind == Truncated {
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// errorBody is Singpass's: id and trace_id find the error in the provider's logs.
func errorBody(code, description string) []byte {
	b, _ := json.Marshal(struct {
		ID          string `json:"id"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
		TraceID     string `json:"trace_id"`
	}{randomUUID(), code, cmp.Or(description, "simulated: "+code), fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64())})
	return b
}

// randomUUID is for ids that nobody must be unable to guess.
func randomUUID() string { return uuidFrom(rand.Uint64(), rand.Uint64()) }

// readForm reads a request as Singpass documents it: everything in an urlencoded body, nothing twice, no Authorization header.
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, *answer) {
	bad := func(status int, text string) (url.Values, *answer) {
		a := failure(status, "invalid_request", text)
		return nil, &a
	}
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return bad(http.StatusBadRequest, "the body must be application/x-www-form-urlencoded")
	}
	if r.Header.Get("Authorization") != "" {
		return bad(http.StatusBadRequest, "client authentication belongs in the body")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return bad(http.StatusBadRequest, "the body cannot be read or is too long")
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return bad(http.StatusBadRequest, "the body is not a form")
	}
	for _, values := range form {
		if len(values) > 1 { // RFC 6749 §3.2
			return bad(http.StatusBadRequest, "a parameter is given twice")
		}
	}
	return form, nil
}
