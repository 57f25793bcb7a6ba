package rabbitbus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// A node is one of the cluster, as the management plugin tells of it.
type node struct {
	Name       string
	Running    bool
	Partitions []string // nodes that it was cut off from, and has not taken back
	MemAlarm   bool     `json:"mem_alarm"`
	DiskAlarm  bool     `json:"disk_free_alarm"`
}

// Examine asks the management plugin how the nodes are: which are away, which were
// cut off and are not taken back, and which have an alarm. It needs
// Options.Management and a user with the tag monitoring.
func (c *Conn) Examine(ctx context.Context) ([]driver.Finding, error) {
	const doing = "look at the nodes"
	if _, err := c.sub.session(); err != nil {
		return nil, err
	}
	if c.opts.Management == "" {
		return nil, fmt.Errorf("rabbitbus: %s: %w without the management plugin: set management=http://host:15672 in the URL", doing, driver.ErrUnsupported)
	}
	var nodes []node
	if err := c.ask(ctx, map[string]any{"/api/nodes?columns=name,running,partitions,mem_alarm,disk_free_alarm": &nodes}); err != nil {
		return nil, translate(doing, err)
	}
	if len(nodes) == 0 { // a page that is not there
		return nil, fmt.Errorf("rabbitbus: %s: %w: the management plugin names none: look whether management in the URL is its address", doing, driver.ErrRetryable)
	}
	return findings(nodes), nil
}

// findings judges the nodes of a cluster.
func findings(nodes []node) (all []driver.Finding) {
	alarm := func(n node, what, remedy string) {
		all = append(all, driver.Finding{Subject: "node " + n.Name, Problem: "has an alarm for " + what + ": the whole cluster takes nothing from those who send", Remedy: remedy, Stops: true})
	}
	for _, n := range nodes {
		if n.MemAlarm {
			alarm(n, "its memory", "start more of those who receive, or give the node more memory, as vm_memory_high_watermark has it")
		}
		if n.DiskAlarm {
			alarm(n, "its disk", "free space on the node's disk: it wants as much as disk_free_limit says")
		}
	}
	cut, others := cutOff(nodes)
	if len(cut) > 0 {
		all = append(all, partition(cut, others))
	}
	var down []string
	for _, n := range nodes {
		if !n.Running && !slices.Contains(cut, n.Name) { // one that is cut off may look so to the others
			down = append(down, n.Name)
		}
	}
	for _, name := range down {
		f := driver.Finding{Subject: "node " + name, Problem: "does not run, or the others do not reach it",
			Remedy: fmt.Sprintf("start it; if it is gone for good, rabbitmqctl forget_cluster_node %s, and rabbitmq-queues grow NODE all for the node that takes its place", name)}
		if f.Stops = 2*len(down) >= len(nodes); f.Stops {
			f.Problem += ", and without half of the nodes queues stand still"
		}
		all = append(all, f)
	}
	return all
}

// cutOff returns the nodes that a network partition concerns: the one that all others
// are cut off from, and these; or, where the parts are larger, all that are in one.
func cutOff(nodes []node) (cut, others []string) {
	from := map[string]map[string]bool{}
	note := func(a, b string) {
		if from[a] == nil {
			from[a] = map[string]bool{}
		}
		from[a][b] = true
	}
	for _, n := range nodes {
		for _, other := range n.Partitions {
			note(n.Name, other)
			note(other, n.Name)
		}
	}
	all := slices.Sorted(maps.Keys(from))
	for _, name := range all {
		if len(from[name]) == len(nodes)-1 && len(nodes) > 2 {
			cut = append(cut, name)
		}
	}
	if len(cut) != 1 {
		return all, nil
	}
	return cut, slices.Sorted(maps.Keys(from[cut[0]]))
}

// partition is the finding of nodes that are cut off from others, or from one another.
func partition(cut, others []string) driver.Finding {
	const lasts = "in a network partition, which does not end by itself: if another node fails, queues may stop"
	const restart = "rabbitmqctl -n NODE stop_app, then start_app; rabbitmqctl cluster_status names no partition afterwards"
	if len(others) == 0 {
		return driver.Finding{Subject: "nodes " + strings.Join(cut, ", "), Problem: "cut off from one another " + lasts,
			Remedy: "choose the part that goes on, and restart the nodes of all others, one after the other: " + restart}
	}
	return driver.Finding{Subject: "node " + cut[0], Problem: fmt.Sprintf("cut off from %s %s", strings.Join(others, ", "), lasts),
		Remedy: fmt.Sprintf("restart %s: %s", cut[0], restart)}
}
