package rabbitbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// A quorum queue elects another leader within seconds of its leader's silence.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.RabbitMQ, 3)
	nodes := clustertest.NodesOf(c)
	nodes[0] = repaired{nodes[0], nodes[2]}
	clustertest.Run(t, clustertest.Harness{Nodes: nodes, URL: c.URL() + "?partitions=6", Ordered: true, Detection: 12 * time.Second})
}

// A repaired node is closed only after the frozen node was restarted. That is the
// operator's task: the cluster does not take back a node that was frozen for longer
// than net_ticktime (3.10, also with pause_minority). It stays partitioned, and when
// it loses another node, the last one is a minority and pauses.
type repaired struct {
	clustertest.Node
	frozen clustertest.Node
}

func (n repaired) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(n.frozen.Stop(ctx), n.frozen.Restart(ctx), n.Node.Close())
}
