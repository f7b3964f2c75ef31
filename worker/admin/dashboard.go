package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"
)

const (
	dashboardPath = "/asynqmon" // where the task dashboard is served
	tasksMost     = 100         // on one page of it, as many as its own pages show: Redis does nothing else while it collects them
)

// dashboard is asynqmon, the dashboard of asynq, which changes nothing here. An active task is a step-up that a process polls; its
// payload is the id.
type dashboard struct {
	tasks  http.Handler
	index  []byte // the one page of it, without what it would fetch from outside
	policy string // what that page may do
}

// client hands asynqmon a client of ours, which it must not close.
type client struct{ redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (c client) MakeRedisClient() any { return c.UniversalClient }

func newDashboard(rdb redis.UniversalClient) *dashboard {
	d := &dashboard{tasks: asynqmon.New(asynqmon.Options{
		RootPath: dashboardPath, RedisConnOpt: client{rdb}, ReadOnly: true,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(func(_ string, payload []byte) string { return onlyID(payload) }),
		ResultFormatter:  asynqmon.ResultFormatterFunc(func(_ string, result []byte) string { return onlyID(result) }),
	})}
	var page kept
	r, _ := http.NewRequest(http.MethodGet, dashboardPath+"/", nil) // nothing in it can be wrong
	d.tasks.ServeHTTP(&page, r)
	d.index = outside.ReplaceAll(page.Bytes(), nil)
	var scripts strings.Builder
	for _, s := range inline.FindAllSubmatch(d.index, -1) {
		sum := sha256.Sum256(s[1])
		fmt.Fprintf(&scripts, " 'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:]))
	}
	// Its styles are made by its script as it runs.
	d.policy = "default-src 'none'; script-src 'self'" + scripts.String() + "; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
		"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return d
}

var (
	outside = regexp.MustCompile(`<link[^>]* href="https:[^>]*>`) // fonts, which it does without
	inline  = regexp.MustCompile(`<script>([\s\S]*?)</script>`)   // the scripts within the page
	stepUp  = regexp.MustCompile(`^su_[0-9a-f]{2}[A-Z2-7]{20}$`)  // a step-up's id
)

// onlyID is a payload or a result as it is shown. Ours are ids; whatever else somebody put into the queue is not for showing.
func onlyID(text []byte) string {
	switch {
	case len(text) == 0:
		return ""
	case stepUp.Match(text):
		return string(text)
	}
	return "not a step-up's id"
}

func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean(r.URL.Path), dashboardPath)
	if n, _ := strconv.Atoi(r.URL.Query().Get("size")); n > tasksMost {
		http.Error(w, fmt.Sprintf("size is at most %d; use page", tasksMost), http.StatusBadRequest)
		return
	}
	if strings.HasPrefix(name, "/api/") || path.Ext(name) != "" { // data, or a file
		d.tasks.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Security-Policy", d.policy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Write(d.index)
}

// kept is an answer that stays here.
type kept struct{ bytes.Buffer }

func (*kept) Header() http.Header { return http.Header{} }
func (*kept) WriteHeader(int)     {}
