package main

import (
	"context"
	"net/url"
	"strconv"

	"github.com/IBM/sarama"
	wm "github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
)

// kafkaProtocol is newer than the adapter's own, which Kafka 4 does not speak.
var kafkaProtocol = sarama.V2_8_0_0

// onKafka is watermill-kafka, acknowledged by all replicas in sync as on the
// other sides.
type onKafka struct {
	brokers    []string
	partitions int32
	pub        *wmkafka.Publisher
	admin      sarama.ClusterAdmin
	coder      wmkafka.MarshalerUnmarshaler
}

func kafkaTopics(address string, _ setting) (topics, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	t := &onKafka{brokers: []string{u.Host}, partitions: 1}
	if n, err := strconv.Atoi(u.Query().Get("partitions")); err == nil {
		t.partitions = int32(n)
	}
	t.coder = wmkafka.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get(partitionKey), nil })
	config := wmkafka.DefaultSaramaSyncPublisherConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Version = kafkaProtocol
	t.pub, err = wmkafka.NewPublisher(wmkafka.PublisherConfig{Brokers: t.brokers, Marshaler: t.coder, OverwriteSaramaConfig: config}, wm.NopLogger{})
	if err != nil {
		return nil, err
	}
	t.admin, err = sarama.NewClusterAdmin(t.brokers, sarama.NewConfig())
	return t, err
}

func (t *onKafka) prepare(_ context.Context, channel string) (func() error, error) {
	err := t.admin.CreateTopic(channel, &sarama.TopicDetail{NumPartitions: t.partitions, ReplicationFactor: 1}, false)
	return func() error { return t.admin.DeleteTopic(channel) }, err
}

func (t *onKafka) topic(channel string) string  { return channel }
func (t *onKafka) publisher() message.Publisher { return t.pub }

func (t *onKafka) subscriber(string) (message.Subscriber, error) {
	config := wmkafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Version = kafkaProtocol
	return wmkafka.NewSubscriber(wmkafka.SubscriberConfig{Brokers: t.brokers, Unmarshaler: t.coder, ConsumerGroup: "bench-" + wm.NewShortUUID(), OverwriteSaramaConfig: config}, wm.NopLogger{})
}

func (t *onKafka) close() error { return t.admin.Close() }
