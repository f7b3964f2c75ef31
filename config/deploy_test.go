package config

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

var filePaths = regexp.MustCompile(`\w_file: ([^\s",}]+)`)

// loadSample loads a configuration of this repository, with something in every file that it names.
func loadSample(t *testing.T, path string) *Config {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, m := range filePaths.FindAllSubmatch(text, -1) {
		write(t, string(m[1]), "something", 0o600)
	}
	write(t, "stepup.yaml", string(text), 0o644)
	c, err := Load("stepup.yaml", nil)
	if err != nil {
		t.Fatalf("%s:\n%v", path, err)
	}
	return c
}

// The sample says that it shows the defaults.
func TestSampleShowsDefaults(t *testing.T) {
	c := loadSample(t, "../deploy/stepup.yaml")
	want := mustLoad(t, least)

	p, bank := c.Providers["singpass"], c.Callers["core-banking"]
	if p.Keys.IsZero() || bank.APIKeys.IsZero() || c.Seal.Keys.IsZero() {
		t.Fatal("the sample leaves a secret out")
	}
	if h := bank.Webhooks[0]; h.Content != contentFull || !reflect.DeepEqual(h.Events, []string{anyEvent}) || h.EncryptTo != nil || h.Pull {
		t.Errorf("the sample's webhook %+v does not show the defaults", h)
	}
	// What must be set, and so has no default.
	w := want.Providers["singpass"]
	p.ClientID, p.Keys = w.ClientID, w.Keys
	c.Providers["singpass"] = p
	c.Seal, c.Callers = want.Seal, want.Callers
	c.Webhooks.AllowNetworks = want.Webhooks.AllowNetworks // written as an empty list
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the sample shows\n%+v\nand the defaults are\n%+v", c, want)
	}
}

// Every member that the format has stands in the sample.
func TestSampleIsComplete(t *testing.T) {
	text, err := os.ReadFile("../deploy/stepup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var look func(reflect.Type)
	look = func(v reflect.Type) {
		switch {
		case v == secretType || v == bytesType || v == prefixType:
		case v.Kind() == reflect.Map || v.Kind() == reflect.Slice:
			look(v.Elem())
		case v.Kind() == reflect.Struct:
			for name, i := range fieldsOf(v) {
				if !regexp.MustCompile(`(?m)^[^#\n]*\b` + name + `:`).Match(text) {
					t.Errorf("%s is not in the sample", name)
				}
				look(v.Field(i).Type)
			}
		}
	}
	look(reflect.TypeFor[Config]())
}

// What init.sh makes is what the compose stack's configuration names, with modes that are accepted; a second start of the
// stack keeps it.
func TestCompose(t *testing.T) {
	script, err := filepath.Abs("../deploy/compose/init.sh")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../deploy/compose/stepup.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	// Stands in for keygen, whose files other tests look into.
	write(t, "bin/stepup", "#!/bin/sh\n[ \"$1 $2\" = 'keygen --out' ] && echo k >\"$3/private.jwks.json\" && echo k >\"$3/seal.keys\"\n", 0o700)
	write(t, "stepup.yaml", string(text), 0o644)
	t.Setenv("PATH", filepath.Join(".", "bin")+":"+os.Getenv("PATH"))

	var first *Config
	for range 2 {
		out, err := exec.Command("sh", script, "secrets").CombinedOutput()
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		c, err := Load("stepup.yaml", nil)
		if err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile("secrets/api.key")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), "Bearer "+string(key)+"'") || len(key) < 40 {
			t.Errorf("the first request is told without the API key:\n%s", out)
		}
		bank := c.Callers["core-banking"]
		if want := fmt.Sprintf("sha256:%x\n", sha256.Sum256(key)); string(bank.APIKeys.Bytes()) != want {
			t.Errorf("the stored line is %s, want %s", bank.APIKeys.Bytes(), want)
		}
		whsec := strings.TrimPrefix(strings.TrimSpace(string(bank.Webhooks[0].Secrets.Bytes())), "whsec_")
		if b, err := base64.StdEncoding.DecodeString(whsec); err != nil || len(b) != 32 {
			t.Errorf("the webhook secret has %d bytes, %v", len(b), err)
		}
		if first == nil {
			first = c
		} else if string(first.Listen.AdminToken.Bytes()) != string(c.Listen.AdminToken.Bytes()) {
			t.Error("the second start made new secrets")
		}
	}
}
