package api_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"stepup/worker/api"
	"stepup/worker/api/apitest"
)

// stranger asks without a key.
func (b *bank) stranger(method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.do(r)
}

// Document and page are for everybody, may be kept, and are on the api listener alone.
func TestDocumentationIsServed(t *testing.T) {
	b := newBank(t)
	for path, kind := range map[string]string{"/openapi.json": "application/json", "/docs": "text/html; charset=utf-8"} {
		w := b.stranger("GET", path)
		h := w.Header()
		if w.Code != 200 || h.Get("Content-Type") != kind || h.Get("Cache-Control") != "public, max-age=300" || h.Get("ETag") == "" ||
			h.Get("X-Content-Type-Options") != "nosniff" || w.Body.Len() < 10_000 {
			t.Errorf("%s: %d %v, %d bytes", path, w.Code, h, w.Body.Len())
		}
		if head := b.stranger("HEAD", path); head.Code != 200 || head.Header().Get("ETag") != h.Get("ETag") || head.Header().Get("Content-Length") != h.Get("Content-Length") {
			t.Errorf("HEAD %s: %d %v", path, head.Code, head.Header())
		}
		if again := b.stranger("GET", path, "If-None-Match", h.Get("ETag")); again.Code != 304 || again.Body.Len() != 0 || again.Header().Get("Cache-Control") == "no-store" {
			t.Errorf("%s again: %d %v", path, again.Code, again.Header())
		}
		public := httptest.NewRecorder()
		if b.Public().ServeHTTP(public, httptest.NewRequest("GET", path, nil)); public.Code != 404 {
			t.Errorf("%s on the public listener: %d", path, public.Code)
		}
	}
	if b.stranger("GET", "/openapi.json").Body.String() != api.OpenAPI() {
		t.Error("/openapi.json is not the document")
	}
}

// The page runs nothing and loads nothing, and a browser holds it to that.
func TestDocsPageIsAlone(t *testing.T) {
	w := newBank(t).stranger("GET", "/docs")
	page := w.Body.String()
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if got := w.Header().Get("Content-Security-Policy"); got != want {
		t.Errorf("policy %s, want %s", got, want)
	}
	for _, bad := range []string{"<script", "<img", "<link", "<iframe", "src=", "style=", "@import", "url(", "onclick", "javascript:", "ZgotmplZ", "<no value>", "&amp;amp;"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] || m[1] == "" {
			t.Errorf("two things have the id %q", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if name, here := strings.CutPrefix(m[1], "#"); m[1] != "/openapi.json" && (!here || !ids[name]) {
			t.Errorf("a link to %s leads nowhere", m[1])
		}
	}
}

// Nothing of the document is left out of the page.
func TestDocsPageIsComplete(t *testing.T) {
	page := newBank(t).stranger("GET", "/docs").Body.String()
	doc := apitest.Document()
	has := func(what, text string) {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %s: %s", what, text)
		}
	}
	for path, item := range doc.Paths.Map() {
		has("a path", path)
		for method, op := range item.Operations() {
			if method != "HEAD" {
				has("an operation", `<article id="`+op.OperationID+`">`)
			}
		}
	}
	for name := range doc.Webhooks {
		has("a webhook", name)
	}
	for name, s := range doc.Components.Schemas {
		has("a schema", `<article id="`+name+`">`)
		for member := range s.Value.Properties {
			has("a member of "+name, "<code>"+member+"</code>")
		}
	}
	for code := range api.Problems() {
		has("a problem", `<tr id="code-`+code+`">`)
	}
}
