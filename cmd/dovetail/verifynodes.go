package main

import (
	"context"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/verify"
	"github.com/spf13/cobra"
)

// nodeFlags are those that say how nodes are broken.
type nodeFlags struct {
	nodes, command, faults string
}

// secondsWithNodes is how long the writers write where nodes are broken and nobody
// says how long: each fault has its turn, and the cluster time to recover.
const secondsWithNodes = 90

func (v *verification) nodeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.node.nodes, "nodes", "", "names of the broker's nodes, with commas, which --node-cmd breaks; or, without --broker, how many to start and break, as in 3")
	f.StringVar(&v.node.command, "node-cmd", "", "shell command that does one thing to one node: {do} is kill, stop, pause, resume or restart, {node} the name")
	f.StringVar(&v.node.faults, "node-faults", "all", "what is done to nodes, in rotation: all (but restart), or some of "+strings.Join(verify.NodeFaults(), ", "))
	f.DurationVar(&v.o.NodeEvery, "node-every", 10*time.Second, "how long all nodes are there before the next fault")
	f.DurationVar(&v.o.NodeAway, "node-away", 5*time.Second, "how long a node stays killed, stopped or frozen")
}

// checkNodes reads what the flags say of nodes.
func (v *verification) checkNodes(given func(string) bool) error {
	n := &v.node
	if n.nodes == "" {
		for _, name := range []string{"nodes", "node-cmd", "node-faults", "node-every", "node-away"} {
			if given(name) {
				return misuse("--%s needs the names of nodes, as in --nodes nats-1,nats-2,nats-3, or how many to start, as in --nodes 3", name)
			}
		}
		return nil
	}
	if !given("seconds") {
		v.o.Seconds = secondsWithNodes
	}
	names := strings.Split(n.nodes, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	if n.command == "" {
		count, err := strconv.Atoi(n.nodes)
		switch {
		case err != nil:
			return misuse("--nodes %s needs --node-cmd, which breaks a node and brings it back, as in --node-cmd './node.sh {do} {node}'", n.nodes)
		case v.a.broker != "":
			return misuse("--nodes %d starts nodes in place of --broker: leave --broker out, or name its nodes, as in --nodes nats-1,nats-2,nats-3, and give --node-cmd", count)
		case count < 3 || count > 5:
			return misuse("--nodes %d: want 3 to 5, of which a majority can be away", count)
		case given("cut") && !strings.HasPrefix(v.a.store, "postgres"):
			return misuse("--cut has no connections to cut: the clients of the nodes that --nodes starts go from one to another, and the store is a file")
		}
		names = clusterNames(count)
	} else if v.a.broker == "" && v.a.store == "" {
		return misuse("--node-cmd breaks servers that --broker or --store names: name one, or leave --node-cmd out to have --nodes 3 started")
	}
	v.o.Nodes = names
	v.o.NodeFaults = verify.NodeFaultsOf(len(names))
	if n.command == "" && runtime.GOOS == "windows" { // whose processes cannot be frozen
		v.o.NodeFaults = slices.DeleteFunc(v.o.NodeFaults, func(f string) bool { return f == "freeze" })
	}
	if n.faults != "all" {
		v.o.NodeFaults = strings.Split(n.faults, ",")
	}
	for i, f := range v.o.NodeFaults {
		v.o.NodeFaults[i] = strings.TrimSpace(f)
	}
	if n.command != "" {
		if onlyRestart := slices.Equal(v.o.NodeFaults, []string{"restart"}); !onlyRestart && !strings.Contains(n.command, "{do}") {
			return misuse("--node-cmd has no {do}, and would do the same for every fault: put it in, or say --node-faults restart")
		}
		if len(names) > 1 && !strings.Contains(n.command, "{node}") {
			return misuse("--node-cmd has no {node}, and would do the same to every node: put it in")
		}
		v.o.Node = verify.NodeCommand(n.command)
	}
	if err := verify.CheckNodes(v.o.Nodes, v.o.NodeFaults); err != nil {
		return misuse("--nodes and --node-faults: %w", err)
	}
	if v.o.NodeEvery.Seconds() >= v.o.Seconds {
		return misuse("--node-every %v: want less than --seconds %g, or no node is broken", v.o.NodeEvery, v.o.Seconds)
	}
	return nil
}

// wireNodes starts the cluster that is broken, where the run has one of its own.
func (v *verification) wireNodes(ctx context.Context, self, dir string) (stop func() error, err error) {
	c, err := startCluster(ctx, self, v.o.Nodes, filepath.Join(dir, "nodes"))
	if err != nil {
		return nil, err
	}
	v.o.Broker, v.o.Node = c.url(), c.do
	return func() error { c.close(); return nil }, nil
}
