package rabbitbus

import (
	"context"
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// groupsExchange has each point-to-point queue bound with its group's name as
// the key. Nothing is published to it: it is a note of who the group is, which
// the protocol has no other place for.
const groupsExchange = "dovetail:groups"

// noteGroup notes the group of a point-to-point channel.
func (c *Conn) noteGroup(ctx context.Context, st *channelState, group string) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	queue := partNames(st.name, st.partitions)[0]
	bind := func(ch *amqp.Channel) error { return ch.QueueBind(queue, group, groupsExchange, false, nil) }
	if err = s.with(ctx, bind); isCode(err, amqp.NotFound) {
		err = s.with(ctx, func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(groupsExchange, amqp.ExchangeDirect, true, false, true, false, nil)
		})
		if err == nil {
			err = s.with(ctx, bind)
		}
	}
	return translate("provision group "+group+" of channel "+st.name, err)
}

// RemoveChannel deletes a channel with all its messages and groups. Of a
// publish–subscribe channel these are the groups that the management plugin
// tells of, where Options.Management says where it is, and else those that this
// connection has provisioned.
func (c *Conn) RemoveChannel(ctx context.Context, channel string) error {
	doing := "remove channel " + channel
	st, err := c.find(ctx, channel)
	c.chans.drop(channel)
	if err != nil {
		return err
	}
	if st.kind == driver.PublishSubscribe {
		queues, err := c.queuesOf(ctx, channel)
		if err != nil {
			return translate(doing, err)
		}
		for _, q := range queues {
			if err := c.deleteQueue(ctx, q); err != nil {
				return translate(doing, err)
			}
		}
	}
	for _, name := range partNames(channel, st.partitions) { // the first says whether there is one
		if st.kind == driver.PointToPoint {
			err = c.deleteQueue(ctx, name)
		} else {
			err = c.deleteExchange(ctx, name)
		}
		if err != nil {
			return translate(doing, err)
		}
	}
	c.groups.Delete(channel)
	return nil
}

// queuesOf are the queues of a publish–subscribe channel's groups, as far as
// they are known.
func (c *Conn) queuesOf(ctx context.Context, channel string) ([]string, error) {
	var queues []string
	if c.opts.Management != "" {
		all, err := c.managed(ctx)
		if err != nil {
			return nil, err
		}
		for _, q := range all.queues {
			if strings.HasPrefix(q.Name, channel+groupMark) {
				queues = append(queues, q.Name)
			}
		}
		return queues, nil
	}
	c.known(channel).each(func(q string) { queues = append(queues, q) })
	return queues, nil
}

// RemoveGroup deletes a group of a publish–subscribe channel, with what it had
// not settled. Of a point-to-point channel the group is forgotten, and the
// messages stay.
func (c *Conn) RemoveGroup(ctx context.Context, channel, group string) error {
	doing := "remove group " + group + " of channel " + channel
	name, instance, broadcast := strings.Cut(group, instanceMark)
	err := driver.ValidName(name)
	if err == nil && broadcast {
		err = driver.ValidName(instance)
	}
	if err != nil {
		return fmt.Errorf("rabbitbus: %s: %w", doing, err)
	}
	st, err := c.find(ctx, channel)
	if err != nil {
		return err
	}
	if st.kind == driver.PointToPoint {
		s, err := c.sub.session()
		if err != nil {
			return err
		}
		err = s.with(ctx, func(ch *amqp.Channel) error {
			return ch.QueueUnbind(partNames(channel, st.partitions)[0], group, groupsExchange, nil)
		})
		if isCode(err, amqp.NotFound) {
			err = nil
		}
		return translate(doing, err)
	}
	queues := []string{channel + groupMark + group}
	if !broadcast {
		queues = partNames(queues[0], st.partitions)
	}
	for _, q := range queues {
		if err := c.deleteQueue(ctx, q); err != nil {
			return translate(doing, err)
		}
	}
	return nil
}

func (c *Conn) deleteQueue(ctx context.Context, name string) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	return s.with(ctx, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(name, false, false, false)
		return err
	})
}

func (c *Conn) deleteExchange(ctx context.Context, name string) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	return s.with(ctx, func(ch *amqp.Channel) error { return ch.ExchangeDelete(name, false, false) })
}
