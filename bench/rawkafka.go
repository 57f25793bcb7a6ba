package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// rawKafka is franz-go used as its documents say for throughput: the idempotent
// producer with its buffer kept full, acknowledged by all replicas in sync; a
// group that commits in the background what was handled. Batches are not waited
// for. Requests and answers are topics, read without a group.
type rawKafka struct {
	brokers    []string
	partitions int32 // of a topic; -1 for the server's
	client     *kgo.Client
	ask        *asker
	envelope   []kgo.RecordHeader // what its records carry beside the body; nil for nothing
}

func (r *rawKafka) carry() {
	for _, a := range envelopeOf("ce_", false) {
		r.envelope = append(r.envelope, kgo.RecordHeader{Key: a.Name, Value: []byte(a.Value)})
	}
}

// kafkaCommitAfter is how long a commit waits for more, as franz-go's own
// background commit does, only sooner than its five seconds.
const kafkaCommitAfter = 100 * time.Millisecond

// kafkaMetadataAge is how soon a client asks again about a topic that has just
// been made; as kafkabus does.
const kafkaMetadataAge = 100 * time.Millisecond

func newRawKafka(brokers []string, partitions int) (*rawKafka, error) {
	r := &rawKafka{brokers: brokers, partitions: int32(partitions)}
	if partitions == 0 {
		r.partitions = -1
	}
	var err error
	r.client, err = r.open()
	return r, err
}

func (r *rawKafka) open(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(r.brokers...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(kafkaMetadataAge),
		kgo.UnknownTopicRetries(-1), // a busy broker learns late of a topic that was just made
	}, more...)...)
}

func (r *rawKafka) Close(context.Context) error {
	r.client.Close()
	return nil
}

func (r *rawKafka) Prepare(ctx context.Context, channel string) (func() error, error) {
	return r.topics(ctx, r.partitions, channel)
}

// topics makes topics and returns what removes them.
func (r *rawKafka) topics(ctx context.Context, partitions int32, names ...string) (func() error, error) {
	admin := kadm.NewClient(r.client)
	made, err := admin.CreateTopics(ctx, partitions, -1, nil, names...)
	if err == nil {
		err = made.Error()
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		gone, err := admin.DeleteTopics(ctx, names...)
		if err == nil {
			err = gone.Error()
		}
		r.client.PurgeTopicsFromClient(names...)
		return err
	}, err
}

func (r *rawKafka) record(topic string, body []byte) *kgo.Record {
	return &kgo.Record{Topic: topic, Key: []byte(KeyOf(body)), Headers: r.envelope, Value: body}
}

func (r *rawKafka) Send(ctx context.Context, channel string, body []byte) error {
	return r.client.ProduceSync(ctx, r.record(channel, body)).FirstErr()
}

// Stream leaves the window to the client: 10,000 records are its own bound.
func (r *rawKafka) Stream(ctx context.Context, channel string, count, _ int, body func(int) []byte) error {
	var mu sync.Mutex
	var failed error
	for n := range count {
		r.client.Produce(ctx, r.record(channel, body(n)), func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
		})
	}
	err := r.client.Flush(ctx)
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, failed)
}

func (r *rawKafka) Consume(ctx context.Context, channel string, handle func([]byte)) (func() error, error) {
	joined := make(chan struct{})
	var once sync.Once
	c, err := r.open(kgo.ConsumerGroup("bench@"+channel), kgo.ConsumeTopics(channel), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(kafkaCommitAfter),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			if len(assigned) > 0 {
				once.Do(func() { close(joined) })
			}
		}))
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			fetches := c.PollFetches(run)
			if run.Err() != nil {
				ended <- nil
				return
			}
			if err := fetches.Err(); err != nil {
				ended <- err
				return
			}
			fetches.EachPartition(func(p kgo.FetchTopicPartition) {
				for _, rec := range p.Records {
					handle(rec.Value)
				}
				c.MarkCommitRecords(p.Records...)
			})
		}
	}()
	stop := func() error {
		cancel()
		err := <-ended
		end, done := context.WithTimeout(context.Background(), 30*time.Second)
		defer done()
		err = errors.Join(err, c.CommitMarkedOffsets(end))
		c.Close()
		gone, derr := kadm.NewClient(r.client).DeleteGroups(end, "bench@"+channel)
		if derr == nil {
			derr = gone.Error()
		}
		return errors.Join(err, derr)
	}
	select {
	case <-joined:
		return stop, nil
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("join the group: %w", ctx.Err()), stop())
	}
}

// Answer serves one topic and hears the answers on another.
func (r *rawKafka) Answer(ctx context.Context, channel string) (func() error, error) {
	answers := channel + ".answers"
	remove, err := r.topics(ctx, 1, channel, answers)
	if err != nil {
		return nil, err
	}
	r.ask = &asker{waits: map[string]chan struct{}{}}
	run, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	read := func(topic string, see func(*kgo.Record)) error {
		c, err := r.open(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			return err
		}
		running.Go(func() {
			defer c.Close()
			for run.Err() == nil {
				c.PollFetches(run).EachRecord(see)
			}
		})
		return nil
	}
	serve, err := r.open()
	if err == nil {
		err = errors.Join(
			read(channel, func(rec *kgo.Record) {
				// An answer that is lost is a request that fails.
				serve.Produce(run, &kgo.Record{Topic: answers, Key: rec.Key, Headers: r.envelope, Value: rec.Value}, nil)
			}),
			read(answers, func(rec *kgo.Record) { r.ask.answer(string(rec.Key)) }))
	}
	stop := func() error {
		cancel()
		running.Wait()
		serve.Close()
		return remove()
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

func (r *rawKafka) Request(ctx context.Context, channel string, body []byte) error {
	id, answered := r.ask.begin()
	r.client.Produce(ctx, &kgo.Record{Topic: channel, Key: []byte(id), Headers: r.envelope, Value: body}, nil)
	return waitFor(ctx, answered)
}
