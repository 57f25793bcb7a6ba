package servers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestCluster_outlives_each_of_its_nodes(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, NATS, 3)
	one, two, three := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	for _, s := range c.Nodes() {
		if !strings.Contains(c.URL(), s.Addr()) {
			t.Errorf("%s is not in %s", s.Addr(), c.URL())
		}
	}
	if one.Name() != "nats-1" || three.Name() != "nats-3" || c.Name() != "nats" {
		t.Errorf("the nodes are called %s … %s", one.Name(), three.Name())
	}
	natsRequest(t, one, "$JS.API.STREAM.CREATE.KEPT", `{"name":"KEPT","subjects":["kept"],"num_replicas":3}`)
	kept := publishKept(t, one)

	if err := one.Kill(); err != nil {
		t.Fatal(err)
	}
	eventuallyKept(t, two, kept)
	if err := one.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := two.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyKept(t, one, kept)
	if err := two.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := three.Pause(); err != nil {
		t.Fatal(err)
	}
	eventuallyKept(t, two, kept)
	if err := three.Resume(); err != nil {
		t.Fatal(err)
	}
	dir := three.Dir()
	if err := three.Close(); err != nil || isDir(dir) {
		t.Fatalf("a node that is lost: %v, its directory is there: %v", err, isDir(dir))
	}
	if err := three.Restart(t.Context()); err == nil {
		t.Error("a node that was lost starts again")
	}
	eventuallyKept(t, one, kept)
	eventuallyKept(t, two, kept)
}

// publishKept publishes to stream KEPT until a message is confirmed, and returns how
// many there are: a node drops what comes before it has heard of a new stream.
func publishKept(t *testing.T, s *Server) int {
	t.Helper()
	for deadline := time.Now().Add(slow); ; {
		var ack struct{ Seq int }
		text, err := natsAsk(t, s, "kept", "a")
		if err == nil {
			err = json.Unmarshal([]byte(text), &ack)
		}
		if err == nil && ack.Seq > 0 {
			return ack.Seq
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s says %q, %v", s.Name(), text, err)
		}
	}
}

// eventuallyKept waits until a node tells of so many messages in stream KEPT.
func eventuallyKept(t *testing.T, s *Server, n int) {
	t.Helper()
	deadline := time.Now().Add(slow)
	for {
		var info struct{ State struct{ Messages int } }
		text, err := natsAsk(t, s, "$JS.API.STREAM.INFO.KEPT", "")
		if err == nil {
			err = json.Unmarshal([]byte(text), &info)
		}
		if err == nil && info.State.Messages == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s tells of %q, %v", s.Name(), text, err)
		}
		<-time.After(moment)
	}
}

func TestLaunchCluster_refuses_what_is_none(t *testing.T) {
	for _, n := range []int{-1, 0, 1, maxNodes + 1} {
		if _, err := LaunchCluster(t.Context(), NATS, n); err == nil || !strings.Contains(err.Error(), "want 2 to 9") {
			t.Errorf("%d nodes: %v", n, err)
		}
	}
	if _, err := LaunchCluster(t.Context(), broken{}, 3); err == nil || !strings.Contains(err.Error(), "cannot be a cluster") {
		t.Errorf("a kind that has no clusters: %v", err)
	}
}

func TestKafkaState_reads_brokers_and_copies(t *testing.T) {
	brokers := "\x00\x00\x00\x02" + "\x00\x00\x00\x03\x00\x01h\x00\x00\x23\x84\xff\xff" + "\x00\x00\x00\x01\x00\x02hh\x00\x00\x23\x84\x00\x01r" + "\x00\x00\x00\x01"
	copies := "\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x03" + "\x00\x00\x00\x01\x00\x00\x00\x01"
	topic := "\x00\x00\x00\x01" + "\x00\x00\x00\x01t\x00" + "\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + copies
	for node, want := range map[int]int{1: 0, 2: 0, 3: 1} {
		got, behind := kafkaState([]byte(brokers+topic), node)
		if len(got) != 2 || got[0] != 3 || got[1] != 1 || behind != want {
			t.Errorf("node %d: brokers %v, %d partitions behind, want %d", node, got, behind, want)
		}
	}
	for _, cut := range []string{"", "\x00", "\x7f\xff\xff\xff"} {
		if got, behind := kafkaState([]byte(cut), 1); len(got) != 0 || behind != 0 {
			t.Errorf("%q: %v, %d", cut, got, behind)
		}
	}
}
