package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
	"stepup/worker/api/apitest"
)

// checked is a bank's handler under the document's eye. Every answer must be as the document says, every request that is
// accepted too; and what the document lets pass and we refuse must be among the rules that it cannot state.
func (b *bank) checked(t *testing.T, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		if r.Body != nil {
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.TeeReader(r.Body, &body), r.Body}
		}
		told := &told{ResponseWriter: w}
		h.ServeHTTP(told, r)
		if told.status == 0 { // the client went away
			return
		}
		what := fmt.Sprintf("%s %.80s: %d", r.Method, r.URL, told.status)
		if err := apitest.CheckAnswer(r, told.status, told.header, told.body.Bytes()); err != nil {
			t.Errorf("%s: the answer is not as documented: %.500v", what, err)
		}
		switch {
		case told.status < 400:
			if err := apitest.CheckRequest(r, body.Bytes()); err != nil {
				t.Errorf("%s: accepted against the document: %.500v", what, err)
			}
		case told.status == 400 && b.service.err == nil && apitest.CheckRequest(r, body.Bytes()) == nil:
			for _, message := range complaints(told.body.Bytes()) {
				if !slices.Contains(undocumented, message) {
					t.Errorf("%s: the document lets it pass, yet it is refused: %s", what, message)
				}
			}
		}
	})
}

// undocumented are the refusals of requests that no schema can tell from good ones.
var undocumented = []string{
	"must be given once", // a member or a parameter that comes twice
	"is not known",       // a parameter that the document does not have
	"must be Unicode text",
	"must be UTF-8",                               // a parameter
	"must be a whole number",                      // 60.0
	"must be a whole number from 1 to 100",        // +7 and 07
	"must be a time such as 2026-11-21T02:03:04Z", // 30 February
	"must be before until, which is now when it is left out",
	"must have at most 16 keys and 2 KiB of keys and values", // together
	"must be one header of 1 to 255 printable ASCII characters",
	"The body is not UTF-8.",
	"The body is not one JSON object.", // and then something else
	"The query cannot be read.",        // a;b
}

// complaints are the messages of a problem, its detail where it has none.
func complaints(body []byte) []string {
	var p problem
	json.Unmarshal(body, &p)
	if len(p.Errors) == 0 {
		return []string{p.Detail}
	}
	var all []string
	for _, e := range p.Errors {
		all = append(all, e.Message)
	}
	return all
}

// told keeps what is answered.
type told struct {
	http.ResponseWriter
	status int
	header http.Header
	body   bytes.Buffer
}

func (w *told) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *told) WriteHeader(status int) {
	w.status, w.header = status, w.Header().Clone()
	w.ResponseWriter.WriteHeader(status)
}

func (w *told) Write(b []byte) (int, error) {
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

// The document has the paths of the service and the methods of each, and no others.
func TestDocumentHasEveryRoute(t *testing.T) {
	documented := map[string][]string{}
	for path, item := range apitest.Document().Paths.Map() {
		documented[path] = slices.Sorted(maps.Keys(item.Operations()))
	}
	served := api.Routes(newBank(t).Server)
	for _, methods := range served {
		slices.Sort(methods)
	}
	if !reflect.DeepEqual(documented, served) {
		t.Errorf("documented %v\nserved %v", documented, served)
	}
}

// workerTells are the codes that the worker answers a route with. The edge adds what it judges itself.
var workerTells = map[string][]string{
	"createStepUp": {worker.CodeInvalidRequest, worker.CodeInProgress, worker.CodeKeyReused, worker.CodeUnknownUser, worker.CodeNotEligible,
		worker.CodeProviderRejected, worker.CodeRateLimited, worker.CodePersonBusy, worker.CodePersonLimited, worker.CodeProviderError,
		worker.CodeInitiationUnknown, worker.CodeProviderUnavailable, worker.CodeStorageUnavailable, worker.CodeOverloaded, worker.CodePaused,
		worker.CodeDraining},
	"listStepUps":     {worker.CodeInvalidRequest, worker.CodeNotFound, worker.CodeStorageUnavailable},
	"getStepUp":       {worker.CodeNotFound, worker.CodeStorageUnavailable},
	"cancelStepUp":    {worker.CodeNotFound, worker.CodeAlreadyFinal, worker.CodeInProgress, worker.CodeStorageUnavailable, worker.CodeDraining},
	"redeliverStepUp": {worker.CodeNotFound, worker.CodeResultGone, worker.CodeInProgress, worker.CodeStorageUnavailable},

	"redeliverStepUps":  {worker.CodeInvalidRequest, worker.CodeNotFound, worker.CodeStorageUnavailable},
	"listAttempts":      {worker.CodeNotFound, worker.CodeStorageUnavailable},
	"listEvents":        {worker.CodeInvalidRequest, worker.CodeNotFound, worker.CodeStorageUnavailable},
	"acknowledgeEvents": {worker.CodeStorageUnavailable, worker.CodeDraining},
}

var edgeTells = map[string][]string{
	"createStepUp":    {"unauthorized", "invalid_request", "too_large", "unsupported_media_type", "internal"},
	"listStepUps":     {"unauthorized", "invalid_request", "internal"},
	"getStepUp":       {"unauthorized", "invalid_request", "not_found", "rate_limited", "internal"},
	"cancelStepUp":    {"unauthorized", "invalid_request", "not_found", "too_large", "unsupported_media_type", "internal"},
	"redeliverStepUp": {"unauthorized", "invalid_request", "not_found", "too_large", "unsupported_media_type", "internal"},
	"getProviderKeys": {"not_found", "internal"},
	"getKeys":         {"not_found", "internal"},
	"getWebhookKeys":  {"internal"},

	"redeliverStepUps":  {"unauthorized", "invalid_request", "too_large", "unsupported_media_type", "internal"},
	"listAttempts":      {"unauthorized", "invalid_request", "not_found", "internal"},
	"listEvents":        {"unauthorized", "invalid_request", "rate_limited", "internal"},
	"acknowledgeEvents": {"unauthorized", "invalid_request", "too_large", "unsupported_media_type", "internal"},
}

// Each operation documents exactly the codes that it can answer with, each under its status and with an example in the
// table's words, and a Retry-After where there is one.
func TestDocumentHasEveryProblem(t *testing.T) {
	table := api.Problems()
	documented := map[string]bool{"method_not_allowed": true} // of no operation: it is the answer to what is none
	for _, item := range apitest.Document().Paths.Map() {
		for _, op := range item.Operations() {
			var codes []string
			for status, r := range op.Responses.Map() {
				media := r.Value.Content.Get("application/problem+json")
				if media == nil {
					continue
				}
				said := codesOf(media)
				codes = append(codes, said...)
				retries := 0
				for _, code := range said {
					documented[code] = true
					row := table[code]
					if row.Retry {
						retries++
					}
					if fmt.Sprint(row.Status) != status || media.Schema.Value.AllOf[1].Value.Properties["status"].Value.Const != float64(row.Status) {
						t.Errorf("%s documents %s under %s, the table has %d", op.OperationID, code, status, row.Status)
					}
					checkExample(t, op.OperationID, code, row, media)
				}
				after := r.Value.Headers["Retry-After"]
				if (after != nil) != (retries > 0) || after != nil && after.Value.Required != (retries == len(said)) {
					t.Errorf("%s %s: %d of %v always have a Retry-After; the document says otherwise", op.OperationID, status, retries, said)
				}
			}
			want := slices.Concat(workerTells[op.OperationID], edgeTells[op.OperationID])
			slices.Sort(want)
			slices.Sort(codes)
			if want = slices.Compact(want); !slices.Equal(codes, want) {
				t.Errorf("%s documents %v, and can answer %v", op.OperationID, codes, want)
			}
		}
	}
	code := apitest.Document().Components.Schemas["Problem"].Value.Properties["code"].Value
	for name := range table {
		if !documented[name] || !slices.Contains(code.Enum, any(name)) {
			t.Errorf("%s is in the table, and not in the document", name)
		}
	}
	if len(documented) != len(table) || len(code.Enum) != len(table) {
		t.Errorf("the document has %d codes, its schema %d, the table %d", len(documented), len(code.Enum), len(table))
	}
}

func checkExample(t *testing.T, op, code string, row api.Problem, media *openapi3.MediaType) {
	t.Helper()
	example := media.Examples[code]
	if example == nil {
		t.Errorf("%s: no example of %s", op, code)
		return
	}
	m := example.Value.Value.(map[string]any)
	if m["code"] != code || m["title"] != row.Title || m["type"] != "urn:stepup:problem:"+code || m["status"] != float64(row.Status) {
		t.Errorf("%s: the example of %s is %v", op, code, m)
	}
}

// codesOf are the codes that an answer narrows the general problem to.
func codesOf(media *openapi3.MediaType) []string {
	code := media.Schema.Value.AllOf[1].Value.Properties["code"].Value
	if code.Const != nil {
		return []string{code.Const.(string)}
	}
	var all []string
	for _, c := range code.Enum {
		all = append(all, c.(string))
	}
	return all
}

// The document's members are those that we write and read, its words those that we use.
func TestDocumentHasEveryMember(t *testing.T) {
	schemas := apitest.Document().Components.Schemas
	properties := func(name string) openapi3.Schemas { return schemas[name].Value.Properties }
	stepUp := maps.Clone(properties("StepUpBase"))
	maps.Copy(stepUp, properties("StepUp"))
	maps.Copy(stepUp, properties("EncryptedContent"))
	for _, tt := range []struct {
		name       string
		typ        reflect.Type
		documented openapi3.Schemas
	}{
		{"StepUp", reflect.TypeFor[worker.StepUp](), stepUp},
		{"Identity", reflect.TypeFor[worker.Identity](), properties("Identity")},
		{"Reason", reflect.TypeFor[worker.Reason](), properties("Reason")},
		{"Delivery", reflect.TypeFor[worker.DeliveryView](), properties("Delivery")},
		{"StepUpPage", reflect.TypeFor[worker.Page](), properties("StepUpPage")},
		{"CreateStepUp", api.CreateBody, properties("CreateStepUp")},
		{"RedeliverStepUps", api.SpanBody, properties("RedeliverStepUps")},
		{"Redelivered", reflect.TypeFor[worker.Redelivered](), properties("Redelivered")},
		{"Attempts", api.AttemptsBody, properties("Attempts")},
		{"Attempt", reflect.TypeFor[worker.AttemptLog](), properties("Attempt")},
		{"EventPage", reflect.TypeFor[worker.Events](), properties("EventPage")},
		{"FetchedEvent", reflect.TypeFor[worker.Pulled](), properties("FetchedEvent")},
		{"AcknowledgeEvents", api.AcknowledgeBody, properties("AcknowledgeEvents")},
		{"Acknowledged", reflect.TypeFor[worker.Acknowledged](), properties("Acknowledged")},
		{"Problem", api.ProblemBody, properties("Problem")},
		{"errors", reflect.TypeFor[worker.FieldError](), properties("Problem")["errors"].Value.Items.Value.Properties},
	} {
		if got, want := slices.Sorted(maps.Keys(tt.documented)), jsonMembers(tt.typ); !slices.Equal(got, want) {
			t.Errorf("%s: the document has %v, the program %v", tt.name, got, want)
		}
	}
	words := func(s *openapi3.Schema) (all []string) {
		for _, w := range s.Enum {
			if w != nil { // none, beside words
				all = append(all, w.(string))
			}
		}
		slices.Sort(all)
		return all
	}
	for _, tt := range []struct {
		name   string
		schema *openapi3.Schema
		want   []string
	}{
		{"statuses", schemas["Status"].Value, []string{"approved", "cancelled", "denied", "expired", "failed", "pending", "unknown"}},
		{"reasons", properties("Reason")["code"].Value, []string{worker.CancelledCode, worker.DeniedByUser, worker.ExpiredCode, worker.InitiationUnknown,
			worker.ProviderMisconfigured, worker.ProviderRejected, worker.ResultLost, worker.TokenInvalid, worker.TokenMismatch}},
		{"delivery states", properties("Delivery")["status"].Value, []string{string(worker.DeliveryDelivered), string(worker.DeliveryPending),
			string(worker.DeliveryStopped), string(worker.DeliveryUndelivered)}},
		{"reasons of attempts", properties("Attempt")["reason"].Value, []string{webhook.ReasonCancelled, webhook.ReasonConfiguration, webhook.ReasonDial,
			webhook.ReasonDNS, webhook.ReasonGone, webhook.ReasonProtocol, webhook.ReasonProxy, webhook.ReasonRedirect, webhook.ReasonRefused,
			webhook.ReasonReset, webhook.ReasonStatus, webhook.ReasonTimeout, webhook.ReasonTLS}},
	} {
		if got := words(tt.schema); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the document has %v, the program %v", tt.name, got, tt.want)
		}
	}
	for name, s := range map[string]*openapi3.Schema{"Problem": properties("Problem")["code"].Value, "Reason": properties("Reason")["code"].Value,
		"Delivery": properties("Delivery")["status"].Value, "outcome": properties("Attempt")["outcome"].Value, "reason": properties("Attempt")["reason"].Value} {
		told, _ := s.Extensions["x-enumDescriptions"].(map[string]any)
		if got := slices.Sorted(maps.Keys(told)); !slices.Equal(got, words(s)) {
			t.Errorf("%s: meanings of %v, words %v", name, got, words(s))
		}
	}
}

func jsonMembers(t reflect.Type) []string {
	var all []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" && name != "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}
