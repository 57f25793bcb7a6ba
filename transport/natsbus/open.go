package natsbus

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// OpenReceiver begins to receive for a group that was provisioned; a broadcast
// subscription comes into being here.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if err := c.validSubscription(s); err != nil {
		return nil, err
	}
	if s.Channel.Transient {
		return c.openTransient(ctx, s)
	}
	doing := "receive from " + s.Channel.Name + " as " + s.Group
	ctx, why, done := c.api(ctx, objectName(s.Channel.Name))
	defer done()
	st, err := c.channel(ctx, s.Channel.Name)
	if err != nil {
		return nil, err
	}
	r := &receiver{c: c, s: s, stream: st.stream, lease: c.lease(s),
		closing: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1), epoch: c.epoch(), timer: time.NewTimer(time.Hour)}
	infos, err := r.consumers(ctx, st)
	if err != nil {
		c.chans.drop(st.name, st) // it may have been made again
		if errors.Is(err, driver.ErrPositionLost) || errors.Is(err, driver.ErrUnsupported) {
			return nil, err // it says what was being done
		}
		return nil, translate(doing, why(err))
	}
	if s.Broadcast {
		r.delays = c.delaysOf(r.stream, s.GroupName())
	} else {
		r.members, r.delays = newMembership(c, r.stream, s.Group), c.delaysOf(r.stream, s.Group)
	}
	// Room for all that is asked for twice, as after a loss of the link, and
	// for what the server says in between.
	window := sourceWindow(s.Window, len(infos))
	r.in = make(chan *nats.Msg, 2*window*len(infos)+64*len(infos))
	r.revoked = make(chan []int, len(infos))
	for k, info := range infos {
		src := &source{consumer: info.Name, index: k, partition: k, window: window, most: max(window, s.Window/2), last: info.Delivered.Consumer, owned: st.owners && !s.Broadcast,
			subject: "$JS.API.CONSUMER.MSG.NEXT." + r.stream + "." + info.Name, looked: time.Now()}
		r.sources = append(r.sources, src)
		if err := r.attach(ctx, src, info); err != nil {
			r.abandon()
			return nil, translate(doing, why(err))
		}
	}
	var rec interface {
		driver.Receiver
		closer
	} = r
	if st.owners && !s.Broadcast {
		watch := c.watchDenials()
		err := r.members.listen()
		if err == nil {
			r.members.say(0)
			err = watch.of(ctx, r.members.subject)
		}
		if err != nil {
			r.abandon()
			return nil, translate(doing, err)
		}
		rec = share(r)
	}
	if err := c.enter(rec); err != nil {
		_ = rec.Close(ctx)
		return nil, err
	}
	r.self = rec
	return rec, nil
}

// sourceWindow is how many messages are asked for of each of so many partitions:
// all of a small window, so that one partition can fill it, and of a large one
// twice a share. In hand may be half of the window of each: what a key that fails
// has there before the core sets it aside leaves room for others.
func sourceWindow(window, sources int) int {
	const small = 64
	if sources == 1 {
		return window
	}
	return min(window, max(small, 2*window/sources))
}

// abandon gives up a receiver that could not be opened.
func (r *receiver) abandon() {
	for _, src := range r.sources {
		if src.sub != nil {
			_ = src.sub.Unsubscribe()
		}
	}
	if r.members != nil {
		r.members.leave()
	}
}

// consumers finds or, for a broadcast, may make what the receiver pulls from.
func (r *receiver) consumers(ctx context.Context, st *channelState) ([]*jetstream.ConsumerInfo, error) {
	if r.s.Broadcast {
		info, err := r.broadcast(ctx, st)
		if err != nil {
			return nil, err
		}
		return []*jetstream.ConsumerInfo{info}, nil
	}
	if r.s.Ordered && !st.owners {
		return nil, r.c.refuseOrder(r.s)
	}
	infos := make([]*jetstream.ConsumerInfo, st.consumers())
	for k := range infos {
		have, err := r.c.js.Consumer(ctx, r.stream, st.consumer(r.s.Group, k))
		if err != nil {
			return nil, err
		}
		if is := have.CachedInfo().Config; r.s.Lease > 0 && is.AckWait != r.lease {
			is.AckWait = r.lease
			if _, err = r.c.js.UpdateConsumer(ctx, r.stream, is); err != nil {
				return nil, err
			}
		} else {
			r.lease = is.AckWait
		}
		infos[k] = have.CachedInfo()
	}
	return infos, nil
}
