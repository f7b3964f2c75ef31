package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// helpWidth is how wide a page gets, in columns.
const helpWidth = 100

func newParser(cmd *commands, stdout, stderr io.Writer) *kong.Kong {
	return kong.Must(cmd,
		kong.Name("stepup"),
		kong.Description("Asks people to confirm on their phone (CIBA, Singpass) and tells your backend by signed webhook.\n\nNew here? Run `stepup demo`."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: helpWidth}),
		kong.Help(printHelp),
	)
}

// appPage ends the page of the program itself.
const appPage = `
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
`

// pageReads begins the second half of a command's Help: what it reads, its exit codes and examples. These stand as they
// are written, below arguments and flags.
const pageReads = "\nReads:\n"

// printHelp prints a page like a manual's: usage, purpose, arguments, flags, what is read, exit codes, examples.
func printHelp(o kong.HelpOptions, ctx *kong.Context) error {
	rest := appPage
	if node := ctx.Selected(); node != nil {
		about, page, _ := strings.Cut(node.Detail, pageReads)
		if node.Detail, rest = about, ""; page != "" {
			rest = pageReads + page + "\n"
		}
	}
	if err := kong.DefaultHelpPrinter(o, ctx); err != nil {
		return err
	}
	_, err := io.WriteString(ctx.Stdout, rest)
	return err
}

// wayOn is where somebody finds what is right who got the command line wrong.
func wayOn(err error) string {
	parse, ok := errors.AsType[*kong.ParseError](err)
	if ok && parse.Context.Selected() != nil {
		return fmt.Sprintf("Try `stepup help %s`.", parse.Context.Selected().Path())
	}
	return "Try `stepup help`, or `stepup demo` to see it work."
}

type helpCmd struct {
	Command []string `arg:"" optional:"" complete:"commands" help:"Which command; without one, what commands there are."`
}

func (helpCmd) Help() string {
	return `The same as --help after the command.

Reads:
  nothing

Exit codes:
  0  explained
  2  there is no such command

Examples:
  stepup help
  stepup help serve
  stepup help webhook test`
}

// Run parses the command with --help, which prints the page and ends the program.
func (c helpCmd) Run(e *env) error {
	_, err := newParser(&commands{}, e.stdout, e.stderr).Parse(append(c.Command, "--help"))
	if err != nil {
		return usageError{fmt.Sprintf("%v; `stepup help` names the commands", err)}
	}
	return nil
}
