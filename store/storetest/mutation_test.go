package storetest_test

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

	"github.com/dovetail-go/dovetail/store/storetest"
)

// A mutant is a lab with one fault, which the suite must find.
type mutant struct {
	by    string            // cases that should catch it, as a regular expression; all of the suite are tried when they do not
	plant func(*lab)        // the fault; it keeps what it remembers
	side  func(*sides)      // one in a store whose transactions are open side by side; alone
	shard func(*shardedLab) // one in a store with more than one shard; alone
}

// mutants are those of every subject, by what they do wrong.
func mutants() map[string]mutant {
	all := map[string]mutant{}
	for _, some := range []map[string]mutant{
		transactionMutants, textMutants, outboxMutants, relayMutants, heldMutants, repairMutants, leaseMutants, inboxMutants, readerMutants, shardMutants,
		largeMutants, durableMutants,
	} {
		for name, m := range some {
			if _, twice := all[name]; twice {
				panic("two mutants " + name)
			}
			all[name] = m
		}
	}
	return all
}

// controls are stores without a fault.
var controls = map[string]mutant{
	"":             {by: ".*"},
	"side by side": {by: sideCases, side: func(*sides) {}},
	"of shards":    {by: "Shards_.*|Token_.*|Savepoint_.*|Commit_.*", shard: func(*shardedLab) {}},
}

const mutantVariable = "STORETEST_MUTANT"

// TestMutant is what TestRun_finds_every_fault_and_no_other runs in a process of
// its own; elsewhere there is nothing to test.
func TestMutant(t *testing.T) {
	name, ok := os.LookupEnv(mutantVariable)
	if !ok {
		return
	}
	m, control := controls[name]
	if !control {
		m = mutants()[name]
	}
	patience := 5 * time.Second
	if control {
		patience = time.Minute
	}
	if m.side != nil {
		storetest.Run(t, storetest.Harness[*sideTx]{
			Patience: patience, KnownGaps: noHooks,
			Open: func(testing.TB, string) storetest.Database[*sideTx] { return newSides(m).database() },
		})
		return
	}
	var labs sync.Map // by directory: it outlives Close
	storetest.Run(t, storetest.Harness[tx]{
		Patience: patience, Durable: true, KnownGaps: map[string]string{"Kill": "other processes do not get into this one's memory"},
		Open: func(_ testing.TB, dir string) storetest.Database[tx] {
			l, again := labs.LoadOrStore(dir, newLab(m))
			if again {
				l.(*lab).reopened()
			}
			return l.(*lab).database()
		},
		Sharded: func(_ testing.TB, _ string, n int) storetest.Database[tx] {
			return newSharded(m, n).database()
		},
	})
}

var noHooks = map[string]string{
	"Spoil": "side by side", "End": "side by side", "Cut": "side by side", "Sharded": "side by side",
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
// against all. What its processes leave behind is in dir.
func (m mutant) try(ctx context.Context, name, dir string) verdict {
	v := verdict{name: name, by: true}
	all := ".*"
	if m.side != nil {
		all = sideCases
	}
	for _, cases := range []string{m.by, all} {
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMutant$/^("+cases+")$", "-test.failfast", "-test.timeout=100s")
		cmd.Env = append(os.Environ(), mutantVariable+"="+name, "TMPDIR="+dir)
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

// together is how many mutants are tried at a time.
const together = 16

func TestRun_finds_every_fault_and_no_other(t *testing.T) {
	dir := t.TempDir()
	for name, m := range controls {
		if v := m.try(t.Context(), name, dir); v.err != nil || v.caught != "" {
			t.Fatalf("a store without a fault (%s) fails %s: %v\n%s", name, v.caught, v.err, v.out)
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
			verdicts[i] = all[name].try(t.Context(), name, dir)
		})
	}
	wg.Wait()
	var table strings.Builder
	for _, v := range verdicts {
		why, known := uncaught[v.name]
		switch {
		case v.err != nil:
			t.Errorf("a store that %s: %v\n%s", v.name, v.err, v.out)
		case v.caught == "" && known:
			fmt.Fprintf(&table, "  %-66s nobody: %s\n", v.name, why)
		case v.caught == "":
			t.Errorf("a store that %s passes the suite", v.name)
		case known:
			t.Errorf("a store that %s is found by %s: strike it from uncaught", v.name, v.caught)
		case !v.by:
			t.Errorf("a store that %s is found by %s, but not by %s", v.name, v.caught, all[v.name].by)
		default:
			fmt.Fprintf(&table, "  %-66s %s\n", v.name, v.caught)
		}
	}
	t.Logf("%d faults are found, each by\n%s", len(names)-len(uncaught), table.String())
}
