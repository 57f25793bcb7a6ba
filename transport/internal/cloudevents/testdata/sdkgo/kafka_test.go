package sdkgo

import (
	"context"
	"testing"
	"time"

	"github.com/IBM/sarama"
	cekafka "github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// startKafka returns a connection of ours, and a plain client that reads orders.
func startKafka(t *testing.T) (*kafkabus.Conn, *kgo.Client) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	c, err := kafkabus.Connect(t.Context(), kafkabus.Options{Brokers: fake.ListenAddrs(), Partitions: 1, Heartbeat: 50 * time.Millisecond, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	provision(t, c, "orders")
	plain, err := kgo.NewClient(kgo.SeedBrokers(fake.ListenAddrs()...), kgo.ConsumeTopics("orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(plain.Close)
	return c, plain
}

// Ids that would have to be encoded elsewhere: Kafka's binding encodes nothing.
var ids = []string{"plain-1/a", "100%41", "Grüße 1"}

func TestKafka_sdkgo_reads_us(t *testing.T) {
	c, plain := startKafka(t)
	for _, id := range ids {
		m := ours("orders", id)
		if err := c.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
		for _, r := range plain.PollFetches(t.Context()).Records() {
			read := &sarama.ConsumerMessage{Topic: r.Topic, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				read.Headers = append(read.Headers, &sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
			}
			e, err := binding.ToEvent(t.Context(), cekafka.NewMessageFromConsumerMessage(read))
			if err != nil {
				t.Fatal(err)
			}
			same(t, e, m)
		}
	}
}

func TestKafka_we_read_sdkgo(t *testing.T) {
	for mode, with := range map[string]func(context.Context) context.Context{"binary": binding.WithForceBinary, "structured": binding.WithForceStructured} {
		t.Run(mode, func(t *testing.T) {
			c, plain := startKafka(t)
			r := receiver(t, c, "orders")
			for _, id := range ids {
				e := theirs(id)
				var out sarama.ProducerMessage
				if err := cekafka.WriteProducerMessage(with(t.Context()), binding.ToMessage(&e), &out); err != nil {
					t.Fatal(err)
				}
				record := &kgo.Record{Topic: "orders"}
				if out.Key != nil {
					record.Key, _ = out.Key.Encode()
				}
				record.Value, _ = out.Value.Encode()
				for _, h := range out.Headers {
					record.Headers = append(record.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
				}
				if err := plain.ProduceSync(t.Context(), record).FirstErr(); err != nil {
					t.Fatal(err)
				}
				m := one(t, r)
				if mode == "structured" {
					m = unfolded(t, m)
				}
				same(t, &e, m)
			}
		})
	}
}
