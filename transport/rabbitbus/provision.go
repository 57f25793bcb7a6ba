package rabbitbus

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// transientExpire is how long the queue of a transient channel outlives the
// last who listened, in milliseconds.
const transientExpire = 60_000

func (c *Conn) provisionChannel(ctx context.Context, ch driver.Channel) (*channelState, error) {
	if err := validChannel(ch); err != nil {
		return nil, err
	}
	find := c.find
	if ch.Transient {
		find = c.findSoon
	}
	st, err := find(ctx, ch.Name)
	switch {
	case driver.Classify(err) == driver.NotFound, ch.Transient && ch.Kind == driver.PointToPoint && homeIsGone(err):
		partitions := or(ch.Partitions, c.opts.Partitions)
		if ch.Transient {
			partitions = 0
		}
		st = newState(ch.Name, ch.Kind, partitions, ch.Transient)
		err = c.declare(ctx, st)
	case err != nil:
		return nil, err
	default:
		if err = contradiction(ch, st); err == nil {
			if ch.Transient {
				st = newState(ch.Name, ch.Kind, 0, true)
			}
			err = c.declare(ctx, st) // the server compares
		}
	}
	if err != nil {
		return nil, err
	}
	c.chans.put(st)
	c.delays.forget() // what was bound may have gone with the channel
	return st, nil
}

// contradiction says how a channel that exists is not what is asked for.
func contradiction(ch driver.Channel, st *channelState) error {
	conflict := func(format string, args ...any) error {
		return fmt.Errorf("rabbitbus: channel %s %w: %s: remove the channel once it is empty (dovetail topology remove %s), or declare it as it is",
			ch.Name, driver.ErrConflict, fmt.Sprintf(format, args...), ch.Name)
	}
	switch {
	case st.kind != ch.Kind:
		return conflict("it is %v, not %v", st.kind, ch.Kind)
	case ch.Transient && st.partitions > 0:
		return conflict("it has %d partitions and cannot be transient", st.partitions)
	case ch.Partitions != 0 && !ch.Transient && ch.Partitions != st.partitions:
		remedy := "leave Partitions out"
		if st.exclusive() {
			remedy = fmt.Sprintf("declare %d", st.partitions)
		}
		return fmt.Errorf("rabbitbus: channel %s %w: it has %d partitions, not %d, and their number is fixed: %s; or %s",
			ch.Name, driver.ErrConflict, st.partitions, ch.Partitions, driver.Repartition(ch.Name), remedy)
	}
	return nil
}

// declare makes what a channel consists of, the first partition last: that one
// is there says that all are.
func (c *Conn) declare(ctx context.Context, st *channelState) error {
	doing := "provision channel " + st.name
	if st.hasHome() {
		return translate(doing, c.declareHome(ctx, st))
	}
	names := partNames(st.name, st.partitions)
	for k := len(names) - 1; k >= 0; k-- {
		var err error
		if st.kind == driver.PublishSubscribe {
			err = c.declareExchange(ctx, names[k])
		} else {
			err = c.declareQueue(ctx, names[k], st)
		}
		if err != nil {
			return translate(doing, err)
		}
	}
	return nil
}

// queueArguments are what a new queue is declared with.
func (c *Conn) queueArguments(s *session, st *channelState) amqp.Table {
	if st.transient {
		return amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeClassic, amqp.QueueTTLArg: int32(transientExpire)}
	}
	args := amqp.Table{
		amqp.QueueTypeArg: amqp.QueueTypeQuorum,
		// Where a policy bounds the queue, it refuses; it never forgets.
		amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish,
	}
	if c.opts.Classic {
		args[amqp.QueueTypeArg] = amqp.QueueTypeClassic
	} else if major, _ := s.serverVersion(); major >= 4 {
		// Since 4.0 a quorum queue drops what was given back twenty times.
		args[deliveryLimit] = int32(-1)
	}
	if st.exclusive() {
		args[amqp.SingleActiveConsumerArg] = true
	}
	if c.opts.MaxLength > 0 {
		args[amqp.QueueMaxLenArg] = c.opts.MaxLength
	}
	maps.Copy(args, c.opts.Arguments)
	return args
}

// serverVersion is the server's version as far as it matters.
func (s *session) serverVersion() (major, minor int) {
	parts := strings.SplitN(s.version, ".", 3)
	if len(parts) > 1 {
		major, _ = strconv.Atoi(parts[0])
		minor, _ = strconv.Atoi(parts[1])
	}
	return major, minor
}

// provisionGroup makes the queues of a group of a publish–subscribe channel.
func (c *Conn) provisionGroup(ctx context.Context, sub driver.Subscription) error {
	doing := "provision group " + sub.Group + " of channel " + sub.Channel.Name
	st, err := c.channel(ctx, sub.Channel.Name)
	if err != nil {
		return err
	}
	exchanges := partNames(st.name, st.partitions)
	queues := partNames(groupBase(sub.Channel, sub.Group), st.partitions)
	known := c.known(st.name)
	for k := len(queues) - 1; k >= 0; k-- {
		if err := c.declareQueue(ctx, queues[k], st); err != nil {
			return translate(doing, err)
		}
		if err := c.bind(ctx, queues[k], exchanges[k]); err != nil {
			return translate(doing, err)
		}
		known.add(queues[k])
	}
	return nil
}

func (c *Conn) bind(ctx context.Context, queue, exchange string) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	return s.with(ctx, func(ch *amqp.Channel) error { return ch.QueueBind(queue, "", exchange, false, nil) })
}

// openInstance makes the queue of one instance of a broadcast, or finds it again.
// A new one gets what is sent from now on. It outlives the instance for a while,
// and each node, so that it is a quorum queue. It has one consumer
// at a time, so that a receiver first gets what the one before it, whose link was
// lost, has not settled.
func (c *Conn) openInstance(ctx context.Context, sub driver.Subscription, st *channelState) (queue string, err error) {
	s, err := c.sub.session()
	if err != nil {
		return "", err
	}
	queue = instanceQueue(sub)
	if !sub.Resume {
		if err := c.deleteQueue(ctx, queue); err != nil {
			return "", err
		}
	}
	err = s.with(ctx, func(ch *amqp.Channel) (err error) {
		if sub.Resume {
			_, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			return err
		}
		_, err = ch.QueueDeclare(queue, true, false, false, false, c.instanceArguments(s))
		return err
	})
	if sub.Resume && isCode(err, amqp.NotFound) {
		return "", c.gone()
	}
	c.known(sub.Channel.Name).add(queue)
	for _, exchange := range partNames(st.name, st.partitions) {
		if err == nil {
			err = c.bind(ctx, queue, exchange)
		}
	}
	return queue, err
}

// instanceArguments are what the queue of an instance is declared with.
func (c *Conn) instanceArguments(s *session) amqp.Table {
	args := amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum, amqp.SingleActiveConsumerArg: true, amqp.QueueTTLArg: c.opts.Expire.Milliseconds()}
	if c.opts.Classic {
		args[amqp.QueueTypeArg] = amqp.QueueTypeClassic
	} else if major, _ := s.serverVersion(); major >= 4 {
		args[deliveryLimit] = int32(-1)
	}
	return args
}

// gone says that the group of a broadcast subscription is no more.
func (c *Conn) gone() error {
	return fmt.Errorf("%w: the queue of this instance expired after %v without a consumer, or was deleted: open the receiver without Resume to go on from now, "+
		"or set expire in the URL to more", driver.ErrPositionLost, c.opts.Expire)
}
