package main

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/internal/house"
)

// notes are what the tests of a module say of what they ran against, and of
// what they left out.
type notes struct {
	servers map[string]bool // "rabbitmq 3.10.8"
	gaps    map[string]int  // why → tests
}

// Package servers, and tests of engines that run in their own process, log
// "server: NAME VERSION"; a suite that leaves a test out because of a declared
// capability says so in these words.
var (
	serverNote = regexp.MustCompile(`\bserver: (\S+ \S.*)$`)
	gapNote    = regexp.MustCompile(`(?m)\b((?:declared|known) gap: .+)$`)
)

// hear takes note of a line that a test printed.
func (n *notes) hear(line string) {
	line = strings.TrimSpace(line)
	if m := serverNote.FindStringSubmatch(line); m != nil {
		n.servers[m[1]] = true
	}
	if m := gapNote.FindStringSubmatch(line); m != nil {
		n.gaps[m[1]]++
	}
}

// declared reports whether a skipped test said which declared capability is the
// reason.
func declared(output string) bool { return gapNote.MatchString(strings.TrimSpace(output)) }

const undeclared = "    skipped without a declared gap: a test that cannot run here fails, see internal/house/dev/table.go\n"

func (n *notes) serverList() string {
	return strings.Join(slices.Sorted(maps.Keys(n.servers)), ", ")
}

func moduleName(m *house.Module) string {
	if m.Dir == "." {
		return "(root)"
	}
	return m.Dir
}

// writeGaps lists what was left out and why, by module.
func (res *results) writeGaps(out io.Writer) {
	for _, m := range res.modules {
		gaps := res.notes[m].gaps
		if len(gaps) == 0 {
			continue
		}
		fmt.Fprintf(out, "\nleft out in %s:\n", moduleName(m))
		for _, why := range slices.Sorted(maps.Keys(gaps)) {
			fmt.Fprintf(out, "  %3d  %s\n", gaps[why], why)
		}
	}
}

// write prints the table and, last, how many passed and failed.
func (res *results) write(out io.Writer) {
	total := res.total()
	const row = "%-28s %6s %7s %7s %6s %9s   %s\n"
	line := func(name string, t tally, servers string) {
		took := ""
		if t.took > 0 {
			took = time.Duration(t.took * float64(time.Second)).Round(100 * time.Millisecond).String()
		}
		text := fmt.Sprintf(row, name, fmt.Sprint(t.run), fmt.Sprint(t.passed), fmt.Sprint(t.failed), fmt.Sprint(t.gaps), took, servers)
		fmt.Fprintln(out, strings.TrimRight(text, " \n"))
	}
	fmt.Fprintf(out, "\n"+row, "module", "run", "passed", "failed", "gaps", "time", "servers")
	line("(checks)", res.checks, "")
	for _, m := range res.modules {
		line(moduleName(m), *res.tallies[m], res.notes[m].serverList())
	}
	line("total", total, "")
	res.writeGaps(out)
	if len(res.again) > 0 {
		fmt.Fprintln(out, "\nfailed, and were run again by themselves:")
		for _, name := range res.again {
			fmt.Fprintln(out, "  "+name)
		}
	}
	if len(res.failed) > 0 {
		fmt.Fprintln(out, "\nfailed:")
		const most = 50
		for _, name := range res.failed[:min(most, len(res.failed))] {
			fmt.Fprintln(out, "  "+name)
		}
		if more := len(res.failed) - most; more > 0 {
			fmt.Fprintf(out, "  … and %d more\n", more)
		}
	}
	fmt.Fprintf(out, "\n%d passed, %d failed\n", total.passed, total.failed)
}
