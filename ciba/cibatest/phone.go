package cibatest

import (
	"bytes"
	"cmp"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Prompt is one question on the simulated phone that waits for its person.
type Prompt struct {
	AuthReqID      string    `json:"auth_req_id"`
	ClientID       string    `json:"client_id"`
	Hint           string    `json:"hint"`
	BindingMessage string    `json:"binding_message"`
	Asked          time.Time `json:"asked"`
	Expires        time.Time `json:"expires"`
}

var (
	errUnknown  = errors.New("the auth_req_id is not known")
	errAnswered = errors.New("it was answered before")
	errExpired  = errors.New("it has expired")
)

// Approve answers for the person: the next poll gets the tokens, a held poll at once. A script that still has other steps plays
// them first.
func (s *Server) Approve(authReqID string) error { return s.decide(authReqID, Approve) }

// Refuse answers for the person: the next poll gets access_denied, a held poll at once.
func (s *Server) Refuse(authReqID string) error { return s.decide(authReqID, Deny) }

// Lapse lets the time to answer pass: from the next poll on the answer is expired_token, a held poll gets it at once.
func (s *Server) Lapse(authReqID string) error { return s.decide(authReqID, Expire) }

func (s *Server) decide(authReqID string, kind Kind) error {
	f := s.flows.find(authReqID)
	if f == nil {
		return errUnknown
	}
	return f.decide(kind, time.Now())
}

// Prompts lists what waits for a person, oldest first. A step-up whose script ends by itself is not among them.
func (s *Server) Prompts() []Prompt {
	prompts := []Prompt{}
	now := time.Now()
	for _, f := range s.flows.all() {
		if expires, ok := f.prompts(now); ok {
			prompts = append(prompts, Prompt{f.id, f.client, f.ask.hint, f.ask.binding, f.pushed, expires})
		}
	}
	return prompts
}

//go:embed phone.html
var phoneHTML string

var phonePage = template.Must(template.New("phone").Parse(phoneHTML))

// phoneView is what the page shows; the script reads the same as JSON.
type phoneView struct {
	Prompts []phonePrompt `json:"prompts"` // newest first
	Waiting int           `json:"waiting"` // more than Prompts holds, when there are many
	Nonce   string        `json:"-"`
}

// phonePrompt has durations in seconds by the server's clock, so the browser's need not be right.
type phonePrompt struct {
	ID      string `json:"id"`
	Client  string `json:"client"`
	Hint    string `json:"hint"`
	Message string `json:"message"`
	Age     int    `json:"age"`
	Left    int    `json:"left"`
	Life    int    `json:"life"`
}

// AgeText and LeftText are what the page says before its script runs.
func (p phonePrompt) AgeText() string {
	if p.Age < 60 {
		return fmt.Sprintf("%d s ago", p.Age)
	}
	return fmt.Sprintf("%d min ago", p.Age/60)
}

// LeftText is minutes:seconds.
func (p phonePrompt) LeftText() string { return fmt.Sprintf("%d:%02d", p.Left/60, p.Left%60) }

const maxShown = 50

func (s *Server) phoneView() phoneView {
	prompts := s.Prompts()
	v := phoneView{Waiting: len(prompts), Prompts: []phonePrompt{}}
	now := time.Now()
	for _, p := range slices.Backward(prompts) {
		if len(v.Prompts) == maxShown {
			break
		}
		v.Prompts = append(v.Prompts, phonePrompt{
			ID: p.AuthReqID, Client: p.ClientID, Hint: p.Hint, Message: p.BindingMessage,
			Age: int(now.Sub(p.Asked) / time.Second), Left: int(p.Expires.Sub(now) / time.Second),
			Life: cmp.Or(int(p.Expires.Sub(p.Asked)/time.Second), 1),
		})
	}
	return v
}

func (s *Server) phone(w http.ResponseWriter, _ *http.Request) {
	v := s.phoneView()
	v.Nonce = rand.Text()
	var page bytes.Buffer
	if err := phonePage.Execute(&page, v); err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; style-src 'nonce-%[1]s'; script-src 'nonce-%[1]s'; "+
		"connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'", v.Nonce))
	_, _ = page.WriteTo(w)
}

func (s *Server) phonePrompts(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.phoneView()) }

// phoneAnswer is a press of a button: a form post goes back to the page, the script's own gets 204.
func (s *Server) phoneAnswer(w http.ResponseWriter, r *http.Request) {
	kind, ok := map[string]Kind{"approve": Approve, "refuse": Deny, "lapse": Expire}[r.PathValue("verdict")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch err := s.decide(r.PathValue("id"), kind); {
	case errors.Is(err, errUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	case strings.Contains(r.Header.Get("Accept"), "application/json"):
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Redirect(w, r, "/phone", http.StatusSeeOther)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the client has hung up, if anything
}
