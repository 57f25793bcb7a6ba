package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// nodeName is what a shell takes as a word that is no option.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:@/-]*$`)

// NodeCounts are what nodes went through in one way.
type NodeCounts struct {
	Fault string `json:"fault"`
	Times int    `json:"times"` // without one that the end of the writing cut short
	// Still is the longest time without an effect on the main path, though one was
	// due, from the beginning of such a fault to that of the next one, in seconds.
	Still float64 `json:"still_seconds"`
}

// nodes breaks the nodes of a cluster, one fault after the other.
type nodes struct {
	names []string
	do    func(ctx context.Context, do, node string) error
	away  time.Duration
	every time.Duration

	turn []string          // nodes in the order of the rotation
	gone map[string]string // node → what brings it back

	mu     sync.Mutex
	counts []NodeCounts
	now    int // index of counts: of the fault that began last; -1 before the first
	began  time.Time
	what   string          // is broken now
	met    map[string]bool // nodes that were broken
	absent map[string]bool // nodes that could not be brought back
	err    error
	failed chan struct{} // closed when a command has failed
}

// newNodes returns what breaks the nodes that o names; with none, it does nothing.
func newNodes(o *Options) *nodes {
	n := &nodes{names: o.Nodes, do: o.Node, away: o.NodeAway, every: o.NodeEvery, now: -1,
		gone: map[string]string{}, met: map[string]bool{}, absent: map[string]bool{}, failed: make(chan struct{})}
	for _, name := range o.NodeFaults {
		n.counts = append(n.counts, NodeCounts{Fault: name})
	}
	return n
}

// run breaks nodes until ctx ends or a command fails. All of them are back when it
// returns, unless the command that brings one back failed.
func (n *nodes) run(ctx context.Context, r *rand.Rand) {
	for _, i := range r.Perm(len(n.names)) {
		n.turn = append(n.turn, n.names[i])
	}
	for {
		for _, i := range r.Perm(len(n.counts)) {
			if !backoff.Sleep(ctx, n.every) {
				return
			}
			n.mu.Lock()
			n.now, n.began = i, time.Now()
			n.mu.Unlock()
			whole := false
			for _, f := range nodeFaults {
				if f.name == n.counts[i].Fault {
					whole = f.do(ctx, n)
				}
			}
			n.back(ctx)
			n.mu.Lock()
			n.what = ""
			if n.err == nil && whole {
				n.counts[i].Times++
			}
			n.mu.Unlock()
			if n.broken() {
				return
			}
		}
	}
}

// next are the nodes whose turn it is.
func (n *nodes) next(count int) []string {
	these := append([]string{}, n.turn[:count]...)
	n.turn = append(n.turn[count:], these...)
	return these
}

// keepAway does something to nodes, and leaves them so for a while. It returns false
// if that ended early.
func (n *nodes) keepAway(ctx context.Context, do string, these []string) bool {
	n.show(these...)
	for _, node := range these {
		n.act(ctx, do, node)
	}
	return !n.broken() && backoff.Sleep(ctx, n.away)
}

// show says which nodes are broken now.
func (n *nodes) show(these ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.what = n.counts[n.now].Fault + " " + strings.Join(these, ", ")
}

// act does one thing to one node, to its end, also when the faults are to end: half
// a command may leave the node in any state.
func (n *nodes) act(ctx context.Context, do, node string) {
	if n.broken() {
		return
	}
	switch do {
	case "kill", "stop":
		n.gone[node] = "restart"
	case "pause":
		n.gone[node] = "resume"
	}
	n.did(node, n.try(ctx, do, node))
}

// did notes down what became of a command that breaks a node.
func (n *nodes) did(node string, err error) {
	n.fail(err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.met[node] = n.met[node] || err == nil
}

func (n *nodes) try(ctx context.Context, do, node string) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), nodeTime, fmt.Errorf("it took longer than %v", nodeTime))
	defer cancel()
	err := n.do(ctx, do, node)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", do, node, err)
	}
	return err
}

const (
	nodeTime  = 3 * time.Minute // for one command
	nodeTries = 3               // to bring a node back
)

// back brings back all nodes that are away, at once: some come up only with others.
func (n *nodes) back(ctx context.Context) {
	var all sync.WaitGroup
	for node, do := range n.gone {
		all.Go(func() {
			var err error
			for i := range nodeTries {
				if i > 0 {
					backoff.Sleep(context.Background(), time.Second)
				}
				if err = n.try(ctx, do, node); err == nil {
					break
				}
			}
			n.did(node, err)
			n.mu.Lock()
			n.absent[node] = err != nil
			n.mu.Unlock()
		})
	}
	all.Wait()
	clear(n.gone)
}

func (n *nodes) fail(err error) {
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		close(n.failed)
	}
	n.err = errors.Join(n.err, err)
}

// broken reports whether a command has failed.
func (n *nodes) broken() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err != nil
}

// is says what is broken now; "" for nothing.
func (n *nodes) is() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.what
}

// disturb reports whether a server may be away for what is done to nodes.
func (n *nodes) disturb() bool { return n.is() != "" || len(n.lacking()) > 0 }

// still is told since when nothing was handled that is due.
func (n *nodes) still(since, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now < 0 {
		return
	}
	if since.Before(n.began) {
		since = n.began
	}
	c := &n.counts[n.now]
	c.Still = max(c.Still, seconds(now.Sub(since)))
}

// report is what came of it, and what could not be done; no counts without nodes.
func (n *nodes) report() ([]NodeCounts, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts, n.err
}

// split returns the nodes that were broken, and those that were not.
func (n *nodes) split() (met, spared []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range n.names {
		if n.met[name] {
			met = append(met, name)
		} else {
			spared = append(spared, name)
		}
	}
	return met, spared
}

// lacking are the nodes that could not be brought back.
func (n *nodes) lacking() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range n.names {
		if n.absent[name] {
			names = append(names, name)
		}
	}
	return names
}
