package peers

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// process is one Node program that reads lines and writes lines.
type process struct {
	stdin io.WriteCloser
	lines chan string // its standard output, closed at its end
	said  *output     // its standard error
}

// start runs a program of this folder until the test ends. Every program ends
// by itself when its standard input closes, so it cannot outlive a test binary
// that was killed.
func start(t testing.TB, program string, args ...string) *process {
	t.Helper()
	Need(t)
	dir := folder(t)
	cmd := exec.Command("node", append([]string{filepath.Join(dir, program)}, args...)...)
	cmd.Dir = dir
	p := &process{lines: make(chan string), said: &output{}}
	cmd.Stderr = p.said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatalf("peers: starting %s: %v", program, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("peers: starting %s: %v", program, err)
	}
	p.stdin = stdin
	if err := cmd.Start(); err != nil {
		t.Fatalf("peers: starting %s: %v", program, err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		p.read(stdout, stop)
		cmd.Wait() // after the last read, which Wait would cut off
	}()
	t.Cleanup(func() {
		close(stop)
		stdin.Close()
		select {
		case <-stopped:
		case <-time.After(3 * time.Second):
			cmd.Process.Kill()
			<-stopped
		}
		if said := p.said.String(); t.Failed() && said != "" {
			t.Logf("peers: %s (pid %d) said:\n%s", program, cmd.Process.Pid, said)
		}
	})
	return p
}

// read hands on the program's lines. After stop nobody wants them any more,
// but they are still read, so that the program is not held up at its end.
func (p *process) read(stdout io.Reader, stop <-chan struct{}) {
	defer close(p.lines)
	in := bufio.NewScanner(stdout)
	for in.Scan() {
		select {
		case p.lines <- in.Text():
		case <-stop:
		}
	}
}

// line returns the program's next line.
func (p *process) line() (string, error) {
	select {
	case line, ok := <-p.lines:
		if !ok {
			return "", fmt.Errorf("it ended:\n%s", p.said)
		}
		return line, nil
	case <-time.After(30 * time.Second):
		return "", errors.New("it said nothing for 30 s")
	}
}
