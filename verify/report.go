package verify

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A Report is what came of a run.
type Report struct {
	// Holds: nothing is wrong, and the run came to its end.
	Holds bool `json:"holds"`
	// Complete: everything that was committed was handled before the run's
	// patience ended.
	Complete bool `json:"complete"`
	// Interrupted: the writers were ended early.
	Interrupted bool `json:"interrupted"`

	Run       string   `json:"run"`
	Seed      uint64   `json:"seed"`
	Transport string   `json:"transport"`
	Checked   []string `json:"checked"`     // in words
	Unchecked []string `json:"not_checked"` // in words, with the reason
	Notes     []string `json:"notes"`       // what else should be known

	Verdict

	Kills  int `json:"kills"`
	Stops  int `json:"stops"`
	Cuts   int `json:"cuts"`
	Starts int `json:"failed_starts"` // of processes, as while a server was away
	Falls  int `json:"falls"`         // processes that served and ended by themselves

	Nodes     []NodeCounts `json:"nodes,omitempty"`      // by fault
	NodeError string       `json:"node_error,omitempty"` // the command that broke or brought back a node, and failed
	// Still is the longest time without a first effect on the main path, though one was
	// due, in seconds.
	Still float64 `json:"still_seconds"`

	// What the processes counted. Those that were killed took their last counts
	// with them, so that these are lower bounds.
	Published   int64 `json:"published"`
	Redelivered int64 `json:"redelivered"`
	Retried     int64 `json:"retried"`
	Dead        int64 `json:"dead"`
	Requeued    int   `json:"requeued"` // dead letters that the run sent again

	Deploy *Deploy `json:"deploy,omitempty"` // of version 2, on path versions
	Outage *Outage `json:"outage,omitempty"` // of the consumers' database, on path outage

	Seconds      float64 `json:"seconds"`       // that the writers wrote
	DrainSeconds float64 `json:"drain_seconds"` // until everything was handled
	TotalSeconds float64 `json:"total_seconds"`
	Rate         float64 `json:"rate"` // messages per second, committed and handled
}

// report compares the databases, and says what was found.
func (r *run) report(ctx context.Context, complete, interrupted bool) (*Report, error) {
	c := NewChecker(r.groups)
	second := int64(0)
	err := r.books.tables().readSent(ctx, func(s Sent) error {
		if strings.HasSuffix(s.ID, secondMark) {
			second++
		}
		return c.Sent(s)
	})
	if err != nil {
		return nil, fmt.Errorf("verify: read what was committed: %w", err)
	}
	if r.plain != nil {
		for _, s := range r.plain.sent {
			if err := c.Sent(s); err != nil {
				return nil, fmt.Errorf("verify: %w", err)
			}
		}
	}
	for _, path := range r.diaries {
		if err := readDiary(path, c.Outcome); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	if err := r.shelf.tables().readEffects(ctx, c.Effect); err != nil {
		return nil, fmt.Errorf("verify: read what was handled: %w", err)
	}
	var notes []string
	if r.letters != nil {
		r.letters.lookWell(ctx)
		r.letters.tell(c)
	}
	if c.missing() {
		notes = r.tellStill(ctx, c)
	}
	rep := &Report{Notes: notes, Run: r.id, Seed: r.Seed, Transport: r.caps.Name, Complete: complete, Interrupted: interrupted, Verdict: *c.Verdict()}
	var counts report
	counts, rep.Kills = r.fleet.counts()
	rep.Starts, rep.Falls = r.fleet.starts, len(r.fleet.falls)
	rep.Published, rep.Redelivered, rep.Retried, rep.Dead = counts.Published, counts.Redelivered, counts.Retried, counts.Dead
	rep.Stops, rep.Cuts = r.faults.stops, r.faults.cuts
	var nodeErr error
	if rep.Nodes, nodeErr = r.faults.nodes.report(); nodeErr != nil {
		rep.NodeError, rep.Interrupted = nodeErr.Error(), true
	}
	rep.Still = seconds(r.still.longest)
	rep.Seconds, rep.DrainSeconds, rep.TotalSeconds = seconds(r.wrote), seconds(r.drained), seconds(time.Since(r.began))
	rep.Rate = math.Round(float64(rep.Handled) / max(0.001, (r.wrote+r.drained).Seconds()))
	if rep.Deploy = r.deployed; rep.Deploy != nil {
		rep.Deploy.Second, rep.Deploy.Waited = second, counts.Unhandled
	}
	rep.Outage = r.gone.report(r.fleet.lines(consuming))
	rep.Holds = rep.Verdict.Holds() && rep.Committed > 0 && nodeErr == nil
	r.words(rep)
	return rep, nil
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

// maxFallsTold is how many processes are told of that ended by themselves.
const maxFallsTold = 5

// words say what was checked, and what else should be known.
func (r *run) words(rep *Report) {
	main, paths := r.groups[:len(r.mains())], r.groups[len(r.mains()):]
	rep.Checked = []string{
		fmt.Sprintf("every committed message has its effect in %s, or is kept where no handler can handle it", groupNames(main)),
		"no effect comes from a transaction or a part of one that was rolled back",
		"no message has two effects",
		"what arrived is what was published",
		"what the writers were told of their commits is what the database has",
	}
	rep.Unchecked = []string{}
	for _, g := range main {
		if g.Ordered {
			text := fmt.Sprintf("group %s: first effects of each key follow the order of the commits", g.Name)
			if r.Kill > 0 && r.caps.Order < driver.OrderOwner {
				text += fmt.Sprintf(" (its one consumer was not killed: %s promises order only while one receiver stays open)", r.caps.Name)
			}
			rep.Checked = append(rep.Checked, text)
			continue
		}
		why := "it has no order at all"
		if len(main) > 1 {
			why = "it keeps the order of a key only while one instance of a group receives"
		}
		rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("group %s: order within a key (%s: %s)", g.Name, r.caps.Name, why))
	}
	for i, g := range paths {
		text := fmt.Sprintf("path %s: %s", g.Name, r.walked[i].says)
		if g.Ordered {
			text += "; in the order of the commits"
		}
		rep.Checked = append(rep.Checked, text)
	}
	rep.Unchecked = append(rep.Unchecked, r.left...)
	if len(r.cuttable) > 0 {
		rep.Checked = append(rep.Checked, "all of it across cut and stalled connections to "+strings.Join(r.cuttable, " and "))
	}
	if len(rep.Nodes) > 0 {
		rep.Checked = append(rep.Checked, "all of it while nodes "+strings.Join(r.Options.Nodes, ", ")+" were broken")
	}
	for _, n := range rep.Nodes {
		if n.Times == 0 && rep.NodeError == "" {
			rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("node fault %s: the run ended before its turn", n.Fault))
		}
	}
	if rep.Notes == nil {
		rep.Notes = []string{}
	}
	if r.letters != nil {
		requeued, err := r.letters.last()
		rep.Requeued = requeued
		if err != nil {
			rep.Notes = append(rep.Notes, "the dead letters could not be read in the end, and what is kept may be called lost: "+err.Error())
		}
	}
	if r.gone != nil && r.gone.err != nil {
		rep.Notes = append(rep.Notes, "the consumers' database could not be kept away: "+r.gone.err.Error())
	}
	switch {
	case rep.NodeError != "":
		rep.Notes = append(rep.Notes, "a node could not be broken or brought back, and the run ended there: "+rep.NodeError)
	case rep.Interrupted:
		rep.Notes = append(rep.Notes, "the run was interrupted: this is about what was written until then")
	}
	for _, text := range r.fleet.falls[:min(maxFallsTold, len(r.fleet.falls))] {
		rep.Notes = append(rep.Notes, "a process that served ended by itself, and was started again: "+text)
	}
}

func groupNames(groups []Group) string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	if len(names) == 1 {
		return "group " + names[0]
	}
	return "each of the groups " + strings.Join(names, ", ")
}

// Print writes the report for people.
func (rep *Report) Print(w io.Writer) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	verdict := "HOLDS"
	switch {
	case !rep.Holds && rep.Committed == 0:
		verdict = "NOTHING PROVED: no transaction committed"
	case rep.NodeError != "" && rep.Verdict.Holds():
		verdict = "NOT PROVED: a node could not be broken or brought back"
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
		line("outage       %.1f s without the consumers' store; all of its path handled %.1f s after its return; %d lines logged from then on", o.Seconds, o.Recovered, o.Lines)
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
