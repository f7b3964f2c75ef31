package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"stepup/worker"
)

// Service is what the pages show and do. Its errors of type *worker.Error are told to operators; of others only that there was one.
type Service interface {
	// Overview may come with an error: then it is what this process alone knows. The error's text is shown.
	Overview(context.Context) (worker.Overview, error)
	Inspect(ctx context.Context, id string) (worker.Inspection, error)
	// RedeliverAsOperator sends a step-up's webhooks again and returns whose it is.
	RedeliverAsOperator(ctx context.Context, id string) (caller string, err error)
	Draining() bool
}

//go:embed web
var web embed.FS

var templates = template.Must(template.New("").Funcs(words).ParseFS(web, "web/*.html"))

// pagePolicy is for our own pages: what they use comes from here.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// pages are the pages of our own.
type pages struct {
	Options
	board   board
	links   []link
	runbook template.HTML
}

// link is a place that every page links to.
type link struct{ Path, Name string }

func newPages(o Options) *pages {
	p := &pages{Options: o, links: []link{{"/", "Overview"}}}
	p.board.read, p.board.log = p.overview, o.Log
	if o.Redis != nil {
		p.links = append(p.links, link{dashboardPath + "/", "Tasks"})
	}
	if o.Metrics != nil {
		p.links = append(p.links, link{"/metrics", "Metrics"})
	}
	p.links = append(p.links, link{"/readyz", "Health"})
	if o.Runbook != "" {
		p.links, p.runbook = append(p.links, link{"/runbook", "Runbook"}), markdown(o.Runbook)
	}
	return p
}

func (p *pages) route(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", p.home)
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET /step-ups", p.find)
	mux.HandleFunc("GET /step-ups/{id}", p.stepUp)
	// A form on somebody else's page must not press the button of an operator who is logged in.
	mux.Handle("POST /redeliver", http.NewCrossOriginProtection().Handler(http.HandlerFunc(p.redeliver)))
	if p.runbook != "" {
		mux.HandleFunc("GET /runbook", func(w http.ResponseWriter, _ *http.Request) {
			p.show(w, http.StatusOK, "runbook", "Runbook", p.runbook)
		})
	}
	files, _ := fs.Sub(web, "web") // it is there
	for _, name := range []string{"operators.css", "overview.js", "icon.svg"} {
		mux.Handle("GET /pages/"+name, asset(files, name))
	}
}

// asset is a file that pages need; browsers keep it until it changes.
func asset(files fs.FS, name string) http.Handler {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		panic(err) // embedded at build
	}
	sum := sha256.Sum256(content)
	tag := `"` + hex.EncodeToString(sum[:8]) + `"`
	kind := map[string]string{".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}[path.Ext(name)]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind+"; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

// frame is what every page has around its content.
type frame struct {
	Title string
	Links []link
	Path  string // of the link that leads here
	Body  any
}

// show renders a page.
func (p *pages) show(w http.ResponseWriter, status int, name, title string, body any) {
	var out bytes.Buffer
	f := frame{Title: title, Links: p.links, Body: body, Path: map[string]string{"overview": "/", "runbook": "/runbook"}[name]}
	if err := templates.ExecuteTemplate(&out, name, f); err != nil {
		p.Log.Error("a page does not render", "page", name, "error", err)
		http.Error(w, "this page does not render; the log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(out.Bytes())
}

func (p *pages) home(w http.ResponseWriter, r *http.Request) {
	p.show(w, http.StatusOK, "overview", "Overview", p.board.sections(r.Context()))
}

// find leads from the field for an id to its page.
func (p *pages) find(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimSpace(r.FormValue("id"))
	if !stepUp.MatchString(id) {
		p.show(w, http.StatusNotFound, "problem", "No such step-up", problem{Title: "That is not the id of a step-up",
			Text: "It begins with su_ and is 25 characters long; callers get it in the answer to their request, and it is in every line of the log."})
		return
	}
	http.Redirect(w, r, "/step-ups/"+id, http.StatusSeeOther)
}

func (p *pages) stepUp(w http.ResponseWriter, r *http.Request) {
	v, err := p.Service.Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		p.refuse(w, err)
		return
	}
	p.show(w, http.StatusOK, "step-up", v.ID, inspected{v, time.Now()})
}

// redeliver is the button. With a script the operator stays where they are; without one they are shown the step-up.
func (p *pages) redeliver(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	id := r.PostFormValue("id")
	if !stepUp.MatchString(id) {
		http.Error(w, "the form lacks the id of a step-up", http.StatusBadRequest)
		return
	}
	caller, err := p.Service.RedeliverAsOperator(r.Context(), id)
	scripted := r.Header.Get("Accept") == "application/json"
	if err != nil {
		p.Log.Warn("webhooks not sent again for an operator", "id", id, "error", err)
		if scripted {
			e := problemOf(err)
			write(w, e.Status, map[string]string{"error": e.Title + ". " + e.Text})
			return
		}
		p.refuse(w, err)
		return
	}
	p.Log.Info("webhooks sent again for an operator", "id", id, "caller", caller)
	if scripted {
		write(w, http.StatusOK, map[string]string{"done": "The webhooks of " + id + " are due again."})
		return
	}
	http.Redirect(w, r, "/step-ups/"+id, http.StatusSeeOther)
}

// problem is a page that says what is wrong and what to do.
type problem struct {
	Status      int
	Title, Text string
}

func (p *pages) refuse(w http.ResponseWriter, err error) {
	e := problemOf(err)
	if e.Status == http.StatusInternalServerError {
		p.Log.Error("an operator's request failed", slog.Any("error", err))
	}
	p.show(w, e.Status, "problem", e.Title, e)
}

// problemOf is an error as operators are told it.
func problemOf(err error) problem {
	refused, ok := errors.AsType[*worker.Error](err)
	if !ok {
		return problem{http.StatusInternalServerError, "That did not work", "The log says why."}
	}
	switch refused.Code {
	case worker.CodeNotFound:
		return problem{http.StatusNotFound, "There is no such step-up", "Its id is not right, or it is long over: a step-up is kept for 26 hours after its end."}
	case worker.CodeStorageUnavailable:
		return problem{http.StatusServiceUnavailable, "Redis does not answer, or takes no writes", "Nothing is lost. The overview shows what is wrong; try again when it is mended."}
	case worker.CodeResultGone:
		return problem{http.StatusConflict, "There is nothing left to send", "What was to be delivered was purged, or its time is over. The caller can ask the person again."}
	case worker.CodeInProgress:
		return problem{http.StatusConflict, "Not now", refused.Detail + " Try again in a moment."}
	}
	return problem{http.StatusConflict, "That did not work", refused.Detail}
}
