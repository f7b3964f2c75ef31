package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/sdk/trace"

	"stepup/ciba/cibatest"
	"stepup/webhook"
	"stepup/worker"
	"stepup/worker/api"
)

type demoCmd struct {
	Once     bool `help:"Run one approved and one denied step-up without a person, then exit."`
	PortBase int  `default:"18080" placeholder:"N" help:"Ports N (API), N+1 (operators), N+2 (provider) and N+3 (bank) on loopback (default ${default})."`
	Verbose  bool `short:"v" help:"Show the service's log too."`
}

func (demoCmd) Help() string {
	return `Everything in one process on loopback: a Redis in memory, the simulated provider with a phone, the service, a sample bank and
its webhook inbox, all on one page in your browser. Nothing is installed and nothing is left behind.

Reads:
  nothing: its configuration and keys are made for it, and removed at the end.

Exit codes:
  0  ended by Ctrl-C; with --once: both webhooks came and verified
  1  a port is taken, or something did not work
  2  wrong usage

Examples:
  stepup demo           # open the page it names: press the bank's button, answer on the phone
  stepup demo --once    # watch one approval and one refusal in the terminal, 5 seconds`
}

const maxPort = 1<<16 - 1

// demo is the little world around the service.
type demo struct {
	demoCmd
	env    *env
	dir    string // a configuration like anybody's, and its secrets
	bank   bank
	op     *cibatest.Server
	stage  *stage
	branch *branch
	came   chan event // verified webhooks
}

func (c demoCmd) Run(e *env) error {
	if c.PortBase < 1 || c.PortBase > maxPort-3 {
		return usageError{fmt.Sprintf("--port-base %d: must be 1 to %d", c.PortBase, maxPort-3)}
	}
	dir, err := os.MkdirTemp("", "stepup-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	d := &demo{demoCmd: c, env: e, dir: dir, came: make(chan event, 64)}
	ctx, stop := signal.NotifyContext(e.ctx, syscall.SIGHUP) // the terminal was closed: its keys must not stay
	defer stop()
	return d.run(ctx)
}

func (d *demo) addr(n int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.PortBase+n)) }
func (d *demo) apiURL() string    { return "http://" + d.addr(0) }
func (d *demo) adminURL() string  { return "http://" + d.addr(1) }
func (d *demo) opURL() string     { return "http://" + d.addr(2) }
func (d *demo) bankURL() string   { return "http://" + d.addr(3) }

func (d *demo) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ports, err := d.ports()
	if err != nil {
		return err
	}
	key, err := d.writeConfig()
	if err != nil {
		return fmt.Errorf("preparing the demo: %w", err)
	}
	d.bank = bank{url: d.apiURL(), key: key}
	if d.op, err = d.provider(); err != nil {
		return err
	}
	d.stage = newStage(d.env.stdout, d.op)
	site, err := d.site(ctx)
	if err != nil {
		return err
	}
	var world sync.WaitGroup
	defer world.Wait()
	defer stop()
	world.Go(func() { _ = serveHTTP(ctx, ports[2], api.NewHTTPServer(d.op, d.log())) })
	world.Go(func() { _ = serveHTTP(ctx, ports[3], api.NewHTTPServer(site, d.log())) })
	world.Go(func() { d.stage.follow(ctx) })
	return d.withService(ctx, d.play)
}

// ports takes the four ports, so that a busy one is told before anything has begun, and gives the service's back.
func (d *demo) ports() ([]net.Listener, error) {
	var all []net.Listener
	for n := range 4 {
		l, err := net.Listen("tcp", d.addr(n))
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("port %d is not free (%w); choose others with --port-base N", d.PortBase+n, err)
		}
		all = append(all, l)
	}
	all[0].Close()
	all[1].Close()
	return all, nil
}

func (d *demo) provider() (*cibatest.Server, error) {
	public, err := os.ReadFile(filepath.Join(d.dir, publicFile))
	if err != nil {
		return nil, err
	}
	return cibatest.New(cibatest.Config{
		Issuer: d.opURL(), ClientID: demoClient, ClientJWKS: public, Interval: 1, Manual: true, Detail: true,
	})
}

// site is the bank: its page and its inbox.
func (d *demo) site(ctx context.Context) (http.Handler, error) {
	file, err := os.ReadFile(filepath.Join(d.dir, webhookFile))
	if err != nil {
		return nil, err
	}
	secrets, err := webhook.ParseSecrets(file)
	if err != nil {
		return nil, err
	}
	d.branch = &branch{bank: d.bank, op: d.op, stage: d.stage, keyID: secrets[0].KeyID()}
	in := &inbox{keys: webhook.Keys(secrets), seen: map[string]bool{}, show: d.arrived}
	return demoSite{d.branch, d.links(), ctx.Done()}.handler(in), nil
}

// arrived shows what came to the inbox.
func (d *demo) arrived(n news) {
	select {
	case d.came <- d.branch.arrived(n):
	default: // nobody waits for them outside --once
	}
}

func (d *demo) log() *slog.Logger {
	if d.Verbose {
		return d.env.log
	}
	return slog.New(slog.NewTextHandler(d.env.stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// withService runs the service as `stepup serve` would while f plays. The environment does not count: the demo must be
// the same everywhere.
func (d *demo) withService(ctx context.Context, f func(context.Context) error) error {
	serving, drain := context.WithCancel(ctx)
	defer drain()
	playing, stop := context.WithCancel(ctx)
	defer stop()
	s := &service{path: filepath.Join(d.dir, configFile), role: worker.RoleAll, log: d.log(), watch: []trace.SpanProcessor{watcher{d.stage}}}
	ended := make(chan error, 1)
	go func() {
		ended <- s.run(serving)
		stop() // without the service there is nothing to play
	}()
	err := d.awaitReady(playing)
	if err == nil {
		err = f(playing)
	}
	drain()
	if gone := <-ended; gone != nil {
		return gone
	}
	if ctx.Err() != nil { // Ctrl-C is a good end
		return nil
	}
	return err
}

// awaitReady asks /readyz, as a load balancer would.
func (d *demo) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.adminURL()+"/readyz", nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return errors.New("the service did not become ready; --verbose shows its log")
		}
	}
}

// play is the demonstration itself.
func (d *demo) play(ctx context.Context) error {
	d.introduce()
	if d.Once {
		return d.playOnce(ctx)
	}
	return d.playOn(ctx)
}

// playOnce shows one approval and one refusal.
func (d *demo) playOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for i, act := range []struct {
		title  string
		answer cibatest.Kind
		status string
	}{
		{"Somebody approves", cibatest.Approve, "approved"},
		{"Somebody refuses", cibatest.Deny, "denied"},
	} {
		d.stage.title(act.title)
		nric := person(i)
		d.op.Script(nric, cibatest.Script{Polls: []cibatest.Step{{Kind: cibatest.Pending}, {Kind: act.answer}}})
		got, err := d.stepUp(ctx, nric)
		if err != nil {
			return err
		}
		if got.Status != act.status {
			return fmt.Errorf("step-up %s ended as %s, want %s", got.ID, got.Status, act.status)
		}
		if err := d.await(ctx, got.ID, "step_up."+act.status); err != nil {
			return err
		}
	}
	d.stage.title("Done: both step-ups reached the bank, both webhooks verified.")
	return nil
}

// playOn keeps going until Ctrl-C. The page's button asks, and so do Enter and anybody's curl.
func (d *demo) playOn(ctx context.Context) error {
	lines := make(chan struct{})
	go func() {
		in := bufio.NewScanner(d.env.stdin)
		for in.Scan() {
			lines <- struct{}{}
		}
	}()
	var asked sync.WaitGroup
	defer asked.Wait()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-lines:
		}
		d.stage.title("Somebody is asked from the terminal")
		asked.Go(func() {
			if _, err := d.stepUp(ctx, person(n)); err != nil && ctx.Err() == nil {
				d.stage.say("bank", "%v", err)
			}
		})
	}
}

// stepUp is one step-up as the bank sees it, from the question to the result.
func (d *demo) stepUp(ctx context.Context, nric string) (result, error) {
	r, err := d.bank.ask(ctx, nric)
	if err != nil {
		return r, fmt.Errorf("asking: %w", err)
	}
	d.stage.say("bank", "POST /v1/step-ups: 201, %s is %s", r.ID, r.Status)
	if r, err = d.bank.result(ctx, r.ID); err != nil {
		return r, fmt.Errorf("fetching the result: %w", err)
	}
	d.stage.say("bank", "GET  /v1/step-ups/%s: %s", r.ID, r)
	return r, nil
}

// await waits for a step-up's verified webhook, and for its sender to know.
func (d *demo) await(ctx context.Context, id, typ string) error {
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the webhook %s of %s did not arrive", typ, id)
		case e := <-d.came:
			if e.Data.ID == id && e.Type == typ {
				return d.stage.await(ctx, ends["webhook send"])
			}
		}
	}
}

// person is the n-th simulated person.
func person(n int) string {
	nric, _, _ := cibatest.PersonOf(cibatest.HintFor(0xff, 0, uint64(n)))
	return nric
}

// links lead from the page to what else there is.
func (d *demo) links() map[string]string {
	return map[string]string{"docs": d.apiURL() + "/docs", "operators": d.adminURL() + "/", "phone": d.opURL() + "/phone"}
}

func (d *demo) introduce() {
	fmt.Fprintln(d.env.stdout, "stepup demo: a bank asks, a phone answers. All of it in this process and in memory; nothing survives.")
	if d.Once {
		return
	}
	fmt.Fprintf(d.env.stdout, `
Open %[4]s/ in a browser: the bank, the phone and the webhooks are on that page.

  API        %[1]s/v1/step-ups
  its docs   %[1]s/docs
  operators  %[2]s/
  phone      %[3]s/phone
  config     %[5]s

Ask somebody yourself:

  curl %[1]s/v1/step-ups -H 'Authorization: Bearer %[6]s' \
    -H 'Content-Type: application/json' -H "Idempotency-Key: $RANDOM$RANDOM" \
    -d '{"provider":"singpass","login_hint":"S7654321F"}'

Enter asks somebody from here, Ctrl-C ends.

`, d.apiURL(), d.adminURL(), d.opURL(), d.bankURL(), filepath.Join(d.dir, configFile), d.bank.key)
}
