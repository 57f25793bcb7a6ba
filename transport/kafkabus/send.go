package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A sending is one Send under way. It goes back to the pool when all its records
// are done with, which may be after Send has returned.
type sending struct {
	encoder
	c      *Conn
	ctx    context.Context // of the records: ends with their time, or when order demands it
	cancel context.CancelFunc
	index  []int // of each record's message
	topics []string
	ends   []topicEnd // of each topic, where there are several
	fencing

	mu     sync.Mutex
	open   int  // records that are not done
	left   bool // Send has returned
	failed []failedRecord
	done   chan struct{} // one slot: all records are done
}

// A topicEnd ends the records of one topic.
type topicEnd struct {
	ctx    context.Context
	cancel context.CancelFunc
}

type failedRecord struct {
	record *kgo.Record
	err    error
}

var sendings = sync.Pool{New: func() any { return &sending{done: make(chan struct{}, 1)} }}

// Send hands messages to the client underneath, which sends them in order by
// partition, and waits until the server has answered for each or its deadline is
// over. What ctx cuts short has an unknown outcome.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if err := c.ready(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kafkabus: send: %w", err)
	}
	if len(messages) == 0 {
		return nil
	}
	missing, err := c.missing(ctx, messages)
	if err != nil {
		return err
	}
	if err := c.mayProduce(ctx); err != nil {
		return err
	}
	s := sendings.Get().(*sending)
	s.c = c
	failures := s.prepare(messages, missing)
	if len(s.records) == 0 {
		s.recycle()
		return (&driver.SendError{Failures: failures}).OrNil()
	}
	s.ctx, s.cancel = context.WithCancel(c.life)
	if len(s.topics) > 1 {
		for range s.topics {
			ctx, cancel := context.WithCancel(s.ctx)
			s.ends = append(s.ends, topicEnd{ctx, cancel})
		}
	}
	s.open = len(s.records)
	c.begin(s)
	promise := s.promise
	for i := range s.records {
		r := &s.records[i]
		if s.shut.Load() && c.isShut(s, r.Topic) {
			promise(r, errBehind)
			continue
		}
		c.client.Produce(s.contextOf(r.Topic), r, promise)
	}
	select {
	case <-s.done:
		failures = append(failures, s.failures()...)
		c.end(s)
		s.recycle()
	case <-ctx.Done():
		var all bool
		failures, all = s.leave(failures, ctx.Err())
		if all {
			c.end(s)
			s.recycle()
		}
	}
	slices.SortFunc(failures, func(a, b driver.SendFailure) int { return a.Index - b.Index })
	return (&driver.SendError{Failures: failures}).OrNil()
}

// contextOf is the context of a topic's records.
func (s *sending) contextOf(topic string) context.Context {
	if len(s.ends) == 0 {
		return s.ctx
	}
	return s.ends[slices.Index(s.topics, topic)].ctx
}

// endTopic cancels a topic's records, also the one that waits for room in the
// client's buffer, which the failure of another makes.
func (s *sending) endTopic(topic string) {
	if len(s.ends) == 0 {
		s.cancel()
		return
	}
	s.ends[slices.Index(s.topics, topic)].cancel()
}

// prepare encodes the messages that may go, and returns those that may not.
func (s *sending) prepare(messages []*driver.Message, missing map[string]error) (failures []driver.SendFailure) {
	s.grow(messages)
	for i, m := range messages {
		topic := topicOf(m.Channel, m.Transient)
		if err := missing[topic]; err != nil {
			failures = append(failures, driver.SendFailure{Index: i, Err: err})
			continue
		}
		if n := m.Size(); n > s.c.opts.MaxBytes {
			failures = append(failures, driver.SendFailure{Index: i, Err: fmt.Errorf(
				"kafkabus: send to channel %s: %w: %d bytes, and the limit is %d: send a reference to the data instead, or raise max-bytes and the topic's max.message.bytes", m.Channel, driver.ErrTooLarge, n, s.c.opts.MaxBytes)})
			continue
		}
		s.encode(m, topic)
		s.index = append(s.index, i)
		if !slices.Contains(s.topics, topic) {
			s.topics = append(s.topics, topic)
		}
	}
	return failures
}

// promise is what the client calls when a record is done with.
func (s *sending) promise(r *kgo.Record, err error) {
	// Those that a fence cancelled, or held back, must not cancel others in
	// turn: under load that would never end.
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errBehind) && !unfit(err) {
		s.c.fence(s, r.Topic)
	}
	s.mu.Lock()
	if err != nil {
		s.failed = append(s.failed, failedRecord{r, err})
	}
	s.open--
	last, left := s.open == 0, s.left
	s.mu.Unlock()
	if !last {
		return
	}
	if left {
		s.c.end(s)
		s.recycle()
		return
	}
	s.done <- struct{}{}
}

// failures names the messages of the records that failed.
func (s *sending) failures() []driver.SendFailure {
	s.mu.Lock()
	defer s.mu.Unlock()
	failures := make([]driver.SendFailure, 0, len(s.failed))
	for _, f := range s.failed {
		failures = append(failures, driver.SendFailure{Index: s.indexOf(f.record), Err: s.error(f.record.Topic, f.err),
			Unknown: !refused(f.err) && !errors.Is(f.err, errBehind)})
	}
	return failures
}

// error says what a record's error means.
func (s *sending) error(topic string, err error) error {
	if errors.Is(err, context.Canceled) && s.c.life.Err() == nil {
		if !s.late.Load() {
			return fmt.Errorf("kafkabus: send to topic %s: %w", topic, errBehind) // not the caller's doing
		}
		err = context.DeadlineExceeded
	}
	return s.c.sendError(topic, err)
}

func (s *sending) indexOf(r *kgo.Record) int {
	for i := range s.records {
		if &s.records[i] == r {
			return s.index[i]
		}
	}
	return -1
}

// leave is for a Send whose caller does not wait any longer: records that are
// not done have an unknown outcome. The last of them recycles s, unless all are
// done by now.
func (s *sending) leave(failures []driver.SendFailure, why error) (_ []driver.SendFailure, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := fmt.Errorf("kafkabus: send: not confirmed yet: %w", why)
	for _, i := range s.index {
		failures = append(failures, driver.SendFailure{Index: i, Err: err, Unknown: true})
	}
	s.left = true
	if s.open == 0 {
		<-s.done // the last promise sends it, or has
		return failures, true
	}
	return failures, false
}

func (s *sending) recycle() {
	s.reset()
	clear(s.failed)
	clear(s.topics)
	clear(s.ends)
	s.index, s.topics, s.failed, s.ends = s.index[:0], s.topics[:0], s.failed[:0], s.ends[:0]
	s.c, s.ctx, s.cancel, s.open, s.left = nil, nil, nil, 0, false
	s.late.Store(false)
	s.shut.Store(false)
	if cap(s.arena) > maxPooled || cap(s.records) > maxPooled/1024 {
		return // one large batch must not hold its memory for good
	}
	sendings.Put(s)
}

const maxPooled = 16 << 20

// mayProduce asks, once, whether the server lets us be a producer. The client asks
// for itself with the first record, and takes a refusal as said for ever.
func (c *Conn) mayProduce(ctx context.Context) error {
	if c.produces.Load() {
		return nil
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	resp, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if c.Classify(err) == driver.Denied {
		return translate("send", err)
	}
	if err == nil {
		c.produces.Store(true)
	}
	return nil // sending finds out
}

// produce sends records of our own.
func (c *Conn) produce(ctx context.Context, records ...*kgo.Record) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	if err := c.mayProduce(ctx); err != nil {
		return err
	}
	return c.client.ProduceSync(ctx, records...).FirstErr()
}

// sendError says what the client's error for a record means.
func (c *Conn) sendError(topic string, err error) error {
	doing := "send to topic " + topic
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		c.forget(topic)
		return translate(doing, err)
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("kafkabus: %s: %w", doing, driver.ErrClosed)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("kafkabus: %s: %w: not confirmed within %v", doing, driver.ErrRetryable, c.opts.Timeout)
	}
	return translate(doing, err)
}
