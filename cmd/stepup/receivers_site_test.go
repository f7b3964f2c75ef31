package main_test

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"stepup/webhook"
)

// runtimeOf is where a program is.
func runtimeOf(t *testing.T, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not on the PATH: install %s, or run `make deps` at the root", name, install)
	}
	return path
}

// python is an interpreter that has what encrypted content and v1a need. Debian's packages are for its own.
func python(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(path, "-c", "import jwcrypto, cryptography").Run() == nil {
			return path
		}
	}
	t.Fatal("no python3 that has jwcrypto: install python3 and python3-jwcrypto, or run `make deps` at the root")
	return ""
}

// sender is the sender's side of one receiver.
type sender struct {
	client  *http.Client
	old     []webhook.Secret // the receiver knows these three
	current []webhook.Secret
	private []webhook.Secret // v1a

	unknown, unknownPrivate []webhook.Secret // and not these

	recipient, another *webhook.Recipient // the receiver can open what is encrypted to the first
	keys, jwks         string             // the receiver's files
}

func newSender(t *testing.T) *sender {
	t.Helper()
	old, current := webhook.NewSecret(), webhook.NewSecret()
	private, public := webhook.NewKeyPair()
	unknownPrivate, _ := webhook.NewKeyPair()
	jwks, recipient := webhook.NewEncryptionKey()
	_, another := webhook.NewEncryptionKey()
	dir := t.TempDir()
	s := &sender{
		client: webhook.NewClient([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}),
		old:    secrets(t, old), current: secrets(t, current), private: secrets(t, private),
		unknown: secrets(t, webhook.NewSecret()), unknownPrivate: secrets(t, unknownPrivate),
		keys: filepath.Join(dir, "keys"), jwks: filepath.Join(dir, "private.jwks.json"),
	}
	for path, content := range map[string]string{
		s.keys: "# both until the sender has changed\n" + old + "\n\n" + current + "\n" + public + "\n", s.jwks: string(jwks),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for r, text := range map[**webhook.Recipient]string{&s.recipient: recipient, &s.another: another} {
		var err error
		if *r, err = webhook.ParseRecipient([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func secrets(t *testing.T, line string) []webhook.Secret {
	t.Helper()
	all, err := webhook.ParseSecrets([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// receiver is a running example.
type receiver struct {
	url   string
	lines chan string // its standard output, closed at its end
	said  bytes.Buffer
	kill  func() // and waits
}

func (s *sender) start(t *testing.T, command []string, opens bool) *receiver {
	t.Helper()
	command = append(command, s.keys)
	if opens {
		command = append(command, s.jwks)
	}
	r := &receiver{lines: make(chan string, 100)}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "PORT=0")
	cmd.Stderr = &r.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(r.lines)
		for in := bufio.NewScanner(out); in.Scan(); {
			r.lines <- in.Text()
		}
	}()
	r.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-read // Wait would cut it off
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			t.Logf("its standard error:\n%s", &r.said)
		}
	})
	r.url = r.line(t, time.Minute) // a compiler may have to run first
	return r
}

func (r *receiver) line(t *testing.T, within time.Duration) string {
	t.Helper()
	select {
	case line, ok := <-r.lines:
		if !ok {
			t.Fatal("it has ended")
		}
		return line
	case <-time.After(within):
		t.Fatalf("it printed nothing for %v", within)
	}
	return ""
}

// send is one attempt of the real sender.
func (s *sender) send(t *testing.T, r *receiver, d delivery) webhook.Attempt {
	with := d.secrets
	if with == nil {
		with = s.current
	}
	one := webhook.Sender{Client: &http.Client{Transport: meddler{s.client.Transport, d.change}}}
	return one.Send(t.Context(), webhook.Endpoint{URL: r.url, Secrets: with}, webhook.Message{ID: "evt_1", Body: []byte(d.body)})
}

// meddler stands between sender and receiver.
type meddler struct {
	http.RoundTripper
	change func(*http.Request)
}

func (m meddler) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.change != nil {
		r = r.Clone(r.Context())
		m.change(r)
	}
	return m.RoundTripper.RoundTrip(r)
}

// sign is what the sender does, at another time or for another webhook.
func (s *sender) sign(r *http.Request, id string, secrets []webhook.Secret, at time.Time) {
	body, _ := io.ReadAll(r.Body) // bytes in memory
	setBody(r, string(body))
	r.Header.Set("webhook-id", id)
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", webhook.Sign(secrets, id, at, body))
}

func setBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

// checkQuiet ends the example, and wants nothing in what it said beyond what was wanted line by line, and nothing of a person.
func (r *receiver) checkQuiet(t *testing.T) {
	t.Helper()
	r.kill()
	for line := range r.lines {
		t.Errorf("printed too much: %q", line)
	}
	if strings.Contains(r.said.String(), canary) {
		t.Error("its log tells of a person")
	}
}
