// Package apitest holds requests, answers and webhooks against the API's document, by a validator that nobody here wrote.
// It is for tests: what goes through it cannot drift from the document.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"stepup/worker/api"
)

// Document is the API's document, which is valid OpenAPI, its examples included.
var Document = sync.OnceValue(func() *openapi3.T {
	doc, err := openapi3.NewLoader().LoadFromData([]byte(api.OpenAPI()))
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		panic("the document is not valid: " + err.Error())
	}
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	return doc
})

// CheckAnswer says what in the answer to a request is not as the document has it.
func CheckAnswer(r *http.Request, status int, header http.Header, body []byte) error {
	in := input(r)
	if in.Route.Operation == nil { // no such path or method: any path may answer so
		general := Document().Components.Responses
		in.Route.Operation = &openapi3.Operation{Responses: &openapi3.Responses{}}
		in.Route.Operation.Responses.Set("404", general["NotFound"])
		in.Route.Operation.Responses.Set("405", general["MethodNotAllowed"])
	}
	if r.Method == http.MethodHead || status == http.StatusNotModified {
		return checkBodiless(in, status, header, body)
	}
	told := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: header, Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	return openapi3filter.ValidateResponse(context.Background(), told.SetBodyBytes(body))
}

// checkBodiless judges what the validator leaves out.
func checkBodiless(in *openapi3filter.RequestValidationInput, status int, header http.Header, body []byte) error {
	documented := in.Route.Operation.Responses.Status(status)
	if documented == nil {
		return fmt.Errorf("status %d is not in the document", status)
	}
	for name, h := range documented.Value.Headers {
		if h.Value.Required && header.Get(name) == "" {
			return fmt.Errorf("%d without %s", status, name)
		}
	}
	if len(body) > 0 && in.Request.Method != http.MethodHead { // a recorder keeps what net/http would not send to HEAD
		return fmt.Errorf("%d with a body", status)
	}
	return nil
}

// CheckRequest says what in a request is not as the document has it.
func CheckRequest(r *http.Request, body []byte) error {
	in := input(r.Clone(context.Background()))
	if in.Route.Operation == nil {
		return errors.New("no such path or method in the document")
	}
	in.Request.Body, in.Request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return openapi3filter.ValidateRequest(context.Background(), in)
}

// CheckWebhook says what in a webhook's POST is not as the document has it.
func CheckWebhook(header http.Header, body []byte) error {
	var event struct{ Type string }
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	item := Document().Webhooks[event.Type]
	if item == nil {
		return errors.New("no such webhook in the document")
	}
	r, err := http.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = header
	in := input(r)
	in.Route.Path, in.Route.PathItem, in.Route.Operation = "/", item, item.Post
	return openapi3filter.ValidateRequest(context.Background(), in)
}

// input is the validator's of a request. The operation is nil where the document has none.
func input(r *http.Request) *openapi3filter.RequestValidationInput {
	doc := Document()
	in := &openapi3filter.RequestValidationInput{
		Request: r, Route: &routers.Route{Spec: doc, Method: r.Method},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	for path, item := range doc.Paths.Map() {
		if params, ok := match(path, r.URL.EscapedPath()); ok {
			in.Route.Path, in.Route.PathItem, in.PathParams = path, item, params
			in.Route.Operation = item.Operations()[r.Method]
		}
	}
	return in
}

// match compares a path with one of the document.
func match(template, path string) (params map[string]string, ok bool) {
	params = map[string]string{}
	return params, slices.EqualFunc(strings.Split(template, "/"), strings.Split(path, "/"), func(want, have string) bool {
		name, is := strings.CutPrefix(want, "{")
		if is {
			params[strings.TrimSuffix(name, "}")] = have
		}
		return want == have || is && have != ""
	})
}
