package verify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// Options say what a run works on and what it does. The zero value of each
// field stands for its default.
type Options struct {
	// Broker is the URL that the processes connect to. Required.
	Broker string

	// Store is the URL of the writers' database, Effects that of the consumers'.
	// Effects may be the same; its default is Store, which is required.
	Store, Effects string

	// Open opens a store that a URL names, with its tables and verify's under a
	// prefix; they are made if migrate says so. Required.
	Open func(ctx context.Context, url, prefix string, migrate bool) (Store, error)

	// Command returns the command that calls Serve in a process of its own.
	// Required.
	Command func() *exec.Cmd

	// Writers is how many transactions are under way at once, in up to four
	// processes; default 8.
	Writers int

	// Rollbacks is the share of transactions that are rolled back; default 0.1,
	// and negative for none.
	Rollbacks float64

	// Failures is the share of handler calls that fail after their effect, and
	// are tried again; default 0.01, and negative for none. Path outage has none.
	Failures float64

	// LongTx is how long a transaction stays open now and then; 0 for none.
	LongTx time.Duration

	// Relays and Consumers are how many processes of each there are; defaults 2
	// and 3. Where the transport keeps the order of a key only for one instance,
	// the first consumer has a group to itself, and the others share one whose
	// order is not checked.
	Relays, Consumers int

	// Keys is how many keys there are; default 100.
	Keys int

	// Seconds is how long the writers write; default 10.
	Seconds float64

	// Ahead is how many messages the writers may be ahead of the slowest group;
	// default 5000.
	Ahead int

	// Paths are those that messages go on besides the main one, of those that
	// [Paths] names; nil for all that the servers allow, an empty slice for none.
	Paths []string

	// Outage is how long the consumers' database is away on path outage, once, in
	// the middle of the run. 0 for 3 s, or a third of the run where that is less,
	// under a retry policy that is much shorter; any other time is under the
	// default policy.
	Outage time.Duration

	// Kill is how often a process is killed (SIGKILL) and started again, Stop how
	// often one is stopped for a while (SIGSTOP, SIGCONT), Cut how often the
	// connections to broker and stores are cut or stall for a while, where their
	// URLs name one host and port. 0 for never.
	Kill, Stop, Cut time.Duration

	// Nodes are the names of servers that are broken, as those of the broker's
	// cluster are called. Each begins with a letter, digit or _, and has letters, digits
	// and _ . : @ / - alone.
	Nodes []string

	// Node does one thing to one of Nodes: "kill" (as SIGKILL does), "stop" (in good
	// order), "pause" (SIGSTOP), "resume" (SIGCONT) or "restart", which starts a node
	// on its data, whether it runs or not. It returns when that is done; with a
	// restart, best when the node answers. Several may be called at once. An error
	// ends the writing early. Required with Nodes; see NodeCommand.
	Node func(ctx context.Context, do, node string) error

	// NodeFaults are what is done to nodes, in rotation, of those that [NodeFaults]
	// names; default NodeFaultsOf.
	NodeFaults []string

	// NodeEvery is how long all nodes are there between two faults, default 10 s;
	// NodeAway how long one is killed, stopped or frozen, default 5 s.
	NodeEvery, NodeAway time.Duration

	// Patience is how long nothing may happen at the end before what is missing
	// is called lost; default 30 s.
	Patience time.Duration

	// Seed decides what is done to whom.
	Seed uint64

	// Dir is where the processes write down what they were told. Required.
	Dir string

	// Keep leaves tables and channels as they are, to be looked at.
	Keep bool

	// Logger gets what goes wrong with processes and servers; default
	// slog.Default().
	Logger *slog.Logger

	// Progress is told how far the run is, a few times a second.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Phase string // "starting", "writing", "ending", "draining"
	// Done is how long the phase has taken, Of how long it is to take; while
	// draining, how long nothing has happened, and the patience.
	Done, Of  time.Duration
	Committed int64
	Handled   int64 // by the slowest group, or kept among the dead letters
	Kills     int
	Broken    string // the fault of nodes that goes on, and the nodes; "" for none

	main, ahead int64 // what the slowest group of the main path has handled, and has not
}

func (o Options) withDefaults() (Options, error) {
	orDefault(&o.Effects, o.Store)
	orDefault(&o.Writers, 8)
	orDefault(&o.Rollbacks, 0.1)
	orDefault(&o.Failures, 0.01)
	orDefault(&o.Relays, 2)
	orDefault(&o.Consumers, 3)
	orDefault(&o.Keys, 100)
	orDefault(&o.Seconds, 10)
	orDefault(&o.Ahead, 5000)
	orDefault(&o.NodeEvery, 10*time.Second)
	orDefault(&o.NodeAway, 5*time.Second)
	if len(o.Nodes) > 0 && len(o.NodeFaults) == 0 {
		o.NodeFaults = NodeFaultsOf(len(o.Nodes))
	}
	orDefault(&o.Patience, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Paths == nil {
		o.Paths = Paths()
	}
	o.Paths = slices.Compact(slices.Sorted(slices.Values(o.Paths)))
	o.Rollbacks, o.Failures = max(0, o.Rollbacks), max(0, o.Failures)
	return o, o.check()
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) check() error {
	if o.Broker == "" || o.Store == "" || o.Open == nil || o.Command == nil || o.Dir == "" {
		return errors.New("verify: Options.Broker, Store, Open, Command and Dir must be set")
	}
	for _, f := range []struct {
		name        string
		value, most float64
	}{
		{"Writers", float64(o.Writers), 10_000}, {"Relays", float64(o.Relays), 100}, {"Consumers", float64(o.Consumers), 100},
		{"Keys", float64(o.Keys), 1e6}, {"Seconds", o.Seconds, 1e6}, {"Ahead", float64(o.Ahead), 1e9},
		{"Patience", o.Patience.Seconds(), 1e6}, {"NodeEvery", o.NodeEvery.Seconds(), 1e6}, {"NodeAway", o.NodeAway.Seconds(), 1e6},
	} {
		if !(f.value > 0 && f.value <= f.most) { // NaN is neither
			return fmt.Errorf("verify: Options.%s is %v: want more than 0 and at most %v", f.name, f.value, f.most)
		}
	}
	for _, name := range o.Paths {
		if pathOf(name) == nil {
			return fmt.Errorf("verify: Options.Paths: %q: want one of %s", name, strings.Join(Paths(), ", "))
		}
	}
	if o.Outage < 0 || o.Outage.Seconds() >= o.Seconds {
		return fmt.Errorf("verify: Options.Outage is %v: want less than Options.Seconds, %v", o.Outage, o.Seconds)
	}
	if !(o.Rollbacks <= 0.9 && o.Failures <= 0.9) {
		return fmt.Errorf("verify: Options.Rollbacks %v, Options.Failures %v: want at most 0.9", o.Rollbacks, o.Failures)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"LongTx", o.LongTx}, {"Kill", o.Kill}, {"Stop", o.Stop}, {"Cut", o.Cut}} {
		if f.value != 0 && f.value < 10*time.Millisecond {
			return fmt.Errorf("verify: Options.%s is %v: want 10ms or more, or 0 for never", f.name, f.value)
		}
	}
	switch {
	case len(o.Nodes) == 0:
		return nil
	case o.Node == nil:
		return errors.New("verify: Options.Node must be set: it is what breaks Options.Nodes")
	case o.NodeEvery.Seconds() >= o.Seconds:
		return fmt.Errorf("verify: Options.NodeEvery is %v: want less than Options.Seconds, %v, or no node is broken", o.NodeEvery, o.Seconds)
	}
	if err := CheckNodes(o.Nodes, o.NodeFaults); err != nil {
		return fmt.Errorf("verify: Options.Nodes and NodeFaults: %w", err)
	}
	return nil
}

// CheckNodes says what is wrong with names of nodes, and with what is to be done to
// them.
func CheckNodes(names, faults []string) error {
	for i, name := range names {
		if !nodeName.MatchString(name) {
			return fmt.Errorf("node %q: want a letter, digit or _, then letters, digits and _ . : @ / -", name)
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("node %s is there twice", name)
		}
	}
	for i, name := range faults {
		j := slices.IndexFunc(nodeFaults, func(f nodeFault) bool { return f.name == name })
		switch {
		case j < 0:
			return fmt.Errorf("fault %q: want some of %s", name, strings.Join(NodeFaults(), ", "))
		case slices.Contains(faults[:i], name):
			return fmt.Errorf("fault %s is there twice", name)
		case len(names) < nodeFaults[j].least:
			return fmt.Errorf("fault %s is for %d nodes or more, and there are %d", name, nodeFaults[j].least, len(names))
		}
	}
	return nil
}
