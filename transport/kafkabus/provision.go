package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Provision makes topics and the beginnings of groups. A topic that exists is
// used as it is, with more partitions if it has too few; its other settings are
// left alone, and refused where they lose messages.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	if err := c.ready(); err != nil {
		return err
	}
	wanted := map[string]driver.Channel{}
	var order []string
	want := func(ch driver.Channel) error {
		if err := validChannel(ch); err != nil {
			return err
		}
		name := topicOf(ch.Name, ch.Transient)
		have, known := wanted[name]
		if !known {
			order = append(order, name)
		}
		have.Name, have.Kind, have.Transient = ch.Name, ch.Kind, ch.Transient
		have.Partitions = max(have.Partitions, ch.Partitions)
		wanted[name] = have
		return nil
	}
	for _, ch := range channels {
		if err := want(ch); err != nil {
			return err
		}
	}
	for _, s := range subscriptions {
		if err := validGroup(s.Group); err != nil {
			return err
		}
		if err := want(s.Channel); err != nil {
			return err
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	found, err := c.makeTopics(ctx, wanted, order)
	if err != nil {
		return err
	}
	if err := c.reg.sync(ctx); err != nil {
		return err
	}
	for _, name := range order {
		if ch := wanted[name]; !isReply(ch.Name, ch.Transient) {
			if err := c.enter(ctx, ch); err != nil {
				return err
			}
		}
	}
	for _, s := range subscriptions {
		if s.Broadcast || isReply(s.Channel.Name, s.Channel.Transient) {
			continue
		}
		if err := c.provisionGroup(ctx, s, found[s.Channel.Name]); err != nil {
			return err
		}
	}
	return nil
}

// enter writes a channel into the registry, or finds that it is there as
// something else.
func (c *Conn) enter(ctx context.Context, ch driver.Channel) error {
	entry := channelEntry{Kind: ch.Kind.String(), Transient: ch.Transient}
	have, known := c.reg.channel(ch.Name)
	if !known {
		if err := c.reg.put(ctx, channelKey+ch.Name, entry); err != nil {
			return fmt.Errorf("kafkabus: provision channel %s: %w", ch.Name, err)
		}
		have, _ = c.reg.channel(ch.Name)
		if have != entry {
			// Another was first, and compaction must not keep ours alone.
			if err := c.reg.put(ctx, channelKey+ch.Name, have); err != nil {
				return fmt.Errorf("kafkabus: provision channel %s: %w", ch.Name, err)
			}
		}
	}
	if have.Kind != entry.Kind {
		return fmt.Errorf("kafkabus: channel %s is %s: %w: it cannot be provisioned as %s; give one of them another name",
			ch.Name, have.Kind, driver.ErrConflict, entry.Kind)
	}
	return nil
}

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
		for _, name := range names {
			ch, t := wanted[name], found[name]
			switch {
			case t == nil:
				waiting = true
				err = c.makeTopic(ctx, name, ch)
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
		if !waiting {
			if err := c.checkSettings(ctx, found, wanted); err != nil {
				return nil, err
			}
			c.seen(found)
			return found, nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("kafkabus: provision: %w: topics do not appear: %w", driver.ErrRetryable, err)
		}
	}
}

func (c *Conn) makeTopic(ctx context.Context, name string, ch driver.Channel) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	partitions := int32(c.opts.Partitions)
	if ch.Partitions > 0 {
		partitions = int32(ch.Partitions)
	}
	config := map[string]*string{}
	set := func(key, value string) { config[key] = &value }
	if c.opts.MaxBytes > defaultMaxBytes {
		set(maxBatch, strconv.Itoa(c.opts.batchBytes()))
	}
	keep := func(d time.Duration) { set(retentionMs, strconv.FormatInt(d.Milliseconds(), 10)) }
	switch {
	case name == topologyTopic:
		partitions = 1
		set(cleanupPolicy, "compact")
	case isReply(ch.Name, ch.Transient):
		partitions = 1
		keep(transientRetention)
	case ch.Transient:
		keep(transientRetention)
	case isDead(name):
		// Nothing expires; what is removed is compacted away, or cut off where
		// all before it is removed as well.
		partitions = 1
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
	resp, err := c.adm.CreateTopics(ctx, partitions, int16(c.opts.Replicas), config, name)
	if err == nil {
		err = resp[name].Err
	}
	if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	fewBrokers := errors.Is(err, kerr.InvalidReplicationFactor)
	if m := resp[name].ErrMessage; m != "" {
		err = fmt.Errorf("%w: %s", err, m)
	}
	if fewBrokers {
		if time.Since(c.born) < registering {
			return fmt.Errorf("kafkabus: make topic %s: brokers may still be registering: %w: %w", name, driver.ErrRetryable, err)
		}
		err = fmt.Errorf("%w; start more brokers, or lower the parameter replicas, or without it the server's default.replication.factor", err)
	}
	return translate("make topic "+name, err)
}

// registering is how long after we connected a cluster may be starting: until
// then, brokers that are missing are waited for.
const registering = time.Minute

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

// provisionGroup makes sure that a group has a place to begin, in the registry
// for good and as committed offsets for the server's own tools.
func (c *Conn) provisionGroup(ctx context.Context, s driver.Subscription, t *topic) error {
	doing := fmt.Sprintf("provision group %s of channel %s", s.Group, s.Channel.Name)
	if s.Channel.Kind == driver.PointToPoint {
		for _, other := range c.reg.groupsOf(t.name, t.id) {
			if other != s.Group {
				return fmt.Errorf("kafkabus: %s: %w: a point-to-point channel has one group, and %s has it; make the channel publish-subscribe, or remove that group",
					doing, driver.ErrConflict, other)
			}
		}
	}
	entry, known := c.reg.group(s.Group, t.name, t.id)
	if !known {
		// Offsets that were committed by whatever was here before come first.
		positions, err := c.beginning(ctx, s, t)
		if err != nil {
			return fmt.Errorf("kafkabus: %s: %w", doing, err)
		}
		if err := c.reg.put(ctx, groupKey+groupID(s.Group, t.name), groupEntry{idText(t.id), positions}); err != nil {
			return fmt.Errorf("kafkabus: %s: %w", doing, err)
		}
		if entry, known = c.reg.group(s.Group, t.name, t.id); !known {
			return fmt.Errorf("kafkabus: %s: %w: the topic was made anew meanwhile", doing, driver.ErrRetryable)
		}
		if s.Channel.Kind == driver.PointToPoint && len(c.reg.groupsOf(t.name, t.id)) > 1 {
			err := c.reg.put(ctx, groupKey+groupID(s.Group, t.name), nil)
			return errors.Join(fmt.Errorf("kafkabus: %s: %w: another group of this point-to-point channel is being provisioned", doing, driver.ErrConflict), err)
		}
	}
	return c.commitBeginning(ctx, doing, s, t, entry)
}

// beginning is where a new group starts: at the earliest of a point-to-point
// channel, at the end of another.
func (c *Conn) beginning(ctx context.Context, s driver.Subscription, t *topic) ([]int64, error) {
	if s.Channel.Kind == driver.PublishSubscribe {
		return c.ends(ctx, t)
	}
	b, err := c.bounds(ctx, t)
	return b.start, err
}

// commitBeginning commits the beginning for partitions that have no offset.
func (c *Conn) commitBeginning(ctx context.Context, doing string, s driver.Subscription, t *topic, entry groupEntry) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	id := groupID(s.Group, t.name)
	committed, err := c.committed(ctx, id, t)
	if err != nil {
		return translate(doing, err)
	}
	missing := kadm.Offsets{}
	for p, at := range entry.Positions {
		have, ok := committed.Lookup(t.name, int32(p))
		if ok && have.Err == nil && have.At >= 0 || p >= len(t.leaders) {
			continue
		}
		missing.Add(kadm.Offset{Topic: t.name, TopicID: t.id, Partition: int32(p), At: at, LeaderEpoch: -1})
	}
	if len(missing) == 0 {
		return nil
	}
	err = insist(ctx, func() error { return c.adm.CommitAllOffsets(ctx, id, missing) })
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) {
		return nil // somebody receives for it already, from the same beginning
	}
	return translate(doing, err)
}
