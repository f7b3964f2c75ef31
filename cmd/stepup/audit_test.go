package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"stepup/ciba/cibatest"
	"stepup/config"
	"stepup/webhook"
	"stepup/worker/api"
)

// auditWords are the decisions in an audit file, one word each, of the step-up.
func auditWords(t *testing.T, path, id string) (words []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var d struct {
			What   string
			StepUp string `json:"step_up"`
		}
		if err := json.Unmarshal(line, &d); err != nil {
			t.Fatalf("line %s: %v", line, err)
		}
		if d.StepUp == id {
			words = append(words, d.What)
		}
	}
	return words
}

// The served program writes its decisions down, lets go of a file that was moved away at SIGHUP, takes a new path into
// use, and keeps the old file where the new one is of no use.
func TestServeAudit(t *testing.T) {
	w := begin(t, func(yaml string) string { return yaml + "audit_file: audit.jsonl\n" })
	at := func(name string) string { return filepath.Join(w.dir, name) }
	denied := []string{"ask", "sent", "final", "deliver"}
	one := func(n int, file string) {
		t.Helper()
		w.op.Script(person(n), cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Deny}}})
		asked, err := w.bank.ask(t.Context(), person(n))
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the step-up's lines are in "+file, func() bool { return slices.Equal(auditWords(t, at(file), asked.ID), denied) })
		if text, _ := os.ReadFile(at(file)); bytes.Contains(text, []byte(person(n))) {
			t.Error("a person is named in the audit log")
		}
	}
	reloaded := 0
	hup := func(line string) {
		t.Helper()
		w.hup <- os.Interrupt
		reloaded++
		eventually(t, line, func() bool { return strings.Count(w.log.String(), line) == reloaded })
	}
	one(1, "audit.jsonl")

	if err := os.Rename(at("audit.jsonl"), at("audit.1")); err != nil {
		t.Fatal(err)
	}
	hup(`"msg":"reloaded"`)
	one(2, "audit.jsonl")

	yaml, err := os.ReadFile(at(configFile))
	if err != nil {
		t.Fatal(err)
	}
	write(t, w.dir, configFile, strings.Replace(string(yaml), "audit.jsonl", "second.jsonl", 1))
	hup(`"msg":"reloaded"`)
	one(3, "second.jsonl")

	// Others may write to the new file, so it is no evidence.
	write(t, w.dir, "third.jsonl", "")
	if err := os.Chmod(at("third.jsonl"), 0o666); err != nil {
		t.Fatal(err)
	}
	write(t, w.dir, configFile, strings.Replace(string(yaml), "audit.jsonl", "third.jsonl", 1))
	reloaded = 0
	hup("group or others may change it")
	one(4, "second.jsonl")

	// A mistake in the file must not keep a moved audit log in use.
	if err := os.Rename(at("second.jsonl"), at("second.1")); err != nil {
		t.Fatal(err)
	}
	write(t, w.dir, configFile, strings.Replace(string(yaml), "audit.jsonl", "second.jsonl", 1)+"nonsense: 1\n")
	reloaded = 0
	hup("not a known member")
	one(5, "second.jsonl")
	w.drain(t)
}

// While the audit log cannot be written, backends are told, nobody is asked, and readiness says why.
func TestServeOnAFullDisk(t *testing.T) {
	w := begin(t, func(yaml string) string { return yaml + "audit_file: /dev/full\n" })
	_, err := w.bank.ask(t.Context(), person(1))
	if err == nil || !strings.Contains(err.Error(), "storage_unavailable") {
		t.Errorf("a create: %v", err)
	}
	if n := w.op.Ledger().Pushes; n != 0 {
		t.Errorf("%d pushes, want none", n)
	}
	res, err := http.Get(w.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var body bytes.Buffer
	body.ReadFrom(res.Body)
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body.String(), "no space left on device") {
		t.Errorf("/readyz %d: %s", res.StatusCode, &body)
	}
	w.drain(t)
}

// An audit log that could not be written is told before the start, with its line and the remedy, and no file is made.
func TestAuditFileIsChecked(t *testing.T) {
	dir := t.TempDir()
	if _, err := newKeys(dir); err != nil {
		t.Fatal(err)
	}
	_, line := api.NewAPIKey()
	write(t, dir, apiKeysFile, line+"\n")
	write(t, dir, webhookFile, webhook.NewSecret()+"\n")
	write(t, dir, "shared.jsonl", "")
	if err := os.Chmod(filepath.Join(dir, "shared.jsonl"), 0o620); err != nil {
		t.Fatal(err)
	}
	base := fmt.Sprintf(demoConfig, "127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3", "http://127.0.0.1:4")
	for file, want := range map[string]string{
		"new.jsonl":    "",
		"shared.jsonl": "its mode is 0620, so group or others may change it; chmod go-w it",
		"none/a.jsonl": "is in a folder that does not exist",
	} {
		write(t, dir, configFile, base+"audit_file: "+file+"\n")
		_, err := load(filepath.Join(dir, configFile), nil, nil)
		problems, _ := errors.AsType[config.Problems](err)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Key != "audit_file" || problems[0].Line != strings.Count(base, "\n")+1 || !strings.Contains(problems[0].Text, want) {
			t.Errorf("%s: %v, want %q at the line that names it", file, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new.jsonl")); err == nil {
		t.Error("the check made the file")
	}
}
