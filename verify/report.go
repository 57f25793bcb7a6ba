package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// A Report is what came of a run.
type Report struct {
	// Holds: something was committed, nothing is wrong, and no command that breaks
	// nodes has failed.
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
	NodesAway []string     `json:"nodes_away,omitempty"` // that could not be brought back
	// Still is the longest time without an effect on the main path, though one was
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

// judging is how long the servers may take to tell everything.
const judging = 10 * time.Minute

// report compares the databases, and says what was found.
func (r *run) report(ctx context.Context, complete, interrupted bool) (*Report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, judging, fmt.Errorf("a server has not told everything within %v", judging))
	defer cancel()
	c := NewChecker(r.groups)
	second, back := int64(0), r.recovery()
	err := r.books.tables().readSent(ctx, func(s Sent) error {
		if strings.HasSuffix(s.ID, secondMark) {
			second++
		}
		back.sent(s)
		return c.Sent(s)
	})
	if err != nil {
		return nil, fmt.Errorf("verify: read what was committed: %w", because(ctx, err))
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
	if err := r.shelf.tables().readEffects(ctx, func(e Effect) error {
		back.effect(e)
		return c.Effect(e)
	}); err != nil {
		return nil, fmt.Errorf("verify: read what was handled: %w", because(ctx, err))
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
	if rep.Lost > 0 {
		r.where(ctx, rep.Findings)
	}
	var counts report
	counts, rep.Kills = r.fleet.counts()
	rep.Starts, rep.Falls = r.fleet.starts, len(r.fleet.falls)
	rep.Published, rep.Redelivered, rep.Retried, rep.Dead = counts.Published, counts.Redelivered, counts.Retried, counts.Dead
	rep.Stops, rep.Cuts = r.faults.stops, r.faults.cuts
	var nodeErr error
	if rep.Nodes, nodeErr = r.faults.nodes.report(); nodeErr != nil {
		rep.NodeError, rep.NodesAway = nodeErr.Error(), r.faults.nodes.lacking()
	}
	rep.Still = seconds(r.still.longest)
	rep.Seconds, rep.DrainSeconds, rep.TotalSeconds = seconds(r.wrote), seconds(r.drained), seconds(time.Since(r.began))
	rep.Rate = math.Round(float64(rep.Handled) / max(0.001, (r.wrote+r.drained).Seconds()))
	if rep.Deploy = r.deployed; rep.Deploy != nil {
		rep.Deploy.Second, rep.Deploy.Waited = second, counts.Unhandled
	}
	if rep.Outage = r.gone.report(r.fleet.lines(consuming)); rep.Outage != nil {
		rep.Outage.Recovered = back.seconds()
	}
	rep.Holds = rep.Verdict.Holds() && rep.Committed > 0 && nodeErr == nil
	r.words(rep)
	return rep, nil
}

func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

// because is err, with the reason if ctx has ended for one.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); ctx.Err() != nil && cause != ctx.Err() {
		return errors.Join(cause, err)
	}
	return err
}
