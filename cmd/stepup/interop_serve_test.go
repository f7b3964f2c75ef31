package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// serving is a running `stepup serve`.
type serving struct {
	cmd        *exec.Cmd
	api, admin string // where it answers
	stdout     bytes.Buffer
	ended      chan error

	mu  sync.Mutex
	log bytes.Buffer // its standard error
}

// serve starts the service with stepup.yaml in dir and waits until it is ready. It is killed at the end of the test, if
// it has not been stopped before.
func serve(t *testing.T, dir string) *serving {
	t.Helper()
	v := &serving{cmd: program(t, dir, "serve", "--config", "stepup.yaml"), ended: make(chan error, 1)}
	v.cmd.Stdout = &v.stdout
	stderr, err := v.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening, all := make(chan [2]string, 1), make(chan struct{})
	go func() {
		v.read(stderr, listening)
		close(all)
		v.ended <- v.cmd.Wait() // after the last read, which Wait would cut off
	}()
	t.Cleanup(func() {
		v.cmd.Process.Kill() // nothing, once it has ended
		<-all
		if t.Failed() {
			t.Logf("stepup serve said:\n%s", v.said())
		}
	})
	select {
	case at := <-listening:
		v.api, v.admin = at[0], at[1]
	case err := <-v.ended:
		t.Fatalf("stepup serve ended at once: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("stepup serve did not say where it listens")
	}
	await(t, "/readyz", func() bool {
		resp, err := http.Get("http://" + v.admin + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return v
}

// read keeps the log and hands on the addresses in it.
func (v *serving) read(stderr io.Reader, listening chan<- [2]string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		v.mu.Lock()
		v.log.Write(lines.Bytes())
		v.log.WriteByte('\n')
		v.mu.Unlock()
		var line struct{ Msg, API, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "stepup serves" {
			listening <- [2]string{line.API, line.Admin}
		}
	}
}

func (v *serving) said() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.String()
}

// stop ends the service as an operator does and wants exit code 0.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.serve.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.serve.ended:
		if err != nil {
			t.Errorf("after SIGTERM: %v, want exit code 0", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still there 20 s after SIGTERM, with nothing in flight")
	}
}

// watchFor notes a word that must never be found in the clear.
func (s *site) watchFor(word, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words[word] = what
}

// compactJWT is a signed or encrypted token, or an assertion.
var compactJWT = regexp.MustCompile(`eyJ[\w-]+\.[\w-]*\.`)

// leaks tells what of the words is found in text.
func (s *site) leaks(t *testing.T, where, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for word, what := range s.words {
		if strings.Contains(text, word) {
			t.Errorf("%s holds %s", where, what)
		}
	}
	if compactJWT.MatchString(text) {
		t.Errorf("%s holds a token", where)
	}
}

// wantSealed wants Redis to know the step-up and to hold nothing in the clear.
func (s *site) wantSealed(t *testing.T, id string) {
	t.Helper()
	held := contents(t, s.redis)
	if !strings.Contains(held, id) {
		t.Errorf("Redis does not know %s, so looking into it proves nothing", id)
	}
	s.leaks(t, "Redis", held)
}

// wantSilence looks over everything that is left after the service has ended.
func (s *site) wantSilence(t *testing.T) {
	t.Helper()
	if n := s.inbox.left(); n > 0 {
		t.Errorf("%d webhooks more than there were final states", n)
	}
	log := s.serve.said()
	if !strings.Contains(log, "webhook attempt") {
		t.Error("the log does not tell of webhooks, so looking into it proves nothing")
	}
	if out := s.serve.stdout.String(); out != "" {
		t.Errorf("stepup serve printed %q; its log belongs to stderr", out)
	}
	s.leaks(t, "the log", log)
	s.wantSealed(t, "su_")
}

// contents is everything a Redis holds: each key and what is in it.
func contents(t *testing.T, rdb *redis.Client) string {
	t.Helper()
	ctx := t.Context()
	var all strings.Builder
	keys := rdb.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		all.WriteString(keys.Val() + "\n")
		for _, part := range value(ctx, t, rdb, keys.Val()) {
			all.WriteString(part + "\n")
		}
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// value is what is in one key; nothing, if it has gone meanwhile.
func value(ctx context.Context, t *testing.T, rdb *redis.Client, key string) (parts []string) {
	t.Helper()
	kind, err := rdb.Type(ctx, key).Result()
	if err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "none":
	case "string":
		var one string
		if one, err = rdb.Get(ctx, key).Result(); err == redis.Nil {
			err = nil
		}
		parts = []string{one}
	case "hash":
		var fields map[string]string
		fields, err = rdb.HGetAll(ctx, key).Result()
		for name, v := range fields {
			parts = append(parts, name, v)
		}
	case "list":
		parts, err = rdb.LRange(ctx, key, 0, -1).Result()
	case "set":
		parts, err = rdb.SMembers(ctx, key).Result()
	case "zset":
		parts, err = rdb.ZRange(ctx, key, 0, -1).Result()
	default:
		t.Fatalf("Redis key of type %s: teach this test to look into it", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return parts
}
