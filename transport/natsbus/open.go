package natsbus

import (
	"context"
	"strconv"
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
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	r := &receiver{c: c, s: s, stream: objectName(s.Channel.Name), lease: c.lease(s),
		closing: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1), epoch: c.epoch(), timer: time.NewTimer(time.Hour)}
	infos, err := r.consumers(ctx)
	if err != nil {
		return nil, translate(doing, err)
	}
	for k, info := range infos {
		r.sources = append(r.sources, &source{consumer: info.Name, index: k, partition: k, window: s.Window, last: info.Delivered.Consumer,
			subject: "$JS.API.CONSUMER.MSG.NEXT." + r.stream + "." + info.Name})
	}
	// Room for all that is asked for twice, as after a loss of the link, and
	// for what the server says in between.
	r.in = make(chan *nats.Msg, 2*s.Window*len(infos)+64*len(infos))
	if err := r.subscribe(); err != nil {
		return nil, translate(doing, err)
	}
	if err := c.enter(r); err != nil {
		_ = r.sub.Unsubscribe()
		return nil, err
	}
	return r, nil
}

// subscribe begins to listen on a new inbox.
func (r *receiver) subscribe() (err error) {
	r.inbox = r.c.nc.NewInbox()
	for k, src := range r.sources {
		src.reply = r.inbox + "." + strconv.Itoa(k)
	}
	r.sub, err = r.c.nc.ChanSubscribe(r.inbox+".*", r.in)
	return err
}

// consumers finds or, for a broadcast, makes what the receiver pulls from.
func (r *receiver) consumers(ctx context.Context) ([]*jetstream.ConsumerInfo, error) {
	cfg := r.c.consumerConfig(r.s)
	if r.s.Broadcast {
		made, err := r.c.js.CreateConsumer(ctx, r.stream, cfg)
		if err != nil {
			return nil, err
		}
		return []*jetstream.ConsumerInfo{made.CachedInfo()}, nil
	}
	have, err := r.c.js.Consumer(ctx, r.stream, cfg.Durable)
	if err != nil {
		return nil, err
	}
	if is := have.CachedInfo().Config; r.s.Lease > 0 && is.AckWait != r.lease {
		is.AckWait = r.lease
		_, err = r.c.js.UpdateConsumer(ctx, r.stream, is)
	} else {
		r.lease = is.AckWait
	}
	return []*jetstream.ConsumerInfo{have.CachedInfo()}, err
}
