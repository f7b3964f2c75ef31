package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
)

// openAPI is the reference of this API and the only place where it is described: /openapi.json serves it, /docs is rendered
// from it, and tests hold every answer against it.
//
//go:embed openapi.json
var openAPI string

// OpenAPI is the API's description (OpenAPI 3.1, JSON), as GET /openapi.json serves it.
func OpenAPI() string { return openAPI }

// static is an answer that never changes while the process lives.
type static struct {
	contentType string
	csp         string // Content-Security-Policy; empty: none
	body        []byte
	tag         string
}

func newStatic(contentType, csp string, body []byte) static {
	return static{contentType, csp, body, tagOf(body)}
}

var (
	documentAnswer = sync.OnceValue(func() static { return newStatic("application/json", "", []byte(openAPI)) })
	docsAnswer     = sync.OnceValue(renderDocs)
)

// documentation are the routes of the reference. They need no authentication: what they tell is the same for everybody.
func documentation() paths {
	return paths{
		"/openapi.json": readOnly(func(x *exchange, r *http.Request) { x.static(r, documentAnswer()) }),
		"/docs":         readOnly(func(x *exchange, r *http.Request) { x.static(r, docsAnswer()) }),
	}
}

func (x *exchange) static(r *http.Request, s static) {
	h := x.Header()
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("ETag", s.tag)
	if s.csp != "" {
		h.Set("Content-Security-Policy", s.csp)
		h.Set("Referrer-Policy", "no-referrer")
	}
	if notModified(r.Header, s.tag) {
		x.WriteHeader(http.StatusNotModified)
		return
	}
	x.write(http.StatusOK, s.contentType, s.body)
}

// tagOf makes a strong ETag of what an answer is made of.
func tagOf(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}

// notModified tells whether If-None-Match names the tag: RFC 9110 §13.1.2, by weak comparison. What cannot be read as a list
// of tags ends it: then the whole answer is sent, which is never wrong.
func notModified(h http.Header, tag string) bool {
	list := strings.Join(h.Values("If-None-Match"), ",")
	if strings.Trim(list, " \t") == "*" {
		return true
	}
	for {
		list = strings.TrimLeft(list, " \t,")
		list = strings.TrimPrefix(list, "W/")
		if !strings.HasPrefix(list, `"`) {
			return false
		}
		end := strings.IndexByte(list[1:], '"') + 2
		if end < 2 {
			return false
		}
		if list[:end] == tag {
			return true
		}
		list = list[end:]
	}
}
