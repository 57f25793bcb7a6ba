package servers

import (
	"errors"
	"strings"
	"testing"
)

func TestUpClusters_starts_once_and_again_on_the_same_data(t *testing.T) {
	apart(t)
	up := func() *Cluster {
		t.Helper()
		if err := UpClusters(t.Context(), []Kind{NATS}, 3, func(Kind, string) {}); err != nil {
			t.Fatal(err)
		}
		c, done, err := BackgroundCluster(t.Context(), NATS)
		if err != nil {
			t.Fatal(err)
		}
		done()
		return c
	}
	first := up()
	defer func() {
		c, done, err := BackgroundCluster(t.Context(), NATS)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if ports, err := backgroundPorts(); err != nil || len(ports) != 0 {
			t.Errorf("after it was closed: ports %v, %v", ports, err)
		}
	}()
	if ports, err := backgroundPorts(); err != nil || len(ports) != 3*len(NATS.Ports()) {
		t.Errorf("the ports of servers in the background are %v, %v", ports, err)
	}
	natsRequest(t, first.Nodes()[0], "$JS.API.STREAM.CREATE.KEPT", `{"name":"KEPT","subjects":["kept"],"num_replicas":3}`)
	if err := first.Nodes()[1].Kill(); err != nil {
		t.Fatal(err)
	}
	second := up()
	if second.URL() != first.URL() || second.Nodes()[0].proc.pid != first.Nodes()[0].proc.pid {
		t.Errorf("a second up has %s, was %s", second.URL(), first.URL())
	}
	eventuallyKept(t, second.Nodes()[1], 0)

	if err := Up(t.Context(), []Kind{NATS}, func(Kind, string) {}); err == nil || !strings.Contains(err.Error(), "down nats") {
		t.Errorf("a server by itself beside the cluster: %v", err)
	}
	if _, _, err := Background(t.Context(), NATS); !errors.Is(err, ErrNotThere) {
		t.Errorf("a cluster is taken for a server by itself: %v", err)
	}
	if err := second.Nodes()[2].Close(); err != nil {
		t.Fatal(err)
	}
	if err := UpClusters(t.Context(), []Kind{NATS}, 3, func(Kind, string) {}); err == nil || !strings.Contains(err.Error(), "with 2 nodes") {
		t.Errorf("up after a node was lost: %v", err)
	}
}
