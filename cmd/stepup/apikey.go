package main

import (
	"fmt"

	"stepup/worker/api"
)

type apikeyCmd struct{}

func (apikeyCmd) Help() string {
	return `The first line is the key: give it to the caller, it is shown once and stored nowhere. The second line goes into the
caller's api_keys_file, which then accepts the key (SIGHUP makes a running service read it).

Reads:
  nothing

Exit codes:
  0  printed
  2  wrong usage

Examples:
  stepup apikey`
}

func (apikeyCmd) Run(e *env) error {
	key, line := api.NewAPIKey()
	_, err := fmt.Fprintf(e.stdout, "%s\n%s\n", key, line)
	return err
}
