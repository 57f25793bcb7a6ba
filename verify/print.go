package verify

import (
	"fmt"
	"io"
	"strings"
)

// Proves reports whether the run has shown that the promises hold, or that they do
// not. It has not where nothing was committed, where a node could not be broken as
// it was to be, and where what is missing may be on a node that did not come back.
func (rep *Report) Proves() bool {
	late := rep.Lost + rep.Stuck
	other := rep.Verdict
	other.Lost, other.Stuck = 0, 0
	switch {
	case !other.Holds():
		return true
	case rep.NodeError != "":
		return late > 0 && len(rep.NodesAway) == 0
	}
	return rep.Committed > 0
}

// Print writes the report for people.
func (rep *Report) Print(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	verdict := "HOLDS"
	switch {
	case rep.NodeError != "" && !rep.Proves():
		verdict = "NOT PROVED: a node could not be broken or brought back"
	case !rep.Proves():
		verdict = "NOTHING PROVED: no transaction committed"
	case !rep.Holds:
		verdict = "BROKEN"
	}
	line("%s   run %s over %s, seed %d", verdict, rep.Run, rep.Transport, rep.Seed)
	line("")
	line("committed    %8d messages   rolled back %d transactions, failed %d, of unknown outcome %d", rep.Committed, rep.RolledBack, rep.Failed, rep.Unknown)
	line("handled      %8d            effects %d, redelivered at least %d, retried at least %d, dead %d, sent again %d", rep.Handled, rep.Effects, rep.Redelivered, rep.Retried, rep.Dead, rep.Requeued)
	line("kept         %8d            dead letters that no handler can handle", rep.Kept)
	for _, k := range []struct {
		kind Kind
		n    int64
		text string
	}{{Lost, rep.Lost, "lost"}, {Stuck, rep.Stuck, "stuck"}, {Abandoned, rep.Abandoned, "abandoned"},
		{Invented, rep.Invented, "invented"}, {Double, rep.Double, "double effects"},
		{Inversion, rep.Inversions, "inversions"}, {Torn, rep.Torn, "torn"}, {Untrue, rep.Untrue, "untrue outcomes"}} {
		line("%-15s %5d", k.text, k.n)
	}
	line("")
	line("faults       kills %d, stops %d, cuts %d; processes that ended by themselves %d, failed starts %d", rep.Kills, rep.Stops, rep.Cuts, rep.Falls, rep.Starts)
	for _, n := range rep.Nodes {
		line("node fault   %-8s %3d times; nothing handled for %.1f s at most", n.Fault, n.Times, n.Still)
	}
	line("time         %.1f s writing, %.1f s draining, %.1f s in all; %.0f messages/s; nothing handled for %.1f s at most", rep.Seconds, rep.DrainSeconds, rep.TotalSeconds, rep.Rate, rep.Still)
	if d := rep.Deploy; d != nil {
		line("deploy       %.1f s after the writers, %.1f s long; %d messages of version 2, of which %d or more came before their handler and waited", d.Began, d.Seconds, d.Second, d.Waited)
	}
	if o := rep.Outage; o != nil {
		recovered := fmt.Sprintf("all of its path from before its return handled %.1f s after it", o.Recovered)
		if o.Recovered < 0 {
			recovered = "not all of its path from before its return was handled"
		}
		line("outage       %.1f s without the consumers' store; %s; %d lines logged from its beginning on", o.Seconds, recovered, o.Lines)
	}
	line("lag          median %v ms, p99 %v ms, longest %v ms", rep.Lag.P50, rep.Lag.P99, rep.Lag.Max)
	if len(rep.Groups) > 1 {
		line("")
		line("%-12s %9s %9s %6s %6s %6s %9s %9s %9s %9s", "group", "committed", "handled", "kept", "lost", "stuck", "abandoned", "p50 ms", "p99 ms", "max ms")
		for _, g := range rep.Groups {
			line("%-12s %9d %9d %6d %6d %6d %9d %9v %9v %9v", g.Group, g.Committed, g.Handled, g.Kept, g.Lost, g.Stuck, g.Abandoned, g.Lag.P50, g.Lag.P99, g.Lag.Max)
		}
	}
	line("")
	for _, s := range rep.Checked {
		line("checked      %s", s)
	}
	for _, s := range rep.Unchecked {
		line("not checked  %s", s)
	}
	for _, s := range rep.Notes {
		line("note         %s", s)
	}
	if len(rep.Findings) > 0 {
		line("")
	}
	for _, f := range rep.Findings {
		what := f.ID
		if what == "" {
			what = "transaction " + f.Tx
		}
		if f.Key != "" {
			what += fmt.Sprintf(" (%s %d)", f.Key, f.N)
		}
		if f.Group != "" {
			what += " in group " + f.Group
		}
		line("%-9s    %s: %s", f.Kind, what, f.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
