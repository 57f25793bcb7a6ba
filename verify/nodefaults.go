package verify

import (
	"context"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A nodeFault is one way to break nodes. It goes over those that it needs, next
// in the rotation; whatever it broke is brought back behind it. do returns false if
// the end of the run has cut it short.
type nodeFault struct {
	name  string
	least int // how many nodes there must be
	do    func(ctx context.Context, n *nodes) (whole bool)
}

var nodeFaults = []nodeFault{
	{"kill", 1, func(ctx context.Context, n *nodes) bool { return n.keepAway(ctx, "kill", n.next(1)) }},
	{"stop", 1, func(ctx context.Context, n *nodes) bool { return n.keepAway(ctx, "stop", n.next(1)) }},
	{"freeze", 1, func(ctx context.Context, n *nodes) bool { return n.keepAway(ctx, "pause", n.next(1)) }},
	{"rolling", 2, func(ctx context.Context, n *nodes) bool {
		for i, node := range n.next(len(n.names)) {
			if i > 0 && !backoff.Sleep(ctx, n.away/2) || n.broken() {
				return false
			}
			n.show(node)
			n.act(ctx, "stop", node)
			n.back(ctx)
		}
		return true
	}},
	{"majority", 3, func(ctx context.Context, n *nodes) bool {
		return n.keepAway(ctx, "kill", n.next((len(n.names)+1)/2))
	}},
	{"restart", 1, func(_ context.Context, n *nodes) bool {
		node := n.next(1)[0]
		n.show(node)
		n.gone[node] = "restart" // the whole fault is to bring it back
		return true
	}},
}

// NodeFaults are the names of what a run can do to nodes.
func NodeFaults() (names []string) {
	for _, f := range nodeFaults {
		names = append(names, f.name)
	}
	return names
}

// NodeFaultsOf are the names of those that a cluster of so many nodes gets where
// none are named.
func NodeFaultsOf(nodes int) (names []string) {
	for _, f := range nodeFaults {
		if nodes >= f.least && f.name != "restart" { // kill and stop end with one
			names = append(names, f.name)
		}
	}
	return names
}
