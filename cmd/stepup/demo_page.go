package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed demo
var demoFiles embed.FS

var demoTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{"clock": clock, "ms": time.Time.UnixMilli}).ParseFS(demoFiles, "demo/page.html"))

// demoPolicy allows what the page brings along and nothing else.
const demoPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// regions of the page are sent again when they change, each by itself, so that what somebody is pressing stays in place.
var regions = []string{"bank", "phone", "inbox", "trail"}

// demoSite serves the branch's page and hooks, the inbox.
type demoSite struct {
	*branch
	links map[string]string
	ended <-chan struct{} // closes event streams, which never end by themselves
}

func (s demoSite) handler(hooks http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /events", s.events)
	files, _ := fs.Sub(demoFiles, "demo") // the name is valid
	for _, name := range []string{"style.css", "script.js"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) })
	}
	own := http.NewCrossOriginProtection() // other pages in the same browser press no buttons here
	mux.Handle("POST /transfer", own.Handler(http.HandlerFunc(s.pressTransfer)))
	mux.Handle("POST /phone/{n}/{verdict}", own.Handler(http.HandlerFunc(s.pressPhone)))
	mux.Handle(hooksPath, hooks)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", demoPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func (s demoSite) page(w http.ResponseWriter, _ *http.Request) {
	acts, _ := s.stage.watch()
	var page bytes.Buffer
	if err := demoTemplate.Execute(&page, s.view(acts, true)); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = page.WriteTo(w)
}

// frame is one message to the page.
type frame struct {
	Now   int64             `json:"now"` // ours, in ms: the browser's clock need not be right
	Parts map[string]string `json:"parts"`
}

// events sends the parts that have changed, as server-sent events.
func (s demoSite) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	sent := map[string]string{}
	for {
		acts, more := s.stage.watch()
		f, err := s.news(acts, sent)
		if err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(w, "data: %s\n\n", f); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-more:
		case <-time.After(20 * time.Second): // what the browser and we know of each other is old
		case <-r.Context().Done():
			return
		case <-s.ended:
			return
		}
	}
}

// news is the frame with what differs from what was sent before.
func (s demoSite) news(acts []act, sent map[string]string) ([]byte, error) {
	v, f := s.view(acts, false), frame{Now: time.Now().UnixMilli(), Parts: map[string]string{}}
	for _, name := range regions {
		var html strings.Builder
		if err := demoTemplate.ExecuteTemplate(&html, name, v); err != nil {
			return nil, err
		}
		if html.String() != sent[name] {
			f.Parts[name], sent[name] = html.String(), html.String()
		}
	}
	return json.Marshal(f)
}

func (s demoSite) pressTransfer(w http.ResponseWriter, r *http.Request) {
	s.transfer(context.WithoutCancel(r.Context())) // who leaves the page now has asked all the same
	pressed(w, r, nil)
}

func (s demoSite) pressPhone(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil {
		err = errors.New("there is no such question")
	} else {
		err = s.answer(n, r.PathValue("verdict"))
	}
	pressed(w, r, err)
}

// pressed ends the press of a button: the script is told, a browser without it gets the page again.
func pressed(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// clock is minutes:seconds.
func clock(d time.Duration) string {
	seconds := max(0, int(d/time.Second))
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}
