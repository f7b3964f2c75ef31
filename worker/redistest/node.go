package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Node is one redis-server process.
type Node struct {
	Addr string

	log    string // what it says, appended at each start
	tls    bool
	master *Node // of a replica
	args   []string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// RunNode is Run for those who do their worst to the process.
func RunNode(dir string, args ...string) (*Node, error) {
	all := append([]string{"--save", "", "--appendonly", "no"}, args...)
	return onFreePort(dir, func(port string) []string { return append([]string{"--port", port}, all...) })
}

// onFreePort starts a server with the arguments for a port of the system's choice.
func onFreePort(dir string, args func(port string) []string) (n *Node, err error) {
	// Another process may take the port between the choice and the start.
	for range 5 {
		var port string
		if port, err = freePort(); err != nil {
			return nil, err
		}
		n = &Node{Addr: "127.0.0.1:" + port, log: filepath.Join(dir, "redis.log"), args: append(args(port), "--bind", "127.0.0.1", "--dir", dir)}
		n.tls = slices.Contains(n.args, "--tls-port")
		if err = n.Restart(); err == nil {
			return n, nil
		}
	}
	return nil, err
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// Restart starts the server, again after it was killed: the same port, folder and
// arguments.
func (n *Node) Restart() error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("redis-server is not installed; `make test` installs it, or: apt-get install redis-server")
	}
	out, err := os.OpenFile(n.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening redis-server's log: %w", err)
	}
	defer out.Close() // the process has its own
	n.cmd = exec.Command(program, n.args...)
	n.cmd.Stdout, n.cmd.Stderr, n.cmd.Env = out, out, os.Environ()
	endWithUs(n.cmd)
	if err := n.cmd.Start(); err != nil {
		return fmt.Errorf("starting redis-server: %w", err)
	}
	ended := make(chan struct{})
	n.ended = ended
	go func() { _ = n.cmd.Wait(); close(ended) }()
	if err := n.await(); err != nil {
		n.Kill()
		said, _ := os.ReadFile(n.log) // the fault itself is told anyway
		return fmt.Errorf("redis-server on %s: %w: %s", n.Addr, err, said)
	}
	return nil
}

// await pings until the server answers and has read what it kept on disk.
func (n *Node) await() error {
	c := n.Client()
	defer c.Close()
	gone := errors.New("ended at once")
	err := until(10*time.Second, func(ctx context.Context) error {
		select {
		case <-n.ended:
			return nil
		default:
		}
		err := knock(ctx, n.Addr)
		if err != nil || n.tls { // a TLS port speaks to those with a certificate alone
			return err
		}
		if err = c.Ping(ctx).Err(); redis.HasErrorPrefix(err, "NOAUTH") {
			return nil
		}
		return err
	})
	select {
	case <-n.ended:
		return gone
	default:
		return err
	}
}

func knock(ctx context.Context, addr string) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

// Kill ends the process at once, as kill -9 does.
func (n *Node) Kill() { _ = n.cmd.Process.Kill(); <-n.ended }

// Freeze stops the process where it is; Thaw lets it go on.
func (n *Node) Freeze() { _ = n.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen process go on.
func (n *Node) Thaw() { _ = n.cmd.Process.Signal(syscall.SIGCONT) }

// Client speaks to this node alone.
func (n *Node) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: n.Addr, MaxRetries: -1, DialerRetries: 1, DialTimeout: time.Second, ReadTimeout: time.Second})
}

// ask speaks to this node alone, if it takes connections at all: go-redis logs each
// that is refused.
func (n *Node) ask(ctx context.Context, with func(*redis.Client) error) error {
	if err := knock(ctx, n.Addr); err != nil {
		return err
	}
	c := n.Client()
	defer c.Close()
	return with(c)
}

// do runs one command and forgets what it answers.
func (n *Node) do(ctx context.Context, args ...any) error {
	return n.ask(ctx, func(c *redis.Client) error { return c.Do(ctx, args...).Err() })
}

// info is a section of what the node says of itself; empty when it does not.
func (n *Node) info(ctx context.Context, section string) (text string) {
	_ = n.ask(ctx, func(c *redis.Client) (err error) {
		text, err = c.Info(ctx, section).Result()
		return err
	})
	return text
}

// nodes are many, ended together.
type nodes []*Node

func (ns nodes) kill() {
	for _, n := range ns {
		n.Kill()
	}
}
