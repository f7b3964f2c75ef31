package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"stepup/ciba/jose"
	"stepup/worker"
	"stepup/worker/api"
)

// program is `stepup serve` in a process of its own, as an operator would configure it but for limits that nothing here runs into.
type program struct {
	process
	api, admin string // URLs
	key        string // of its first caller
	ca         []byte // whom its clients must believe; empty: no TLS
}

// account is one caller of the service, with one webhook at most.
type account struct {
	name   string
	inbox  *inbox // nil: it has no webhook
	sealed bool   // the webhook's content is encrypted
	key    string // for the API, once the service is configured
}

// process is a child that ends with us and writes what it says into a file.
type process struct {
	cmd   *exec.Cmd
	log   string
	began time.Time
	said  int // length of the log when it was ready
	ended chan error
}

const programConfig = `development: true
listen: {api: "127.0.0.1:0", admin: "127.0.0.1:0", tls: {cert_file: "%[3]s", key_file: "%[4]s"}}
redis: {url: "%[1]s"}
seal: {keys_file: seal.keys}
worker: {max_in_flight: 50000, max_in_flight_total: 100000}
providers:
  simulated:
    issuer: %[2]s
    profile: singpass
    client_id: bench
    keys_file: private.jwks.json
    ca_file: "%[5]s"
limits:
  per_caller: {rate: 5000, burst: 5000}
audit_file: audit.jsonl
callers:
`

// configure writes the files of one caller and returns its part of the configuration.
func (a *account) configure(files map[string]string) (text string, err error) {
	var line string
	a.key, line = api.NewAPIKey()
	files[a.name+".apikeys"] = line + "\n"
	text = fmt.Sprintf("  %[1]s:\n    api_keys_file: %[1]s.apikeys\n    providers: [simulated]\n", a.name)
	if a.inbox == nil {
		return text, nil
	}
	files[a.name+".whsec"] = a.inbox.secret
	content := "content: full"
	if a.sealed {
		recipient := a.name + ".recipient.jwks.json"
		content = "content: encrypted, encrypt_to_file: " + recipient
		if files[recipient], err = newRecipient(); err != nil {
			return "", err
		}
	}
	return text + fmt.Sprintf("    webhooks:\n      - {name: inbox, url: %q, secrets_file: %s.whsec, %s}\n", a.inbox.url, a.name, content), nil
}

// newRecipient is a subscriber's public key set.
func newRecipient() (string, error) {
	private, err := jose.Generate(time.Now())
	if err != nil {
		return "", err
	}
	keys, err := jose.ReadKeys(private)
	if err != nil {
		return "", err
	}
	return string(keys.Public()), nil
}

// buildProgram makes the program that is measured, unless one was given.
func buildProgram(ctx context.Context, s settings, dir string) (string, error) {
	if s.program != "" {
		return s.program, nil
	}
	name := filepath.Join(dir, "stepup")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", name, "stepup/cmd/stepup").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w: %s", err, out)
	}
	return name, nil
}

// startProgram starts the service in a folder of its own and waits until it is ready.
func (b *bench) startProgram(ctx context.Context, binary, dir string, accounts []*account, secure bool) (*program, error) {
	p := &program{}
	if err := p.configure(dir, b, accounts, secure); err != nil {
		return nil, fmt.Errorf("writing its configuration: %w", err)
	}
	cmd := exec.Command(binary, "serve", "--config", filepath.Join(dir, "stepup.yaml"))
	// The runtime tells the size of the heap at each collection.
	cmd.Env = append(append(os.Environ(), "GODEBUG=gctrace=1"), b.environ...)
	if err := p.launch(cmd, filepath.Join(dir, "service.log")); err != nil {
		return nil, err
	}
	if err := p.ready(ctx, secure); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// configure writes the folder that `serve` is given.
func (p *program) configure(dir string, b *bench, accounts []*account, secure bool) error {
	sim, ok := b.target.(*simulator)
	if !ok {
		return errors.New("the service needs a provider to speak with")
	}
	files := map[string]string{"private.jwks.json": string(sim.private), "seal.keys": string(worker.NewSealKeys())}
	var cert, key, ca string
	if len(sim.CA) > 0 {
		ca, files["provider.pem"] = "provider.pem", string(sim.CA)
	}
	if secure {
		chain, private, err := loopbackCertificate()
		if err != nil {
			return err
		}
		p.ca, cert, key = chain, "api.pem", "api.key"
		files[cert], files[key] = string(chain), string(private)
	}
	text := fmt.Sprintf(programConfig, b.store.url, sim.Issuer, cert, key, ca)
	for _, a := range accounts {
		part, err := a.configure(files)
		if err != nil {
			return err
		}
		text += part
	}
	p.key, files["stepup.yaml"] = accounts[0].key, text
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) launch(cmd *exec.Cmd, log string) error {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // the child has its own
	cmd.Stdout, cmd.Stderr = out, out
	endWithUs(cmd)
	p.cmd, p.log, p.began, p.ended = cmd, log, time.Now(), make(chan error, 1)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the service: %w", err)
	}
	go func() { p.ended <- cmd.Wait() }()
	return nil
}

// ready waits until the service has told its addresses and says that it is well.
func (p *program) ready(ctx context.Context, secure bool) error {
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	return until(ctx, "the service gets ready", 30*time.Second, func() (bool, error) {
		select {
		case err := <-p.ended:
			p.ended <- err
			text, _ := os.ReadFile(p.log)
			return false, fmt.Errorf("it ended (%w) and said: %s", err, text)
		default:
		}
		text, err := os.ReadFile(p.log)
		if err != nil || !p.addresses(text, secure) {
			return false, err
		}
		res, err := client.Get(p.admin + "/readyz")
		if err != nil {
			return false, nil
		}
		res.Body.Close()
		p.said = len(text)
		return res.StatusCode == http.StatusOK, nil
	})
}

// addresses finds them in the log.
func (p *program) addresses(log []byte, secure bool) bool {
	for text := range bytes.Lines(log) {
		var line struct{ Msg, API, Admin string }
		if json.Unmarshal(text, &line) == nil && line.Msg == "stepup serves" {
			p.api, p.admin = "http://"+line.API, "http://"+line.Admin
			if secure {
				p.api = "https://" + line.API
			}
			return true
		}
	}
	return false
}

func (p *process) id() string         { return strconv.Itoa(p.cmd.Process.Pid) }
func (p *process) cpu() time.Duration { return processCPU(p.id()) }
func (p *process) rss() int64         { return residentSet(p.id()) }

// stop lets the service drain.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.ended:
		p.ended <- err
		if err != nil {
			return fmt.Errorf("the service ended with %w", err)
		}
		return nil
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		return errors.New("the service did not end within a minute")
	}
}

// warned counts what the service has complained about since it was ready, by what it said.
func (p *process) warned() (*faults, error) {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return nil, fmt.Errorf("reading the service's log: %w", err)
	}
	return complaints(log[min(p.said, len(log)):]), nil
}

// complaints are the warnings and errors of a log.
func complaints(log []byte) *faults {
	found := &faults{}
	for text := range bytes.Lines(log) {
		var line struct{ Level, Msg string }
		if json.Unmarshal(text, &line) == nil && (line.Level == "WARN" || line.Level == "ERROR") {
			found.add(line.Msg)
		}
	}
	return found
}

// collection is one garbage collection.
type collection struct {
	at   time.Duration // since the process began
	live int64         // what it left on the heap, bytes
}

// collected matches a line of the runtime's trace: gc 5 @1.042s 0%: … ms cpu, 4->5->2 MB, …
var collected = regexp.MustCompile(`gc \d+ @([0-9.]+)s .*, \d+->\d+->(\d+) MB`)

// heap is what the runtime has told of its collections so far.
func (p *process) heap() ([]collection, error) {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return nil, fmt.Errorf("reading the service's log: %w", err)
	}
	return collections(log), nil
}

// collections leaves out those lines that another was written into the middle of.
func collections(log []byte) (all []collection) {
	for _, m := range collected.FindAllSubmatch(log, -1) {
		at, err := strconv.ParseFloat(string(m[1]), 64)
		live, bad := strconv.ParseInt(string(m[2]), 10, 64)
		if err == nil && bad == nil {
			all = append(all, collection{time.Duration(at * float64(time.Second)), live << 20})
		}
	}
	return all
}

// liveAt is what the last collection before a moment left; 0 when there was none.
func liveAt(all []collection, at time.Duration) (live int64) {
	for _, c := range all {
		if c.at <= at {
			live = c.live
		}
	}
	return live
}
