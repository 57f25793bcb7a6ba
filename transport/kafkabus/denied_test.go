package kafkabus_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A right that is missing for a while, as while somebody changes them, is told as
// it is, and the same connection and receiver go on when it is there again.
func TestFake_rights_that_come_back(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 3 * time.Second, Heartbeat: 50 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)})
	sub := subscription("denied", 1)
	provision(t, c, sub.Channel, sub)
	r := open(t, c, sub)
	var denied atomic.Bool
	for _, key := range []int16{int16(kmsg.Fetch), int16(kmsg.Produce), int16(kmsg.Heartbeat), int16(kmsg.JoinGroup), int16(kmsg.OffsetCommit)} {
		fake.ControlKey(key, func(req kmsg.Request) (kmsg.Response, error, bool) {
			fake.KeepControl()
			if !denied.Load() {
				return nil, nil, false
			}
			return refuse(req), nil, true
		})
	}
	n := 0
	for round := range 2 {
		send := func() error { return c.Send(t.Context(), []*driver.Message{numbered("denied", 0, n)}) }
		denied.Store(true)
		if err := send(); c.Classify(err) != driver.Denied {
			t.Errorf("round %d: send without the right: %v is %q", round, err, c.Classify(err))
		}
		eventually(t, func() string { return "Receive to tell that a right is missing" }, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := r.Receive(ctx, 1)
			return c.Classify(err) == driver.Denied
		})
		denied.Store(false)
		if err := send(); err != nil {
			t.Fatalf("round %d: send with the right again: %v", round, err)
		}
		for { // what the client noted meanwhile comes first
			ds, err := r.Receive(t.Context(), 1)
			if err != nil {
				if k := c.Classify(err); k != driver.Denied && k != driver.Retryable {
					t.Fatalf("round %d: receive with the right again: %v is %q", round, err, k)
				}
				continue
			}
			err = r.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}})
			if err != nil && c.Classify(err) != driver.Denied { // of a commit while it was
				t.Error(err)
			}
			if n > 0 && ds[0].Message.ID == numbered("denied", 0, n-1).ID {
				continue // its commit was denied: it comes again
			}
			if string(ds[0].Message.Body) != string(numbered("denied", 0, n).Body) {
				t.Errorf("got %s, want message %d", ds[0].Message.ID, n)
			}
			break
		}
		n++
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// A producer that may not begin is no dead one.
func TestFake_right_to_produce_that_comes_back(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	setup := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 3 * time.Second})
	provision(t, setup, driver.Channel{Name: "denied"})
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 3 * time.Second})
	fake.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return refuse(req), nil, true // once
	})
	ms := []*driver.Message{numbered("denied", 0, 0)}
	if err := c.Send(t.Context(), ms); c.Classify(err) != driver.Denied {
		t.Errorf("send without the right: %v is %q", err, c.Classify(err))
	}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Errorf("send with the right: %v", err)
	}
}

// refuse answers a request as a server does that denies it.
func refuse(req kmsg.Request) kmsg.Response {
	topic, group := kerr.TopicAuthorizationFailed.Code, kerr.GroupAuthorizationFailed.Code
	switch req := req.(type) {
	case *kmsg.FetchRequest:
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewFetchResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, topic
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp
	case *kmsg.ProduceRequest:
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewProduceResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewProduceResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, topic
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp
	case *kmsg.OffsetCommitRequest:
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range req.Topics {
			st := kmsg.NewOffsetCommitResponseTopic()
			st.Topic, st.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				sp := kmsg.NewOffsetCommitResponseTopicPartition()
				sp.Partition, sp.ErrorCode = rp.Partition, group
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
		return resp
	case *kmsg.HeartbeatRequest:
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = group
		return resp
	case *kmsg.JoinGroupRequest:
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = group
		return resp
	case *kmsg.InitProducerIDRequest:
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return resp
	}
	panic("no answer to that")
}
