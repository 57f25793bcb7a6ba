package kafkabus

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// In a cooperative rebalance a member gives up all that it loses, and joins again
// for others to get it. One partition with a slow message in hand would keep all of
// them waiting. So a partition with messages in hand is kept for now: the group is
// told that it is ours still, and so gives it to nobody, while the others move at
// once. When nothing of it is in hand, or its time is over, it is given up by
// another rebalance.

// A balancer is the client's own, which is told of partitions that are kept.
type balancer struct {
	kgo.GroupBalancer
	r *receiver
}

// JoinGroupMetadata claims what is ours, but for what is being given up.
func (b balancer) JoinGroupMetadata(topics []string, current map[string][]int32, generation int32) []byte {
	b.r.mu.Lock()
	name := b.r.topic.name
	current[name] = slices.DeleteFunc(current[name], func(id int32) bool { return b.r.leaving[id] })
	b.r.mu.Unlock()
	if len(current[name]) == 0 {
		delete(current, name)
	}
	return b.GroupBalancer.JoinGroupMetadata(topics, current, generation)
}

// ParseSyncAssignment is what is ours from now on: with what is kept, and without
// what is being given up, also where it comes back to us: it then begins again.
func (b balancer) ParseSyncAssignment(assignment []byte) (map[string][]int32, error) {
	assigned, err := b.GroupBalancer.ParseSyncAssignment(assignment)
	if err != nil {
		return nil, err
	}
	r := b.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed() {
		return assigned, nil
	}
	ids := slices.DeleteFunc(assigned[r.topic.name], func(id int32) bool { return r.leaving[id] })
	var busy []*part
	for _, p := range r.order {
		stays := slices.Contains(ids, p.id)
		if !stays && (p.keeping || p.inHand > 0) {
			ids = append(ids, p.id)
		}
		if stays || p.keeping {
			continue
		}
		if p.inHand > 0 {
			p.keeping = true
			busy = append(busy, p)
		}
		p.revoking = true // nothing more of it is handed out
		r.empty(p)
		r.balance(p)
	}
	r.tell(busy)
	for _, p := range busy {
		r.wg.Go(func() { r.giveUp(p) })
	}
	if len(ids) > 0 {
		assigned[r.topic.name] = ids
	} else {
		delete(assigned, r.topic.name)
	}
	return assigned, nil
}

// giveUp gives a partition up that was kept, when nothing of it is in hand any more,
// or the time for that is over. The next owner may have it as soon as it is not
// claimed: what is settled is committed before.
func (r *receiver) giveUp(p *part) {
	r.drain(p)
	if r.closed() {
		return
	}
	r.commitForNext()
	r.mu.Lock()
	lost := p.gone
	if !lost {
		r.drop(p.id)
		r.leaving[p.id] = true
		r.signal()
	}
	r.mu.Unlock()
	if !lost {
		r.client.ForceRebalance()
	}
}

// commitForNext commits what is settled before partitions go to another.
func (r *receiver) commitForNext() {
	ctx, cancel := context.WithTimeout(context.Background(), r.c.opts.Timeout)
	defer cancel()
	if err := r.commit(ctx); err != nil && !r.closed() {
		r.c.opts.Logger.Warn("kafkabus: what was settled before a partition was given up comes again", "group", r.sub.Group,
			"channel", r.sub.Channel.Name, "error", err)
	}
}
