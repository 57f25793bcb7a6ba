package kafkabus_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The benchmarks measure against the client used as well as it can be, on the
// same server, in turns, and report the ratio of the medians. One iteration is
// one round of both; run them with -benchtime=5x.

const (
	benchRound = 80_000 // messages
	benchBatch = 500
	benchBody  = 1024
	benchParts = 4
)

// A duel is the rates of both sides by round; headed is the client with the
// headers that an event needs, so that both sides move the same bytes.
type duel struct{ raw, headed, ours []float64 }

func (d *duel) report(b *testing.B) {
	median := func(v []float64) float64 {
		slices.Sort(v)
		return v[len(v)/2]
	}
	raw, ours := median(d.raw), median(d.ours)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(raw, "raw-msg/s")
	b.ReportMetric(ours, "msg/s")
	b.ReportMetric(ours/raw, "ratio")
	if len(d.headed) > 0 {
		b.ReportMetric(ours/median(d.headed), "ratio-same-headers")
	}
}

// inTurn calls sides, with another of them first in each round: who begins finds
// new topics, and who is last a disk that is busy with what the others wrote.
func inTurn(round int, sides ...func()) {
	for i := range sides {
		sides[(i+round)%len(sides)]()
	}
}

// arena is a server with a client of each side, and new topics for each round.
type arena struct {
	b    *testing.B
	addr string
	ours *kafkabus.Conn
	raw  *kgo.Client
	n    int
}

func newArena(b *testing.B, addr string) *arena {
	o := kafkabus.Options{Brokers: []string{addr}, Timeout: time.Minute, Heartbeat: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	raw, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(1_048_576),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(raw.Close)
	return &arena{b: b, addr: addr, ours: connect(b, o), raw: raw}
}

// onBoth runs a benchmark on the real server, and on a fake in the process,
// which leaves the cost of the clients.
func onBoth(b *testing.B, bench func(*arena)) {
	b.Run("real", func(b *testing.B) { bench(newArena(b, broker(servers.Shared(b, servers.Kafka)))) })
	b.Run("fake", func(b *testing.B) {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(fake.Close)
		bench(newArena(b, fake.ListenAddrs()[0]))
	})
}

// round makes a topic for each side.
func (a *arena) round() (s driver.Subscription, raw string) {
	a.n++
	name := a.b.Name()
	name = "bench-" + strconv.Itoa(len(name)) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	s = driver.Subscription{Channel: driver.Channel{Name: name, Partitions: benchParts}, Group: "worker", Instance: "1", Window: 4000}
	provision(a.b, a.ours, s.Channel, s)
	raw = "raw-" + name
	if _, err := kadm.NewClient(a.raw).CreateTopic(a.b.Context(), benchParts, 1, nil, raw); err != nil {
		a.b.Fatal(err)
	}
	return s, raw
}

// drop deletes what a round has made, so that the disk is the same for all.
func (a *arena) drop(s driver.Subscription, raw string) {
	if _, err := kadm.NewClient(a.raw).DeleteTopics(a.b.Context(), raw); err != nil {
		a.b.Error(err)
	}
	if err := a.ours.RemoveChannel(a.b.Context(), s.Channel.Name); err != nil {
		a.b.Error(err)
	}
}

func benchMessages(channel string) []*driver.Message {
	ms := make([]*driver.Message, benchBatch)
	for i := range ms {
		ms[i] = &driver.Message{Channel: channel, ID: "0197f2a1-0000-7000-8000-" + strconv.Itoa(100_000_000_000+i), Source: "bench",
			Type: "bench.sent.v1", Time: time.Now(), ContentType: "application/json", Key: "key-" + strconv.Itoa(i%64), Body: make([]byte, benchBody)}
	}
	return ms
}

var eventHeaders = []kgo.RecordHeader{{Key: "ce_specversion", Value: []byte("1.0")}, {Key: "ce_id", Value: []byte("0197f2a1-0000-7000-8000-100000000000")},
	{Key: "ce_source", Value: []byte("bench")}, {Key: "ce_type", Value: []byte("bench.sent.v1")}, {Key: "ce_time", Value: []byte("2026-01-02T03:04:05.123456Z")},
	{Key: "ce_partitionkey", Value: []byte("key-63")}, {Key: "content-type", Value: []byte("application/json")}}

// produceRaw keeps the client's buffer full, and waits for every confirmation.
func (a *arena) produceRaw(topic string, headers ...kgo.RecordHeader) float64 {
	body := make([]byte, benchBody)
	keys := make([][]byte, 64)
	for i := range keys {
		keys[i] = []byte("key-" + strconv.Itoa(i))
	}
	var failed atomic.Int64
	began := time.Now()
	for i := range benchRound {
		a.raw.Produce(a.b.Context(), &kgo.Record{Topic: topic, Key: keys[i%64], Value: body, Headers: headers}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := a.raw.Flush(a.b.Context()); err != nil || failed.Load() > 0 {
		a.b.Fatal(err, failed.Load())
	}
	return benchRound / time.Since(began).Seconds()
}

// produceOurs sends batches, several at a time as the core does.
func (a *arena) produceOurs(channel string) float64 {
	ms := benchMessages(channel)
	const senders = 16
	errs := make(chan error, senders)
	began := time.Now()
	for range senders {
		go func() {
			for range benchRound / benchBatch / senders {
				if err := a.ours.Send(a.b.Context(), ms); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range senders {
		if err := <-errs; err != nil {
			a.b.Fatal(err)
		}
	}
	return benchRound / time.Since(began).Seconds()
}

func BenchmarkProduce(b *testing.B) { onBoth(b, (*arena).produce) }

func (a *arena) produce() {
	b := a.b
	var d duel
	for b.Loop() {
		s, raw := a.round()
		inTurn(a.n,
			func() { d.raw = append(d.raw, a.produceRaw(raw)) },
			func() { d.headed = append(d.headed, a.produceRaw(raw, eventHeaders...)) },
			func() { d.ours = append(d.ours, a.produceOurs(s.Channel.Name)) })
		a.drop(s, raw)
	}
	d.report(b)
}

// consumeRaw polls as a member of a group and commits what it has polled.
func (a *arena) consumeRaw(topic string) float64 {
	c, err := kgo.NewClient(kgo.SeedBrokers(a.addr), kgo.ConsumerGroup("raw-"+topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.FetchMaxBytes(16<<20), kgo.FetchMaxPartitionBytes(2<<20))
	if err != nil {
		a.b.Fatal(err)
	}
	defer c.Close()
	got := c.PollRecords(a.b.Context(), 1).NumRecords() // the group has been joined
	began := time.Now()
	for got < benchRound {
		fetches := c.PollRecords(a.b.Context(), 2000)
		if err := fetches.Err(); err != nil {
			a.b.Fatal(err)
		}
		got += fetches.NumRecords()
		if err := c.CommitUncommittedOffsets(a.b.Context()); err != nil {
			a.b.Fatal(err)
		}
	}
	return benchRound / time.Since(began).Seconds()
}

func (a *arena) consumeOurs(s driver.Subscription) float64 {
	r, err := a.ours.OpenReceiver(a.b.Context(), s)
	if err != nil {
		a.b.Fatal(err)
	}
	defer r.Close(context.Background())
	first := receive(a.b, r, 1)
	ack(a.b, r, first...)
	got := 1
	ss := make([]driver.Settlement, 0, 2000)
	began := time.Now()
	for got < benchRound {
		ds, err := r.Receive(a.b.Context(), 2000)
		if err != nil {
			a.b.Fatal(err)
		}
		ss = ss[:0]
		for _, d := range ds {
			ss = append(ss, driver.Settlement{Delivery: d})
		}
		if err := r.Settle(a.b.Context(), ss); err != nil {
			a.b.Fatal(err)
		}
		got += len(ds)
	}
	return benchRound / time.Since(began).Seconds()
}

// BenchmarkConsume reads, on each side, events with the same headers, and commits
// each batch of at most 2000 before the next.
func BenchmarkConsume(b *testing.B) { onBoth(b, (*arena).consume) }

func (a *arena) consume() {
	b := a.b
	var d duel
	for b.Loop() {
		s, raw := a.round()
		a.produceRaw(raw, eventHeaders...)
		a.produceOurs(s.Channel.Name)
		inTurn(a.n,
			func() { d.raw = append(d.raw, a.consumeRaw(raw)) },
			func() { d.ours = append(d.ours, a.consumeOurs(s)) })
		a.drop(s, raw)
	}
	d.report(b)
}

func BenchmarkConformance(b *testing.B) {
	s := servers.Shared(b, servers.Kafka)
	drivertest.Bench(b, drivertest.Harness{Open: func(ctx context.Context) (driver.Conn, error) { return kafkabus.Connect(ctx, options(s)) }})
}
