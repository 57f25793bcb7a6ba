// Package leak finds goroutines that a test started and did not wait for.
//
// The rule of the house is that whoever starts a goroutine waits for it, so a
// goroutine that is still there after a test, and after a moment of grace for
// those that are ending, is a defect. Tests that run in parallel with others
// cannot be told apart from them: check such packages with [Main].
package leak

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Grace is how long Check and Main wait for goroutines that are ending.
const Grace = 5 * time.Second

// TB is what Check needs of a *testing.T or *testing.B.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
}

// M is what Main needs of a *testing.M.
type M interface{ Run() int }

// Check remembers which goroutines run now and, when the test and the cleanups
// that it registered later have ended, reports those that are new. Call it
// first thing in a test that does not run in parallel with others.
func Check(t TB) {
	t.Helper()
	before := map[string]bool{}
	for _, g := range goroutines() {
		before[g.id] = true
	}
	t.Cleanup(func() {
		t.Helper()
		if left := wait(before, Grace); len(left) > 0 {
			t.Errorf("%s", describe(left))
		}
	})
}

// Main runs a package's tests and fails when goroutines are left at the end.
// It is called as os.Exit(leak.Main(m)) from TestMain.
func Main(m M) int {
	code := m.Run()
	if code != 0 {
		return code // the tests that failed are the news
	}
	if left := wait(nil, Grace); len(left) > 0 {
		fmt.Fprintln(os.Stderr, describe(left))
		return 1
	}
	return 0
}

// wait returns the goroutines that are not in before and are still there after
// grace. A look at the stacks stops the world, so the looks become rarer.
func wait(before map[string]bool, grace time.Duration) []goroutine {
	deadline := time.Now().Add(grace)
	pause := time.Millisecond
	for {
		var left []goroutine
		for _, g := range goroutines() {
			if !before[g.id] && !g.known() {
				left = append(left, g)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		<-time.After(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

type goroutine struct {
	id    string
	stack string // without the header line
}

// known reports whether the goroutine belongs to the test binary or the
// runtime and not to what is tested.
func (g goroutine) known() bool {
	for _, s := range [...]string{
		"testing.(*M).", "testing.(*T).Run", "testing.(*T).Parallel", "testing.tRunner(", "testing.runTests",
		"testing.runFuzzing", "testing.runFuzzTests", "testing.(*F).", "testing.(*B).run1", "testing.(*B).doBench",
		"runtime.goexit0", "runtime.gc", "runtime.MHeap", "runtime.ensureSigM", "runtime.ReadTrace",
		"os/signal.signal_recv", "os/signal.loop", "runtime/pprof.", "runtime/trace.",
		"internal/leak.goroutines",
		"dovetail/servers.spawn", // waits for a server that a test has started again, and ends with it
	} {
		if strings.Contains(g.stack, s) {
			return true
		}
	}
	return g.stack == ""
}

// goroutines returns all goroutines but the caller's.
func goroutines() []goroutine {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	parts := bytes.Split(buf, []byte("\n\n"))
	all := make([]goroutine, 0, len(parts))
	for _, p := range parts[1:] { // the first is the caller's
		head, stack, _ := strings.Cut(string(p), "\n")
		// "goroutine 18 [chan receive]:"
		fields := strings.Fields(head)
		if len(fields) >= 2 {
			all = append(all, goroutine{id: fields[1], stack: stack})
		}
	}
	return all
}

// describe lists the goroutines, at most ten with their stacks.
func describe(left []goroutine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d goroutines were started and are still running; whoever starts one must wait for it:", len(left))
	for i, g := range left {
		if i == 10 {
			fmt.Fprintf(&b, "\n\n… and %d more", len(left)-i)
			break
		}
		fmt.Fprintf(&b, "\n\ngoroutine %s\n%s", g.id, g.stack)
	}
	return b.String()
}
