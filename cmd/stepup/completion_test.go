package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// words are the candidates without what they are for.
func words(answer string) string {
	var all []string
	for line := range strings.Lines(answer) {
		word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t")
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

// A step of completion is a line as it is written so far, and what may stand last.
type completed struct{ line, want string }

var completions = []completed{
	{"stepup s", "serve show"},
	{"stepup web", "webhook"},
	{"stepup webhook ", "test"},
	{"stepup show --c", "--config"},
	{"stepup show --config x --j", "--json"},
	{"stepup serve --role ", "all api worker"},
	{"stepup serve --role=w", "--role=worker"},
	{"stepup --log-format text ser", "serve"},
	{"stepup --log-format=t", "--log-format=text"},
	{"stepup completion ", "bash zsh fish"},
	{"stepup completion bash ", ""},
	{"stepup help ta", "tail"},
	{"stepup help webhook ", "test"},
	{"stepup tail -c CONFIG --caller ", "bank"},
	{"stepup tail --config=CONFIG --caller b", "bank"},
	{"stepup tail --config=CONFIG --caller=b", "--caller=bank"},
	{"stepup redeliver --config CONFIG --caller bank --webhook ", "ledger"},
	{"stepup redeliver --config CONFIG --caller bank --from 2026-11-21T02:00:00Z --web", "--webhook"},
	{"stepup webhook test --config CONFIG b", "bank/ledger"},
	{"stepup tail --config missing.yaml --caller ", ""},
	{"stepup show --config CONFIG ", ""},
	{"stepup show -- --c", ""},
	{"stepup nonsense s", "serve show"},
	{"stepup __c", ""},
}

// What may stand next is told from the commands themselves, and from the configuration that the line names.
func TestCompletion(t *testing.T) {
	config := filepath.Join(prepare(t, asItIs).dir, configFile)
	ask := func(line string) string {
		var out, errs bytes.Buffer
		args := strings.Split(strings.ReplaceAll(line, "CONFIG", config), " ")
		if code := run(t.Context(), append([]string{"__complete", "--"}, args[1:]...), nil, &out, &errs); code != exitDone || errs.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", line, code, errs.String())
		}
		return out.String()
	}
	for _, c := range completions {
		if got := words(ask(c.line)); got != c.want {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
	for _, line := range []string{"stepup serve --config ", "stepup serve --config=st", "stepup keygen --out s", "stepup listen --public-key x"} {
		if got := ask(line); got != anyFile+"\n" {
			t.Errorf("%s: %q, want files", line, got)
		}
	}
	if got := ask("stepup tail --caller"); got != "--caller\tOnly this caller's step-ups\n" {
		t.Errorf("a flag says what it is for: %q", got)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.Symlink(config, filepath.Join(home, "my.yaml")); err != nil {
		t.Fatal(err)
	}
	if got := words(ask("stepup tail -c ~/my.yaml --caller ")); got != "bank" {
		t.Errorf("below home: %q", got)
	}
	if got := ask("stepup apikey "); !strings.HasPrefix(got, "--help\t") {
		t.Errorf("where nothing but flags can follow: %q", got)
	}
}

// inFolder is where the shells stand: with a configuration, and a file whose name has a space in it.
func inFolder(t *testing.T) string {
	t.Helper()
	dir := prepare(t, asItIs).dir
	write(t, dir, "of mine.yaml", "")
	return dir
}

// fish answers what it would offer.
func TestCompletionFish(t *testing.T) {
	if _, err := exec.LookPath("fish"); err != nil {
		t.Fatal("fish is missing: run `make deps` at the root")
	}
	dir := inFolder(t)
	cases := append([]completed{
		{"stepup check --config ste", configFile},
		{"stepup check --config=ste", "--config=" + configFile},
		{"stepup check --config of", "of mine.yaml"},
	}, completions...)
	script := "stepup completion fish | source\n"
	for _, c := range cases {
		script += "echo '>'; complete -C '" + strings.ReplaceAll(c.line, "CONFIG", configFile) + "'\n"
	}
	cmd := exec.CommandContext(t.Context(), "fish", "--no-config")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(script)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	answers := strings.Split(string(out), ">\n")
	if err != nil || len(answers) != len(cases)+1 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, c := range cases {
		want := strings.Fields(c.want)
		slices.Sort(want) // as fish does
		if got := words(answers[i+1]); got != c.want && got != strings.Join(want, " ") {
			t.Errorf("%s: %q, want %q", c.line, got, c.want)
		}
	}
}

// bash and zsh are typed into, on a terminal.
func TestCompletionTyped(t *testing.T) {
	for _, shell := range []struct{ name, command, load string }{
		{"bash", "bash --norc --noprofile", `eval "$(stepup completion bash)"`},
		{"zsh", "zsh -f", `autoload -Uz compinit && compinit -u -d dump && source <(stepup completion zsh)`},
	} {
		t.Run(shell.name, func(t *testing.T) {
			for _, program := range []string{shell.name, "script"} {
				if _, err := exec.LookPath(program); err != nil {
					t.Fatalf("%s is missing: run `make deps` at the root", program)
				}
			}
			cmd := exec.CommandContext(t.Context(), "script", "-qefc", shell.command, os.DevNull)
			cmd.Dir = inFolder(t)
			cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "TERM=dumb", "HISTFILE=")
			screen := &logText{}
			cmd.Stdout = screen
			keys, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { keys.Close(); _ = cmd.Wait() })
			press := func(text, want string) {
				t.Helper()
				before := len(screen.String())
				_, _ = io.WriteString(keys, text)
				eventually(t, "after "+text+" the screen shows "+want, func() bool { return strings.Contains(screen.String()[before:], want) })
			}
			press(shell.load+"; echo loa''ded\n", "loaded\r\n")
			for _, c := range []completed{
				{"stepup ver", "stepup version "},
				{"stepup serve --role w", "--role worker "},
				{"stepup serve --role=w", "--role=worker "},
				{"stepup tail --config stepup.yaml --caller b", "--caller bank "},
				{"stepup tail --config=stepup.yaml --caller=b", "--caller=bank "},
				{"stepup tail --config=stepup.yaml --caller=", "--caller=bank "},
				{"stepup webhook test -c 'stepup.yaml' b", "bank/ledger "},
				{"stepup redeliver --from 2026-11-21T02:00:00Z --web", "--webhook "},
				{"stepup check --config ste", "--config stepup.yaml "},
				{"stepup check --config=ste", "--config=stepup.yaml "},
				{"stepup check --config of", `of\ mine.yaml `},
			} {
				press("\x15"+c.line+"\t", c.want) // in place of the line before
			}
		})
	}
}
