package kafkabus

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The group of a broadcast subscription is an instance's own, and no consumer
// group of the server's: its receivers read every partition by themselves, and the
// Conn keeps where the last one was. Nothing of it is left when the process ends.

// A following is how far a broadcast group is.
type following struct {
	topic kadm.TopicID
	parts []settled // by partition
}

// following returns how far a group is; ok is false where there is no such group.
func (c *Conn) following(id string) (f following, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok = c.followings[id]
	return f, ok
}

// follows keeps how far a group is. With fresh the group comes into being, without
// it a group that was removed stays so.
func (c *Conn) follows(id string, f following, fresh bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.followings[id]; known || fresh {
		c.followings[id] = f
	}
}

// stopFollowing removes a group.
func (c *Conn) stopFollowing(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.followings, id)
}

// follow reads every partition without a group: from where the last receiver was,
// or from where the partition ends now.
func (r *receiver) follow(ctx context.Context) error {
	from, err := r.followFrom(ctx)
	if err != nil {
		return err
	}
	at := map[int32]kgo.Offset{}
	for p, begin := range from {
		at[int32(p)] = kgo.NewOffset().At(begin.at)
		r.add(int32(p), begin.at)
		r.parts[int32(p)].skip = begin.skip
	}
	r.client, err = kgo.NewClient(r.consumerOptions(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{r.topic.name: at}),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)...)
	if err == nil && !r.filter {
		r.wg.Go(r.watchPartitions)
	}
	return err
}

// followFrom is where the receiver begins, by partition.
func (r *receiver) followFrom(ctx context.Context) ([]settled, error) {
	b, err := r.c.bounds(ctx, r.topic)
	if err != nil {
		return nil, err
	}
	from := make([]settled, len(b.end))
	if !r.sub.Resume {
		for p, end := range b.end {
			from[p].at = end
		}
		if r.sub.Broadcast {
			r.c.follows(r.id(), following{r.topic.id, from}, true)
		}
		return from, nil
	}
	f, ok := r.c.following(r.id())
	if !ok || f.topic != r.topic.id {
		return nil, fmt.Errorf("%w: open it without Resume to go on from now", driver.ErrPositionLost)
	}
	copy(from, f.parts) // partitions that were added since begin at their start
	for p := range from {
		if p >= len(f.parts) {
			from[p].at = b.start[p]
		}
		if from[p].at < b.start[p] {
			return nil, fmt.Errorf("%w: the server has deleted messages of partition %d that the receiver before had not handled", driver.ErrPositionLost, p)
		}
	}
	return from, nil
}

// keepFollowing keeps how far the group is for the next receiver. mu is held.
func (r *receiver) keepFollowing() {
	f := following{r.topic.id, make([]settled, len(r.parts))}
	for id, p := range r.parts {
		if int(id) < len(f.parts) { // they are all ours: none is missing
			at := p.resume()
			f.parts[id] = settled{at, decodeRuns(encodeRuns(p.tracker, at, p.next, p.skip), at)}
		}
	}
	r.c.follows(r.id(), f, false)
}

// watchPartitions takes partitions that are added, from their beginning.
func (r *receiver) watchPartitions() {
	tick := time.NewTicker(r.c.opts.MetadataAge)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.done:
			return
		}
		found, err := r.c.describe(r.c.life, r.topic.name)
		t := found[r.topic.name]
		if err != nil || t == nil || t.id != r.topic.id {
			continue // receiving finds out by itself
		}
		more := map[int32]kgo.Offset{}
		r.mu.Lock()
		for p := int32(len(r.parts)); int(p) < len(t.leaders); p++ {
			more[p] = kgo.NewOffset().AtStart()
			r.add(p, 0)
		}
		r.mu.Unlock()
		if len(more) > 0 {
			r.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{r.topic.name: more})
		}
	}
}
