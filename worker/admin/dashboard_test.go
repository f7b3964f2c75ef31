package admin_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"stepup/worker/admin"
)

func dashboard(t *testing.T) (http.Handler, *asynq.Client) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), MaxRetries: -1})
	t.Cleanup(func() { rdb.Close() })
	return admin.Handler(admin.Options{Redis: rdb}), asynq.NewClientFromRedisClient(rdb)
}

// A task shows the id of its step-up, and nothing of whatever else somebody may have put there.
func TestDashboardShowsIDsOnly(t *testing.T) {
	h, queue := dashboard(t)
	for _, payload := range []string{someID, "S1234567D", `{"login_hint":"S1234567D"}`, someID + " S1234567D", ""} {
		if _, err := queue.Enqueue(asynq.NewTask("poll", []byte(payload)), asynq.Queue("poll-0")); err != nil {
			t.Fatal(err)
		}
	}
	w := ask(h, "GET", "/asynqmon/api/queues/poll-0/pending_tasks")
	body := w.Body.String()
	if w.Code != 200 || strings.Contains(body, "S1234567D") || strings.Count(body, `"payload":"`+someID+`"`) != 1 || strings.Count(body, "not a step-up's id") != 3 {
		t.Errorf("%d %s", w.Code, body)
	}
	id := regexp.MustCompile(`"id":"([^"]+)"`).FindStringSubmatch(body)[1]
	if w := ask(h, "GET", "/asynqmon/api/queues/poll-0/tasks/"+id); w.Code != 200 || strings.Contains(w.Body.String(), "S1234567D") {
		t.Errorf("one task: %d %s", w.Code, w.Body)
	}
}

// Nobody changes a queue from here.
func TestDashboardOnlyReads(t *testing.T) {
	h, queue := dashboard(t)
	if _, err := queue.Enqueue(asynq.NewTask("poll", []byte(someID)), asynq.Queue("poll-0"), asynq.TaskID("t")); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{"POST", "/asynqmon/api/queues/poll-0:pause"}, {"DELETE", "/asynqmon/api/queues/poll-0"}, {"DELETE", "/asynqmon/api/queues/poll-0/pending_tasks/t"},
		{"DELETE", "/asynqmon/api/queues/poll-0/pending_tasks:delete_all"}, {"POST", "/asynqmon/api/queues/poll-0/active_tasks:cancel_all"}, {"POST", "/asynqmon/"}} {
		if w := ask(h, c[0], c[1]); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: %d, want 405", c[0], c[1], w.Code)
		}
	}
	if w := ask(h, "GET", "/asynqmon/api/queues"); !strings.Contains(w.Body.String(), `"size":1`) || !strings.Contains(w.Body.String(), `"paused":false`) {
		t.Errorf("afterwards: %s", w.Body)
	}
}

// Nobody has Redis collect a whole queue at once.
func TestDashboardPagesAreShort(t *testing.T) {
	h, queue := dashboard(t)
	if _, err := queue.Enqueue(asynq.NewTask("poll", []byte(someID)), asynq.Queue("poll-0")); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]int{"20": 200, "100": 200, "101": 400, "1000000": 400, "many": 200} {
		if w := ask(h, "GET", "/asynqmon/api/queues/poll-0/pending_tasks?page=1&size="+size); w.Code != want {
			t.Errorf("size %s: %d, want %d", size, w.Code, want)
		}
	}
}

// The page runs its own scripts and no others, and fetches nothing from outside.
func TestDashboardPageIsClosed(t *testing.T) {
	h, _ := dashboard(t)
	for _, path := range []string{"/asynqmon/", "/asynqmon/queues/poll-0", "/asynqmon/../asynqmon/servers"} {
		w := ask(h, "GET", path)
		if w.Code == http.StatusMovedPermanently || w.Code == http.StatusTemporaryRedirect {
			continue
		}
		body, policy := w.Body.String(), w.Header().Get("Content-Security-Policy")
		if at := regexp.MustCompile(`(src|href)="?(https?:)?//[^"]*`).FindString(body); at != "" || w.Code != 200 {
			t.Errorf("%s: %d, fetches %q", path, w.Code, at)
		}
		scripts := regexp.MustCompile(`<script>([\s\S]*?)</script>`).FindAllStringSubmatch(body, -1)
		if len(scripts) != 2 {
			t.Errorf("%s: %d scripts within the page, want 2", path, len(scripts))
		}
		for _, s := range scripts {
			sum := sha256.Sum256([]byte(s[1]))
			if !strings.Contains(policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
				t.Errorf("%s: the policy %q lacks the hash of %.40s", path, policy, s[1])
			}
		}
		if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self' 'sha256-") || strings.Contains(policy, "script-src 'unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/asynqmon/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			if w := ask(h, "GET", m[1]); w.Code != 200 || w.Body.Len() == 0 || strings.HasPrefix(w.Body.String(), "<!doctype") {
				t.Errorf("%s: %d, %d bytes", m[1], w.Code, w.Body.Len())
			}
		}
	}
}
