package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

type versionCmd struct{}

func (versionCmd) Help() string {
	return `Says which program this is: what to name when you report a fault.

Reads:
  nothing

Exit codes:
  0  printed
  2  wrong usage

Examples:
  stepup version`
}

func (versionCmd) Run(e *env) error {
	v := buildVersion()
	fmt.Fprintf(e.stdout, "stepup %s\ncommit %s\n%s\n", v.version, v.commit, runtime.Version())
	return nil
}

// build is what the Go tool wrote into the program.
type build struct{ version, commit string }

func buildVersion() build {
	b := build{version: "(devel)", commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.version = info.Main.Version
	}
	changed := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if changed {
		b.commit += " with changes"
	}
	return b
}
