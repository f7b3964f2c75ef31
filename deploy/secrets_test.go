package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"stepup/config"
)

// secretFiles are the files below secrets/ that a configuration names.
func secretFiles(text string) []string {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for _, m := range regexp.MustCompile(`_file: secrets/([^\s",}]+)`).FindAllStringSubmatch(line, -1) {
			names[m[1]] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// given lays files as a machine gives secrets to a service: its group may read them. The program refuses them so.
func given(t *testing.T, dir string, names []string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		write(t, filepath.Join(dir, name), "something", 0o440)
	}
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
}

func run(t *testing.T, script string, environ ...string) {
	t.Helper()
	cmd := exec.Command("sh", "-euc", script)
	cmd.Env = append(os.Environ(), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
}

// systemd shows a credential as mode 0440, because it lets the service's user read it by an access list. What the unit
// starts the program with is accepted all the same, twice in a row, and a unit that knows every secret is the sample's.
func TestUnitGivesSecretsThatAreAccepted(t *testing.T) {
	unit := read(t, "systemd/stepup.service")
	var credentials []string
	for _, m := range regexp.MustCompile(`(?m)^LoadCredential=(\S+):/etc/stepup/secrets/(\S+)$`).FindAllStringSubmatch(unit, -1) {
		if m[1] != m[2] {
			t.Errorf("the credential %s is read from %s", m[1], m[2])
		}
		credentials = append(credentials, m[1])
	}
	slices.Sort(credentials)
	sample := read(t, "stepup.yaml")
	if named := secretFiles(sample); !slices.Equal(credentials, named) {
		t.Errorf("the unit loads %v, the sample configuration names %v", credentials, named)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=/bin/sh -euc '(.+)'$`).FindStringSubmatch(unit)
	if start == nil || !regexp.MustCompile(`(?m)^UMask=0077$`).MatchString(unit) {
		t.Fatal("the unit does not start the program as this test knows")
	}
	dir := t.TempDir()
	given(t, dir+"/credentials", credentials)
	write(t, dir+"/stepup.yaml", sample, 0o644)
	if err := os.Mkdir(dir+"/run", 0o700); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("$$", "$", "/etc/stepup/", dir+"/", "exec /usr/local/bin/stepup", "exec echo").Replace(start[1])
	for range 2 {
		run(t, "umask 0077; "+script, "RUNTIME_DIRECTORY="+dir+"/run", "CREDENTIALS_DIRECTORY="+dir+"/credentials")
		if _, err := config.Load(dir+"/run/stepup.yaml", nil); err != nil {
			t.Fatal(err)
		}
	}
	given(t, dir+"/secrets", credentials)
	if _, err := config.Load(dir+"/stepup.yaml", nil); err == nil {
		t.Error("the program takes secrets that the group may read: the copies are no longer needed")
	}
}

// The kubelet gives a Secret's files mode 0440, too. What the init container leaves is accepted, and so is the
// configuration; a second start over the same folder works.
func TestPodGivesSecretsThatAreAccepted(t *testing.T) {
	var pod struct {
		Spec struct {
			Template struct {
				Spec struct {
					InitContainers []struct {
						Command []string `yaml:"command"`
					} `yaml:"initContainers"`
				} `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	readYAML(t, "kubernetes/pod.yaml", &pod)
	command := pod.Spec.Template.Spec.InitContainers[0].Command
	sample := read(t, "kubernetes/stepup.yaml")
	names := secretFiles(sample)
	if len(names) < 7 || !slices.Contains(names, "tls.key") {
		t.Fatalf("the configuration names %v: it is not read as it should be", names)
	}
	dir := t.TempDir()
	given(t, dir+"/from", names)
	certificate(t, dir+"/from")
	write(t, dir+"/stepup.yaml", sample, 0o644)
	if err := os.Mkdir(dir+"/secrets", 0o700); err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("/from/", dir+"/from/", "/secrets/", dir+"/secrets/").Replace(command[2])
	for range 2 {
		run(t, script)
		if _, err := config.Load(dir+"/stepup.yaml", nil); err != nil {
			t.Fatal(err)
		}
	}
}

// Pods and the unit have the time that a drain may take, on top of a poll that is held.
func TestGraceIsLongEnough(t *testing.T) {
	for file, line := range map[string]string{
		"kubernetes/pod.yaml":    "terminationGracePeriodSeconds: 75",
		"systemd/stepup.service": "TimeoutStopSec=75",
		"../docker-compose.yml":  "stop_grace_period: 75s",
	} {
		if !strings.Contains(read(t, file), line+"\n") {
			t.Errorf("%s does not say %s", file, line)
		}
	}
}

// A service that ended is started again however often that takes: Redis may be away for longer than five starts, and Go ends a
// crash with 2, as the program ends at a mistake in its configuration.
func TestUnitIsStartedAgain(t *testing.T) {
	unit := read(t, "systemd/stepup.service")
	before, _, _ := strings.Cut(unit, "\n[Service]\n")
	if !strings.Contains(before, "\nStartLimitIntervalSec=0\n") || !strings.Contains(unit, "\nRestart=on-failure\n") || strings.Contains(unit, "RestartPreventExitStatus") {
		t.Error("the unit gives up after some failures")
	}
}

// A collector's pipelines are made of components that it has, and it has none that no pipeline uses.
func TestCollectorPipelines(t *testing.T) {
	var c map[string]yaml.MapSlice
	var service struct {
		Service struct {
			Extensions []string                       `yaml:"extensions"`
			Pipelines  map[string]map[string][]string `yaml:"pipelines"`
		} `yaml:"service"`
	}
	readYAML(t, "otel/collector.yaml", &c)
	readYAML(t, "otel/collector.yaml", &service)
	for _, kind := range []string{"receivers", "processors", "exporters", "extensions"} {
		var has []string
		for _, item := range c[kind] {
			has = append(has, item.Key.(string))
		}
		uses := map[string]bool{}
		for _, p := range service.Service.Pipelines {
			for _, name := range p[kind] {
				uses[name] = true
			}
		}
		if kind == "extensions" {
			for _, name := range service.Service.Extensions {
				uses[name] = true
			}
		}
		slices.Sort(has)
		if used := slices.Sorted(maps.Keys(uses)); len(has) == 0 || !slices.Equal(has, used) {
			t.Errorf("the collector has the %s %v and uses %v", kind, has, used)
		}
	}
}
