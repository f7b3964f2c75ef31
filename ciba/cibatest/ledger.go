package cibatest

import (
	"net/http"
	"slices"
	"time"
)

// Ledger is what reached the provider since the start or the last reset.
type Ledger struct {
	Since    time.Time      `json:"since"`
	Until    time.Time      `json:"until"`
	Pushes   int            `json:"pushes"` // accepted at /bc-auth, also when the answer was cut
	Polls    int            `json:"polls"`  // token requests for a known auth_req_id
	Answers  map[string]int `json:"answers"`
	Tokens   int            `json:"tokens"`   // tokens consumed, lost answers included
	Overlaps int            `json:"overlaps"` // polls that arrived while another for the same auth_req_id was in flight
	// Early polls: arrival before the previous answer + interval (the first poll: before the answer of /bc-auth + interval), no
	// tolerance, unless the previous answer itself took longer than the interval (CIBA Core §10.1). The interval grows with each
	// slow_down; a Retry-After that is longer takes its place.
	Early int `json:"early"`
	// Refused token requests without a known auth_req_id or a good assertion.
	Refused int `json:"refused"`
	Open    int `json:"open"` // without a final answer, not expired

	PollsPerSecond float64  `json:"polls_per_second"`      // over the whole window
	Recent         float64  `json:"recent_polls_per_s"`    // over the last 10 full seconds
	Peak           int      `json:"peak_polls_per_second"` // in the busiest second
	Lateness       Lateness `json:"lateness"`

	PushesByHint map[string]int `json:"pushes_by_hint,omitempty"` // Config.Detail only
	Requests     []Request      `json:"requests,omitempty"`       // Config.Detail only; in the order of the pushes
}

// Lateness is arrival − (previous answer + interval), of polls that follow an orderly answer (not an error, a cut or a
// Retry-After, after which a client backs off by its own judgement). P50 and P99 are exact to 4 %. In JSON nanoseconds.
type Lateness struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Request is one auth_req_id.
type Request struct {
	AuthReqID string      `json:"auth_req_id"`
	Hint      string      `json:"hint"`
	ClientID  string      `json:"client_id"`
	Pushed    time.Time   `json:"pushed"`
	ExpiresAt time.Time   `json:"expires_at"`
	Decision  string      `json:"decision,omitempty"` // what the person did, as the [Kind] that answers the next poll; empty: nothing
	Decided   time.Time   `json:"decided,omitzero"`
	Polls     []Poll      `json:"polls"`
	Overlaps  int         `json:"overlaps"`
	Early     int         `json:"early"`
	Tokens    []time.Time `json:"tokens"` // when tokens were consumed; more than one is a fault of this package
}

// Poll is one token request. Answered is zero while it is in flight.
type Poll struct {
	Arrived  time.Time `json:"arrived"`
	Answered time.Time `json:"answered"`
	Answer   string    `json:"answer"` // a [Kind]'s name or an OAuth error code; "gone": the client hung up
	Early    bool      `json:"early,omitempty"`
	Overlap  bool      `json:"overlap,omitempty"`
}

// Answered is one final answer: tokens (also those lost), access_denied, expired_token.
type Answered struct {
	AuthReqID string    `json:"auth_req_id"`
	Hint      string    `json:"hint"`
	Answer    string    `json:"answer"`
	At        time.Time `json:"at"` // when it was written
}

// Request returns the ledger's entry for one auth_req_id.
func (l Ledger) Request(authReqID string) (Request, bool) {
	i := slices.IndexFunc(l.Requests, func(r Request) bool { return r.AuthReqID == authReqID })
	if i < 0 {
		return Request{}, false
	}
	return l.Requests[i], true
}

// Ledger returns what is on record now, with every request and poll if Config.Detail.
func (s *Server) Ledger() Ledger {
	l := s.summary()
	if s.cfg.Detail {
		l.PushesByHint, l.Requests = s.flows.detail()
	}
	return l
}

// summary is the ledger without its long parts.
func (s *Server) summary() Ledger {
	l := s.tally.Load().summary(time.Now())
	l.Open = s.flows.open(time.Now())
	return l
}

// ResetLedger forgets counts, lateness and finished requests; open ones go on with an empty entry.
func (s *Server) ResetLedger() {
	s.tally.Store(newTally(time.Now()))
	s.flows.reset(time.Now())
}

// Answered lists the final answers, oldest first; the last 262,144 of them are kept.
func (s *Server) Answered() []Answered { return s.tally.Load().answered() }

// showLedger is GET /ledger; with ?summary=1 without requests, ?auth_req_id= for one request alone.
func (s *Server) showLedger(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if id := q.Get("auth_req_id"); id != "" {
		entry, ok := s.Ledger().Request(id)
		if !ok {
			http.Error(w, "not on record", http.StatusNotFound)
			return
		}
		writeJSON(w, entry)
		return
	}
	if q.Get("summary") != "" {
		writeJSON(w, s.summary())
		return
	}
	writeJSON(w, s.Ledger())
}

// showAnswered is GET /ledger/answered: the final answers, those of one auth_req_id, or those to one login hint (?hint=).
func (s *Server) showAnswered(w http.ResponseWriter, r *http.Request) {
	id, hint := r.URL.Query().Get("auth_req_id"), r.URL.Query().Get("hint")
	list := s.Answered()
	list = slices.DeleteFunc(list, func(a Answered) bool { return id != "" && a.AuthReqID != id || hint != "" && a.Hint != hint })
	if list == nil {
		list = []Answered{}
	}
	writeJSON(w, list)
}

// resetLedger is POST /ledger/reset.
func (s *Server) resetLedger(w http.ResponseWriter, _ *http.Request) {
	s.ResetLedger()
	w.WriteHeader(http.StatusNoContent)
}
