package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// makeTopics makes what is missing, and waits until every partition has a leader.
func (c *Conn) makeTopics(ctx context.Context, wanted map[string]driver.Channel, order []string) (map[string]*topic, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*c.opts.Timeout)
	defer cancel()
	names := append([]string{topologyTopic}, order...)
	for {
		found, err := c.describe(ctx, names...)
		if err != nil {
			return nil, err
		}
		waiting := false
		var missing []string
		for _, name := range names {
			ch, t := wanted[name], found[name]
			switch {
			case t == nil:
				waiting = true
				missing = append(missing, name)
			case len(t.leaders) < ch.Partitions && name != topologyTopic:
				waiting = true
				err = c.addPartitions(ctx, name, ch.Partitions)
			case !t.led():
				waiting = true
			}
			if err != nil {
				return nil, err
			}
		}
		for len(missing) > 0 {
			n := min(len(missing), createdAtOnce)
			if err := c.createTopics(ctx, missing[:n], wanted); err != nil {
				return nil, err
			}
			missing = missing[n:]
		}
		if !waiting {
			if err := c.checkSettings(ctx, found, wanted); err != nil {
				return nil, err
			}
			c.seen(found)
			return found, nil
		}
		if !backoff.Sleep(ctx, 10*time.Millisecond) {
			return nil, fmt.Errorf("kafkabus: provision: %w: topics do not appear: %w", driver.ErrRetryable, ctx.Err())
		}
	}
}

// createdAtOnce is how many topics one request makes.
const createdAtOnce = 50

// createTopics makes topics. Those that another makes meanwhile are fine.
func (c *Conn) createTopics(ctx context.Context, names []string, wanted map[string]driver.Channel) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(c.opts.Timeout / time.Millisecond)
	for _, name := range names {
		req.Topics = append(req.Topics, c.newTopic(name, wanted[name]))
	}
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return translate("make topics", err)
	}
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			continue
		}
		fewBrokers, invalid := errors.Is(err, kerr.InvalidReplicationFactor), errors.Is(err, kerr.InvalidTopicException)
		if t.ErrorMessage != nil && *t.ErrorMessage != "" {
			err = fmt.Errorf("%w: %s", err, *t.ErrorMessage)
		}
		doing := "make topic " + t.Topic
		switch {
		case invalid: // the name is valid: driver.ValidName saw to that
			err = fmt.Errorf("%w; to Kafka names that differ only in '.' and '_' are one: give one of the channels another name", err)
		case fewBrokers && time.Since(c.born) < registering:
			return fmt.Errorf("kafkabus: %s: brokers may still be registering: %w: %w", doing, driver.ErrRetryable, err)
		case fewBrokers:
			err = fmt.Errorf("%w; start more brokers, or lower the parameter replicas, or without it the server's default.replication.factor", err)
		}
		return translate(doing, err)
	}
	return nil
}

// registering is how long after we connected a cluster may be starting: until
// then, brokers that are missing are waited for.
const registering = time.Minute

// newTopic is how a topic is made.
func (c *Conn) newTopic(name string, ch driver.Channel) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, int32(c.opts.Partitions), int16(c.opts.Replicas)
	if ch.Partitions > 0 {
		t.NumPartitions = int32(ch.Partitions)
	}
	set := func(key, value string) {
		config := kmsg.NewCreateTopicsRequestTopicConfig()
		config.Name, config.Value = key, &value
		t.Configs = append(t.Configs, config)
	}
	if c.opts.MaxBytes > defaultMaxBytes {
		set(maxBatch, strconv.Itoa(c.opts.batchBytes()))
	}
	keep := func(d time.Duration) { set(retentionMs, strconv.FormatInt(d.Milliseconds(), 10)) }
	switch {
	case name == topologyTopic:
		t.NumPartitions = 1
		set(cleanupPolicy, "compact")
	case driver.IsReply(ch.Name, ch.Transient):
		t.NumPartitions = 1
		keep(transientRetention)
	case ch.Transient:
		keep(transientRetention)
	case isDead(name):
		// Nothing expires; what is removed is compacted away, or cut off where
		// all before it is removed as well.
		t.NumPartitions = 1
		set(cleanupPolicy, "compact,delete")
		set(retentionMs, "-1")
		set(retentionBytes, "-1")
	case isKept(name):
		set(cleanupPolicy, "delete")
		set(retentionMs, "-1")
		set(retentionBytes, "-1")
	case c.opts.Retention > 0:
		keep(c.opts.Retention)
	}
	return t
}

// transientRetention is how long nobody misses what is in a transient channel.
const transientRetention = time.Hour

func (c *Conn) addPartitions(ctx context.Context, name string, partitions int) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	resp, err := c.adm.UpdatePartitions(ctx, partitions, name)
	if err == nil {
		err = resp[name].Err
	}
	if errors.Is(err, kerr.InvalidPartitions) {
		return nil // another was first; the next look shows it
	}
	return translate("add partitions to topic "+name, err)
}
