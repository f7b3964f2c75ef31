// Command stepup asks a person, through a CIBA provider such as Singpass, to confirm something on their phone, and tells
// the bank that wanted to know by a signed webhook.
//
// Everything is wired by hand here, one file per command. Nothing in this package decides anything about a step-up.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/alecthomas/kong"

	"stepup/config"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

// commands is the command line. Each command says in its Help what it does and shows an example.
type commands struct {
	LogFormat string `enum:"json,text" default:"json" placeholder:"FORMAT" help:"How logs are written to stderr: json, or text for people."`

	Demo      demoCmd      `cmd:"" help:"See everything work on this machine. Nothing to install."`
	Serve     serveCmd     `cmd:"" help:"Run the service."`
	Check     checkCmd     `cmd:"" help:"Tell every mistake in a configuration."`
	Webhook   webhookCmd   `cmd:"" help:"Try a webhook's endpoint."`
	Redeliver redeliverCmd `cmd:"" help:"Send webhooks again."`
	Keygen    keygenCmd    `cmd:"" help:"Make keys: signing, encryption, sealing, webhooks."`
	Apikey    apikeyCmd    `cmd:"" help:"Make an API key for a caller."`
	Listen    listenCmd    `cmd:"" help:"Receive webhooks, verify and print them (for developers)."`
	Fakeop    fakeopCmd    `cmd:"" help:"Run the simulated provider and its phone alone (for developers)."`
	Version   versionCmd   `cmd:"" help:"Print version, commit and Go version."`
}

// env is what a command has of the world outside.
type env struct {
	ctx    context.Context // ends at the first SIGTERM or SIGINT
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
}

// usageError is a mistake in how the program was called; its exit code is 2.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// errTold fails a command that has already said why.
var errTold = errors.New("told already")

func main() {
	// net/http writes what a peer sends unasked on an idle connection to the standard logger, and such bytes can be a
	// person's data. Nothing of ours uses that logger.
	log.SetOutput(io.Discard)
	ctx, stop := untilSignal(context.Background())
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal is a context that ends at the first SIGTERM or SIGINT. The second ends the process at once: what was in
// flight is then another worker's to take over.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	got := make(chan os.Signal, 2)
	signal.Notify(got, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-got
		cancel()
		<-got
		os.Exit(exitFailed)
	}()
	return ctx, cancel
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	var cmd commands
	parser := kong.Must(&cmd,
		kong.Name("stepup"),
		kong.Description("Asks people to confirm on their phone (CIBA, Singpass) and tells your backend by signed webhook.\n\nNew here? Run `stepup demo`."),
		kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "stepup: %v\nTry `stepup --help`, or `stepup demo` to see it work.\n", err)
		return exitUsage
	}
	e := &env{ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, log: newLog(stderr, cmd.LogFormat)}
	err = parsed.Run(e)
	if err != nil && !errors.Is(err, errTold) {
		fmt.Fprintf(stderr, "stepup: %v\n", err)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	if err == nil {
		return exitDone
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[config.Problems](err); ok {
		return exitUsage
	}
	return exitFailed
}

func newLog(w io.Writer, format string) *slog.Logger {
	options := &slog.HandlerOptions{ReplaceAttr: loggable}
	if format == "text" {
		return slog.New(newQuiet(slog.NewTextHandler(w, options)))
	}
	return slog.New(newQuiet(slog.NewJSONHandler(w, options)))
}

// loggable lets words, numbers, times and errors into the log, and of everything else only its type: an encoder would tell what
// is inside, and inside may be a person.
func loggable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() != slog.KindAny {
		return a
	}
	v := a.Value.Any()
	if _, ok := v.(error); ok {
		return a
	}
	switch t := reflect.TypeOf(v); {
	case t == nil, t.Kind() >= reflect.Bool && t.Kind() <= reflect.Float64, t.Kind() == reflect.String:
		return a
	default:
		return slog.String(a.Key, t.String())
	}
}
