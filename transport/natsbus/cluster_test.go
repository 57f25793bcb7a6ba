package natsbus_test

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// The server elects a leader of each stream and each consumer after 4 to 9 s of
// silence, and after as long again where the votes were split.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.NATS, 3)
	clustertest.Run(t, clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL() + "&partitions=6&ping=1s&timeout=3s", Ordered: true, Detection: 18 * time.Second, Orderly: 6 * time.Second})
}
