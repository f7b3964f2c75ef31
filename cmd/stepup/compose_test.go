package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
	Deploy struct {
		Replicas int `yaml:"replicas"`
	} `yaml:"deploy"`
}

// stack runs the services of docker-compose.yml as plain processes on loopback: container paths lie below a folder,
// and every name:port of the stack is a loopback port.
type stack struct {
	root  string // of the containers
	addrs *strings.Replacer
	ports map[string]string // loopback address by name:port
	out   map[string]*logText
	procs map[string]*exec.Cmd
	jaeger
}

// The compose stack works as its first lines promise: init makes the secrets and shows the key, and a step-up that is
// approved on the phone reaches the receiver. Its trace reaches Jaeger, and Prometheus, where there is one, sees all
// processes, has nothing to say against them, and tells of each fault, with a link to what to do. All the while stepup has no
// more rights in Redis than deploy/REDIS.md gives it.
func TestCompose(t *testing.T) {
	t.Parallel()
	file := readCompose(t)
	s := newStack(t, file)
	for name, c := range file.Services {
		for _, p := range c.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s beyond this machine", name, p)
			}
		}
		for _, v := range c.Volumes {
			if c.runs() {
				s.mount(t, v)
			}
		}
	}
	s.up(t, file)

	shown := regexp.MustCompile(`Authorization: Bearer ([^']+)'`).FindStringSubmatch(s.out["init"].String())
	body := regexp.MustCompile(`-d '(\{.*\})'`).FindStringSubmatch(s.out["init"].String())
	if shown == nil || body == nil {
		t.Fatalf("init shows no first request:\n%s", s.out["init"])
	}
	id := s.ask(t, shown[1], body[1], "first")
	s.approve(t)
	eventually(t, "the receiver verifies the webhook", func() bool {
		return s.out["receiver"].has("verified  evt_") && s.out["receiver"].has(`"type": "step_up.approved"`) && s.out["receiver"].has(id)
	})
	s.traced(t)
	s.refusedNothing(t)
	if hasPrometheus() {
		s.watched(t)
		s.alerted(t, shown[1], body[1])
	} else {
		t.Log("prometheus is not on the PATH, so nobody watches: `make deps` at the root installs it")
	}
	s.down(t)
}

// Init that was cut short is made good by the next start, and one that was not changes nothing.
func TestComposeInitIsRepeated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() {
		t.Helper()
		if out, err := exec.Command("sh", "../../deploy/compose/init.sh", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
	}
	files := []string{privateFile, publicFile, sealFile, "api.key", "core-banking.apikeys", "ledger.whsec", "admin.token"}
	for i := range files { // the first i were written
		for _, name := range files[i:] {
			if err := os.Remove(filepath.Join(dir, name)); err != nil && i > 0 {
				t.Fatal(err)
			}
		}
		start()
	}
	before := map[string]string{}
	for _, name := range files {
		before[name] = read(t, filepath.Join(dir, name))
	}
	start()
	for name, text := range before {
		if text == "" || read(t, filepath.Join(dir, name)) != text {
			t.Errorf("%s was written again, or never", name)
		}
	}
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
	for name, c := range maps.Clone(file.Services) {
		for i := 2; i <= c.Deploy.Replicas; i++ {
			file.Services[fmt.Sprintf("%s-%d", name, i)] = c
		}
	}
	return file
}

func newStack(t *testing.T, file composeFile) *stack {
	s := &stack{root: t.TempDir(), ports: map[string]string{}, out: map[string]*logText{}, procs: map[string]*exec.Cmd{}}
	var pairs []string
	names := []string{"redis:6379", "api:8080", "api:8081", "worker:8081", "worker-2:8081", "fakeop:8090", "receiver:8070"}
	if hasPrometheus() {
		names = append(names, "prometheus:9090")
	}
	base := freePorts(t, len(names))
	for i, from := range names {
		name, port, _ := strings.Cut(from, ":")
		if _, ok := file.Services[name]; !ok {
			t.Fatalf("the stack has no service %s", name)
		}
		s.ports[from] = fmt.Sprintf("127.0.0.1:%d", base+i)
		pairs = append(pairs, from, s.ports[from])
		if !strings.HasPrefix(name, "worker") { // which has the address from its environment
			pairs = append(pairs, "0.0.0.0:"+port, s.ports[from])
		}
	}
	pairs = append(pairs, "jaeger:4318", s.listen(t), "/etc/", s.root+"/etc/", "/src/", s.root+"/src/", "=/prometheus", "="+s.root+"/prometheus")
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

// mount puts a file of the repository, or the folder of a named volume, where its container would see it.
func (s *stack) mount(t *testing.T, volume string) {
	t.Helper()
	from, to, _ := strings.Cut(volume, ":")
	to, _, _ = strings.Cut(to, ":")
	to = filepath.Join(s.root, to)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(from, ".") {
		shared := filepath.Join(s.root, "volumes", from)
		if err := os.MkdirAll(shared, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(shared, to); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		return
	}
	text, err := os.ReadFile(filepath.Join("../..", from))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Dir(to), filepath.Base(to), s.addrs.Replace(s.hasten(string(text))))
}

// runs says whether the test has the program: ours, Redis, and Prometheus where it is installed.
func (c composeService) runs() bool {
	return strings.HasPrefix(c.Image, "stepup") || strings.HasPrefix(c.Image, "redis:") || strings.HasPrefix(c.Image, "prom/prometheus:") && hasPrometheus()
}

// up starts everything in the order that depends_on asks for.
func (s *stack) up(t *testing.T, file composeFile) {
	t.Helper()
	waiting := []string{}
	for name, c := range file.Services {
		if c.runs() {
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
	switch name { // the images' entry points
	case "api", "worker", "worker-2", "fakeop", "receiver":
		args = append([]string{"stepup"}, args...)
	case "prometheus":
		args = append([]string{"prometheus", "--web.listen-address=" + s.ports["prometheus:9090"]}, args...)
	}
	for i, a := range args {
		args[i] = s.addrs.Replace(a)
	}
	if name == "redis" {
		_, port, _ := net.SplitHostPort(s.ports["redis:6379"])
		args = append(args, "--bind", "127.0.0.1", "--port", port, "--dir", filepath.Join(s.root, "data"), "--user")
		args = append(args, documentedUser(t)...)
	}
	out := &logText{}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = os.Environ()
	for key, value := range c.Environment {
		cmd.Env = append(cmd.Env, key+"="+s.addrs.Replace(value))
	}
	if name == "api" || strings.HasPrefix(name, "worker") {
		write(t, s.root, "redis.password", "password")
		cmd.Env = append(cmd.Env, "STEPUP_REDIS_USERNAME=stepup", "STEPUP_REDIS_PASSWORD_FILE="+filepath.Join(s.root, "redis.password"))
		cmd.Env = append(cmd.Env, "STEPUP_LISTEN_ADMIN="+s.ports[name+":8081"]) // each has a host of its own in the stack
	}
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
func (s *stack) ask(t *testing.T, key, body, once string) (id string) {
	t.Helper()
	var answer struct{ ID string }
	eventually(t, "the service takes a step-up", func() bool {
		req, err := http.NewRequest(http.MethodPost, "http://"+s.ports["api:8080"]+"/v1/step-ups", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", once)
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
	for _, name := range []string{"prometheus", "api", "worker", "worker-2", "receiver", "fakeop", "redis"} {
		cmd := s.procs[name]
		if cmd == nil || cmd.ProcessState != nil {
			continue // not here, or killed
		}
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
