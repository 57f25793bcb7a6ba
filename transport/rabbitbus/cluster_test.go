package rabbitbus_test

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// A quorum queue elects another leader within seconds of its leader's silence.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.RabbitMQ, 3)
	clustertest.Run(t, clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL() + "?partitions=6", Ordered: true, Detection: 12 * time.Second})
}
