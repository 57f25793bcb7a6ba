package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// fakeNodes stand in for real ones. They write down what is done to them, and
// complain of what cannot be done to a real node.
type fakeNodes struct {
	mu     sync.Mutex
	up     map[string]string // node → "" while it is there, else what was done to it
	calls  []string
	wrong  []string
	most   int // nodes that were away at once
	refuse func(do, node string) error
}

func (f *fakeNodes) do(_ context.Context, do, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, do+" "+node)
	if f.refuse != nil {
		if err := f.refuse(do, node); err != nil {
			return err
		}
	}
	is := f.up[node]
	switch {
	case do == "resume" && is != "pause", do == "restart" && is == "pause", (do == "kill" || do == "stop" || do == "pause") && is != "":
		f.wrong = append(f.wrong, fmt.Sprintf("%s %s, which is %q", do, node, is))
	case do == "resume", do == "restart":
		delete(f.up, node)
	default:
		f.up[node] = do
	}
	f.most = max(f.most, len(f.up))
	return nil
}

func newFakeNodes(names ...string) (*fakeNodes, *nodes) {
	f := &fakeNodes{up: map[string]string{}}
	return f, newNodes(&Options{Nodes: names, Node: f.do, NodeFaults: NodeFaultsOf(len(names)), NodeEvery: 10 * time.Second, NodeAway: 5 * time.Second})
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 4)) }

func TestNodes_are_broken_in_rotation_and_brought_back(t *testing.T) {
	var first []string
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			f, n := newFakeNodes("a", "b", "c")
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // two rounds
			defer cancel()
			n.run(ctx, seeded(1))
			counts, err := n.report()
			if err != nil || len(f.wrong) > 0 || len(f.up) > 0 || f.most != 2 {
				t.Errorf("%v; wrong %q; away in the end %v, at once %d: want 2 for a majority of 3", err, f.wrong, f.up, f.most)
			}
			for _, c := range counts {
				if c.Times < 2 {
					t.Errorf("%s happened %d times in two rounds", c.Fault, c.Times)
				}
			}
			for _, do := range []string{"kill", "stop"} {
				for _, node := range n.names {
					if !slices.Contains(f.calls, do+" "+node) {
						t.Errorf("%s was never done to %s: %q", do, node, f.calls)
					}
				}
			}
			if first == nil {
				first = broke(f.calls)
			} else if got := broke(f.calls); !slices.Equal(got, first) {
				t.Errorf("the same seed does\n%q, and did\n%q", got, first)
			}
		})
	}
}

// broke is what was broken, in order; nodes come back side by side.
func broke(calls []string) []string {
	return slices.DeleteFunc(slices.Clone(calls), func(c string) bool {
		return strings.HasPrefix(c, "restart ") || strings.HasPrefix(c, "resume ")
	})
}

func TestNodes_come_back_when_the_run_is_cancelled(t *testing.T) {
	for _, fault := range NodeFaultsOf(3) {
		synctest.Test(t, func(t *testing.T) {
			f, n := newFakeNodes("a", "b", "c")
			n.counts, n.away = []NodeCounts{{Fault: fault}}, time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { n.run(ctx, seeded(1)); close(ended) }()
			backoff.Sleep(t.Context(), 11*time.Second)
			synctest.Wait()
			if !strings.HasPrefix(n.is(), fault+" ") {
				t.Errorf("%q is shown as broken, want what %s broke", n.is(), fault)
			}
			began := time.Now()
			cancel()
			<-ended
			if len(f.up) > 0 || len(f.wrong) > 0 || time.Since(began) > time.Second || n.is() != "" {
				t.Errorf("%s: away after %v: %v; wrong %q; shown %q", fault, time.Since(began), slices.Collect(maps.Keys(f.up)), f.wrong, n.is())
			}
		})
	}
}

func TestNodes_command_that_fails_ends_the_breaking(t *testing.T) {
	for do, want := range map[string]string{"kill": "kill c: no such container", "restart": "restart c: no such container"} {
		synctest.Test(t, func(t *testing.T) {
			f, n := newFakeNodes("c")
			n.counts = []NodeCounts{{Fault: "kill"}}
			f.refuse = func(d, _ string) error {
				if d == do {
					return errors.New("no such container")
				}
				return nil
			}
			n.run(t.Context(), seeded(1))
			<-n.failed
			counts, err := n.report()
			if err == nil || err.Error() != want || counts[0].Times != 0 {
				t.Errorf("%v, %+v, want %s and no fault counted", err, counts, want)
			}
			if do == "kill" && !slices.Equal(f.calls, []string{"kill c", "restart c"}) {
				t.Errorf("%q, want a try to bring the node back", f.calls)
			}
			if do == "restart" && len(f.calls) != 1+nodeTries {
				t.Errorf("%q, want %d tries to bring the node back", f.calls, nodeTries)
			}
		})
	}
}

func TestNodes_are_restarted_once_more_where_that_failed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, n := newFakeNodes("a")
		n.counts = []NodeCounts{{Fault: "restart"}}
		f.refuse = func(string, string) error {
			if len(f.calls) == 1 {
				return errors.New("timed out")
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		n.run(ctx, seeded(1))
		counts, err := n.report()
		if err != nil || counts[0].Times != 1 || !slices.Equal(f.calls, []string{"restart a", "restart a"}) {
			t.Errorf("%v, %+v after %q, want a second try", err, counts, f.calls)
		}
	})
}

func TestNodes_tell_how_long_nothing_was_handled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, n := newFakeNodes("a", "b", "c")
		n.counts = []NodeCounts{{Fault: "kill"}}
		var s stillness
		seen := func(handled int64, due bool) {
			if now := time.Now(); s.seen(now, handled, due) {
				n.still(s.since, now)
			}
		}
		seen(1, true)
		go n.run(t.Context(), seeded(1))
		backoff.Sleep(t.Context(), 8*time.Second)
		seen(1, true) // still since the beginning, and nothing is broken
		backoff.Sleep(t.Context(), 3*time.Second)
		seen(1, true) // one second after the fault began
		backoff.Sleep(t.Context(), time.Second)
		seen(2, true)
		backoff.Sleep(t.Context(), 2*time.Second)
		seen(2, false)
		if counts, _ := n.report(); s.longest != 11*time.Second || counts[0].Still != 1 {
			t.Errorf("longest %v, %+v: want 11 s, and 1 s since the fault began", s.longest, counts)
		}
		n.mu.Lock()
		n.every = time.Hour
		n.mu.Unlock()
	})
}

func TestNodeCommand_puts_in_what_and_whom_and_tells_what_was_said(t *testing.T) {
	dir := t.TempDir()
	do := NodeCommand("echo {do} '{node}' >> " + dir + "/calls; cat " + dir + "/calls; test {do} != kill")
	if err := do(t.Context(), "stop", "pod/nats-1"); err != nil {
		t.Error(err)
	}
	if err := do(t.Context(), "kill", "pod/nats-2"); err == nil || err.Error() != "exit status 1: stop pod/nats-1\nkill pod/nats-2" {
		t.Errorf("%v, want the output", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := NodeCommand("sleep 60 & wait")(ctx, "kill", "a"); err == nil {
		t.Error("a command that hangs has done it")
	}
}

func TestNodeCommand_leaves_a_server_that_it_started_its_output(t *testing.T) {
	dir := t.TempDir()
	do := NodeCommand("cd " + dir + "; mkfifo go over; ((read x; echo it says; touch alive) < go; : > over) & echo started; test {do} = restart")
	if err := do(t.Context(), "restart", "a"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/go", []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(dir + "/over"); err != nil { // once the server has ended
		t.Fatal(err)
	}
	if _, err := os.Stat(dir + "/alive"); err != nil {
		t.Errorf("%v: a server ends when it writes after the command that started it has", err)
	}
}

func TestCheckNodes_names_what_is_wrong(t *testing.T) {
	for want, o := range map[string]struct{ nodes, faults string }{
		"":                                      {"nats-1 pod/nats-2 c.example:4222", "kill stop freeze rolling majority restart"},
		`node "-f"`:                             {"a -f", "kill"},
		`node "a;b"`:                            {"a;b", "kill"},
		`node ""`:                               {"", "kill"},
		"node a is there twice":                 {"a a", "kill"},
		`fault "explode": want some of kill`:    {"a b", "explode"},
		"fault stop is there twice":             {"a b", "stop stop"},
		"fault majority is for 3 nodes or more": {"a b", "majority"},
	} {
		err := CheckNodes(strings.Split(o.nodes, " "), strings.Fields(o.faults))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v: %v, want %q", o, err, want)
		}
	}
}
