package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// process is a child that is done things to. It ends with this program.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it is gone
}

// launch starts a program that writes what it says to the end of a log file.
func launch(log string, env []string, program string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	endWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal does nothing to a process that is gone.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// freeze stops the process where it is. On a busy machine the signal alone takes effect some milliseconds after it was
// sent, and the process would be frozen somewhere else.
func (p *process) freeze() {
	p.signal(syscall.SIGSTOP)
	untilStopped(p.pid())
}

// thaw lets it go on.
func (p *process) thaw() { p.signal(syscall.SIGCONT) }

// kill is kill -9, which a stopped process obeys too.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exit waits for the end and returns the exit code, -1 after a signal.
func (p *process) exit(ctx context.Context, within time.Duration) (int, error) {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-late.C:
		return 0, fmt.Errorf("did not end within %v", within)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// ports hands out loopback ports below those that systems give to outgoing connections, so that a process that is
// started again finds its own port free.
type ports struct {
	mu   sync.Mutex
	last int
}

func (p *ports) next() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == 0 {
		p.last = 15000 + rand.IntN(16000) // others may run beside us
	}
	for range 2000 {
		if p.last++; p.last > 31000 {
			p.last = 15000
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p.last))
		if err == nil {
			return p.last, l.Close()
		}
	}
	return 0, errors.New("no free port on loopback between 15000 and 31000")
}

// until asks ok again and again.
func until(ctx context.Context, what string, within time.Duration, ok func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s: not within %v", what, within))
	defer cancel()
	for !ok() {
		if !pause(ctx, 10*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// pause is false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
