package natsbus_test

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// The server elects a leader after 4 to 9 s of silence, of which there is one for each
// stream and consumer; a client gives a silent link up after two pings.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.NATS, 3)
	clustertest.Run(t, clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL() + "&partitions=6", Ordered: true, Detection: 12 * time.Second})
}
