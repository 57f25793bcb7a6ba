package kafkabus_test

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// The controller notices a silent broker after broker.session.timeout.ms, 2 s here, and
// followers a silent controller after as long.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.Kafka, 3)
	clustertest.Run(t, clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL() + "?partitions=6&timeout=5s", Ordered: true, Detection: 12 * time.Second, Orderly: 3 * time.Second})
}
