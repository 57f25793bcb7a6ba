package drivertest_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A mutant is a lab with one fault, which the suite must find.
type mutant struct {
	by string // cases that should catch it, as a regular expression; all of the suite are tried when they do not

	harness     func(*drivertest.Harness)
	caps        func(*driver.Capabilities)
	provision   func(driver.Conn, context.Context, []driver.Channel, []driver.Subscription) error
	send        sender
	opening     func(*membus.Conn, *driver.Subscription)
	opened      func(*linkReceiver)
	receive     func(driver.Receiver, context.Context, int) ([]*driver.Delivery, error)
	deliver     func(*linkReceiver, *driver.Delivery) // changes a copy
	settle      func(driver.Receiver, context.Context, []driver.Settlement) error
	widen       func(driver.Receiver, []*driver.Delivery)
	shared      func() bool
	backlog     func(int64) int64
	close       func(r *linkReceiver, inner driver.Receiver, ctx context.Context, twice bool) error
	closeConn   func(*link, context.Context) error
	classify    func(error) driver.Kind
	browse      func(*membus.Conn, context.Context, string, string, int) ([]driver.StoredMessage, error)
	remove      func(*membus.Conn, context.Context, string, []string) error
	list        func([]driver.ChannelInfo)
	removeGroup func(c *membus.Conn, ctx context.Context, channel, group string) error
	restarted   func(context.Context, *lab) error

	leases *leases // deliveries have leases

	loses loser // an engine of files, whose receivers lose partitions; alone

	trimsInSilence     bool
	deniesIncarnation  bool          // over a link that was cut
	forgetsWhatItWrote bool          // a link that is lost behind a send
	hangs              time.Duration // on a silent link, beyond any context
}

// mutants are those of every subject, by what they do wrong.
func mutants() map[string]mutant {
	all := map[string]mutant{}
	for _, some := range []map[string]mutant{sendMutants, textMutants, receiveMutants, settleMutants, groupMutants, broadcastMutants, engineMutants, handoverMutants, leaseMutants, widenMutants, sharerMutants, strangersMutants, transientMutants} {
		for name, m := range some {
			if _, twice := all[name]; twice {
				panic("two mutants " + name)
			}
			all[name] = m
		}
	}
	return all
}

// controls are engines without a fault.
var controls = map[string]mutant{
	"":            {by: ".*"},
	"with leases": leasing(leases{end: driver.Retry}).caughtBy("Lease_.*|Widener_.*|Settle_.*|Takeover_.*|Close_.*"),
}

const mutantVariable = "DRIVERTEST_MUTANT"

// TestMutant is what TestRun_finds_every_fault_and_no_other runs in a process of its own;
// elsewhere there is nothing to test.
func TestMutant(t *testing.T) {
	name, ok := os.LookupEnv(mutantVariable)
	if !ok {
		return
	}
	m, control := controls[name]
	if !control {
		m = mutants()[name]
	}
	h := newLab(t, m).harness()
	if m.loses != nil {
		e := newShaky(t, driver.Conn.Send)
		e.lose = m.loses
		h = drivertest.Harness{Open: e.open}
	}
	h.Patience = 1500 * time.Millisecond
	if control {
		h.Patience = 20 * time.Second
	}
	drivertest.Run(t, h)
}

// A verdict is what the suite says of a mutant.
type verdict struct {
	name   string
	caught string // the first case that failed; "" for none
	by     bool   // it is one of those that should
	out    []byte
	err    error // the process ended otherwise: a panic, a time-out
}

// try runs a mutant against the cases that should catch it and, when they do not,
// against all.
func (m mutant) try(ctx context.Context, name string) verdict {
	v := verdict{name: name, by: true}
	for _, cases := range []string{m.by, ".*"} {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMutant$/^("+cases+")$", "-test.failfast", "-test.timeout=100s")
		cmd.Env = append(os.Environ(), mutantVariable+"="+name)
		v.out, v.err = cmd.CombinedOutput()
		if failed := failure.FindSubmatch(v.out); failed != nil && !panicked.Match(v.out) {
			v.caught, v.err = string(failed[1]), nil
		}
		if v.caught != "" || v.err != nil || !isMutant(name) {
			return v
		}
		v.by = false
	}
	return v
}

func isMutant(name string) bool { _, control := controls[name]; return !control }

var (
	failure  = regexp.MustCompile(`--- FAIL: TestMutant/(\S+)`)
	panicked = regexp.MustCompile(`(?m)^(panic|fatal error): `) // that is no finding
)

// uncaught are faults that the suite does not find, with the reason.
var uncaught = map[string]string{}

// together is how many mutants are tried at a time: they mostly wait.
const together = 12

func TestRun_finds_every_fault_and_no_other(t *testing.T) {
	// By themselves, for they have to keep their times.
	for name, m := range controls {
		if v := m.try(t.Context(), name); v.err != nil || v.caught != "" {
			t.Fatalf("an engine without a fault (%s) fails %s: %v\n%s", name, v.caught, v.err, v.out)
		}
	}
	all := mutants()
	names := slices.Sorted(maps.Keys(all))
	verdicts := make([]verdict, len(names))
	slots := make(chan struct{}, together)
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			verdicts[i] = all[name].try(t.Context(), name)
		})
	}
	wg.Wait()
	var table strings.Builder
	for _, v := range verdicts {
		why, known := uncaught[v.name]
		switch {
		case v.err != nil:
			t.Errorf("an engine that %s: %v\n%s", v.name, v.err, v.out)
		case v.caught == "" && known:
			fmt.Fprintf(&table, "  %-60s nobody: %s\n", v.name, why)
		case v.caught == "":
			t.Errorf("an engine that %s passes the suite", v.name)
		case known:
			t.Errorf("an engine that %s is found by %s: strike it from uncaught", v.name, v.caught)
		case !v.by && v.caught != all[v.name].by: // a fault of chance may be found by its case the second time
			t.Errorf("an engine that %s is found by %s, but not by %s", v.name, v.caught, all[v.name].by)
		default:
			fmt.Fprintf(&table, "  %-60s %s\n", v.name, v.caught)
		}
	}
	t.Logf("%d faults are found, each by\n%s", len(names)-len(uncaught), table.String())
}

// memo is what a mutant remembers; a process has one.
var memo sync.Map

// A transport's test of conformance.
func ExampleRun() {
	test := func(t *testing.T) { // func TestConformance(t *testing.T)
		bus, err := membus.New(membus.Options{})
		if err != nil {
			t.Fatal(err)
		}
		drivertest.Run(t, drivertest.Harness{
			Open: func(context.Context) (driver.Conn, error) { return bus.Connect(), nil },
		})
	}
	_ = test
}
