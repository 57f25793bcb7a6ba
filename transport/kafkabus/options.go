package kafkabus

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Options say how to connect and what to make. The zero value is a broker
// without credentials on 127.0.0.1:9092 and the defaults given here.
type Options struct {
	// Brokers are some brokers of the cluster, host:port; the others are found
	// through them. Default 127.0.0.1:9092.
	Brokers []string

	// Name is the client id, which shows in the server's metrics and logs.
	// Default "dovetail".
	Name string

	User, Password string      // with Mechanism
	Mechanism      Mechanism   // how to present them. Default PLAIN where a User is given
	TLS            *tls.Config // nil: no TLS

	// Timeout ends every call to the server that its context would not end
	// earlier, and every record that could not be confirmed. Default 10 s.
	Timeout time.Duration

	// Partitions is how many a new channel has that asks for none, and Replicas
	// how many copies. 0: the server's num.partitions and
	// default.replication.factor.
	Partitions, Replicas int

	// MaxBytes is the largest message, in bytes. The server's own default
	// leaves room for the default of 1,000,000; above that, new topics get a
	// max.message.bytes to match, and a topic that exists must have it.
	MaxBytes int

	// Retention is how long new channels keep a message, handled or not. 0: the
	// server's log.retention.
	Retention time.Duration

	// Compression of what is sent: none, gzip, snappy, lz4 or zstd. Default
	// none, which every client in every language reads.
	Compression string

	// SessionTimeout is how long after its last heartbeat an instance is taken
	// for dead. Default 15 s. The server's group.min.session.timeout.ms (6 s)
	// is the least.
	SessionTimeout time.Duration

	// Heartbeat is how often an instance reports, and so how soon it notices
	// that partitions are to be moved. Default 1 s.
	Heartbeat time.Duration

	// DrainTimeout is how long a partition that is taken away waits for what
	// is in hand to be settled. Default 15 s.
	DrainTimeout time.Duration

	// MaxAhead is how many messages of a partition may have been handed out
	// beyond the first that is not settled, as while a key is held: the partition
	// stops there. It is what a crash repeats at most. In general that is much
	// less: what is settled beyond is committed in up to 4,000 bytes, and at most
	// 4096 messages are settled and not committed. Default 65536, and never less
	// than the subscription's window.
	MaxAhead int

	// MetadataAge is how long it takes at most to notice new partitions, and that a
	// broker which has stopped answering leads nothing any more. Default 3 s.
	MetadataAge time.Duration

	// Logger gets what belongs to no call: lost partitions, offsets that
	// expired. Default slog.Default().
	Logger *slog.Logger

	// Client are further options of the client underneath, applied last.
	Client []kgo.Opt
}

// Mechanism is a way to present a user and a password (SASL).
type Mechanism string

// The mechanisms that Options.Mechanism takes.
const (
	Plain       Mechanism = "PLAIN"
	ScramSHA256 Mechanism = "SCRAM-SHA-256"
	ScramSHA512 Mechanism = "SCRAM-SHA-512"
)

const (
	defaultMaxBytes = 1_000_000
	// batchSlack is what a batch of one message may have beyond MaxBytes: names
	// of headers, lengths and the batch's own head. Together with the default
	// it is the server's default of max.message.bytes.
	batchSlack = 48_576
)

// withDefaults returns o with its zero values replaced, or an error that names
// the field that cannot be.
func (o Options) withDefaults() (Options, error) {
	if len(o.Brokers) == 0 {
		o.Brokers = []string{"127.0.0.1:9092"}
	}
	if o.Name == "" {
		o.Name = "dovetail"
	}
	o.Logger = driver.PrintableLogger(o.Logger)
	if o.User != "" && o.Mechanism == "" {
		o.Mechanism = Plain
	}
	if o.Mechanism != "" && o.User == "" {
		return o, fmt.Errorf("kafkabus: option Mechanism is %s and User is empty: give a user, or leave both empty", o.Mechanism)
	}
	if o.User != "" {
		if _, err := o.sasl(); err != nil {
			return o, err
		}
	}
	for _, d := range []struct {
		name string
		d    *time.Duration
		def  time.Duration
	}{
		{"Timeout", &o.Timeout, 10 * time.Second}, {"SessionTimeout", &o.SessionTimeout, 15 * time.Second},
		{"Heartbeat", &o.Heartbeat, time.Second}, {"DrainTimeout", &o.DrainTimeout, 15 * time.Second},
		{"MetadataAge", &o.MetadataAge, 3 * time.Second},
	} {
		if *d.d == 0 {
			*d.d = d.def
		}
		if *d.d < 0 {
			return o, fmt.Errorf("kafkabus: option %s is negative: leave it 0 for %v", d.name, d.def)
		}
	}
	for _, n := range []struct {
		name string
		n    *int
		def  int
		most int
	}{
		{"Partitions", &o.Partitions, -1, maxPartitions}, {"Replicas", &o.Replicas, -1, 100},
		{"MaxBytes", &o.MaxBytes, defaultMaxBytes, 64 << 20}, {"MaxAhead", &o.MaxAhead, 1 << 16, 1 << 20},
	} {
		if *n.n < 0 || *n.n > n.most {
			return o, fmt.Errorf("kafkabus: option %s is %d: want 0 for the default, or up to %d", n.name, *n.n, n.most)
		}
		if *n.n == 0 {
			*n.n = n.def
		}
	}
	if o.MaxBytes < 1024 {
		return o, fmt.Errorf("kafkabus: option MaxBytes is %d: want at least 1024", o.MaxBytes)
	}
	if o.Retention < 0 {
		return o, fmt.Errorf("kafkabus: option Retention is negative: leave it 0 for the server's")
	}
	if o.Heartbeat*2 >= o.SessionTimeout {
		return o, fmt.Errorf("kafkabus: option Heartbeat is %v: want less than half of SessionTimeout, %v", o.Heartbeat, o.SessionTimeout)
	}
	if _, err := o.codec(); err != nil {
		return o, err
	}
	return o, nil
}

func (o *Options) codec() (kgo.CompressionCodec, error) {
	switch o.Compression {
	case "", "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.NoCompression(), fmt.Errorf("kafkabus: option Compression is %q: want none, gzip, snappy, lz4 or zstd", o.Compression)
}
