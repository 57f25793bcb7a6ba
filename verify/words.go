package verify

import (
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// maxFallsTold is how many processes are told of that ended by themselves.
const maxFallsTold = 5

// words say what was checked, and what else should be known.
func (r *run) words(rep *Report) {
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
	main, paths := r.groups[:len(r.mains())], r.groups[len(r.mains()):]
	rep.Checked = []string{
		fmt.Sprintf("every committed message has its effect in %s, or is kept where no handler can handle it", groupNames(main)),
		"no effect comes from a transaction or a part of one that was rolled back",
		"no message has two effects",
		"what arrived is what was published",
	}
	rep.Unchecked = []string{}
	if counts, _ := r.fleet.counts(); counts.Unwritten > 0 {
		rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("what the writers were told of %d commits or more, which they could not write down", counts.Unwritten))
	} else {
		rep.Checked = append(rep.Checked, "what the writers were told of their commits is what the database has")
	}
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
		if why := r.idle(g.Name, rep); why != "" {
			rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("path %s (%s)", g.Name, why))
			continue
		}
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
	r.nodeWords(rep)
	if rep.Interrupted {
		rep.Notes = append(rep.Notes, "the writing ended early: this is about what was written until then")
	}
	for _, text := range r.fleet.falls[:min(maxFallsTold, len(r.fleet.falls))] {
		rep.Notes = append(rep.Notes, "a process that served ended by itself, and was started again: "+text)
	}
	for _, text := range r.fleet.ends[:min(maxFallsTold, len(r.fleet.ends))] {
		rep.Notes = append(rep.Notes, "a process did not end as it should: "+text)
	}
}

// idle says why a path was walked and yet is not checked; "" if it is.
func (r *run) idle(name string, rep *Report) string {
	var tally Tally
	for _, g := range rep.Groups {
		if g.Group == name {
			tally = g
		}
	}
	switch {
	case tally.Committed == 0:
		return "nothing was sent on it"
	case name == versions && (rep.Deploy == nil || rep.Deploy.Second == 0):
		return "no message of version 2 was sent"
	case name == outage && rep.Outage == nil:
		return "the run ended before the consumers' database was kept away"
	case name == outage && r.gone.err != nil:
		return "the consumers' database could not be kept away: " + r.gone.err.Error()
	case name == requeues && rep.Requeued == 0:
		return "no dead letter was sent again"
	case name == poison && tally.Kept == 0:
		return "no message that cannot be handled is among the dead letters"
	}
	return ""
}

// nodeWords say which nodes were broken, and what could not be done to them.
func (r *run) nodeWords(rep *Report) {
	met, spared := r.faults.nodes.split()
	if len(met) > 0 {
		rep.Checked = append(rep.Checked, "all of it while nodes "+strings.Join(met, ", ")+" were broken")
	}
	if rep.NodeError != "" {
		rep.Notes = append(rep.Notes, "a node could not be broken or brought back: "+rep.NodeError)
		if len(rep.NodesAway) > 0 {
			rep.Notes = append(rep.Notes, "what is missing may be on a node that is away: "+strings.Join(rep.NodesAway, ", "))
		}
	}
	for _, name := range spared {
		rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("node %s: the run ended before it was broken", name))
	}
	for _, n := range rep.Nodes {
		if n.Times == 0 {
			rep.Unchecked = append(rep.Unchecked, fmt.Sprintf("node fault %s: the run ended before its turn was over", n.Fault))
		}
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
