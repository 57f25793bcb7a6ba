package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/verify"
	"github.com/spf13/cobra"
)

// A verification is what the verify command was asked for.
type verification struct {
	a         *app
	o         verify.Options
	paths     string
	rollbacks string
	failures  string
	node      nodeFlags
}

func (a *app) verifyCommand() *cobra.Command {
	v := &verification{a: a}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Prove on your own servers that nothing is lost",
		Long: `Prove on your own servers that nothing is lost, invented, done twice, reordered or
damaged. Writers update rows and publish events through the outbox in one
transaction, relays publish them, consumers write down their effects behind the
inbox, all as processes that are killed, stopped and cut off as asked for. Then
what the databases say was committed is compared with what they say was handled,
message by message.

Beside the main path, messages go by others, each with a contract and keys of its
own: a rolling deploy from version 1 of a contract to 2 (versions), a database of
the consumers that is away for longer than the retry policy (outage), a broadcast
group (broadcast), dead letters that are sent again (requeues), messages that
cannot be handled, some near the size limit (poison), a key with a slow handler
(slow), and plain JSON of another program (plain). The report counts what is kept
as a dead letter and what is stuck apart from what is lost. --outage keeps the
database away for so long under the default retry policy, and counts log lines.

--nodes breaks the nodes of the broker's cluster, one fault after the other: kill -9
(kill), an orderly stop (stop), a freeze (freeze), a restart of all in turn (rolling),
and a majority that is gone (majority). Each node is brought back before the next
fault and at the end, also after Ctrl-C or when the terminal goes away. --node-cmd does one thing to one node, with
{do} and {node} for what and whom; restart starts a node on its data, whether it runs
or not. A command that fails ends the run, with its output. Without --broker, --nodes
3 starts a cluster of three NATS servers and breaks that. A server by itself is
broken in the same way: --nodes nats --node-faults stop, or --node-faults restart
with a command that only restarts it.

It runs on the embedded broker and on SQLite files in a temporary directory,
unless --broker and --store name others. Contexts and environment variables are
not used, so that a run never ends up on servers that were not named. Channels and
tables have names of the run's own, and are removed at the end. Ctrl-C ends the
writing early and gives the verdict on what was written until then; a second one ends
at once, and leaves everything as it is.

The exit code is 0 if everything holds, 1 if not, 2 for a wrong command line.`,
		Example: `  dovetail verify
  dovetail verify --kill 300ms --stop 1s --long-tx 500ms --seconds 30
  dovetail verify --broker nats://127.0.0.1:4222 --store sqlite:shop.db --writers 32 --kill 200ms -o json
  dovetail verify --broker 'amqp://127.0.0.1/?partitions=6' --store postgres://shop@db/shop --long-tx 2s --kill 200ms
  dovetail verify --broker nats://127.0.0.1:4222 --store postgres://shop@db/shop --paths outage --outage 45s --seconds 90
  dovetail verify --nodes 3
  dovetail verify --broker 'nats://a:4222,b:4222,c:4222?replicas=3' --nodes a,b,c --node-cmd 'ssh {node} /usr/local/bin/node {do}' --node-away 20s --seconds 600
  dovetail verify --broker amqp://127.0.0.1 --nodes rabbitmq --node-faults restart --node-cmd 'systemctl restart {node}' --seconds 120`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := v.check(cmd); err != nil {
				return err
			}
			return v.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&v.o.Writers, "writers", 8, "transactions under way at once, in up to four processes")
	f.IntVar(&v.o.Relays, "relays", 2, "relay processes")
	f.IntVar(&v.o.Consumers, "consumers", 3, "consumer processes")
	f.IntVar(&v.o.Keys, "keys", 100, "how many keys there are; messages of one are in order")
	f.Float64Var(&v.o.Seconds, "seconds", 10, fmt.Sprintf("how long the writers write; with --nodes %d if nothing is said", secondsWithNodes))
	f.StringVar(&v.rollbacks, "rollbacks", "10%", "share of transactions that are rolled back")
	f.StringVar(&v.failures, "failures", "1%", "share of handler calls that fail after their effect, and are tried again")
	f.DurationVar(&v.o.LongTx, "long-tx", 0, "how long a transaction stays open now and then (default: none does)")
	f.StringVar(&v.paths, "paths", "all", "what messages walk beside the main path: all, none, or some of "+strings.Join(verify.Paths(), ", "))
	f.DurationVar(&v.o.Outage, "outage", 0, "how long the consumers' database is away, under the default retry policy (default: some seconds, under a shorter one)")
	f.DurationVar(&v.o.Kill, "kill", 0, "kill a process at random (SIGKILL) so often, and start it again")
	f.DurationVar(&v.o.Stop, "stop", 0, "stop a process at random (SIGSTOP) so often, for up to two seconds")
	f.DurationVar(&v.o.Cut, "cut", 0, "cut or stall the connections to a server so often, for up to a second")
	v.nodeFlags(cmd)
	f.DurationVar(&v.o.Patience, "patience", 30*time.Second, "how long nothing may happen at the end before what is missing is called lost")
	f.IntVar(&v.o.Ahead, "ahead", 5000, "how many messages the writers may be ahead of the consumers")
	f.StringVar(&v.o.Effects, "consumer-store", "", "store URL of the consumers (default: the same as --store, other tables)")
	f.BoolVar(&v.o.Keep, "keep", false, "leave channels, tables and the temporary directory, to be looked at")
	f.Uint64Var(&v.o.Seed, "seed", 1, "of what is written, and of who is killed")
	cmd.AddCommand(a.verifyServe(), a.verifyNode())
	return cmd
}

// mostSeconds is the longest time that a run takes.
const mostSeconds = 1_000_000

func (v *verification) check(cmd *cobra.Command) (err error) {
	given := cmd.Flags().Changed
	if v.o.Rollbacks, err = share("--rollbacks", v.rollbacks); err != nil {
		return err
	}
	if v.o.Failures, err = share("--failures", v.failures); err != nil {
		return err
	}
	if v.o.Paths, err = pathsOf(v.paths); err != nil {
		return err
	}
	if err := v.checkNodes(given); err != nil {
		return err
	}
	for _, f := range []struct {
		name        string
		value, most int
	}{{"writers", v.o.Writers, 10_000}, {"relays", v.o.Relays, 100}, {"consumers", v.o.Consumers, 100}, {"keys", v.o.Keys, 1e6}, {"ahead", v.o.Ahead, 1e9}} {
		if f.value < 1 || f.value > f.most {
			return misuse("--%s %d: want 1 to %d", f.name, f.value, f.most)
		}
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"long-tx", v.o.LongTx}, {"kill", v.o.Kill}, {"stop", v.o.Stop}, {"cut", v.o.Cut}, {"outage", v.o.Outage}, {"node-every", v.o.NodeEvery}, {"node-away", v.o.NodeAway}, {"patience", v.o.Patience}} {
		if given(f.name) && (f.value < 10*time.Millisecond || f.value > mostSeconds*time.Second) {
			return misuse("--%s %v: want 10ms or more, and at most %v", f.name, f.value, mostSeconds*time.Second)
		}
	}
	switch {
	case !(v.o.Seconds > 0 && v.o.Seconds <= mostSeconds): // which NaN is not
		return misuse("--seconds %v: want more than 0, and at most %d", v.o.Seconds, mostSeconds)
	case v.o.Outage.Seconds() >= v.o.Seconds:
		return misuse("--outage %v: want less than --seconds %g", v.o.Outage, v.o.Seconds)
	case v.o.Outage > 0 && !slices.Contains(v.o.Paths, "outage"):
		return misuse("--outage is for path outage, which --paths leaves out")
	case given("consumer-store") && v.a.store == "":
		return misuse("--consumer-store goes with --store, which is missing")
	}
	for _, u := range []string{v.a.store, v.o.Effects} {
		if u != "" {
			if err := checkStore(u); err != nil {
				return err
			}
		}
	}
	if v.a.broker != "" {
		return checkBroker(v.a.broker)
	}
	return nil
}

// pathsOf reads a list of paths; nil stands for all.
func pathsOf(list string) ([]string, error) {
	switch list {
	case "all":
		return verify.Paths(), nil
	case "none":
		return []string{}, nil
	}
	names := strings.Split(list, ",")
	for i := range names {
		if names[i] = strings.TrimSpace(names[i]); !slices.Contains(verify.Paths(), names[i]) {
			return nil, misuse("--paths %q: %q: want all, none, or some of %s, with commas between them", list, names[i], strings.Join(verify.Paths(), ", "))
		}
	}
	return names, nil
}

// share reads "10%" or "0.1". What it returns for none is negative, since 0
// stands for the default.
func share(flag, text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	x, err := strconv.ParseFloat(number, 64)
	if percent {
		x /= 100
	}
	switch {
	case err != nil || !(x >= 0 && x <= 0.9): // which NaN is not
		return 0, misuse("%s %s: want a share from 0%% to 90%%", flag, text)
	case x == 0:
		return -1, nil
	}
	return x, nil
}

func (v *verification) run(ctx context.Context) (err error) {
	ctx, stopEarly := endsEarly(ctx)
	defer stopEarly()
	dir, err := os.MkdirTemp("", "dovetail-verify-")
	if err != nil {
		return err
	}
	defer func() {
		if v.o.Keep {
			v.a.note("kept: %s", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	level := slog.LevelError
	if v.a.verbose {
		level = slog.LevelInfo
	}
	v.o.Logger = slog.New(slog.NewTextHandler(v.a.err, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(v.o.Logger) // connections of the run's own meet the cuts as well
	v.o.Dir = dir
	if v.o.Store = v.a.store; v.o.Store == "" {
		v.o.Store = "sqlite:" + url.PathEscape(filepath.Join(dir, "writers.db"))
		v.o.Effects = "sqlite:" + url.PathEscape(filepath.Join(dir, "consumers.db"))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program to run processes with: %w", err)
	}
	stop, err := v.wire(ctx, self, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	v.o.Command = func() *exec.Cmd { return exec.Command(self, "verify", "serve") }
	v.o.Open = openVerified
	show, end := v.showProgress(ctx)
	v.o.Progress = show
	rep, err := verify.Run(ctx, v.o)
	end()
	if err != nil {
		return err
	}
	if err := v.a.print(rep, rep.Print); err != nil {
		return err
	}
	switch {
	case rep.Holds:
		return nil
	case rep.Proves():
		return errors.New("the promises do not hold: the report says what is wrong")
	case rep.NodeError != "":
		return errors.New("a node could not be broken or brought back: the report says which, and why")
	}
	return errors.New("no transaction committed, so that nothing is proved")
}

// wire says which broker the processes connect to, and starts one where none is
// named.
func (v *verification) wire(ctx context.Context, self, dir string) (stop func() error, err error) {
	if len(v.o.Nodes) > 0 && v.o.Node == nil {
		return v.wireNodes(ctx, self, dir)
	}
	v.o.Broker = v.a.broker
	scheme, _, _ := strings.Cut(v.a.broker, ":")
	switch scheme {
	case "", "embedded":
		raw := v.a.broker
		if raw == "" {
			raw = "embedded:?dir=" + url.QueryEscape(filepath.Join(dir, "broker"))
		}
		v.o.Broker, stop, err = listen(ctx, raw, v.o.Logger)
		return stop, err
	case "nats", "tls":
		v.o.Broker = withParam(v.a.broker, "ack-wait", "2s") // what a killed process had in hand comes again after it
		if v.o.Cut > 0 {
			if err := checkCut(ctx, v.a.broker); err != nil {
				return nil, err
			}
		}
	}
	return func() error { return nil }, nil
}

func openVerified(ctx context.Context, raw, prefix string, migrate bool) (verify.Store, error) {
	o := storeOptions{prefix: prefix, unchanged: !migrate}
	if o.unchanged {
		o.busy = 2 * time.Second // a process that waits for another writer for longer says that the file is away
	}
	db, err := openStore(ctx, raw, o)
	if err != nil {
		return nil, err
	}
	return db.verify(), nil
}

// verifyServe is the program as one process of a verification.
func (a *app) verifyServe() *cobra.Command {
	return &cobra.Command{
		Use:     "serve",
		Short:   "Run one process of a verification; dovetail verify itself calls it",
		Example: "  dovetail verify --kill 300ms",
		Hidden:  true,
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A Ctrl-C is for the process that started this one, which ends it.
			slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
			return verify.Serve(context.WithoutCancel(cmd.Context()), openVerified, a.in, bare(a.out))
		},
	}
}
