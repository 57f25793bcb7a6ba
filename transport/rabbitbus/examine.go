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
	names, others := cutOff(nodes)
	if len(names) > 0 {
		all = append(all, partition(names, others))
	}
	for _, n := range nodes {
		if !n.Running && !slices.Contains(names, n.Name) { // one that is cut off may look so to the others
			all = append(all, driver.Finding{Subject: "node " + n.Name, Problem: "does not run, or the others do not reach it",
				Remedy: fmt.Sprintf("start it; if it is gone for good, rabbitmqctl forget_cluster_node %s, and rabbitmq-queues grow NODE all for the node that takes its place", n.Name)})
		}
	}
	return all
}

// cutOff returns the nodes that most are cut off from, and these. The others do not
// take such a node back until it is restarted. Where there are several, one will do.
func cutOff(nodes []node) (names, others []string) {
	from := map[string][]string{}
	most := 1
	for _, n := range nodes {
		for _, other := range n.Partitions {
			for _, pair := range [][2]string{{n.Name, other}, {other, n.Name}} {
				if !slices.Contains(from[pair[0]], pair[1]) {
					from[pair[0]] = append(from[pair[0]], pair[1])
					most = max(most, len(from[pair[0]]))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if len(from[name]) == most {
			names, others = append(names, name), from[name]
		}
	}
	slices.Sort(others)
	return names, others
}

// partition is the finding of nodes that are cut off from others.
func partition(names, others []string) driver.Finding {
	subject := "node " + names[0]
	if len(names) > 1 {
		subject = "nodes " + strings.Join(names, ", ")
	}
	return driver.Finding{Subject: subject,
		Problem: fmt.Sprintf("cut off from %s in a network partition, which does not end by itself: if another node fails, queues may stop", strings.Join(others, ", ")),
		Remedy:  fmt.Sprintf("restart %s: rabbitmqctl -n %[1]s stop_app, then start_app; rabbitmqctl cluster_status names no partition afterwards", names[0])}
}
