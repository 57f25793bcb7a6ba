package natsbus

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// Backlog returns how many messages wait for the group: those not handed out
// by the server, and those that wait here. What waits for the owners of other
// partitions is left out.
func (r *receiver) Backlog(ctx context.Context) (int64, error) {
	if err := r.open(); err != nil {
		return 0, err
	}
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	var n int64
	for _, src := range r.sources {
		info, err := r.c.consumerInfo(ctx, r.stream, src.consumer)
		if err != nil {
			return 0, translate("backlog of "+r.s.Group+" of channel "+r.s.Channel.Name, err)
		}
		if src.owned && !r.ours(src, pinOf(info)) {
			continue
		}
		n += int64(info.NumPending)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gather()
	n += int64(len(r.waiting()))
	r.kick()
	return n, nil
}

// kick wakes a Receive that waits.
func (r *receiver) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (c *Conn) consumerInfo(ctx context.Context, stream, consumer string) (*jetstream.ConsumerInfo, error) {
	con, err := c.js.Consumer(ctx, stream, consumer)
	if err != nil {
		return nil, err
	}
	return con.CachedInfo(), nil
}
