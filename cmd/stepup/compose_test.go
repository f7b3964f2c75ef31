package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// composeFile is what the test reads of docker-compose.yml.
type composeFile struct {
	Services map[string]composeService `yaml:"services"`
}

type composeService struct {
	Image     string   `yaml:"image"`
	Command   []string `yaml:"command"`
	Volumes   []string `yaml:"volumes"`
	Ports     []string `yaml:"ports"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

// stack runs the services of docker-compose.yml as plain processes on loopback: container paths lie below a folder,
// and every name:port of the stack is a loopback port.
type stack struct {
	root  string // of the containers
	addrs *strings.Replacer
	ports map[string]string // loopback address by name:port
	out   map[string]*logText
	procs map[string]*exec.Cmd
}

// The compose stack works as its first lines promise: init makes the secrets and shows the key, and a step-up that is
// approved on the phone reaches the receiver.
func TestCompose(t *testing.T) {
	file := readCompose(t)
	s := newStack(t, file)
	for name, c := range file.Services {
		for _, p := range c.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s beyond this machine", name, p)
			}
		}
		for _, v := range c.Volumes {
			s.mount(t, v)
		}
	}
	s.up(t, file)

	shown := regexp.MustCompile(`Authorization: Bearer ([^']+)'`).FindStringSubmatch(s.out["init"].String())
	body := regexp.MustCompile(`-d '(\{.*\})'`).FindStringSubmatch(s.out["init"].String())
	if shown == nil || body == nil {
		t.Fatalf("init shows no first request:\n%s", s.out["init"])
	}
	id := s.ask(t, shown[1], body[1])
	s.approve(t)
	eventually(t, "the receiver verifies the webhook", func() bool {
		return s.out["receiver"].has("verified  evt_") && s.out["receiver"].has(`"type": "step_up.approved"`) && s.out["receiver"].has(id)
	})
	s.down(t)
}

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func newStack(t *testing.T, file composeFile) *stack {
	s := &stack{root: t.TempDir(), ports: map[string]string{}, out: map[string]*logText{}, procs: map[string]*exec.Cmd{}}
	var pairs []string
	base := freePorts(t, 6)
	for i, from := range []string{"redis:6379", "stepup:8080", "stepup:8081", "fakeop:8090", "receiver:8070"} {
		name, port, _ := strings.Cut(from, ":")
		if _, ok := file.Services[name]; !ok {
			t.Fatalf("the stack has no service %s", name)
		}
		s.ports[from] = fmt.Sprintf("127.0.0.1:%d", base+i)
		pairs = append(pairs, from, s.ports[from], "0.0.0.0:"+port, s.ports[from])
	}
	pairs = append(pairs, "/etc/", s.root+"/etc/", "/src/", s.root+"/src/")
	s.addrs = strings.NewReplacer(pairs...)
	repository, err := filepath.Abs("../..")
	if err == nil {
		err = os.Symlink(repository, filepath.Join(s.root, "src"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mount puts a file of the repository, or an empty folder for a named volume, where its container would see it.
func (s *stack) mount(t *testing.T, volume string) {
	t.Helper()
	from, to, _ := strings.Cut(volume, ":")
	to, _, _ = strings.Cut(to, ":")
	to = filepath.Join(s.root, to)
	if !strings.HasPrefix(from, ".") {
		if err := os.MkdirAll(to, 0o700); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(filepath.Join("../..", from))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(to), filepath.Base(to), s.addrs.Replace(string(text)))
}

// up starts everything in the order that depends_on asks for. What is not ours or Redis is left out.
func (s *stack) up(t *testing.T, file composeFile) {
	t.Helper()
	waiting := []string{}
	for name, c := range file.Services {
		if strings.HasPrefix(c.Image, "stepup") || strings.HasPrefix(c.Image, "redis:") {
			waiting = append(waiting, name)
		}
	}
	slices.Sort(waiting)
	for len(waiting) > 0 {
		i := slices.IndexFunc(waiting, func(name string) bool {
			for on := range file.Services[name].DependsOn {
				if s.procs[on] == nil {
					return false
				}
			}
			return true
		})
		if i < 0 {
			t.Fatalf("depends_on goes in a circle: %v", waiting)
		}
		for on, how := range file.Services[waiting[i]].DependsOn {
			s.await(t, on, how.Condition)
		}
		s.start(t, waiting[i], file.Services[waiting[i]])
		waiting = slices.Delete(waiting, i, i+1)
	}
	for _, addr := range s.ports {
		s.awaitPort(t, addr)
	}
}

func (s *stack) start(t *testing.T, name string, c composeService) {
	t.Helper()
	args := slices.Clone(c.Command)
	if c.Image == "stepup:local" {
		args = append([]string{"stepup"}, args...) // the image's entry point
	}
	for i, a := range args {
		args[i] = s.addrs.Replace(a)
	}
	if name == "redis" {
		_, port, _ := net.SplitHostPort(s.ports["redis:6379"])
		args = append(args, "--bind", "127.0.0.1", "--port", port, "--dir", filepath.Join(s.root, "data"))
	}
	out := &logText{}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.procs[name], s.out[name] = cmd, out
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, out)
		}
	})
}

func (s *stack) await(t *testing.T, name, condition string) {
	t.Helper()
	switch condition {
	case "service_completed_successfully":
		if s.procs[name].ProcessState != nil {
			return
		}
		if err := s.procs[name].Wait(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	case "service_healthy":
		s.awaitPort(t, s.ports[name+":6379"])
	}
}

func (s *stack) awaitPort(t *testing.T, addr string) {
	t.Helper()
	eventually(t, addr+" answers", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// ask makes the request that init shows.
func (s *stack) ask(t *testing.T, key, body string) (id string) {
	t.Helper()
	var answer struct{ ID string }
	eventually(t, "the service takes a step-up", func() bool {
		req, err := http.NewRequest(http.MethodPost, "http://"+s.ports["stepup:8080"]+"/v1/step-ups", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", "first")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode == http.StatusServiceUnavailable { // its lease may be a moment away
			return false
		}
		if err := json.Unmarshal(text, &answer); err != nil || res.StatusCode != http.StatusCreated {
			t.Fatalf("%d: %s", res.StatusCode, text)
		}
		return true
	})
	return answer.ID
}

// approve presses the button on the phone page.
func (s *stack) approve(t *testing.T) {
	t.Helper()
	phone := "http://" + s.ports["fakeop:8090"] + "/phone"
	res, err := http.Get(phone + "/prompts")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var shown struct{ Prompts []struct{ ID string } }
	if err := json.NewDecoder(res.Body).Decode(&shown); err != nil || len(shown.Prompts) != 1 {
		t.Fatalf("%d prompts on the phone, %v", len(shown.Prompts), err)
	}
	pressed, err := http.Post(phone+"/"+shown.Prompts[0].ID+"/approve", "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	pressed.Body.Close()
	if pressed.StatusCode != http.StatusOK {
		t.Fatalf("pressing the button: %d", pressed.StatusCode)
	}
}

// down stops what runs as compose would; everything of ours must end well.
func (s *stack) down(t *testing.T) {
	t.Helper()
	for _, name := range []string{"stepup", "receiver", "fakeop", "redis"} {
		cmd := s.procs[name]
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		late := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
		late.Stop()
	}
}
