package main

import (
	"context"
	"strings"

	wm "github.com/ThreeDotsLabs/watermill"
	wmamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// onRabbit is watermill-amqp with a durable queue: a quorum queue, confirmed, as
// on the other sides.
type onRabbit struct {
	config wmamqp.Config
	pub    *wmamqp.Publisher
	conn   *amqp.Connection
}

func rabbitTopics(url string, s setting) (topics, error) {
	url, _, _ = strings.Cut(url, "?")
	t := &onRabbit{config: wmamqp.NewDurableQueueConfig(url)}
	t.config.Queue.Arguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum}
	t.config.Publish.ConfirmDelivery = true
	t.config.Publish.ChannelPoolSize = s.publishers
	if s.prefetch > 0 {
		t.config.Consume.Qos.PrefetchCount = s.prefetch
	}
	var err error
	if t.pub, err = wmamqp.NewPublisher(t.config, wm.NopLogger{}); err != nil {
		return nil, err
	}
	t.conn, err = amqp.Dial(url)
	return t, err
}

func (t *onRabbit) on(do func(*amqp.Channel) error) error {
	ch, err := t.conn.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	return do(ch)
}

func (t *onRabbit) prepare(_ context.Context, channel string) (func() error, error) {
	err := t.on(func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(channel, true, false, false, false, t.config.Queue.Arguments)
		return err
	})
	return func() error {
		return t.on(func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(channel, false, false, false)
			return err
		})
	}, err
}

func (t *onRabbit) topic(channel string) string  { return channel }
func (t *onRabbit) publisher() message.Publisher { return t.pub }

func (t *onRabbit) subscriber(string) (message.Subscriber, error) {
	return wmamqp.NewSubscriber(t.config, wm.NopLogger{})
}

func (t *onRabbit) close() error { return t.conn.Close() }
