package clustertest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// A Node is a server that can be broken: a *servers.Server is one.
type Node interface {
	Name() string
	Kill() error                       // SIGKILL; its data stays
	Stop(ctx context.Context) error    // in good order
	Restart(ctx context.Context) error // on its data; returns when it answers
	Pause() error                      // SIGSTOP
	Resume() error                     // SIGCONT
	Close() error                      // for good, with its data
}

// A Harness is a cluster under test.
type Harness struct {
	// Nodes are three or more, of which a majority is needed.
	Nodes []Node

	// URL is what services connect to. It reaches every node, and has what
	// driver.Examiner needs.
	URL string

	// Ordered demands the order of each key of the services' subscription.
	Ordered bool

	// Detection is how long the broker itself needs after a fault until a client
	// can go on: to notice, and to elect. Messages and requests may wait for so
	// long, and Slack.
	Detection time.Duration

	// Orderly is the same where nodes are stopped in good order, one at a time:
	// they say that they go. 0 stands for Detection.
	Orderly time.Duration

	// Without leaves out faults by their names.
	Without []string

	faults []fault // nodeFaults if there are none
	stops  bool    // nobody can commit before the cluster goes on
	hold   *hold   // what a fault asks of the services; nil if none does
}

// Slack is how much longer than the broker's detection messages may wait.
const Slack = 3 * time.Second

// NodesOf returns the nodes of a cluster.
func NodesOf(c *servers.Cluster) (nodes []Node) {
	for _, s := range c.Nodes() {
		nodes = append(nodes, s)
	}
	return nodes
}

// Run breaks the nodes, one fault after the other, while services work, and logs a
// line of figures for each. A node is lost for good in the end, so that the cluster
// cannot be used afterwards; driver.Examiner has to tell of it, and of nothing before.
// The services' database is in memory.
func Run(t *testing.T, h Harness) {
	o, err := lengthsFrom(os.Getenv(periodVariable), os.Getenv(onlyVariable))
	if err != nil {
		t.Fatal(err)
	}
	if found := Examine(t, h.URL); len(found) > 0 {
		t.Errorf("at the beginning the cluster is not well: %+v", found)
	}
	run(t, h, memory{memstore.New()}, o)
	if !h.has(lost, o) {
		return
	}
	found := Examine(t, h.URL)
	if len(found) == 0 {
		t.Errorf("a node is lost, and nothing tells of it")
	}
	for _, f := range found {
		t.Logf("%+v", f)
		if f.Stops || f.Remedy == "" {
			t.Errorf("a node is lost, and the others go on: %+v: want a remedy, and nothing that has stopped", f)
		}
	}
}

// Examine returns what a cluster tells is wrong with it.
func Examine(t *testing.T, url string) []driver.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := driver.Open(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	e, ok := conn.(driver.Examiner)
	if !ok {
		t.Fatalf("%T is no driver.Examiner", conn)
	}
	found, err := e.Examine(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func run[Tx any](t *testing.T, h Harness, db Database[Tx], o Lengths) {
	err := Break(t.Context(), h, db, o, func(o Outcome) {
		t.Log(o)
		for _, p := range o.Problems {
			t.Errorf("%s: %s", o.Fault, p)
		}
		if len(o.Problems) > 0 {
			for _, line := range o.Said {
				t.Logf("%s: a service logged: %s", o.Fault, line)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An Outcome is what one fault did.
type Outcome struct {
	Fault string

	Committed, Handled int           // messages
	Undone, Unknown    int           // commits that failed, and of which it was not known whether they did
	Still              time.Duration // the longest time in which none was handled, where there were some to handle
	Waited             time.Duration // the longest time that one message waited
	Unanswered         time.Duration // the longest time without a reply
	Requests           int
	Failed             int // requests
	FailedLate         int // of them, those that began more than ten seconds after the last disturbance
	Ended              int // services
	Lines              int // that were logged as warnings or errors
	Said               []string
	Problems           []string

	late []time.Duration // when the late ones began
}

// String is a line for a log.
func (o Outcome) String() string {
	return fmt.Sprintf("%-8s committed %5d (failed %d, unknown %d), handled %5d, none for %5.1f s, one waited %5.1f s, no reply for %5.1f s, requests %4d, failed %3d, late %d, ended %d, lines %d",
		o.Fault, o.Committed, o.Undone, o.Unknown, o.Handled, o.Still.Seconds(), o.Waited.Seconds(), o.Unanswered.Seconds(), o.Requests, o.Failed, o.FailedLate, o.Ended, o.Lines)
}

// Lengths are how long faults last.
type Lengths struct {
	Frozen time.Duration // a node
	Gone   time.Duration // the majority
	Watch  time.Duration // what happens while a node is away, before it comes back
	Late   time.Duration // after how long requests must not fail any more

	Patience time.Duration // how long is waited for what was committed, before it is called lost
	Only     []string      // the names of the faults that happen; nil for all
	Long     bool          // with the faults that take long, and with bounds on times, which need a machine that does nothing else
}

// has reports whether a fault happens.
func (h *Harness) has(fault string, o Lengths) bool {
	return !slices.Contains(h.Without, fault) && (len(o.Only) == 0 || slices.Contains(o.Only, fault))
}

const (
	periodVariable = "DOVETAIL_FAULT_PERIOD"
	onlyVariable   = "DOVETAIL_FAULTS"
)

func lengthsFrom(period, only string) (Lengths, error) {
	o := Lengths{Frozen: 12 * time.Second, Gone: 4 * time.Second, Watch: 3 * time.Second, Late: 10 * time.Second, Patience: time.Minute}
	if only != "" {
		o.Only = strings.Split(only, ",")
	}
	if period == "" {
		return o, nil
	}
	d, err := time.ParseDuration(period)
	if err != nil || d <= 0 {
		return Lengths{}, fmt.Errorf("%s is %q: want a duration as in 30s", periodVariable, period)
	}
	o.Frozen, o.Gone, o.Watch, o.Long = d, d/3, d/2, true
	return o, nil
}
