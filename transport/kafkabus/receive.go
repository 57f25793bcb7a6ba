package kafkabus

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

// An item is one delivery and its receipt. It does not keep the record, which would
// keep all that was fetched with it.
type item struct {
	delivery driver.Delivery
	message  driver.Message
	r        *receiver
	p        *part
	offset   int64
	term     uint64 // of p's tracker
	size     int    // in bytes
	settled  bool
}

// newItem makes an item. Small ones are made some at once.
func (r *receiver) newItem(p *part, offset int64, size int) *item {
	var it *item
	if size > smallItem {
		it = &item{}
	} else {
		if len(r.items) == 0 {
			r.items = make([]item, slab)
		}
		it, r.items = &r.items[0], r.items[1:]
	}
	it.r, it.p, it.offset, it.size, it.term = r, p, offset, size, p.tracker.Term()
	it.delivery.Message, it.delivery.Partition, it.delivery.Receipt = &it.message, int(p.id), it
	return it
}

// Receive waits for messages. What is due for a retry comes first, then what was
// polled, the partitions in turn.
func (r *receiver) Receive(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("kafkabus: receive: %w", err)
		}
		r.mu.Lock()
		ds, err := r.take(max(1, limit))
		if len(ds) > 0 || err != nil {
			r.mu.Unlock()
			return ds, err
		}
		if r.behind() {
			r.mu.Unlock()
			if err := r.commitIn(ctx); err != nil {
				return nil, err
			}
			continue
		}
		due := r.retries.due()
		room := r.room()
		if room == 0 {
			changed := r.changed
			r.mu.Unlock()
			r.awaitChange(ctx, changed, due)
			continue
		}
		poll, polling := r.beginPoll(ctx, due)
		r.mu.Unlock()
		fetches := r.client.PollRecords(poll, room)
		r.mu.Lock()
		r.collect(fetches, poll.Err() != nil)
		r.polling = nil
		close(polling.done)
		r.mu.Unlock()
		polling.cancel()
	}
}

// awaitChange waits until something was settled, or a retry is due.
func (r *receiver) awaitChange(ctx context.Context, changed <-chan struct{}, due time.Time) {
	var retry <-chan time.Time
	if !due.IsZero() {
		timer := time.NewTimer(time.Until(due))
		defer timer.Stop()
		retry = timer.C
	}
	select {
	case <-changed:
	case <-retry:
	case <-ctx.Done():
	case <-r.done:
	}
}

// behind reports whether so much that was settled is not committed, because
// commits fail, that nothing more is handed out: a crash would repeat it all.
func (r *receiver) behind() bool { return r.settled-r.committed >= r.unsaved }

// maxUnsaved bounds what is settled and not committed. What is settled beyond an
// unsettled message is committed as runs, and does not come again: MaxAhead, which
// bounds that, can be larger.
const maxUnsaved = 4096

// beginPoll makes the context of a poll, which ends when a retry is due.
func (r *receiver) beginPoll(ctx context.Context, due time.Time) (context.Context, *polling) {
	p := &polling{done: make(chan struct{})}
	if due.IsZero() {
		ctx, p.cancel = context.WithCancel(ctx)
	} else {
		ctx, p.cancel = context.WithDeadline(ctx, due)
	}
	r.polling = p
	return ctx, p
}

// take returns what may be handed out.
func (r *receiver) take(limit int) (ds []*driver.Delivery, err error) {
	if r.closed() {
		return nil, fmt.Errorf("kafkabus: receive: %w", driver.ErrClosed)
	}
	n := min(limit, r.sub.Window-r.inHand)
	if n <= 0 || r.behind() {
		return nil, nil
	}
	budget := r.sub.WindowBytes
	if budget > 0 {
		inHand, _ := r.bytes()
		budget -= inHand
	}
	fits := func(size int) bool { return r.sub.WindowBytes <= 0 || r.inHand == 0 || size <= budget }
	hand := func(it *item) {
		budget -= it.size
		it.p.handBytes += it.size
		it.p.inHand++
		r.inHand++
		ds = append(ds, &it.delivery)
	}
	for now := time.Now(); len(ds) < n; {
		again := r.retries.first(now)
		if again == nil || !fits(again.size) {
			break
		}
		r.retries.pop()
		again.p.retryBytes -= again.size
		it := r.newItem(again.p, again.offset, again.size)
		it.delivery.Message, it.delivery.Fault = again.delivery.Message, again.delivery.Fault
		hand(it)
	}
	if r.queued > 0 && len(ds) < n {
		if ds == nil {
			ds = make([]*driver.Delivery, 0, min(n, r.queued))
		}
		r.turn++
		for i := range r.order {
			r.takeFrom(r.order[(i+r.turn)%len(r.order)], n, &ds, fits, hand)
		}
	}
	if len(ds) > 0 {
		return ds, nil
	}
	for _, p := range r.order {
		if p.err != nil && len(p.queue) == 0 {
			return nil, p.err
		}
	}
	if r.lost != nil {
		err, r.lost = r.lost, nil
	}
	return nil, err
}

// takeFrom hands out from one partition's queue, until n are in ds.
func (r *receiver) takeFrom(p *part, n int, ds *[]*driver.Delivery, fits func(int) bool, hand func(*item)) {
	if p.revoking || r.held[p.id] > 0 {
		r.balance(p)
		return
	}
	taken := 0
	for _, rec := range p.queue {
		size := sizeOf(rec)
		if len(*ds) == n || p.tracker.Full() || !fits(size) && !fits(size-r.attributeBytes(rec)) {
			break
		}
		taken++
		p.queueBytes -= size
		p.next, p.epoch = rec.Offset+1, rec.LeaderEpoch
		if err := p.tracker.Add(uint64(rec.Offset)); err != nil {
			// The log was cut back and goes on below what we had: begin again.
			r.restart(p, rec.Offset)
			_ = p.tracker.Add(uint64(rec.Offset)) // the first always fits
		}
		if rec.Attrs.IsControl() || p.skip.has(rec.Offset) || r.taken.has(p.id, rec.Offset) || r.filter && !r.mine(rec) {
			r.pass(p, rec.Offset)
			continue
		}
		it := r.newItem(p, rec.Offset, size)
		it.delivery.Fault = decode(&it.message, r.sub.Channel.Name, rec, r.rooms.take(size))
		it.size = it.message.Size()
		hand(it)
	}
	clear(p.queue[:taken])
	p.queue = p.queue[taken:]
	r.queued -= taken
	r.balance(p)
}

// pass settles what is no message for us, or was settled before.
func (r *receiver) pass(p *part, offset int64) {
	if _, advanced := p.tracker.Done(uint64(offset)); advanced && r.group {
		p.dirty = true
		r.settled++
		r.note()
	}
}

// mine reports whether a record of a topic that several channels share is for
// this one.
func (r *receiver) mine(rec *kgo.Record) bool {
	for i := range rec.Headers {
		if rec.Headers[i].Key == channelHeader {
			return string(rec.Headers[i].Value) == r.sub.Channel.Name
		}
	}
	return false
}

// balance stops fetching a partition whose tracker is full, or that may not be
// handed out, and begins again when there is room.
func (r *receiver) balance(p *part) {
	stop := p.tracker.Full() || r.held[p.id] > 0 || p.keeping
	switch {
	case stop && !r.paused[p.id]:
		r.client.PauseFetchPartitions(map[string][]int32{r.topic.name: {p.id}})
		r.paused[p.id] = true
	case r.paused[p.id] && !stop && p.tracker.Len() <= r.limit/2:
		r.client.ResumeFetchPartitions(map[string][]int32{r.topic.name: {p.id}})
		delete(r.paused, p.id)
	}
}

// collect takes in what a poll returned.
func (r *receiver) collect(fetches kgo.Fetches, canceled bool) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := r.parts[f.Partition]
		if f.Err != nil {
			r.fetchError(p, f.Err, canceled)
		}
		if len(f.Records) == 0 || p == nil || p.gone || f.Topic != r.topic.name {
			return
		}
		if len(p.queue) == 0 {
			p.queue = f.Records
		} else {
			p.queue = append(p.queue, f.Records...)
		}
		r.queued += len(f.Records)
		for _, rec := range f.Records {
			p.queueBytes += sizeOf(rec)
		}
	})
}

// restart forgets what was handed out of a partition, whose positions begin again.
func (r *receiver) restart(p *part, offset int64) {
	r.inHand -= p.inHand
	p.inHand, p.handBytes, p.retryBytes = 0, 0, 0
	p.tracker.Reset()
	p.position, p.skip, p.dirty = offset, nil, false
	r.retries.drop(p)
}
