package rabbitbus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// A quorum queue elects another leader within seconds of its leader's silence.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.RabbitMQ, 3)
	all := c.Nodes()
	address := c.URL() + "?partitions=6&management=http://127.0.0.1:" + managementPort(t, all[1])
	nodes := clustertest.NodesOf(c)
	freezes := &freezable{Node: nodes[2]}
	nodes[0], nodes[2] = repaired{nodes[0], freezes, t, address}, freezes
	clustertest.Run(t, clustertest.Harness{Nodes: nodes, URL: address, Ordered: true, Detection: 12 * time.Second, Orderly: 3 * time.Second})
}

// A freezable node knows whether it was frozen since it was started.
type freezable struct {
	clustertest.Node
	was bool
}

func (n *freezable) Pause() error {
	n.was = true
	return n.Node.Pause()
}

func (n *freezable) Restart(ctx context.Context) error {
	n.was = false
	return n.Node.Restart(ctx)
}

// A repaired node is closed only after the frozen node was restarted. That is the
// operator's task: the cluster does not take back a node that was frozen for longer
// than net_ticktime (3.10, also with pause_minority). It stays partitioned, and when
// it loses another node, the last one is a minority and pauses. The cluster has to
// tell of it, and of the node that has to be restarted.
type repaired struct {
	clustertest.Node
	frozen *freezable

	t   *testing.T
	url string
}

func (n repaired) Close() error {
	if !n.frozen.was {
		return n.Node.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	found := clustertest.Examine(n.t, n.url)
	n.t.Logf("after a node was frozen: %+v", found)
	if len(found) != 1 || !strings.Contains(found[0].Problem, "network partition") || !strings.Contains(found[0].Remedy, found[0].Subject[len("node "):]) {
		n.t.Errorf("a node was frozen, and the cluster is partitioned: it tells of %+v", found)
	}
	err := errors.Join(n.frozen.Stop(ctx), n.frozen.Restart(ctx))
	for err == nil {
		if found = clustertest.Examine(n.t, n.url); len(found) == 0 {
			break
		}
		pause(ctx, 500*time.Millisecond)
		if ctx.Err() != nil {
			n.t.Errorf("the frozen node was restarted, and the cluster still tells of %+v", found)
			break
		}
	}
	return errors.Join(err, n.Node.Close())
}
