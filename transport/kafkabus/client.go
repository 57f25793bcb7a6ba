package kafkabus

import (
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
		kgo.DialTimeout(o.silence()),
		// What is written and not answered within this is taken for lost.
		kgo.RequestTimeoutOverhead(o.silence()),
		kgo.RetryTimeoutFn(o.tryFor),
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
	return backoff.Double(fails-1, 20*time.Millisecond, time.Second)
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
		kgo.ProduceRequestTimeout(o.Timeout - o.silence()), // and then the silence, until a broker is given up
		kgo.UnknownTopicRetries(2),
		kgo.RecordPartitioner(partitioner{}),
		// A record has a deadline, also one that is on its way: its outcome is
		// then unknown, and it and all behind it in the partition fail.
		kgo.AllowIdempotentProduceCancellation(),
	}
}

// batchBytes is the largest batch that is sent.
func (o *Options) batchBytes() int { return o.MaxBytes + batchSlack }

// silence is how long a request may go unanswered until the client closes its
// connection. A new connection to a broker that answers nothing is closed after
// twice as long. All other requests to that broker wait meanwhile, also those whose
// contexts have ended.
func (o *Options) silence() time.Duration { return min(max(o.Timeout/4, time.Second), o.Timeout/2) }

// tryFor is how long a request of a kind is tried again. What keeps a receiver in its
// group is tried while the session may last: to give it up is to give up every
// partition, also those whose leaders answer.
func (o *Options) tryFor(key int16) time.Duration {
	switch kmsg.Key(key) {
	case kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat:
		return max(o.SessionTimeout, o.Timeout)
	}
	return o.Timeout
}
