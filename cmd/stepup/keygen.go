package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"stepup/ciba/jose"
	"stepup/webhook"
	"stepup/worker"
)

// The files of a key folder.
const (
	privateFile = "private.jwks.json"
	publicFile  = "public.jwks.json"
	sealFile    = "seal.keys"
)

type keygenCmd struct {
	Out     string `placeholder:"DIR" help:"Folder for private.jwks.json, public.jwks.json and seal.keys; made if it is not there."`
	Rotate  string `enum:",sig,enc,seal" default:"" placeholder:"USE" help:"Add the next key: sig or enc to the folder's private.jwks.json, seal to its seal.keys."`
	Webhook string `placeholder:"FILE" help:"Write new keys that sign webhooks, or a receiver's key that opens encrypted content, to this file."`
	Kind    string `enum:"hmac,ed25519,both,encryption" default:"hmac" placeholder:"KIND" help:"What --webhook makes: hmac (default), a whsec_ secret that receivers have too; ed25519, a whsk_ key, and prints the whpk_ line that receivers verify with; both, which sign side by side; or encryption, a receiver's private key set, and prints the public one."`
}

func (keygenCmd) Help() string {
	return `New keys for a provider (P-256: ES256 to sign, ECDH-ES+A256KW to decrypt) and a key that seals personal data in Redis. Nothing
is ever overwritten. Private files are for their owner alone (0600).

--rotate sig adds a key at the end: it is published at once; when the provider has read the set again (Singpass: after an
hour), move it to the front, and it signs. --rotate enc adds a key in front: it is published in place of the old one, which
still decrypts. --rotate seal adds a seal key at the end: when every process has it, move it to the front. SIGHUP makes a
running service read the files.

--webhook writes what signs webhooks. With hmac (signatures v1) the receiver gets the same file. With ed25519 (v1a) the file is
yours alone: the receiver gets the line that begins with whpk_. All lines of a file sign, so put a new one below the old ones
until every receiver has changed.

--kind encryption is for whoever receives encrypted content: the file is the receiver's alone, and opens it. What is printed on
stdout is the public half, for the sender's encrypt_to_file: no secret, but whoever can exchange it on the way can read the events. To
rotate, make another file, put both keys into one set, and give the sender the new line; the old key is needed for 24 hours
more, as long as events encrypted to it may still come.

Reads:
  with --rotate, the folder's private.jwks.json or seal.keys. Nothing else.

Exit codes:
  0  written; each file is named
  1  a file is there already, or cannot be written
  2  wrong usage

Examples:
  stepup keygen --out secrets
  stepup keygen --out secrets --rotate sig
  stepup keygen --webhook secrets/ledger.whsec
  stepup keygen --webhook secrets/ledger.whsk --kind ed25519
  stepup keygen --webhook receiver.jwks.json --kind encryption > public.jwks.json`
}

func (c keygenCmd) Run(e *env) error {
	if c.Out == "" && (c.Webhook == "" || c.Rotate != "") {
		return usageError{"keygen needs --out DIR, or --webhook FILE (try `stepup keygen --help`)"}
	}
	if c.Webhook == "" && c.Kind != "hmac" {
		return usageError{"--kind is for --webhook FILE, which is not there; add it or leave --kind out"}
	}
	// Whatever was written is told, also when the rest fails: nobody could make the public half again.
	written, public, err := c.write()
	told := e.stdout
	if public != "" {
		told = e.stderr // what is for others stands alone on stdout, to be written to a file
	}
	for _, path := range written {
		fmt.Fprintln(told, "wrote", path)
	}
	if public != "" {
		fmt.Fprintln(e.stdout, public)
	}
	return err
}

// write makes the files that are asked for.
func (c keygenCmd) write() (written []string, public string, err error) {
	if c.Webhook != "" {
		var lines string
		lines, public = newWebhookKeys(c.Kind)
		if err := writeNew(c.Webhook, []byte(lines), 0o600); err != nil {
			return nil, "", err
		}
		written = append(written, c.Webhook)
	}
	if c.Out == "" {
		return written, public, nil
	}
	make := newKeys
	if c.Rotate != "" {
		make = func(dir string) ([]string, error) { return rotateKeys(dir, c.Rotate) }
	}
	more, err := make(c.Out)
	return append(written, more...), public, err
}

// newWebhookKeys are the lines of a secrets file, and the line that the other side gets where it is not the same. It stands in
// the file too, so that it can be given out later.
func newWebhookKeys(kind string) (lines, public string) {
	if kind == "encryption" {
		private, public := webhook.NewEncryptionKey()
		return string(private), public
	}
	if kind != "ed25519" {
		lines = webhook.NewSecret() + "\n"
	}
	if kind != "hmac" {
		var private string
		private, public = webhook.NewKeyPair()
		lines += "# receivers verify with " + public + "\n" + private + "\n"
	}
	return lines, public
}

// newKeys fills a folder in which none of its files exists yet.
func newKeys(dir string) ([]string, error) {
	var there []string
	for _, name := range []string{privateFile, publicFile, sealFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			there = append(there, name)
		}
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("%s has %s already, and keys are never overwritten; use --rotate sig, enc or seal to add a key, or another folder",
			dir, strings.Join(there, ", "))
	}
	now := time.Now()
	private, err := jose.Generate(now)
	if err != nil {
		return nil, fmt.Errorf("making keys: %w", err)
	}
	public, err := publicPart(private)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// The seal key comes last: a folder that has it has everything.
	return writeAll(dir, []keyFile{
		{privateFile, private, 0o600},
		{publicFile, public, 0o644},
		{sealFile, worker.NewSealKeys(), 0o600},
	}, writeNew)
}

// readKeys reads one of the folder's files.
func readKeys(dir, name string) (path string, content []byte, err error) {
	path = filepath.Join(dir, name)
	content, err = os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s does not exist; make the first keys with `stepup keygen --out %s`", path, dir)
	}
	return path, content, err
}

// rotateKeys adds a key of a use: sig, enc or seal. The old ones stay, so replacing the file loses nothing.
func rotateKeys(dir, use string) ([]string, error) {
	if use == "seal" {
		path, old, err := readKeys(dir, sealFile)
		if err != nil {
			return nil, err
		}
		if _, err := worker.ParseSealKeys(old); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		next := append(append(bytes.TrimRight(old, "\n"), '\n'), worker.NewSealKey()...)
		return writeAll(dir, []keyFile{{sealFile, next, 0o600}}, replace)
	}
	path, old, err := readKeys(dir, privateFile)
	if err != nil {
		return nil, err
	}
	private, err := jose.Rotate(old, use, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	public, err := publicPart(private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return writeAll(dir, []keyFile{{privateFile, private, 0o600}, {publicFile, public, 0o644}}, replace)
}

func publicPart(private []byte) ([]byte, error) {
	keys, err := jose.ReadKeys(private)
	if err != nil {
		return nil, err
	}
	return append(bytes.TrimRight(keys.Public(), "\n"), '\n'), nil
}

type keyFile struct {
	name    string
	content []byte
	mode    fs.FileMode
}

func writeAll(dir string, files []keyFile, write func(string, []byte, fs.FileMode) error) (written []string, err error) {
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := write(path, f.content, f.mode); err != nil {
			return nil, err
		}
		written = append(written, path)
	}
	return written, nil
}

// writeNew writes a file that must not exist. It appears whole or not at all.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	temp, err := writeTemp(path, content, mode)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is not overwritten", path)
	} else if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// replace changes a file in one step.
func replace(path string, content []byte, mode fs.FileMode) error {
	temp, err := writeTemp(path, content, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// writeTemp writes beside path, down to the disk.
func writeTemp(path string, content []byte, mode fs.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("writing %s: its folder does not exist; make it first", path)
	} else if err != nil {
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		os.Remove(f.Name())
		return "", fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Name(), nil
}
