package kafkabus

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
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
	if err := c.enter(ctx, wanted, order); err != nil {
		return err
	}
	var groups []driver.Subscription
	for _, s := range subscriptions {
		if !s.Broadcast && !driver.IsReply(s.Channel.Name, s.Channel.Transient) {
			groups = append(groups, s)
		}
	}
	return c.provisionGroups(ctx, groups, found)
}

// enter writes channels into the registry, or finds that one is there as something
// else.
func (c *Conn) enter(ctx context.Context, wanted map[string]driver.Channel, order []string) error {
	entries := map[string]any{}
	for _, name := range order {
		ch := wanted[name]
		if driver.IsReply(ch.Name, ch.Transient) {
			continue
		}
		if _, known := c.reg.channel(ch.Name); !known {
			entries[channelKey+ch.Name] = channelEntry{Kind: ch.Kind.String(), Transient: ch.Transient}
		}
	}
	if err := c.reg.put(ctx, entries); err != nil {
		return fmt.Errorf("kafkabus: provision channels: %w", err)
	}
	late := map[string]any{} // another was first, and compaction must not keep ours alone
	for key, entry := range entries {
		if have, known := c.reg.channel(key[len(channelKey):]); known && have != entry {
			late[key] = have
		}
	}
	if err := c.reg.put(ctx, late); err != nil {
		return fmt.Errorf("kafkabus: provision channels: %w", err)
	}
	for _, name := range order {
		ch := wanted[name]
		if have, known := c.reg.channel(ch.Name); known && !driver.IsReply(ch.Name, ch.Transient) && have.Kind != ch.Kind.String() {
			return fmt.Errorf("kafkabus: channel %s is %s: %w: it cannot be provisioned as %s; give one of them another name, or remove the channel",
				ch.Name, have.Kind, driver.ErrConflict, ch.Kind)
		}
	}
	return nil
}
