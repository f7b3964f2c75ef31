package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/config"
	"stepup/worker"
	"stepup/worker/redistest"
)

// Whatever way leads to Redis, a step-up's whole life goes over it: asked, approved, denied, cancelled by a process that
// does not own it, taken over from a process that was killed, listed, told by webhook.
func TestLifeOnEveryRedis(t *testing.T) {
	for _, c := range []struct {
		name  string
		redis func(t *testing.T, dir string) string // the lines of the redis section
	}{
		{"sentinel", func(t *testing.T, _ string) string {
			s := redistest.StartSentinels(t)
			return fmt.Sprintf("url: \"redis-sentinel://%s/%s\", wait_replicas: 2", strings.Join(s.Addrs, ","), s.Name)
		}},
		{"cluster", func(t *testing.T, _ string) string {
			c := redistest.StartCluster(t)
			return fmt.Sprintf("url: \"redis-cluster://%s\", wait_replicas: 1", strings.Join(c.Addrs()[:2], ","))
		}},
		{"TLS with a client certificate", func(t *testing.T, dir string) string {
			selfSigned(t, dir, "both")
			cert, key := filepath.Join(dir, "both.crt"), filepath.Join(dir, "both.key")
			addr := redistest.StartTLS(t, cert, cert, key)
			return fmt.Sprintf("url: rediss://%s/0, tls: {ca_file: %s, cert_file: %s, key_file: %s}", addr, cert, cert, key)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			section := c.redis(t, t.TempDir())
			life(t, begin(t, func(yaml string) string { return redisURL.ReplaceAllLiteralString(yaml, section) }))
		})
	}
}

// Whatever needs Redis says what to do about one that is not there, lets nobody in, or lets them do too little. check and
// serve say the same and leave nothing behind.
func TestRedisThatIsOfNoUse(t *testing.T) {
	all := []string{"serve", "check --online", "tail", "redeliver --caller bank --from 3h"}
	start := all[:2]
	locked, open, full := restricted(t, "--requirepass", "s3cret"), restricted(t,
		"--user", "default", "on", "nopass", "~*", "&*", "+@all",
		"--user", "reader", "on", ">wr0ng", "~*", "+@read", "+@connection", "+info",
		"--user", "stranger", "on", ">wr0ng", "~other:*", "+@all",
		"--user", "deaf", "on", ">wr0ng", "~*", "+@read", "+@write", "+@connection",
	), restricted(t, "--maxmemory", "1kb", "--maxmemory-policy", "noeviction")
	as := func(user string) string {
		return `url: "redis://` + open.Addr + `/0", password_file: redis.password, username: ` + user
	}
	const perms = "; give the user what deploy/REDIS.md lists"
	for _, c := range []struct {
		name, section, says string
		commands            []string
	}{
		{"nobody listens", `url: "redis://127.0.0.1:1/0"`, "connection refused; start Redis there, or name the one that runs", all},
		{"no password", `url: "redis://` + locked.Addr + `/0"`, "; check redis.username and redis.password_file", all},
		{"a wrong password", `url: "redis://` + locked.Addr + `/0", password_file: redis.password`, "; check redis.username and redis.password_file", all},
		{"may not write", as("reader"), perms, start},
		{"may not ask", as("deaf"), perms, start},
		{"other keys", as("stranger"), perms, all},
		{"full", `url: "redis://` + full.Addr + `/0"`, "; raise its maxmemory", start},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := prepare(t, func(yaml string) string { return redisURL.ReplaceAllLiteralString(yaml, c.section) })
			write(t, w.dir, "redis.password", "wr0ng\n")
			for _, args := range c.commands {
				code, out, errs := w.beside(t, strings.Fields(args)...)
				said := strings.Join(regexp.MustCompile(`redis\.url: .+`).FindAllString(out+errs, -1), "\n")
				if code != exitFailed || !strings.Contains(said, c.says) || strings.Contains(out+errs, "wr0ng") {
					t.Errorf("%s: exit code %d, %s%s", args, code, out, errs)
				}
			}
		})
	}
	for _, n := range []*redistest.Node{open, full} {
		if keys := keysIn(t, n); len(keys) > 0 {
			t.Errorf("a Redis of no use holds %q", keys)
		}
	}
}

// check finds what would stop serve in a Redis that has data, or has none, and leaves it as it was.
func TestCheckOfShards(t *testing.T) {
	n := restricted(t)
	w := prepare(t, func(yaml string) string { return redisURL.ReplaceAllLiteralString(yaml, `url: "redis://`+n.Addr+`/0"`) })
	rdb := n.Client()
	defer rdb.Close()
	check := func(shards string, want int, says string) {
		t.Helper()
		if shards != "" {
			rdb.Set(t.Context(), "stepup:{w}:shards", shards, 0)
		}
		before := keysIn(t, n)
		if code, out, errs := w.beside(t, "check", "--online"); code != want || !strings.Contains(out, "redis.url: "+says) {
			t.Errorf("%q shards: exit code %d, %s%s", shards, code, out, errs)
		}
		if after := keysIn(t, n); !slices.Equal(after, before) {
			t.Errorf("Redis holds %q now, and %q before", after, before)
		}
	}
	check("", exitDone, "reached\n")
	check("2", exitDone, "reached\n")
	const differs = "redis.shards is 2, but the data in this Redis was written with 3; set it back"
	check("3", exitFailed, differs)
	if code, out, errs := w.beside(t, "serve"); code != exitFailed || !strings.Contains(errs, "redis.url: "+differs) {
		t.Errorf("serve: exit code %d, %s%s", code, out, errs)
	}
	write(t, w.dir, configFile, redisURL.ReplaceAllLiteralString(read(t, filepath.Join(w.dir, configFile)), "url: embedded"))
	check("", exitDone, "embedded, nothing to reach\n")
}

// Who stops a command while it dials is not told to start Redis.
func TestStoppedWhileDialling(t *testing.T) {
	c, err := dialRedis(config.Redis{URL: "redis://127.0.0.1:1/0"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err = judgeRedis(ctx, c.store, 0)
	for _, err := range []error{err, &net.OpError{Op: "dial", Net: "tcp", Err: context.Canceled}} {
		if said := redisFault(err).Error(); !errors.Is(err, context.Canceled) || strings.Contains(said, "start Redis") {
			t.Errorf("it says %q", said)
		}
	}
}

// A full Redis answers; the operator is not told that it does not.
func TestRedeliverIntoAFullRedis(t *testing.T) {
	n := restricted(t)
	w := begin(t, func(yaml string) string {
		yaml = strings.ReplaceAll(yaml, inboxURL.FindStringSubmatch(yaml)[1], "http://127.0.0.1:1/hooks")
		return redisURL.ReplaceAllLiteralString(yaml, `url: "redis://`+n.Addr+`/0"`)
	})
	w.op.Script(person(1), cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}})
	asked, err := w.bank.ask(t.Context(), person(1))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the webhook fails", func() bool {
		_, out, _ := w.beside(t, "show", asked.ID)
		return strings.Contains(out, "failing, again")
	})
	w.drain(t)
	rdb := n.Client()
	defer rdb.Close()
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1kb").Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{asked.ID, "--from 3h"} {
		const says = "redis.url: it does not answer, or takes no writes"
		if code, out, errs := w.beside(t, strings.Fields("redeliver --caller bank "+args)...); code != exitFailed || !strings.Contains(out+errs, says) {
			t.Errorf("%s: exit code %d, %s%s", args, code, out, errs)
		}
	}
}

// restricted is a Redis with what limits it.
func restricted(t *testing.T, args ...string) *redistest.Node {
	t.Helper()
	n, err := redistest.RunNode(t.TempDir(), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	return n
}

func keysIn(t *testing.T, n *redistest.Node) []string {
	t.Helper()
	rdb := n.Client()
	defer rdb.Close()
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return keys
}

var redisURL = regexp.MustCompile(`url: "redis://[^"]*"`)

func life(t *testing.T, w *world) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := func(b bank, id, want string) {
		t.Helper()
		if got, err := b.result(ctx, id); err != nil || got.Status != want {
			t.Errorf("ended as %s, %v; want %s", got, err, want)
		}
	}
	ask := func(b bank, n int) string {
		t.Helper()
		r, err := b.ask(ctx, person(n))
		if err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	decide := func(n int, how func(string) error) {
		t.Helper()
		for _, p := range w.op.Prompts() {
			if p.Hint == person(n) {
				if err := how(p.AuthReqID); err != nil {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatalf("person %d was not asked", n)
	}

	approved, denied, cancelled := ask(w.bank, 1), ask(w.bank, 2), ask(w.bank, 3)
	other := w.second(t)
	decide(1, w.op.Approve)
	decide(2, w.op.Refuse)
	ended(other.bank, approved, "approved")
	ended(other.bank, denied, "denied")
	if r, err := other.bank.call(ctx, http.MethodPost, "/v1/step-ups/"+cancelled+"/cancel", nil); err != nil || r.Status != "cancelled" {
		t.Errorf("cancelled by a process that does not own it: %s, %v", r, err)
	}

	w.drain(t)
	before := w.op.Ledger().Polls
	taken := ask(other.bank, 4)
	eventually(t, "the second process polls", func() bool { return w.op.Ledger().Polls > before })
	w.start(t, worker.RoleAll)
	other.kill()
	decide(4, w.op.Approve)
	ended(w.bank, taken, "approved")

	list, err := w.list(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{approved, denied, cancelled, taken} {
		if !bytes.Contains(list, []byte(id)) {
			t.Errorf("%s is not in the list", id)
		}
		if n := <-w.came; n.err != nil {
			t.Errorf("a webhook did not verify: %v", n.err)
		}
	}
	if l := w.op.Ledger(); l.Pushes != 4 || l.Overlaps != 0 || l.Early != 0 {
		t.Errorf("%d pushes, %d overlapping and %d early polls; want 4, 0, 0", l.Pushes, l.Overlaps, l.Early)
	}
	w.drain(t)
}

func (w *world) list(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.bank.url+"/v1/step-ups", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+w.bank.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	return b.Bytes(), err
}

// outside is a second process of the same service: the program itself, so that it can be killed.
type outside struct {
	bank bank
	kill func()
}

func (w *world) second(t *testing.T) outside {
	t.Helper()
	base := freePorts(t, 2)
	api, admin := fmt.Sprintf("127.0.0.1:%d", base), fmt.Sprintf("127.0.0.1:%d", base+1)
	cmd := exec.Command("stepup", "serve", "--config", filepath.Join(w.dir, configFile))
	cmd.Env = append(os.Environ(), "STEPUP_LISTEN_API="+api, "STEPUP_LISTEN_ADMIN="+admin)
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	o := outside{bank: bank{url: "http://" + api, key: w.bank.key}, kill: func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }}
	t.Cleanup(o.kill)
	ready := *w
	ready.admin = "http://" + admin
	eventually(t, "the second process is ready", func() bool { return ready.status("/readyz") == http.StatusOK })
	return o
}
