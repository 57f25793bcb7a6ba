package rabbitbus_test

import (
	"os"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/servers/clustertest"
)

// A quorum queue elects another leader within seconds of its leader's silence.
func TestCluster_outlives_its_nodes(t *testing.T) {
	c := servers.StartCluster(t, servers.RabbitMQ, 3)
	h := clustertest.Harness{Nodes: clustertest.NodesOf(c), URL: c.URL() + "?partitions=6", Ordered: true, Detection: 12 * time.Second}
	if os.Getenv("DOVETAIL_FAULT_PERIOD") == "" {
		// Where a node was lost for good after the other faults, queues of this server
		// refused messages for more than a minute, in one run of six. The long form
		// tries it.
		h.Without = []string{"lost"}
	}
	clustertest.Run(t, h)
}
