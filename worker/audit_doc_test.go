package worker

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The command that auditors are given names a person as the log does.
func TestAuditorsFindAPerson(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "openssl", "awk", "od", "base64"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: make deps installs it", err)
		}
	}
	doc, err := os.ReadFile("../deploy/AUDIT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```sh\n")
	command, _, ok := strings.Cut(rest, "```")
	if !ok || !strings.Contains(command, "openssl") {
		t.Fatalf("no command in the document: %q", command)
	}
	file := NewSealKeys()
	seal, err := ParseSealKeys(file)
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "seal.keys")
	if err := os.WriteFile(keys, file, 0o600); err != nil {
		t.Fatal(err)
	}
	set := &Settings{Sealer: seal}
	for _, hint := range []string{"S1234567D", "1c0cee38-3a8f-4f8a-83bc-7a0e4c59d6a9", "Zoë"} {
		out, err := exec.Command("sh", "-c", strings.NewReplacer("secrets/seal.keys", keys, "S1234567D", hint).Replace(command)).Output()
		if got, want := strings.TrimSpace(string(out)), set.person("singpass", &Question{LoginHint: hint}); err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", hint, got, want, err)
		}
	}
}

// A line holds the members that the document names, and the document's example reads as lines.
func TestAuditDocument(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../deploy/AUDIT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```json\n")
	example, _, _ := strings.Cut(rest, "```")
	path := auditPath(t)
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	wantAudit(t, "example", readAudit(t, path), "ask", "sent", "final approved", "deliver ledger step_up.approved delivered")
	for _, what := range []string{whatAsk, whatSent, whatRefuse, whatFinal, whatCancel, whatDeliver, whatRedeliver, whatResumed} {
		if !strings.Contains(string(doc), "`"+what+"`") {
			t.Errorf("the document lacks %s", what)
		}
	}
	members := reflect.TypeFor[decision]()
	for i := range members.NumField() {
		name, _, _ := strings.Cut(members.Field(i).Tag.Get("json"), ",")
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("the document lacks the member %s", name)
		}
	}
}
