package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"stepup/ciba/cibatest"
	"stepup/config"
	"stepup/worker"
	"stepup/worker/redistest"
)

// beside is the program, run beside the service until it ends by itself.
func (w *world) beside(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "stepup", append(args, "--config", filepath.Join(w.dir, configFile))...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// An operator sees step-ups come and go, also when Redis was away for a while, looks at one of them, and learns nothing of
// the person.
func TestTailAndShow(t *testing.T) {
	redis, err := redistest.RunNode(t.TempDir(), "--appendonly", "yes")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Kill)
	w := begin(t, func(yaml string) string {
		return redisURL.ReplaceAllLiteralString(yaml, `url: "redis://`+redis.Addr+`/0"`)
	})
	out, errs := &logText{}, &logText{}
	tail := exec.CommandContext(t.Context(), "stepup", "tail", "--config", filepath.Join(w.dir, configFile), "--caller", "bank")
	tail.Stdout, tail.Stderr = out, errs
	if err := tail.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "tail begins", func() bool { return errs.has("following the step-ups of bank; Ctrl-C ends") })

	w.op.Script(person(1), cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}})
	denied, err := w.bank.ask(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first is over", func() bool { return strings.Count(out.String(), denied.ID) == 3 })
	const when = `(?m)^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  `
	for _, line := range []string{"created$", `denied       after [\d.]+m?s, denied_by_user$`, `delivered    ledger: 204 in <?\d+ms$`} {
		if line = when + denied.ID + "  bank  singpass  " + line; !regexp.MustCompile(line).MatchString(out.String()) {
			t.Errorf("there is no line %s:\n%s", line, out.String())
		}
	}

	redis.Kill()
	eventually(t, "tail says that Redis is away", func() bool { return errs.has("Redis does not answer: ") })
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "and that it is back", func() bool { return errs.has("Redis answers again") })
	var open result
	eventually(t, "the service asks again", func() bool {
		open, err = w.bank.ask(t.Context(), person(2))
		return err == nil
	})
	eventually(t, "the second is told", func() bool { return out.has(open.ID + "  bank  singpass  created\n") })

	t.Run("show", func(t *testing.T) { w.shows(t, denied.ID, open.ID) })

	if err := tail.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := tail.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v", err)
	}
	for _, text := range []string{out.String(), errs.String()} {
		if strings.Contains(text, person(1)) || strings.Contains(text, "\x1b") || strings.Contains(text, "redis: ") {
			t.Errorf("a person, a colour or a library's words are in it:\n%s", text)
		}
	}
	w.stop()
}

// shows looks at a step-up that was denied and at one that is open.
func (w *world) shows(t *testing.T, denied, open string) {
	code, out, errs := w.beside(t, "show", denied)
	if code != exitDone || errs != "" || strings.Contains(out, person(1)) {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	for _, line := range []string{
		"step-up   " + denied, "caller    bank", "provider  singpass", "status    denied",
		"reason    denied_by_user: The person refused.", `completed 20.+Z, .+ ago`, "owner     nobody",
		"webhook   ledger: delivered", "          step_up.denied evt_[A-Z0-9]+", "          20.+Z 204 delivered in .+, signed with .+",
	} {
		if !regexp.MustCompile("(?m)^" + line + "$").MatchString(out) {
			t.Errorf("there is no line %q:\n%s", line, out)
		}
	}
	if code, out, _ = w.beside(t, "show", open); code != exitDone || !strings.Contains(out, "status    pending\n") ||
		!strings.Contains(out, "webhook   ledger: nothing to send before the end\n") {
		t.Errorf("open: exit code %d, %s", code, out)
	}
	var v map[string]any
	if code, out, _ = w.beside(t, "show", open, "--json"); code != exitDone || json.Unmarshal([]byte(out), &v) != nil || v["id"] != open || v["status"] != "pending" {
		t.Errorf("as JSON: exit code %d, %s", code, out)
	}
	for _, id := range []string{"su_00AAAAAAAAAAAAAAAAAAAA", "nonsense", "\x1b[31m"} {
		if code, out, errs = w.beside(t, "show", id); code != exitFailed || out != "" || !strings.Contains(errs, "there is no step-up") || strings.Contains(errs, "\x1b") {
			t.Errorf("%q: exit code %d, %s%s", id, code, out, errs)
		}
	}
}

// A line says what happened and to whom. It is coloured where somebody reads it who did not ask for plain text, and what
// stands in Redis cannot speak to the terminal.
func TestTailLines(t *testing.T) {
	at := time.Date(2026, 11, 21, 2, 3, 4, 5e6, time.UTC)
	cfg := &parts{cfg: &config.Config{Callers: map[string]config.Caller{"bank": {}, "b": {}}, Providers: map[string]config.Provider{"sim": {}}}}
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a device, as terminals are
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	for _, c := range []struct {
		environ, term string
		to            io.Writer
		colours       bool
	}{{"", "xterm", terminal, true}, {"1", "xterm", terminal, false}, {"", "dumb", terminal, false}, {"", "xterm", &bytes.Buffer{}, false}} {
		t.Setenv("NO_COLOR", c.environ)
		t.Setenv("TERM", c.term)
		if got := newTicker(c.to, cfg).colours; got != c.colours {
			t.Errorf("NO_COLOR=%s TERM=%s %T: colours %t", c.environ, c.term, c.to, got)
		}
	}
	for _, c := range []struct {
		news worker.News
		want string
	}{
		{worker.News{What: "created"}, "created"},
		{worker.News{What: "approved", Took: 16300 * time.Millisecond}, "\x1b[32mapproved   \x1b[0m  after 16.3s"},
		{worker.News{What: "expired", Took: time.Minute, Reason: "expired"}, "\x1b[33mexpired    \x1b[0m  after 1m0s"},
		{worker.News{What: "unknown", Took: 2 * time.Minute, Reason: "result_lost"}, "\x1b[31munknown    \x1b[0m  after 2m0s, result_lost"},
		{worker.News{What: "delivered", Webhook: "ledger", Status: 200, Took: 12 * time.Millisecond, Attempts: 2}, "\x1b[32mdelivered  \x1b[0m  ledger: 200 in 12ms, attempt 2"},
		{worker.News{What: "delivered", Webhook: "ledger", Reason: "acknowledged"}, "\x1b[32mdelivered  \x1b[0m  ledger: acknowledged"},
		{worker.News{What: "failing", Webhook: "ledger", Reason: "dial", Attempts: 3, Next: at.Add(time.Minute)}, "\x1b[31mfailing    \x1b[0m  ledger: dial, attempt 3, again at 02:04:04Z"},
		{worker.News{What: "undelivered", Webhook: "ledger"}, "\x1b[31mundelivered\x1b[0m  ledger: never sent"},
		{worker.News{What: "x\x1b]0;y\a", Webhook: "a\nb", Reason: "\x1b[2J"}, "x?]0;y?      a?b: ?[2J"},
	} {
		var out bytes.Buffer
		line := newTicker(&out, cfg)
		line.colours = true
		c.news.At, c.news.ID, c.news.Caller, c.news.Provider = at, "su_1", "b", "sim"
		line.tell(c.news)
		if want := "2026-11-21T02:03:04.005Z  su_1  b     sim  " + c.want + "\n"; out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	}
}

// A Redis that is not the service's is told, and left as it was.
func TestCommandsAtAnotherRedis(t *testing.T) {
	addr := redistest.Start(t)
	w := prepare(t, func(yaml string) string {
		return redisURL.ReplaceAllLiteralString(yaml, `url: "redis://`+addr+`/0"`)
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	defer rdb.Close()
	const id = "su_00AAAAAAAAAAAAAAAAAAAA"
	told := func(says string) {
		t.Helper()
		before := rdb.Keys(t.Context(), "*").Val()
		for _, args := range []string{"tail", "show " + id, "redeliver --caller bank " + id, "redeliver --caller bank --from 3h"} {
			if code, out, errs := w.beside(t, strings.Fields(args)...); code != exitFailed || out != "" || errs != "stepup: redis.url: "+says+"\n" {
				t.Errorf("%s: exit code %d, %q, %q", args, code, out, errs)
			}
		}
		if keys, err := rdb.Keys(t.Context(), "*").Result(); err != nil || !slices.Equal(keys, before) {
			t.Errorf("Redis has %q now, %v", keys, err)
		}
	}
	told("this Redis holds no stepup data; is it the one that the service uses?")
	rdb.Set(t.Context(), "stepup:{w}:shards", "3", 0)
	told("redis.shards is 2, but the data in this Redis was written with 3; set it back, or start with an empty Redis")

	// It lost its data, and the service goes on in it.
	rdb.Del(t.Context(), "stepup:{w}:shards")
	rdb.ZAdd(t.Context(), "stepup:{w}:workers", redis.Z{Score: 1, Member: "someone"})
	if code, _, errs := w.beside(t, "show", id); code != exitFailed || !strings.Contains(errs, "there is no step-up") {
		t.Errorf("the service is there: exit code %d, %q", code, errs)
	}
}

// Wrong usage is told before Redis is asked, and a Redis that is not there at once.
func TestTailAndShowUsage(t *testing.T) {
	w := prepare(t, func(yaml string) string {
		return redisURL.ReplaceAllLiteralString(yaml, `url: "redis://127.0.0.1:1/0"`)
	})
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"tail", exitFailed, "redis.url: "},
		{"show su_00AAAAAAAAAAAAAAAAAAAA", exitFailed, "redis.url: "},
		{"tail --caller bnak", exitUsage, "there is no caller bnak in the configuration; there is bank"},
		{"show", exitUsage, `expected "<id>"` + "\nTry `stepup help show`."},
	} {
		if code, out, errs := w.beside(t, strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%s: exit code %d, %q, %q", c.args, code, out, errs)
		}
	}
	text := read(t, filepath.Join(w.dir, configFile))
	write(t, w.dir, configFile, redisURL.ReplaceAllLiteralString(text, "url: embedded"))
	for _, args := range []string{"tail", "show su_00AAAAAAAAAAAAAAAAAAAA"} {
		if code, _, errs := w.beside(t, strings.Fields(args)...); code != exitUsage || !strings.Contains(errs, "redis.url is embedded") {
			t.Errorf("%s: exit code %d, %q", args, code, errs)
		}
	}
}
