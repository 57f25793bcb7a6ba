package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A topic is one as the cluster has it.
type topic struct {
	name    string
	id      kadm.TopicID
	leaders []int32 // by partition; -1 where there is none at the moment

	replicas int // the fewest copies of a partition
}

// led reports whether every partition has a leader.
func (t *topic) led() bool {
	if len(t.leaders) == 0 {
		return false
	}
	for _, l := range t.leaders {
		if l < 0 {
			return false
		}
	}
	return true
}

// describe asks for topics, and not what the client remembers of them. Those
// that do not exist are left out.
func (c *Conn) describe(ctx context.Context, names ...string) (map[string]*topic, error) {
	resp, err := c.metadata(ctx, names)
	if err != nil {
		return nil, err
	}
	found := make(map[string]*topic, len(names))
	for i := range resp.Topics {
		rt := &resp.Topics[i]
		if rt.Topic == nil {
			continue
		}
		switch err := kerr.ErrorForCode(rt.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
			continue
		case err != nil && !errors.Is(err, kerr.LeaderNotAvailable):
			return nil, translate("ask for topic "+*rt.Topic, err)
		}
		t := &topic{name: *rt.Topic, id: rt.TopicID, leaders: make([]int32, len(rt.Partitions))}
		for p := range t.leaders {
			t.leaders[p] = -1
		}
		for _, rp := range rt.Partitions {
			if int(rp.Partition) < len(t.leaders) {
				t.leaders[rp.Partition] = rp.Leader
			}
			if n := len(rp.Replicas); t.replicas == 0 || n < t.replicas {
				t.replicas = n
			}
		}
		found[t.name] = t
	}
	return found, nil
}

// metadata asks the cluster for its brokers, and for topics by name.
func (c *Conn) metadata(ctx context.Context, names []string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		req.Topics = append(req.Topics, rt)
	}
	resp, err := req.RequestWith(ctx, c.client)
	return resp, translate("ask for topics", err)
}

// topic asks for one topic, which carries channel.
func (c *Conn) topic(ctx context.Context, name, channel string) (*topic, error) {
	found, err := c.describe(ctx, name)
	if err != nil {
		return nil, err
	}
	if found[name] == nil {
		return nil, notProvisioned(channel)
	}
	return found[name], nil
}

func notProvisioned(channel string) error {
	return fmt.Errorf("kafkabus: channel %s: %w: provision it first", channel, driver.ErrNotFound)
}

// missing finds out which topics of messages do not exist. It asks only for
// those that it has not seen: the client would wait for them to appear.
func (c *Conn) missing(ctx context.Context, messages []*driver.Message) (map[string]error, error) {
	var unseen []string
	seen := ""
	c.topicMu.Lock()
	for _, m := range messages {
		name := topicOf(m.Channel, m.Transient)
		if name == seen {
			continue
		}
		if seen = name; c.topics[name] == nil {
			unseen = append(unseen, name)
		}
	}
	c.topicMu.Unlock()
	if len(unseen) == 0 {
		return nil, nil
	}
	var names []string
	missing := map[string]error{}
	for _, name := range unseen {
		if driver.ValidName(name) != nil {
			missing[name] = notProvisioned(name)
		} else {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return missing, nil
	}
	found, err := c.describe(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("kafkabus: send: %w", err)
	}
	for _, name := range names {
		if found[name] == nil {
			missing[name] = notProvisioned(name)
		}
	}
	c.seen(found)
	return missing, nil
}

// seen remembers topics for Send.
func (c *Conn) seen(found map[string]*topic) {
	var renewed []string
	c.topicMu.Lock()
	for name, t := range found {
		if old := c.topics[name]; old != nil && old.id != t.id {
			renewed = append(renewed, name)
		}
		c.topics[name] = t
	}
	c.topicMu.Unlock()
	if len(renewed) > 0 {
		// The client holds on to the topic that it knew until it is told.
		c.client.PurgeTopicsFromProducing(renewed...)
	}
}

// forget makes the next Send to a topic ask for it.
func (c *Conn) forget(name string) {
	c.topicMu.Lock()
	_, known := c.topics[name]
	delete(c.topics, name)
	c.topicMu.Unlock()
	if known {
		c.client.PurgeTopicsFromProducing(name)
	}
}

// insist calls ask again while the server says that it is not ready yet: a
// coordinator that is being elected, or that loads what it knows, as after the
// start of a server, is no reason to fail.
func insist(ctx context.Context, ask func() error) error {
	for {
		err := ask()
		if err == nil || !kerr.IsRetriable(err) || !backoff.Sleep(ctx, 25*time.Millisecond) {
			return err
		}
	}
}
