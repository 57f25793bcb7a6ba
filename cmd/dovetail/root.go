package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// An app is one run of the program: its streams and what the global flags say.
type app struct {
	in       io.Reader
	out, err io.Writer

	output  string // table, json or yaml
	context string
	broker  string
	store   string
	timeout time.Duration
	verbose bool
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: &cleanWriter{under: out}, err: &cleanWriter{under: err}}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dovetail",
		Short: "Run, watch, measure and repair services that talk by message",
		Long: `Run, watch, measure and repair services that talk by message.

The broker is named by URL: with --broker, with DOVETAIL_BROKER, or once for all
with dovetail context. Without any it is nats://127.0.0.1:4222, where dovetail up
listens. Transports linked in: mem:, file:, embedded:, nats:, tls:, amqp:, amqps:,
kafka:. Stores: sqlite:, postgres:. What their URLs take beside host and port is in
docs/transports and docs/stores; a store's take prefix (of the tables), PostgreSQL's
also schema and shards.`,
		Example: `  dovetail up
  dovetail topology
  dovetail tail 'ordering.*'
  dovetail dead list --service mail`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", "table", "how to print: table, json or yaml")
	flags.StringVar(&a.broker, "broker", "", "broker URL, as in nats://127.0.0.1:4222, amqp://rabbit/, kafka://kafka:9092 or file:/var/lib/shop")
	flags.StringVar(&a.store, "store", "", "store URL, as in sqlite:/var/lib/shop/catalog.db or postgres://shop@db/shop?schema=catalog")
	flags.StringVar(&a.context, "context", "", "named broker and store to use (see dovetail context)")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long the broker may take for one call")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log what goes on to standard error")
	root.AddCommand(a.upCommand(), a.demoCommand(),
		a.sendCommand(), a.publishCommand(), a.requestCommand(), a.gatherCommand(), a.tailCommand(),
		a.outboxCommand(), a.inboxCommand(), a.deadCommand(), a.relayCommand(), a.topologyCommand(), a.migrateCommand(),
		a.verifyCommand(), a.doctorCommand(), a.benchCommand(), a.contextCommand(), a.versionCommand())
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		level := slog.LevelWarn
		if a.verbose {
			level = slog.LevelDebug
		}
		slog.SetDefault(slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})))
		for name, value := range map[string]string{"broker": a.broker, "store": a.store, "context": a.context} {
			if f := cmd.Flag(name); f != nil && f.Changed && value == "" {
				return misuse("--%s is empty: name one, or leave it out", name)
			}
		}
		if a.timeout <= 0 {
			return misuse("--timeout is %v: want a duration above 0", a.timeout)
		}
		return a.checkOutput(cmd)
	}
	return group(root)
}

// group makes cmd one that only has subcommands: alone it shows its help, and a
// subcommand that does not exist is a mistake.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = ": did you mean " + strings.Join(near, " or ") + "?"
		}
		return misuse("%s has no command %q%s", cmd.CommandPath(), args[0], hint)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// arguments checks how many there are.
func arguments(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return misuse("%s: %s is missing", cmd.CommandPath(), what)
		case most >= 0 && len(args) > most:
			if most == 0 {
				return misuse("%s takes no arguments, and there is %q", cmd.CommandPath(), args[0])
			}
			return misuse("%s: argument %q is one too many", cmd.CommandPath(), args[most])
		}
		return nil
	}
}

// note tells the person at the terminal something, beside the data.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
