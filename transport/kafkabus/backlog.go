package kafkabus

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// Backlog counts what waits in the partitions that this receiver owns; those of
// the group's other receivers are theirs to count. Where a partition ends with
// records that are no messages, as the markers of transactions, they do not count.
func (r *receiver) Backlog(ctx context.Context) (int64, error) {
	if r.closed() {
		return 0, fmt.Errorf("kafkabus: backlog: %w", driver.ErrClosed)
	}
	ends, err := r.c.ends(ctx, r.topic)
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	n := int64(len(r.retries))
	next := map[int32]int64{}
	for id, p := range r.parts {
		if int(id) < len(ends) && p.next < ends[id] {
			next[id] = p.next
		}
	}
	r.mu.Unlock()
	for id, at := range next {
		at, err := r.c.firstFrom(ctx, r.topic, id, at, ends[id])
		if err != nil {
			return 0, fmt.Errorf("kafkabus: backlog: %w", err)
		}
		n += ends[id] - at
	}
	return n, nil
}
