package kafkabus

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// clientOptions are those of every client that a Conn makes: one to send and to
// ask with, and one for each receiver.
func (o *Options) clientOptions(more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...),
		kgo.ClientID(o.Name),
		kgo.DialTimeout(min(o.Timeout, 5*time.Second)),
		// What is written and not answered within this is taken for lost.
		kgo.RequestTimeoutOverhead(o.half()),
		kgo.RetryTimeout(o.Timeout),
		kgo.RetryBackoffFn(retryBackoff),
		kgo.MetadataMinAge(min(o.MetadataAge, 100*time.Millisecond)),
		kgo.MetadataMaxAge(o.MetadataAge),
		kgo.DisableClientMetrics(),
	}
	if o.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(o.TLS))
	}
	if o.User != "" {
		m, _ := o.sasl() // checked by withDefaults
		opts = append(opts, kgo.SASL(m))
	}
	return append(append(opts, more...), o.Client...)
}

func (o *Options) sasl() (sasl.Mechanism, error) {
	switch o.Mechanism {
	case Plain:
		return plain.Auth{User: o.User, Pass: o.Password}.AsMechanism(), nil
	case ScramSHA256:
		return scram.Auth{User: o.User, Pass: o.Password}.AsSha256Mechanism(), nil
	case ScramSHA512:
		return scram.Auth{User: o.User, Pass: o.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafkabus: option Mechanism is %q: want %s, %s or %s", string(o.Mechanism), Plain, ScramSHA256, ScramSHA512)
}

// retryBackoff paces the client's own attempts to reach a broker: short, since
// every call has a deadline anyway.
func retryBackoff(fails int) time.Duration {
	return min(20*time.Millisecond<<min(max(fails-1, 0), 6), time.Second)
}

// producerOptions are those of the client that sends.
func (o *Options) producerOptions() []kgo.Opt {
	codec, _ := o.codec() // checked by withDefaults
	return []kgo.Opt{
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(int32(o.batchBytes())),
		kgo.ProducerLinger(0), // Send is a batch already
		kgo.MaxBufferedRecords(100_000),
		kgo.MaxBufferedBytes(max(64<<20, 2*o.batchBytes())),
		kgo.ProduceRequestTimeout(o.half()), // and so long again until a silent broker is given up
		kgo.UnknownTopicRetries(2),
		kgo.RecordPartitioner(partitioner{}),
		// A record has a deadline, also one that is on its way: its outcome is
		// then unknown, and it and all behind it in the partition fail.
		kgo.AllowIdempotentProduceCancellation(),
	}
}

// batchBytes is the largest batch that is sent.
func (o *Options) batchBytes() int { return o.MaxBytes + batchSlack }

// half is what a broker has for what it does itself, and then for its answer to
// come.
func (o *Options) half() time.Duration { return max(o.Timeout/2, time.Second) }
