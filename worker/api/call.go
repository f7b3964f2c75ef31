package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"stepup/worker"
)

// maxBody is the longest request body, in bytes.
const maxBody = 16 << 10

// answerTime is how long a call may take and its answer be written, a wait not counted. It must outlast the body (10 s),
// /bc-auth (15 s) and the Redis commands around it.
const answerTime = 60 * time.Second

// none is the body of a route that wants none: nothing, or an empty JSON object.
type none struct{}

// route says what one method of one path takes and does.
type route[In any] struct {
	query []string // the query parameters it knows; others are refused
	call  func(context.Context, *call[In]) (reply, error)
}

// call is one request, authenticated and decoded.
type call[In any] struct {
	worker.Private
	caller string // its name
	id     string // of the step-up, where the path has one
	query  url.Values
	header http.Header
	body   In
	extend func(wait time.Duration) // moves the write deadline past a wait
}

// reply is what a route answers. Status 0 means 200.
type reply struct {
	Status   int
	Location string // of a new step-up
	ETag     string // if empty: none
	Body     any    // nil: none
}

// handle makes a route a handler: who, what, do it, tell. The method was judged by the mux entry.
func handle[In any](s *Server, rt route[In]) handler {
	return func(x *exchange, r *http.Request) {
		c, err := receive(s, x, r, rt)
		if err != nil {
			x.fail(err)
			return
		}
		answer, err := rt.call(r.Context(), c)
		switch {
		case err != nil && r.Context().Err() != nil:
			x.gone(err)
		case err != nil:
			x.fail(err)
		default:
			x.reply(answer)
		}
	}
}

// receive authenticates before it reads a byte of the body or judges anything else.
func receive[In any](s *Server, x *exchange, r *http.Request, rt route[In]) (*call[In], error) {
	c := &call[In]{header: r.Header, id: r.PathValue("id")}
	if !s.who(x, r) {
		return nil, refuse("unauthorized", "")
	}
	c.caller = x.caller
	c.extend = func(wait time.Duration) { writeWithin(x, wait+answerTime) }
	c.extend(0) // a caller has more time than a stranger
	if strings.Contains(r.Pattern, "{id}") {
		if !isID(c.id) { // could not be anybody's: the answer is that of an unknown id
			return nil, refuse("not_found", "")
		}
		x.stepUp = c.id
	}
	var err error
	if c.query, err = parseQuery(r.URL.RawQuery, rt.query); err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost {
		if err := readBody(x, r, &c.body); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// writeWithin gives the answer its time from now. The read deadline needs no moving: net/http lifts it with the body's end. An
// error means a ResponseWriter without deadlines, in tests.
func writeWithin(w http.ResponseWriter, d time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d))
}

// readBody judges length and content type before it reads, and reads no more than maxBody.
func readBody(x *exchange, r *http.Request, into any) error {
	if r.ContentLength > maxBody {
		return refuse("too_large", "")
	}
	if _, empty := into.(*none); empty && r.ContentLength == 0 {
		return nil
	}
	if !isJSON(r.Header) {
		return refuse("unsupported_media_type", "")
	}
	raw, err := io.ReadAll(http.MaxBytesReader(x.ResponseWriter, r.Body, maxBody))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return refuse("too_large", "")
	}
	if err != nil { // cut short, or slower than ReadTimeout
		return refuse("invalid_request", "The body could not be read.")
	}
	return decode(raw, into)
}

func isJSON(h http.Header) bool {
	if len(h.Values("Content-Type")) != 1 || len(h.Values("Content-Encoding")) != 0 {
		return false
	}
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return false
	}
	charset, named := params["charset"]
	return !named || strings.EqualFold(charset, "utf-8")
}

// idShape is a step-up's id. Nothing else reaches a Redis key or the log.
var idShape = regexp.MustCompile(`^su_[0-9a-f]{2}[A-Z2-7]{20}$`)

// isID tells whether s has the shape of a step-up's id.
func isID(s string) bool { return idShape.MatchString(s) }

// reply encodes an answer, the only place where one is.
func (x *exchange) reply(a reply) {
	if a.ETag != "" {
		x.Header().Set("ETag", a.ETag)
	}
	if a.Body == nil {
		x.WriteHeader(a.Status)
		return
	}
	raw, err := json.Marshal(a.Body)
	if err != nil {
		x.fail(err)
		return
	}
	if a.Location != "" {
		x.Header().Set("Location", a.Location)
		x.stepUp = path.Base(a.Location)
	}
	x.write(cmp.Or(a.Status, http.StatusOK), "application/json", append(raw, '\n'))
}

func (x *exchange) write(status int, contentType string, raw []byte) {
	x.Header().Set("Content-Type", contentType)
	x.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	x.WriteHeader(status)
	x.Write(raw) // an error here is a client that went away; the step-up is stored
}

// methods is one path: a handler for each method, 405 for the others.
type methods map[string]handler

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := m[r.Method]; ok {
		h(w.(*exchange), r)
		return
	}
	w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(m)), ", "))
	w.(*exchange).fail(refuse("method_not_allowed", ""))
}

// readOnly is a path for GET and HEAD.
func readOnly(h handler) methods { return methods{http.MethodGet: h, http.MethodHead: h} }
