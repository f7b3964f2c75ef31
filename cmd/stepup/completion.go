package main

import (
	"embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"stepup/config"
)

//go:embed completion.bash completion.zsh completion.fish
var shellScripts embed.FS

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"Whose script to print: bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Prints a script for your shell, which then asks stepup itself what can follow: commands, flags, their values, files, and, once
the line names a configuration, its callers and webhooks.

Reads:
  nothing; on the Tab key, the configuration that the line names after --config.
  Redis is not asked.

Exit codes:
  0  printed
  2  a shell that is not known

Examples:
  eval "$(stepup completion bash)"       # in ~/.bashrc
  source <(stepup completion zsh)        # in ~/.zshrc, after compinit
  stepup completion fish | source        # in ~/.config/fish/config.fish`
}

func (c completionCmd) Run(e *env) error {
	script, err := shellScripts.ReadFile("completion." + c.Shell)
	if err == nil {
		_, err = e.stdout.Write(script)
	}
	return err
}

// completeCmd answers the shells' scripts: a line for each word that can stand last, a tab, and what it is for.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// anyFile is the answer where the shell should complete files.
const anyFile = ":files"

func (c completeCmd) Run(e *env, ctx *kong.Context) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	last := len(words) - 1
	l := typed{node: ctx.Model.Node, given: map[string]string{}}
	for _, w := range words[:last] {
		l.take(w)
	}
	for _, w := range l.next(words[last]) {
		fmt.Fprintln(e.stdout, w)
	}
	return nil
}

// typed is a command line as far as it is written. It is read as kong reads it, but forgives mistakes.
type typed struct {
	node  *kong.Node
	args  []string          // positional arguments taken
	plain bool              // after --: no flags any more
	wants *kong.Flag        // whose value comes next
	given map[string]string // flags and their values
}

func (l *typed) take(word string) {
	name, value, whole := strings.Cut(word, "=")
	switch flag := l.flag(name); {
	case l.wants != nil:
		l.given[l.wants.Name], l.wants = word, nil
	case l.plain:
		l.args = append(l.args, word)
	case word == "--":
		l.plain = true
	case flag != nil:
		if l.given[flag.Name] = value; !whole && !flag.IsBool() {
			l.wants = flag
		}
	case strings.HasPrefix(word, "-"): // a mistake
	default:
		if child := childOf(l.node, word); child != nil {
			l.node = child
		} else {
			l.args = append(l.args, word)
		}
	}
}

// flag is the one that is written so: --config or -c.
func (l *typed) flag(written string) *kong.Flag {
	for _, f := range l.flags() {
		if written == "--"+f.Name || f.Short != 0 && written == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

func (l *typed) flags() []*kong.Flag { return slices.Concat(l.node.AllFlags(true)...) }

// next is what a word that begins so can be.
func (l *typed) next(begun string) (words []string) {
	name, _, hasValue := strings.Cut(begun, "=")
	prefix := ""
	switch flag := l.flag(name); {
	case l.wants != nil:
		words = l.values(l.wants.Value)
	case hasValue && flag != nil && !l.plain:
		words, prefix = l.values(flag.Value), name+"="
	case strings.HasPrefix(begun, "-") && !l.plain:
		words = l.unused()
	case len(l.node.Children) > 0:
		words = commandsOf(l.node)
	case len(l.node.Positional) > 0:
		at := min(len(l.args), len(l.node.Positional)-1)
		if arg := l.node.Positional[at]; at == len(l.args) || arg.IsCumulative() {
			words = l.values(arg)
		}
	default:
		words = l.unused()
	}
	if slices.Equal(words, []string{anyFile}) {
		return words
	}
	for i := range words {
		words[i] = prefix + words[i]
	}
	return slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, begun) })
}

// unused are the flags that are not given yet.
func (l *typed) unused() (words []string) {
	for _, f := range l.flags() {
		if _, given := l.given[f.Name]; !given {
			words = append(words, explained("--"+f.Name, f.Help))
		}
	}
	return words
}

// values are what a flag or an argument can be, as far as anybody knows. What is a name says of what in its tag.
func (l *typed) values(v *kong.Value) (words []string) {
	if v.Enum != "" {
		return slices.DeleteFunc(v.EnumSlice(), func(w string) bool { return w == "" })
	}
	switch v.Tag.Get("complete") {
	case "commands":
		node := l.node.Parent
		for _, name := range l.args {
			if node = childOf(node, name); node == nil {
				return nil
			}
		}
		return commandsOf(node)
	case "callers":
		return slices.Sorted(maps.Keys(l.config().Callers))
	case "webhooks":
		for _, h := range l.config().Callers[l.given["caller"]].Webhooks {
			words = append(words, h.Name)
		}
	case "callers/webhooks":
		for caller, c := range l.config().Callers {
			for _, h := range c.Webhooks {
				words = append(words, caller+"/"+h.Name)
			}
		}
		slices.Sort(words)
	case "files":
		return []string{anyFile}
	}
	if p := v.Tag.PlaceHolder; p == "FILE" || p == "DIR" {
		return []string{anyFile}
	}
	return words
}

// config is the configuration that the line names, as far as it can be read: its mistakes are for `stepup check`.
func (l *typed) config() *config.Config {
	path := l.given["config"]
	if rest, ok := strings.CutPrefix(path, "~/"); ok { // the shell has not seen to it yet
		home, _ := os.UserHomeDir()
		path = filepath.Join(home, rest)
	}
	cfg, _ := config.Load(path, os.Environ())
	return cfg
}

func childOf(n *kong.Node, name string) *kong.Node {
	i := slices.IndexFunc(n.Children, func(c *kong.Node) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return n.Children[i]
}

func commandsOf(n *kong.Node) (words []string) {
	for _, c := range n.Children {
		if !c.Hidden {
			words = append(words, explained(c.Name, c.Help))
		}
	}
	return words
}

// explained is a word with the first sentence of its help.
func explained(word, help string) string {
	help, _, _ = strings.Cut(strings.TrimSuffix(help, "."), ". ")
	return word + "\t" + help
}
