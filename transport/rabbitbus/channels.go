package rabbitbus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A channelState is what is known of a channel on the server.
type channelState struct {
	name       string
	kind       driver.ChannelKind
	partitions int // 0: one queue, or exchange, without an owner
	transient  bool
	targets    []target // by partition

	home atomic.Pointer[string] // the name of the queue, where the channel has one that is with one node
}

// A target is where a message is published to.
type target struct {
	exchange, key string
	mandatory     bool // a queue has to be there
}

// name is that of the queue or exchange of the channel.
func (t *target) name() string { return t.exchange + t.key }

func newState(name string, kind driver.ChannelKind, partitions int, transient bool) *channelState {
	st := &channelState{name: name, kind: kind, partitions: partitions, transient: transient}
	for _, n := range partNames(name, partitions) {
		if kind == driver.PublishSubscribe {
			// Without groups nobody is owed the message.
			st.targets = append(st.targets, target{exchange: n})
		} else {
			// The default exchange knows queues by name.
			st.targets = append(st.targets, target{key: n, mandatory: true})
		}
	}
	return st
}

// targetFor is where messages of a key go.
func (st *channelState) targetFor(key string) *target {
	return &st.targets[driver.PartitionOf(key, len(st.targets))]
}

// exclusive reports whether the channel's queues have one consumer at a time.
func (st *channelState) exclusive() bool { return st.partitions > 0 }

// channelCache keeps what is known of channels, by name.
type channelCache struct{ m sync.Map }

func (cc *channelCache) get(name string) *channelState {
	if v, ok := cc.m.Load(name); ok {
		return v.(*channelState)
	}
	return nil
}

func (cc *channelCache) put(st *channelState) { cc.m.Store(st.name, st) }

func (cc *channelCache) drop(name string) { cc.m.Delete(name) }

// channel finds out about a channel, from memory or from the server.
func (c *Conn) channel(ctx context.Context, name string) (*channelState, error) {
	if st := c.chans.get(name); st != nil {
		return st, nil
	}
	st, err := c.find(ctx, name)
	if err == nil {
		c.chans.put(st)
	}
	return st, err
}

// find asks the server what a channel is, by looking for what it would consist
// of: the protocol has no way to list, and none to keep a note.
func (c *Conn) find(ctx context.Context, name string) (*channelState, error) {
	if err := driver.ValidName(name); err != nil {
		return nil, fmt.Errorf("rabbitbus: channel %w: %w", err, driver.ErrNotFound)
	}
	s, err := c.sub.session()
	if err != nil {
		return nil, err
	}
	forms := []struct {
		kind        driver.ChannelKind
		partitioned bool
	}{
		{driver.PointToPoint, false}, {driver.PublishSubscribe, false}, {driver.PointToPoint, true}, {driver.PublishSubscribe, true},
	}
	if c.opts.Partitions > 0 {
		forms[0], forms[1], forms[2], forms[3] = forms[2], forms[3], forms[0], forms[1]
	}
	for _, f := range forms {
		first := name
		if f.partitioned {
			first = partName(name, 0)
		}
		there, err := s.exists(ctx, f.kind, first)
		if err != nil {
			return nil, translate("look for channel "+name, err)
		}
		if !there {
			continue
		}
		n := 0
		if f.partitioned {
			n, err = countFrom(1, func(k int) (bool, error) { return s.exists(ctx, f.kind, partName(name, k)) })
			if err != nil {
				return nil, translate("count partitions of channel "+name, err)
			}
		}
		return newState(name, f.kind, n, false), nil
	}
	return nil, fmt.Errorf("rabbitbus: channel %s is %w", name, driver.ErrNotFound)
}

// countFrom finds the smallest number that is not there, given that all below
// low are and that none is there beyond one that is not.
func countFrom(low int, there func(int) (bool, error)) (int, error) {
	high := low
	for {
		ok, err := there(high)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		low, high = high+1, 2*high+1
	}
	for low < high {
		mid := (low + high) / 2
		ok, err := there(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, nil
}

// exists asks whether there is a queue, or an exchange, of that name.
func (s *session) exists(ctx context.Context, kind driver.ChannelKind, name string) (bool, error) {
	err := s.with(ctx, func(ch *amqp.Channel) error {
		if kind == driver.PublishSubscribe {
			return ch.ExchangeDeclarePassive(name, amqp.ExchangeFanout, true, false, false, false, nil)
		}
		_, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	})
	if isCode(err, amqp.NotFound) {
		return false, nil
	}
	if isCode(err, amqp.ResourceLocked) {
		return true, nil // somebody's own
	}
	return err == nil, err
}
