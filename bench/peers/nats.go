package main

import (
	"context"
	"strings"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

// onNATS is watermill-nats with JetStream, on streams as the other sides make
// them.
type onNATS struct {
	url     string
	setting setting
	pub     *wmnats.Publisher
	nc      *nats.Conn
}

func natsTopics(url string, s setting) (topics, error) {
	t := &onNATS{url: url, setting: s}
	var err error
	if t.pub, err = natsPublisher(url); err != nil {
		return nil, err
	}
	t.nc, err = nats.Connect(url)
	return t, err
}

func natsPublisher(url string) (*wmnats.Publisher, error) {
	return wmnats.NewPublisher(wmnats.PublisherConfig{URL: url}, wm.NopLogger{})
}

func stream(channel string) string { return strings.ReplaceAll(channel, ".", "+") }

func (t *onNATS) prepare(_ context.Context, channel string) (func() error, error) {
	js, err := t.nc.JetStream()
	if err != nil {
		return nil, err
	}
	_, err = js.AddStream(&nats.StreamConfig{Name: stream(channel), Subjects: []string{channel + ".*"}, Retention: nats.WorkQueuePolicy,
		Storage: nats.FileStorage, Discard: nats.DiscardNew, Duplicates: 30 * time.Second})
	return func() error { return js.DeleteStream(stream(channel)) }, err
}

func (t *onNATS) topic(channel string) string { return channel + ".p0" }

func (t *onNATS) publisher() message.Publisher { return t.pub }

func (t *onNATS) subscriber(channel string) (message.Subscriber, error) {
	return wmnats.NewSubscriber(wmnats.SubscriberConfig{
		URL: t.url, QueueGroupPrefix: "bench", SubscribersCount: t.setting.subscribers,
		JetStream: wmnats.JetStreamConfig{DurablePrefix: "bench", AckAsync: t.setting.ackAsync,
			SubscribeOptions: []nats.SubOpt{nats.BindStream(stream(channel)), nats.AckExplicit()}},
	}, wm.NopLogger{})
}

func (t *onNATS) close() error {
	t.nc.Close()
	return nil
}
