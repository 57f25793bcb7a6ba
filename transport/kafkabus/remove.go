package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// removed are positions that were taken out of a channel. Kafka takes nothing
// out of the middle of a log, so that they are kept beside it, in a compacted
// topic of the channel's own that comes into being with the first.
type removed map[int32]map[int64]struct{}

func (r removed) has(partition int32, offset int64) bool {
	if len(r) == 0 {
		return false
	}
	_, ok := r[partition][offset]
	return ok
}

// removedFrom reads what was taken out of a channel.
func (c *Conn) removedFrom(ctx context.Context, channel string) (removed, error) {
	name := removedPrefix + channel
	found, err := c.describe(ctx, name)
	if err != nil || found[name] == nil {
		return nil, err
	}
	b, err := c.bounds(ctx, found[name])
	if err != nil {
		return nil, err
	}
	all := removed{}
	for at := b.start[0]; at < b.end[0]; {
		records, next, err := c.read(ctx, found[name], 0, at)
		if err != nil {
			return nil, err
		}
		if next <= at {
			break
		}
		at = next
		for _, rec := range records {
			p, offset, err := parsePosition(string(rec.Key))
			switch {
			case err != nil:
			case rec.Value == nil:
				delete(all[p], offset)
			case all[p] == nil:
				all[p] = map[int64]struct{}{offset: {}}
			default:
				all[p][offset] = struct{}{}
			}
		}
	}
	return all, nil
}

// Remove takes messages out of a channel: Browse shows them no more, and
// receivers of a point-to-point channel that are opened later pass over them. In
// a dead letter channel, where compaction takes them from the disk as well, each
// is followed by a tombstone for its id.
func (c *Conn) Remove(ctx context.Context, channel string, positions []string) error {
	if err := c.ready(); err != nil {
		return err
	}
	doing := "remove from channel " + channel
	t, err := c.topic(ctx, channel, channel)
	if err != nil {
		return fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	var records []*kgo.Record
	for _, position := range positions {
		p, offset, err := parsePosition(position)
		if err != nil {
			return fmt.Errorf("kafkabus: %s: %w", doing, err)
		}
		if int(p) >= len(t.leaders) {
			continue
		}
		records = append(records, &kgo.Record{Topic: removedPrefix + channel, Key: fmt.Appendf(nil, "%d/%d", p, offset),
			Value: []byte(strconv.FormatInt(time.Now().Unix(), 10))})
	}
	if len(records) == 0 {
		return nil
	}
	if isDead(channel) {
		tombs, err := c.tombstones(ctx, t, positions)
		if err != nil {
			return fmt.Errorf("kafkabus: %s: %w", doing, err)
		}
		records = append(records, tombs...)
	}
	if err := c.makeRemoved(ctx, channel); err != nil {
		return err
	}
	if err := c.produce(ctx, records...); err != nil {
		return c.sendError(channel, err)
	}
	if isDead(channel) {
		return c.cut(ctx, t, channel)
	}
	return nil
}

func (c *Conn) makeRemoved(ctx context.Context, channel string) error {
	name := removedPrefix + channel
	c.topicMu.Lock()
	_, seen := c.topics[name]
	c.topicMu.Unlock()
	if seen {
		return nil
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	policy := "compact"
	for {
		found, err := c.describe(ctx, name)
		if err != nil {
			return err
		}
		if t := found[name]; t != nil && t.led() {
			if err := c.checkSettings(ctx, found, nil); err != nil {
				return err
			}
			c.seen(found)
			return nil
		} else if t == nil {
			resp, err := c.adm.CreateTopics(ctx, 1, int16(c.opts.Replicas), map[string]*string{"cleanup.policy": &policy}, name)
			if err == nil {
				err = resp[name].Err
			}
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return translate("make topic "+name, err)
			}
		}
		if !backoff.Sleep(ctx, 10*time.Millisecond) {
			return translate("make topic "+name, ctx.Err())
		}
	}
}

// tombstones are records without a value for the keys of those at positions.
func (c *Conn) tombstones(ctx context.Context, t *topic, positions []string) ([]*kgo.Record, error) {
	var tombs []*kgo.Record
	for _, position := range positions {
		p, offset, _ := parsePosition(position) // was read before
		if int(p) >= len(t.leaders) {
			continue
		}
		records, _, err := c.read(ctx, t, p, offset)
		if err != nil && !errors.Is(err, driver.ErrPositionLost) {
			return nil, err
		}
		if len(records) == 0 || records[0].Offset != offset || len(records[0].Key) == 0 || isTombstone(records[0]) {
			continue
		}
		tombs = append(tombs, &kgo.Record{Topic: t.name, Key: records[0].Key, Headers: []kgo.RecordHeader{{Key: removedHeader, Value: []byte(position)}}})
	}
	return tombs, nil
}

func isTombstone(rec *kgo.Record) bool {
	if rec.Value != nil {
		return false
	}
	for i := range rec.Headers {
		if rec.Headers[i].Key == removedHeader {
			return true
		}
	}
	return false
}

// cut deletes the beginning of a dead letter channel up to the first message
// that was not removed, and then the notes about what lies before it.
func (c *Conn) cut(ctx context.Context, t *topic, channel string) error {
	b, err := c.bounds(ctx, t)
	if err != nil {
		return err
	}
	gone, err := c.removedFrom(ctx, channel)
	if err != nil {
		return err
	}
	before := kadm.Offsets{}
	var notes []*kgo.Record
	for p := range t.leaders {
		m := merge{c: c, t: t, ends: b.end, taken: gone, cursors: make([]cursor, len(t.leaders))}
		m.cursors[p].next = b.start[p]
		if err := m.fill(ctx, p); err != nil {
			return err
		}
		first := m.cursors[p].next
		if len(m.cursors[p].queue) > 0 {
			first = m.cursors[p].queue[0].Offset
		}
		if first <= b.start[p] {
			continue
		}
		before.Add(kadm.Offset{Topic: t.name, Partition: int32(p), At: first})
		for offset := range gone[int32(p)] {
			if offset < first {
				notes = append(notes, &kgo.Record{Topic: removedPrefix + channel, Key: fmt.Appendf(nil, "%d/%d", p, offset)})
			}
		}
	}
	if len(before) == 0 {
		return nil
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	resp, err := c.adm.DeleteRecords(ctx, before)
	if err == nil {
		err = resp.Error()
	}
	if errors.Is(err, kerr.PolicyViolation) || errors.Is(err, kerr.TopicAuthorizationFailed) {
		return nil // a topic of somebody's own making: compaction, if any, must do
	}
	if err != nil {
		return translate("cut the beginning of topic "+t.name, err)
	}
	return c.produce(ctx, notes...)
}

// RemoveChannel deletes a channel's topic with what it holds, and its groups.
func (c *Conn) RemoveChannel(ctx context.Context, channel string) error {
	if err := c.ready(); err != nil {
		return err
	}
	if err := driver.ValidName(channel); err != nil {
		return fmt.Errorf("kafkabus: remove channel: %w", err)
	}
	if err := c.reg.sync(ctx); err != nil {
		return err
	}
	found, err := c.describe(ctx, channel, removedPrefix+channel)
	if err != nil {
		return err
	}
	t := found[channel]
	if t == nil {
		return notProvisioned(channel)
	}
	for _, group := range c.reg.groupsOf(channel, t.id) {
		if err := c.dropGroup(ctx, channel, group); err != nil && !errors.Is(err, kerr.NonEmptyGroup) {
			return err // a group with members loses its offsets with the topic
		}
	}
	bounded, cancel := c.deadline(ctx)
	defer cancel()
	names := []string{channel}
	if found[removedPrefix+channel] != nil {
		names = append(names, removedPrefix+channel)
	}
	resp, err := c.adm.DeleteTopics(bounded, names...)
	if err == nil {
		err = resp.Error()
	}
	for _, name := range names {
		c.forget(name)
	}
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return translate("remove channel "+channel, err)
	}
	return c.reg.put(ctx, map[string]any{channelKey + channel: nil})
}

// RemoveGroup deletes a group. What it had not settled stays in the topic. The group
// of a broadcast subscription is this Conn's alone.
func (c *Conn) RemoveGroup(ctx context.Context, channel, group string) error {
	if err := c.ready(); err != nil {
		return err
	}
	name, _, broadcast := strings.Cut(group, "~") // see driver.Subscription.GroupName
	if err := errors.Join(driver.ValidName(channel), driver.ValidName(name)); err != nil {
		return fmt.Errorf("kafkabus: remove group: %w", err)
	}
	if broadcast {
		c.stopFollowing(groupID(group, channel))
		return nil
	}
	if err := c.reg.sync(ctx); err != nil {
		return err
	}
	err := c.dropGroup(ctx, channel, group)
	if errors.Is(err, kerr.NonEmptyGroup) {
		return fmt.Errorf("%w; stop its receivers first", err)
	}
	return err
}

func (c *Conn) dropGroup(ctx context.Context, channel, group string) error {
	id := groupID(group, channel)
	bounded, cancel := c.deadline(ctx)
	defer cancel()
	err := insist(bounded, func() error {
		_, err := c.adm.DeleteGroup(bounded, id)
		return err
	})
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) && !strings.Contains(err.Error(), kerr.GroupIDNotFound.Message) {
		return translate(fmt.Sprintf("remove group %s of channel %s", group, channel), err)
	}
	c.reg.mu.Lock()
	_, known := c.reg.groups[id]
	c.reg.mu.Unlock()
	if !known {
		return nil
	}
	return c.reg.put(ctx, map[string]any{groupKey + id: nil})
}
