package kafkabus

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The client calls what follows, one at a time, from its own goroutine, and goes
// on with the rebalance when it returns. Heartbeats and fetches of the partitions
// that stay ours go on meanwhile.

// onAssigned takes partitions, before their offsets are fetched. It is called with
// none where all are others'.
func (r *receiver) onAssigned(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range assigned[r.topic.name] {
		r.add(id, 0)
		r.balance(r.parts[id])
	}
	r.giving.Do(func() { close(r.given) })
}

// onOffsets reads where partitions begin and what is settled beyond.
func (r *receiver) onOffsets(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range resp.Groups {
		for _, t := range g.Topics { // one: a group has one channel
			for _, tp := range t.Partitions {
				p := r.parts[tp.Partition]
				if p == nil || tp.ErrorCode != 0 {
					continue
				}
				if r.expired[p.id] = tp.Offset < 0; tp.Offset >= 0 {
					p.position, p.next = tp.Offset, tp.Offset
					if tp.Metadata != nil {
						p.skip = decodeRuns(*tp.Metadata, tp.Offset)
					}
				} else if int(p.id) < len(r.begin) {
					p.position, p.next = r.begin[p.id], r.begin[p.id]
				}
			}
		}
	}
	return nil
}

// adjust gives partitions without a committed offset the group's beginning. Those
// that were added since have none and begin at their start.
func (r *receiver) adjust(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range offsets[r.topic.name] {
		if !r.expired[id] || int(id) >= len(r.begin) {
			continue
		}
		offsets[r.topic.name][id] = kgo.NewOffset().At(r.begin[id])
		r.c.opts.Logger.Warn("kafkabus: the server has forgotten how far a group was: it begins where it began at first; raise offsets.retention.minutes",
			"group", r.sub.Group, "channel", r.sub.Channel.Name, "partition", id, "offset", r.begin[id])
	}
	return offsets, nil
}

// onRevoked gives partitions up in good order: nothing of them is in hand, unless
// their time is over, and what is settled is committed while the generation is still
// one that owns them.
func (r *receiver) onRevoked(_ context.Context, _ *kgo.Client, revoked map[string][]int32) {
	ids := revoked[r.topic.name]
	if len(ids) == 0 {
		return
	}
	r.awaitPoll()
	r.mu.Lock()
	for _, id := range ids {
		if p := r.parts[id]; p != nil {
			p.revoking = true
			r.empty(p)
		}
	}
	r.mu.Unlock()
	if r.closed() {
		return // Close has committed, and drops the partitions
	}
	r.commitForNext()
	r.mu.Lock()
	for _, id := range ids {
		r.drop(id)
		delete(r.leaving, id)
	}
	r.signal()
	r.mu.Unlock()
}

// onLost gives up partitions that another may own already. It is called for every
// error of the group, also with none.
func (r *receiver) onLost(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
	r.giving.Do(func() { close(r.given) }) // Receive tells the error
	r.awaitPoll()
	r.mu.Lock()
	defer r.mu.Unlock()
	var busy []*part
	for _, id := range lost[r.topic.name] {
		p := r.parts[id]
		if p == nil {
			continue
		}
		if p.inHand > 0 && !r.closed() {
			busy = append(busy, p)
		}
		r.drop(id)
	}
	clear(r.leaving)
	r.tell(busy)
	r.signal()
}

// tell announces partitions of which something is in hand. Until the core has
// released them, nothing of them is handed out if they become ours again: the
// core would take it for what it is giving up.
func (r *receiver) tell(busy []*part) {
	if len(busy) == 0 {
		return
	}
	ids := make([]int, len(busy))
	for i, p := range busy {
		ids[i] = int(p.id)
	}
	select {
	case r.revoked <- ids:
		for _, p := range busy {
			r.held[p.id]++
		}
	default: // nobody listens
	}
}

// drain waits until a partition is released, or nothing of it is in hand, or the
// time for it is over.
func (r *receiver) drain(p *part) {
	timer := time.NewTimer(r.c.opts.DrainTimeout)
	defer timer.Stop()
	for {
		r.mu.Lock()
		drained := p.gone || p.inHand == 0 || r.held[p.id] == 0
		changed := r.changed
		r.mu.Unlock()
		if drained {
			return
		}
		select {
		case <-changed:
		case <-r.done:
			return
		case <-timer.C:
			r.c.opts.Logger.Warn("kafkabus: a partition is given up with messages in hand, which come again elsewhere",
				"group", r.sub.Group, "channel", r.sub.Channel.Name, "partition", p.id, "after", r.c.opts.DrainTimeout)
			return
		}
	}
}

// awaitPoll ends a poll that began before partitions went, and waits until what
// it brought is in the queues: a later one brings nothing of them.
func (r *receiver) awaitPoll() {
	r.mu.Lock()
	p := r.polling
	r.mu.Unlock()
	if p == nil {
		return
	}
	p.cancel()
	select {
	case <-p.done:
	case <-r.done:
	}
}

// Revoked delivers partitions that go to another receiver, as driver.Revoker
// says. It is never closed.
func (r *receiver) Revoked() <-chan []int { return r.revoked }

// Release lets partitions go that Revoked delivered.
func (r *receiver) Release(_ context.Context, partitions []int) error {
	r.mu.Lock()
	for _, id := range partitions {
		if n := r.held[int32(id)]; n > 1 {
			r.held[int32(id)] = n - 1
		} else {
			delete(r.held, int32(id))
		}
		if p := r.parts[int32(id)]; p != nil && !p.revoking {
			r.balance(p)
		}
	}
	r.mu.Unlock()
	r.wake()
	return nil
}
