package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kit is what all sites share and is made once: the program and its keys.
type kit struct {
	dir     string
	program string // built with failpoints
	apiKey  string
	apiLine string    // of an api_keys_file
	public  []byte    // JWKS
	kids    [2]string // key ids by which each process of a site signs
	ports   ports
}

// newKit builds the program, unless one is given, and lets it make its keys as an operator would.
func newKit(ctx context.Context, dir, program string) (*kit, error) {
	k := &kit{dir: dir, program: program}
	if program == "" {
		k.program = filepath.Join(dir, "stepup")
		if _, err := output(ctx, "go", "build", "-tags", "failpoints", "-o", k.program, "stepup/cmd/stepup"); err != nil {
			return nil, fmt.Errorf("building the program: %w", err)
		}
	}
	for _, more := range [][]string{nil, {"--rotate", "sig"}} {
		if _, err := output(ctx, k.program, append([]string{"keygen", "--out", k.keys()}, more...)...); err != nil {
			return nil, fmt.Errorf("making keys: %w", err)
		}
	}
	if err := k.part(); err != nil {
		return nil, fmt.Errorf("parting keys: %w", err)
	}
	lines, err := output(ctx, k.program, "apikey")
	if err != nil {
		return nil, fmt.Errorf("making an API key: %w", err)
	}
	k.apiKey, k.apiLine, _ = strings.Cut(strings.TrimSpace(lines), "\n")
	k.public, err = os.ReadFile(filepath.Join(k.keys(), "public.jwks.json"))
	return k, err
}

// part gives each process of a site the same keys in another order: the first one signs, so that the provider can tell
// who polls.
func (k *kit) part() error {
	text, err := os.ReadFile(filepath.Join(k.keys(), "private.jwks.json"))
	if err != nil {
		return err
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return err
	}
	for i := range k.kids {
		signers := slices.DeleteFunc(slices.Clone(set.Keys), func(key map[string]any) bool { return key["use"] != "sig" })
		if len(signers) != len(k.kids) {
			return fmt.Errorf("%d keys sign, want %d", len(signers), len(k.kids))
		}
		k.kids[i], _ = signers[i]["kid"].(string)
		mine := append([]map[string]any{signers[i]}, slices.DeleteFunc(slices.Clone(set.Keys), func(key map[string]any) bool { return key["kid"] == k.kids[i] })...)
		text, err := json.Marshal(map[string]any{"keys": mine})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(k.keys(), names[i]+".jwks.json"), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// names of the two processes of a site.
var names = [2]string{"a", "b"}

func (k *kit) keys() string { return filepath.Join(k.dir, "keys") }

// output runs a program to its end.
func output(ctx context.Context, program string, args ...string) (string, error) {
	b, err := exec.CommandContext(ctx, program, args...).Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", program, err, e.Stderr)
	}
	return string(b), err
}
