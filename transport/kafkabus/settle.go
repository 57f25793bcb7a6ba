package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Settle notes what became of deliveries; keepCommitting commits it. To wait for
// that would idle the group: Kafka's coordinator gathers for 5 ms
// (group.coordinator.append.linger.ms) before it answers a commit. Deliveries of a
// partition that was lost, or of an earlier receiver, are stale.
func (r *receiver) Settle(_ context.Context, settlements []driver.Settlement) error {
	if r.closed() {
		return fmt.Errorf("kafkabus: settle: %w", driver.ErrClosed)
	}
	r.mu.Lock()
	changed, again := false, false
	var stale *driver.StaleError
	now := time.Now()
	for i := range settlements {
		s := &settlements[i]
		if s.Delivery == nil {
			continue
		}
		it, ok := s.Delivery.Receipt.(*item)
		if !ok || it.r == r && it.settled {
			continue
		}
		if it.r != r || it.p.gone || it.term != it.p.tracker.Term() {
			if stale == nil {
				stale = &driver.StaleError{}
			}
			stale.Indexes = append(stale.Indexes, i)
			continue
		}
		it.settled = true
		it.p.inHand--
		it.p.handBytes -= it.size
		r.inHand--
		changed = true
		if s.Outcome == driver.Retry {
			if !it.p.revoking { // else the next owner gets it
				r.retries.add(&retry{now.Add(s.After), it})
				it.p.retryBytes += it.size
				again = true
			}
			continue
		}
		it.p.tracker.Done(uint64(it.offset))
		if r.group {
			it.p.dirty = true
			r.settled++
		}
	}
	if changed {
		for _, p := range r.order {
			if r.paused[p.id] {
				r.balance(p)
			}
		}
		r.signal()
		if r.polling != nil && (again || r.queued > 0) {
			r.polling.cancel()
		}
	}
	err := r.uncommitted
	r.uncommitted = nil
	r.mu.Unlock()
	if changed && r.group {
		r.note()
	}
	if err == nil && stale != nil {
		return stale
	}
	return err
}

// note tells keepCommitting that something was settled.
func (r *receiver) note() {
	select {
	case r.noted <- struct{}{}:
	default:
	}
}

// keepCommitting commits what was settled, one commit after another, until ctx
// ends. The next Settle returns an error that trying again at once does not help.
func (r *receiver) keepCommitting(ctx context.Context) {
	for {
		select {
		case <-r.noted:
		case <-ctx.Done():
			return
		}
		for failed := r.commitIn(ctx); failed != nil && ctx.Err() == nil; failed = r.commitIn(ctx) {
			again := 20 * time.Millisecond
			if !errors.Is(failed, driver.ErrRetryable) {
				again = time.Second
				r.mu.Lock()
				r.uncommitted = failed
				r.mu.Unlock()
			}
			backoff.Sleep(ctx, again) // the loop sees that ctx has ended
		}
	}
}

// commitIn is commit with a deadline of ours.
func (r *receiver) commitIn(ctx context.Context) error {
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	return r.commit(ctx)
}

// commit makes the server keep what was settled before it was called.
func (r *receiver) commit(ctx context.Context) error {
	r.mu.Lock()
	want := r.settled
	enough := r.committed >= want
	r.mu.Unlock()
	if enough {
		return nil
	}
	doing := fmt.Sprintf("commit for group %s of channel %s", r.sub.Group, r.sub.Channel.Name)
	select {
	case r.commits <- struct{}{}:
		defer func() { <-r.commits }()
	case <-ctx.Done():
		return translate(doing, ctx.Err())
	}
	for {
		// The generation before what we own: then a commit can only be refused
		// for being too old, and never be taken for a partition that went.
		member, generation := r.client.GroupMetadata()
		req, parts, upTo := r.snapshot(want, member, generation)
		if req == nil {
			return nil
		}
		err := error(driver.ErrRetryable)
		if member != "" && generation >= 0 {
			err = r.request(ctx, req)
		}
		r.mu.Lock()
		if err == nil {
			r.committed, r.uncommitted = max(r.committed, upTo), nil
		} else {
			for _, p := range parts {
				p.dirty = true
			}
		}
		r.mu.Unlock()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, driver.ErrRetryable), errors.Is(err, kerr.RebalanceInProgress), errors.Is(err, kerr.IllegalGeneration),
			errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.StaleMemberEpoch):
			// Either we are in the group again soon, or the partitions are gone.
			if !backoff.Sleep(ctx, 20*time.Millisecond) {
				return translate(doing, fmt.Errorf("%w: %w", driver.ErrRetryable, err))
			}
		default:
			return translate(doing, err)
		}
	}
}

// snapshot makes the request that commits what is settled by now; nil if
// another has done so, or nothing that was settled is still ours.
func (r *receiver) snapshot(want uint64, member string, generation int32) (_ *kmsg.OffsetCommitRequest, parts []*part, upTo uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.committed >= want {
		return nil, nil, 0
	}
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.TopicID = r.topic.name, r.topic.id
	for _, p := range r.order {
		if !p.dirty {
			continue
		}
		p.dirty = false
		parts = append(parts, p)
		tp := kmsg.NewOffsetCommitRequestTopicPartition()
		tp.Partition, tp.Offset, tp.LeaderEpoch = p.id, p.resume(), p.epoch
		metadata := encodeRuns(p.tracker, tp.Offset, p.next, p.skip)
		tp.Metadata = &metadata
		topic.Partitions = append(topic.Partitions, tp)
	}
	upTo = r.settled
	if len(parts) == 0 {
		r.committed = upTo
		return nil, nil, 0
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = groupID(r.sub.Group, r.topic.name), member, generation
	req.Topics = append(req.Topics, topic)
	return req, parts, upTo
}

// resume is where a successor begins.
func (p *part) resume() int64 {
	if first, ok := p.tracker.First(); ok {
		return int64(first)
	}
	if upTo, ok := p.tracker.Prefix(); ok {
		return int64(upTo) + 1
	}
	return p.position
}

func (r *receiver) request(ctx context.Context, req *kmsg.OffsetCommitRequest) error {
	resp, err := req.RequestWith(ctx, r.client)
	if err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return err
			}
		}
	}
	return nil
}
