package natsbus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go/jetstream"
)

// A leader without a majority confirms nothing, also where it is given again what it has
// proposed and not stored: that may yet be dropped.
func TestSend_to_a_leader_without_a_majority_is_not_confirmed(t *testing.T) {
	cluster := servers.StartCluster(t, servers.NATS, 3)
	drivertest.CheckLeaks(t)
	for _, kind := range []driver.ChannelKind{driver.PublishSubscribe, driver.PointToPoint} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprint(kind, " ", n), func(t *testing.T) { withoutMajority(t, cluster, kind, n) })
		}
	}
}

func withoutMajority(t *testing.T, cluster *servers.Cluster, kind driver.ChannelKind, n int) {
	s := work(fmt.Sprintf("minority-%d-%d", kind, n))
	s.Channel.Kind = kind
	c := connect(t, natsbus.Options{URL: cluster.Nodes()[0].URL(), Replicas: 3})
	provision(t, c, s)
	var js jetstream.JetStream
	if !c.As(&js) {
		t.Fatal("no client underneath")
	}
	stream, err := js.Stream(within(t), s.Channel.Name)
	if err != nil {
		t.Fatal(err)
	}
	var leader *servers.Server
	var others []*servers.Server
	for i, node := range cluster.Nodes() {
		if stream.CachedInfo().Cluster.Leader == fmt.Sprintf("node%d", i+1) {
			leader = node
		} else {
			others = append(others, node)
		}
	}
	if leader == nil {
		t.Fatalf("nobody leads: %+v", stream.CachedInfo().Cluster)
	}
	near := connect(t, natsbus.Options{URL: leader.URL(), Replicas: 3, Timeout: time.Second})
	messages := func() (ms []*driver.Message) {
		for i := range n {
			ms = append(ms, &driver.Message{Channel: s.Channel.Name, ID: fmt.Sprintf("%02d", i), Source: "test", Type: "t.v1", Key: "k"})
		}
		return ms
	}
	warm := messages()[:1]
	warm[0].ID = "warm"
	if err := near.Send(within(t), warm); err != nil { // it knows the channel
		t.Fatal(err)
	}
	for _, node := range others {
		if err := node.Pause(); err != nil {
			t.Fatal(err)
		}
	}
	var sent [3]error
	for i := range sent {
		sent[i] = near.Send(within(t), messages())
	}
	for _, node := range others {
		if err := node.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	for i, err := range sent {
		if err == nil {
			t.Errorf("send %d was confirmed, and no other node has it", i+1)
		} else if near.Classify(err) != driver.Retryable {
			t.Errorf("send %d: %v, want a retryable error", i+1, err)
		}
	}
	eventually(t, func() bool { return near.Send(within(t), messages()) == nil })
	r, err := near.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	for seen := map[string]bool{}; len(seen) < n+1; {
		ds, err := r.Receive(within(t), 10)
		if err != nil && near.Classify(err) != driver.Retryable {
			t.Fatal(err)
		}
		for _, d := range ds {
			seen[d.Message.ID] = true
		}
	}
	if err := r.Close(within(t)); err != nil {
		t.Error(err)
	}
}
