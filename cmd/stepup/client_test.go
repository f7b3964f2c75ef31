package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/ciba/cibatest/peers"
	"stepup/worker/redistest"
)

// clientDir has a caller's program in TypeScript, and other people's programs that turn an OpenAPI document into types.
const clientDir = "testdata/client"

// A caller that knows nothing of the API but the document that the running service serves gets along: openapi-typescript has
// nothing to say against it, the compiler accepts a strict program over its types, and the program drives every operation and
// meets every problem of the document.
func TestGeneratedClient(t *testing.T) {
	t.Parallel()
	peers.NeedIn(t, clientDir)
	d := beginDirector(t)
	want := d.promised(t)
	dir := d.compile(t)
	got := d.perform(t, dir)
	for _, step := range want {
		if !slices.Contains(got, step) {
			t.Errorf("the client did not come to %s", step)
		}
	}
	d.drain(t)
}

// director brings about what a caller cannot: what people, providers and operators do.
type director struct {
	*town
	redis  *redistest.Node
	phones *phones
	people uint64
	asked  int64     // at the provider, before it was held
	letGo  func()    // of what is held
	set    [2]string // what the configuration has now, and what it has usually
	wishes chan wish
}

// wish is one request of the client's.
type wish struct {
	word, person string
	done         chan string
}

func beginDirector(t *testing.T) *director {
	t.Helper()
	node, err := redistest.RunNode(t.TempDir(), "--appendonly", "yes", "--appendfsync", "always")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Kill() })
	w := beginTown(t, plan{banks: []string{"stranger", "bank"}, providers: []string{"singpass"}, limits: wide, redis: node.Addr})
	w.reconfigure(t, "may_list: true", "may_list: false") // the first one's
	for _, list := range []string{"false", "true"} {
		w.reconfigure(t, list+", webhooks: [", list+", webhooks: [{name: queue, pull: true}, ")
	}
	return &director{town: w, redis: node, phones: w.providers["singpass"], wishes: make(chan wish)}
}

// promised is every operation and every problem of the document.
func (d *director) promised(t *testing.T) (steps []string) {
	t.Helper()
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas struct {
				Problem struct {
					Properties struct{ Code struct{ Enum []string } }
				}
			}
		}
	}
	if h := d.bank.send(t, http.MethodGet, "/openapi.json", ""); json.Unmarshal(h.body, &doc) != nil {
		t.Fatalf("/openapi.json: %d %s", h.status, h.body)
	}
	for path, item := range doc.Paths {
		for name, raw := range item {
			if name == "parameters" {
				continue
			}
			var operation struct{ OperationID string }
			if err := json.Unmarshal(raw, &operation); err != nil {
				t.Fatalf("%s of %s: %v", name, path, err)
			}
			steps = append(steps, "operation "+operation.OperationID)
		}
	}
	for _, code := range doc.Components.Schemas.Problem.Properties.Code.Enum {
		if code != "internal" { // which would be a fault of ours
			steps = append(steps, "problem "+code)
		}
	}
	if len(steps) < 30 {
		t.Fatalf("the document has %d operations and problems: %v", len(steps), steps)
	}
	return steps
}

// compile makes types of the document as it is served, and a program of the client, in a folder of its own.
func (d *director) compile(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, pattern := range []string{"*.ts", "*.json", "*.yaml"} {
		files, err := filepath.Glob(filepath.Join(clientDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			write(t, dir, filepath.Base(name), read(t, name))
		}
	}
	packages, err := filepath.Abs(filepath.Join(clientDir, "node_modules"))
	if err == nil {
		err = os.Symlink(packages, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"node_modules/.bin/openapi-typescript", d.bank.url + "/openapi.json", "--output", "stepup.ts"},
		{"node_modules/.bin/tsc"},
	} {
		var said, complained bytes.Buffer
		cmd := inNode(t.Context(), dir, args...)
		cmd.Stdout, cmd.Stderr = &said, &complained
		if err := cmd.Run(); err != nil || complained.Len() > 0 {
			t.Fatalf("%s: %v\n%s%s", filepath.Base(args[0]), err, &said, &complained)
		}
	}
	return dir
}

// inNode runs a program of Node's without the settings that a developer may have around, such as a proxy.
func inNode(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "NODE_OPTIONS=--no-deprecation"} // what Node says of old packages is no finding
	return cmd
}

// perform runs the client and does for it what it asks for, in the test's own goroutine. It returns the client's steps.
func (d *director) perform(t *testing.T, dir string) (steps []string) {
	t.Helper()
	control := httptest.NewServer(http.HandlerFunc(d.hear))
	t.Cleanup(control.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	said, complained := &logText{}, &logText{}
	cmd := inNode(ctx, dir, "client.js")
	cmd.Stdout, cmd.Stderr = said, complained
	cmd.Env = append(cmd.Env, "STEPUP_URL="+d.bank.url, "BANK_KEY="+d.banks["bank"].key, "STRANGER_KEY="+d.banks["stranger"].key, "CONTROL_URL="+control.URL)
	defer func() {
		if t.Failed() {
			t.Logf("the client said:\n%s%s", said, complained)
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	for {
		select {
		case w := <-d.wishes:
			w.done <- d.do(t, w)
		case err := <-ended:
			if err != nil {
				t.Fatalf("the client ended with %v", err)
			}
			for line := range strings.Lines(said.String()) {
				var told struct{ Operation, Problem string }
				if err := json.Unmarshal([]byte(line), &told); err != nil {
					t.Fatalf("the client's line %q: %v", line, err)
				}
				if told.Operation != "" {
					steps = append(steps, "operation "+told.Operation)
				} else {
					steps = append(steps, "problem "+told.Problem)
				}
			}
			return steps
		}
	}
}

// hear hands a request on and answers when it is done.
func (d *director) hear(rw http.ResponseWriter, r *http.Request) {
	w := wish{strings.TrimPrefix(r.URL.Path, "/do/"), r.URL.Query().Get("person"), make(chan string, 1)}
	select {
	case d.wishes <- w:
	case <-r.Context().Done():
		return
	}
	select {
	case text := <-w.done:
		_, _ = io.WriteString(rw, text)
	case <-r.Context().Done():
	}
}

// settings are other configurations that the client may ask for: what is there usually, and what then.
var settings = map[string][2]string{
	"few-creates":   {"rate: 5000, burst: 5000", "rate: 1, burst: 1"},
	"few-persons":   {"rate: 5000, burst: 5000", "rate: 5000, burst: 5000, persons_per_hour: 1"},
	"few-pushes":    {"per_hour: 1000", "per_hour: 1"},
	"slow-provider": {"poll: {interval: 1s}", "poll: {interval: 1s}, rate: {bc_auth: 1}"},
	"paused":        {"poll: {interval: 1s}", "poll: {interval: 1s}, paused: true"},
	"purge":         {"limits:\n", "purge_on_delivery: true\nlimits:\n"},
	"receiver-down": {`true, webhooks: [{name: queue, pull: true}, {name: ledger, url: "`, `true, webhooks: [{name: queue, pull: true}, {name: ledger, url: "http://127.0.0.1:1/?`},
}

// do brings one thing about; the answer to a word for a person is a hint that nobody else has.
func (d *director) do(t *testing.T, w wish) (answer string) {
	t.Helper()
	if hint, ok := d.somebody(w.word); ok {
		return hint
	}
	if s, ok := settings[w.word]; ok {
		d.reconfigure(t, s[0], s[1])
		d.set = [2]string{s[1], s[0]}
		return ""
	}
	switch w.word {
	case "usual":
		d.reconfigure(t, d.set[0], d.set[1])
	case "approve":
		d.phones.decide(t, w.person, d.phones.Approve)
	case "deny":
		d.phones.decide(t, w.person, d.phones.Refuse)
	case "hold":
		d.asked, d.letGo = d.phones.asked.Load(), d.phones.hold()
	case "release":
		d.letGo()
	case "redis-away":
		d.redis.Kill()
	case "redis-back":
		if err := d.redis.Restart(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the service is ready again", func() bool { return d.status("/readyz") == http.StatusOK })
	case "drain":
		eventually(t, "what is held is at the provider", func() bool { return d.phones.asked.Load() > d.asked })
		d.stop()
		eventually(t, "the service drains", func() bool { return d.status("/readyz") != http.StatusOK })
	default:
		t.Fatalf("the client asks for %q", w.word)
	}
	return ""
}

// somebody is a person of whom the provider says what the word does.
func (d *director) somebody(word string) (hint string, ok bool) {
	d.people++
	hint = fmt.Sprintf("0d5c2f6e-93a1-4c7b-8f1e-%012x", d.people)
	switch word {
	case "person":
	case "person-unknown":
		hint = cibatest.HintFor(0x0b, 0, d.people)
	case "person-barred":
		hint = cibatest.HintFor(0x0c, 0, d.people)
	case "person-of-others": // the provider refuses us as a client
		hint = cibatest.HintFor(0x0d, 0, d.people)
	case "person-cut-off": // pushed, and the connection cut
		hint = cibatest.HintFor(0x0e, 0, d.people)
	case "person-rejected":
		d.phones.Script(hint, cibatest.Script{Auth: cibatest.Step{Kind: cibatest.Fail, Code: "invalid_binding_message", Status: http.StatusBadRequest}})
	case "person-unavailable":
		d.phones.Script(hint, cibatest.Script{Auth: cibatest.Step{Kind: cibatest.Unavailable}})
	default:
		return "", false
	}
	return hint, true
}
