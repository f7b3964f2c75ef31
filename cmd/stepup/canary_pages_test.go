package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// operators looks at everything that the operators' pages show of step-ups, and presses their button.
func (c *cage) operators(t *testing.T, ids []string) {
	t.Helper()
	operator := bank{url: c.admin, key: strings.TrimSpace(c.read(t, "admin.token"))}
	note := func(h heard) { fmt.Fprintln(&c.admins, h.status, h.header, string(h.body)) }
	for _, id := range ids {
		note(operator.send(t, http.MethodGet, "/step-ups/"+id, ""))
		for _, accept := range []string{"application/json", "text/html"} {
			note(operator.send(t, http.MethodPost, "/redeliver", "id="+id, "Content-Type", "application/x-www-form-urlencoded", "Accept", accept))
		}
	}
	places := []string{"/", "/runbook", "/step-ups?id=" + c.word("what an operator looked for"), "/step-ups/" + c.word("an id that is none"),
		"/asynqmon/api/queues", "/asynqmon/api/servers", "/asynqmon/api/redis_info", "/asynqmon/api/queue_stats"}
	for _, queue := range []string{"poll-0", "poll-1", "deliver"} {
		for _, state := range []string{"active", "pending", "scheduled", "retry", "archived", "completed"} {
			places = append(places, "/asynqmon/api/queues/"+queue+"/"+state+"_tasks")
		}
	}
	for _, place := range places {
		note(operator.send(t, http.MethodGet, place, ""))
	}
	note(operator.send(t, http.MethodPost, "/redeliver", "id="+c.word("a form's id"), "Content-Type", "application/x-www-form-urlencoded"))
	fmt.Fprintln(&c.admins, operator.event(t))
}

// event is the first that the overview sends.
func (b bank) event(t *testing.T) (line string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return text
		}
	}
	t.Fatalf("no event: %v", lines.Err())
	return ""
}
