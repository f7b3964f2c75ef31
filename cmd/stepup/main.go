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

	"stepup/config"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2 // wrong usage or configuration
)

// commands is the command line. Each command has its page: see printHelp.
type commands struct {
	LogFormat string `enum:"json,text" default:"json" placeholder:"FORMAT" help:"How logs are written to stderr: json (default), or text for people."`

	Demo       demoCmd       `cmd:"" group:"Try it:" help:"See everything work on this machine. Nothing to install."`
	Check      checkCmd      `cmd:"" group:"Run it:" help:"Tell every mistake in a configuration."`
	Serve      serveCmd      `cmd:"" group:"Run it:" help:"Run the service."`
	Keygen     keygenCmd     `cmd:"" group:"Run it:" help:"Make keys: signing, encryption, sealing, webhooks."`
	Apikey     apikeyCmd     `cmd:"" group:"Run it:" help:"Make an API key for a caller."`
	Tail       tailCmd       `cmd:"" group:"Look after it:" help:"Follow step-ups in the terminal."`
	Show       showCmd       `cmd:"" group:"Look after it:" help:"Show one step-up and its deliveries."`
	Redeliver  redeliverCmd  `cmd:"" group:"Look after it:" help:"Send webhooks again."`
	Webhook    webhookCmd    `cmd:"" group:"Look after it:" help:"Try a webhook's endpoint."`
	Listen     listenCmd     `cmd:"" group:"Develop against it:" help:"Receive webhooks, verify and print them."`
	Fakeop     fakeopCmd     `cmd:"" group:"Develop against it:" help:"Run the simulated provider and its phone alone."`
	Completion completionCmd `cmd:"" group:"More:" help:"Let your shell complete commands, flags and names."`
	Help       helpCmd       `cmd:"" group:"More:" help:"Explain a command, like --help."`
	Version    versionCmd    `cmd:"" group:"More:" help:"Print version, commit and Go version."`

	Complete completeCmd `cmd:"" name:"__complete" hidden:"" help:"What shells ask."`
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
	parsed, err := newParser(&cmd, stdout, stderr).Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "stepup: %v\n%s\n", err, wayOn(err))
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
		return slog.New(newQuiet(traced{slog.NewTextHandler(w, options)}))
	}
	return slog.New(newQuiet(traced{slog.NewJSONHandler(w, options)}))
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
