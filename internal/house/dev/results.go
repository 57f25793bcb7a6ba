package main

import (
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/internal/house"
)

// A tally counts tests, subtests included.
type tally struct {
	run, passed, failed, gaps int
	took                      float64 // seconds, of all packages together
}

// sub takes away what was added.
func (t *tally) sub(o tally) {
	t.add(tally{-o.run, -o.passed, -o.failed, -o.gaps, -o.took})
}

func (t *tally) add(o tally) {
	t.run += o.run
	t.passed += o.passed
	t.failed += o.failed
	t.gaps += o.gaps
	t.took += o.took
}

// results collects what go test says of many packages.
type results struct {
	out      io.Writer
	modules  []*house.Module
	packages int
	checks   tally

	mu      sync.Mutex
	tallies map[*house.Module]*tally
	notes   map[*house.Module]*notes
	open    map[string]*pkg // packages that have not ended
	sick    map[string]*pkg // that failed
	again   []string        // packages that failed, with tests, and were run again
	done    int
	failed  []string // names of tests
}

// A pkg is what is known of a package while its tests run.
type pkg struct {
	sum    tally
	tests  map[string]*strings.Builder // running → what it printed
	failed []failure
	other  strings.Builder // printed outside of tests
}

type failure struct{ test, output string }

func newResults(r *repo) *results {
	return resultsOf(os.Stdout, r.modules())
}

func resultsOf(out io.Writer, modules []*house.Module) *results {
	res := &results{
		out: out, modules: modules, open: map[string]*pkg{}, sick: map[string]*pkg{},
		tallies: map[*house.Module]*tally{}, notes: map[*house.Module]*notes{},
	}
	for _, m := range modules {
		res.tallies[m], res.notes[m] = &tally{}, &notes{servers: map[string]bool{}, gaps: map[string]int{}}
	}
	return res
}

// progress is what the line says that shows that it is not stuck.
func (res *results) progress() string {
	res.mu.Lock()
	defer res.mu.Unlock()
	return fmt.Sprintf("%d of %d packages done, %d tests%s", res.done, res.packages, res.totalLocked().run-res.checks.run, res.at())
}

// at names a test that is running, if there is one.
func (res *results) at() string {
	var all []string
	for name, p := range res.open {
		for test := range p.tests {
			all = append(all, path.Base(name)+" "+test)
		}
	}
	if len(all) == 0 {
		return ""
	}
	// The last by name is likely to be a subtest rather than what it is in.
	return ", at " + slices.Max(all)
}

// add takes one event. What failed is shown when its package has ended, so that
// packages that run side by side do not mix.
func (res *results) add(e event) {
	res.mu.Lock()
	defer res.mu.Unlock()
	if e.Package == "" {
		if e.Action == "build-output" {
			fmt.Fprint(res.out, e.Output)
		}
		return
	}
	p := res.open[e.Package]
	if p == nil {
		p = &pkg{tests: map[string]*strings.Builder{}}
		res.open[e.Package] = p
	}
	m := res.moduleOf(e.Package)
	if m == nil {
		return
	}
	t := &p.sum
	switch e.Action {
	case "run":
		t.run++
		p.tests[e.Test] = &strings.Builder{}
	case "output":
		res.notes[m].hear(e.Output)
		if b := p.tests[e.Test]; b != nil {
			b.WriteString(e.Output)
		} else {
			p.other.WriteString(e.Output)
		}
	case "pass", "skip", "fail":
		if e.Test == "" {
			t.took += e.Elapsed
			res.end(e, p, t)
			res.tallies[m].add(*t)
			return
		}
		switch e.Action {
		case "pass":
			t.passed++
		case "skip":
			if b := p.tests[e.Test]; b != nil && !declared(b.String()) {
				t.failed++
				p.failed = append(p.failed, failure{e.Test, b.String() + undeclared})
				break
			}
			t.gaps++
		case "fail":
			t.failed++
			if b := p.tests[e.Test]; b != nil {
				p.failed = append(p.failed, failure{e.Test, b.String()})
			}
		}
		delete(p.tests, e.Test)
	}
}

// end shows a package that has ended: what failed, and go test's line for it.
func (res *results) end(e event, p *pkg, t *tally) {
	delete(res.open, e.Package)
	res.done++
	summary, rest := splitSummary(p.other.String())
	if e.Action == "fail" || len(p.failed) > 0 {
		res.sick[e.Package] = p
		for name, b := range p.tests { // the process died before they ended
			t.failed++
			p.failed = append(p.failed, failure{name, b.String()})
		}
		if len(p.failed) == 0 { // it did not build, or its TestMain failed
			t.run++
			t.failed++
			res.failed = append(res.failed, e.Package)
		}
		slices.SortFunc(p.failed, func(a, b failure) int { return strings.Compare(a.test, b.test) })
		for _, f := range p.failed {
			res.failed = append(res.failed, e.Package+" "+f.test)
			fmt.Fprint(res.out, readable(f.output))
		}
		fmt.Fprint(res.out, rest)
	}
	fmt.Fprint(res.out, summary)
}

// maxShown is how many lines of a failed test are shown, half of them from its
// beginning.
const maxShown = 400

// readable is what a test printed, without the lines that only tell that it
// runs, and without the middle of what is very long.
func readable(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "=== ") {
			kept = append(kept, line)
		}
	}
	if left := len(kept) - maxShown; left > 0 {
		kept = slices.Concat(kept[:maxShown/2], []string{fmt.Sprintf("    … %d lines left out: run the test alone to see them\n", left)}, kept[len(kept)-maxShown/2:])
	}
	return strings.Join(kept, "")
}

// splitSummary separates the line in which go test sums a package up ("ok …",
// "FAIL …", "? …") from what the package printed outside of tests.
func splitSummary(s string) (summary, rest string) {
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "FAIL\t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "---\t") {
			summary += line
			continue
		}
		if line != "PASS\n" && line != "FAIL\n" {
			b.WriteString(line)
		}
	}
	return summary, b.String()
}

// moduleOf returns the innermost module that a package belongs to, nil if it is
// none of the workspace's.
func (res *results) moduleOf(importPath string) (best *house.Module) {
	for _, m := range res.modules {
		if (importPath == m.Path || strings.HasPrefix(importPath, m.Path+"/")) && (best == nil || len(m.Path) > len(best.Path)) {
			best = m
		}
	}
	return best
}

func (res *results) total() tally {
	res.mu.Lock()
	defer res.mu.Unlock()
	return res.totalLocked()
}

func (res *results) totalLocked() tally {
	sum := res.checks
	for _, t := range res.tallies {
		sum.add(*t)
	}
	for _, p := range res.open {
		sum.add(p.sum)
	}
	return sum
}
