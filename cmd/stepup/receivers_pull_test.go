package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"stepup/ciba/cibatest"
	"stepup/ciba/cibatest/peers"
	"stepup/webhook"
)

// A bank that lets nothing in: the example fetches events from the service, opens them with npm jose, keeps each once and
// acknowledges it. What it cannot open waits, and holds nothing else up.
func TestPullExample(t *testing.T) {
	t.Parallel()
	const dir = "../../deploy/receivers/node"
	peers.NeedIn(t, dir)
	jwks, recipient := webhook.NewEncryptionKey()
	_, another := webhook.NewEncryptionKey()
	own := t.TempDir()
	published, private, key := filepath.Join(own, "public.jwks.json"), filepath.Join(own, "private.jwks.json"), filepath.Join(own, "api.key")
	write(t, own, "public.jwks.json", recipient)
	write(t, own, "private.jwks.json", string(jwks))
	w := begin(t, func(yaml string) string {
		before, rest, _ := strings.Cut(yaml, "{name: ledger")
		_, after, _ := strings.Cut(rest, "\n")
		return before + fmt.Sprintf("{name: fetched, pull: true, content: encrypted, encrypt_to_file: %q}\n", published) + after
	})
	write(t, own, "api.key", w.bank.key+"\n")

	// final brings a step-up to its end.
	final := func(n int, answer cibatest.Kind, status string) (id string) {
		t.Helper()
		w.op.Script(person(n), cibatest.Script{Polls: []cibatest.Step{{Kind: answer}}})
		id = w.bank.created(t, fmt.Sprint("key-", n), "singpass", person(n))
		w.bank.endsAs(t, id, status)
		return id
	}
	delivery := func(id, status string) bool {
		h := w.bank.send(t, http.MethodGet, "/v1/step-ups/"+id, "")
		return bytes.Contains(h.body, []byte(`"webhook":"fetched","status":"`+status+`"`))
	}

	within, cancel := context.WithTimeout(t.Context(), time.Minute) // then it ends, and what waits for its lines goes on
	defer cancel()
	puller := exec.CommandContext(within, "node", filepath.Join(dir, "pull.mjs"), w.bank.url, key, private)
	var said bytes.Buffer
	puller.Stderr = &said
	out, err := puller.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := puller.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = puller.Wait()
		if t.Failed() {
			t.Logf("its standard error:\n%s", &said)
		}
	})
	lines := bufio.NewScanner(out)
	keeps := func(id, what string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != id+" "+what {
			t.Fatalf("printed %q, want %s %s", lines.Text(), id, what)
		}
		eventually(t, "the acknowledgement", func() bool { return delivery(id, "delivered") })
	}

	keeps(final(1, cibatest.Approve, "approved"), "step_up.approved approved")

	reload := func(jwks string) {
		t.Helper()
		write(t, own, "public.jwks.json", jwks)
		before := strings.Count(w.log.String(), `"msg":"reloaded"`)
		w.hup <- os.Interrupt
		eventually(t, "the reload is done", func() bool { return strings.Count(w.log.String(), `"msg":"reloaded"`) > before })
	}
	reload(another)
	left := final(2, cibatest.Approve, "approved")
	reload(recipient)
	keeps(final(3, cibatest.Deny, "denied"), "step_up.denied not approved")
	if !delivery(left, "pending") {
		t.Error("an event that nobody could open is not waiting")
	}

	_ = puller.Process.Kill()
	for lines.Scan() {
		t.Errorf("printed too much: %q", lines.Text())
	}
	_ = puller.Wait() // what it said is whole now
	if !strings.Contains(said.String(), "no private key has the kid") || strings.Contains(said.String(), person(1)) {
		t.Error("its standard error does not say what is wrong, or tells of a person")
	}
	w.drain(t)
}
