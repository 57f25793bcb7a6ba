package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/dovetail-go/dovetail/bench"
)

// A setting is what Watermill is told beyond its defaults. Confirmation and
// persistence are as on the other sides in every setting.
type setting struct {
	publishers  int           // that send at once where one caller streams; 0 for one
	subscribers int           // of a topic; 0 for one
	prefetch    int           // 0 for the default
	ackAsync    bool          // acknowledgements are not waited for
	poll        time.Duration // of a table; 0 for the default
	batch       int           // rows read at once; 0 for the default
}

// best is what was found fastest. Many publishers and subscribers at once keep
// no order.
var best = setting{publishers: 64, subscribers: 4, prefetch: 1000, ackAsync: true, poll: 10 * time.Millisecond, batch: 1000}

// watermill is Watermill with its adapters, its router and its forwarder.
func watermill(name string, s setting) bench.Peer {
	return bench.Peer{
		Name: name,
		Client: func(ctx context.Context, kind, url string) (bench.Client, error) {
			var t topics
			var err error
			switch kind {
			case "nats":
				t, err = natsTopics(url, s)
			case "rabbitmq":
				t, err = rabbitTopics(url, s)
			case "kafka":
				t, err = kafkaTopics(url, s)
			default:
				return nil, errors.ErrUnsupported
			}
			if err != nil {
				return nil, err
			}
			return &client{topics: t, setting: s}, nil
		},
		Outbox: func(ctx context.Context, kind, url, round string) (bench.Outbox, error) {
			if kind != "postgres" {
				return nil, errors.ErrUnsupported
			}
			return openOutbox(ctx, url, round, s)
		},
	}
}

// topics are an adapter's.
type topics interface {
	prepare(ctx context.Context, channel string) (remove func() error, err error)
	topic(channel string) string // as the adapter wants it
	publisher() message.Publisher
	subscriber(channel string) (message.Subscriber, error)
	close() error
}

// client does the work through a publisher and a router.
type client struct {
	topics
	setting setting
}

func (c *client) Prepare(ctx context.Context, channel string) (func() error, error) {
	return c.prepare(ctx, channel)
}

func (c *client) Close(context.Context) error { return errors.Join(c.publisher().Close(), c.close()) }

// partitionKey is the metadata that names a message's key.
const partitionKey = "key"

func newMessage(body []byte) *message.Message {
	m := message.NewMessage(wm.NewUUID(), body)
	m.Metadata.Set(partitionKey, bench.KeyOf(body))
	return m
}

func (c *client) Send(_ context.Context, channel string, body []byte) error {
	return c.publisher().Publish(c.topic(channel), newMessage(body))
}

// Stream publishes one by one, as Publish does with several as well.
func (c *client) Stream(ctx context.Context, channel string, count, _ int, body func(int) []byte) error {
	var next atomic.Int64
	var running sync.WaitGroup
	errs := make([]error, max(1, c.setting.publishers))
	for i := range errs {
		running.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= count {
					return
				}
				if errs[i] = c.Send(ctx, channel, body(n)); errs[i] != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// probe is a body that only says that the consumer is ready.
var probe = []byte("p")

// Consume runs a router with one handler. It is ready when a message has come.
func (c *client) Consume(ctx context.Context, channel string, handle func([]byte)) (func() error, error) {
	sub, err := c.subscriber(channel)
	if err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	var once sync.Once
	end, err := route(ctx, c.topic(channel), sub, func(m *message.Message) error {
		once.Do(func() { close(ready) })
		if !bytes.Equal(m.Payload, probe) {
			handle(m.Payload)
		}
		return nil
	})
	stop := func() error { return errors.Join(end(), sub.Close()) }
	if err == nil {
		err = c.publisher().Publish(c.topic(channel), newMessage(probe))
	}
	if err == nil {
		select {
		case <-ready:
			return stop, nil
		case <-ctx.Done():
			err = fmt.Errorf("no message comes: %w", ctx.Err())
		}
	}
	return nil, errors.Join(err, stop())
}

// route runs a router until end.
func route(ctx context.Context, topic string, sub message.Subscriber, handle func(*message.Message) error) (end func() error, err error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: 10 * time.Second}, wm.NopLogger{})
	if err != nil {
		return func() error { return nil }, err
	}
	router.AddConsumerHandler("bench", topic, sub, handle)
	return running(ctx, router.Run, router.Running(), router.Close)
}

// running runs a router or a forwarder and waits until it runs.
func running(ctx context.Context, run func(context.Context) error, up chan struct{}, closing func() error) (end func() error, err error) {
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	select {
	case <-up:
	case err := <-ended:
		return func() error { return nil }, err
	}
	return func() error { return errors.Join(closing(), <-ended) }, nil
}

// Answer is not measured: requests of Watermill's are two topics and no match
// for what the other sides do.
func (c *client) Answer(context.Context, string) (func() error, error) {
	return nil, errors.ErrUnsupported
}

func (c *client) Request(context.Context, string, []byte) error { return errors.ErrUnsupported }
