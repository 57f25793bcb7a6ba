package tinybus

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// A receiver takes messages out of one group's queue. The bus's mutex guards
// it.
type receiver struct {
	bus     *Bus
	group   *group
	window  int
	bytes   int                       // of what may be handed out; 0 for no bound
	held    int                       // bytes of what is
	hands   map[*driver.Delivery]item // handed out and not settled
	settled chan struct{}             // closed with the next settlement; nil while nobody waits for it
	done    chan struct{}             // closed with the receiver
}

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("receive: %w", err)
		}
		ds, changed := r.take(max)
		if len(ds) > 0 {
			return ds, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-r.done:
			return nil, fmt.Errorf("receive: %w", driver.ErrClosed)
		}
	}
}

// take hands out what is there and fits into the window. If that is nothing, it
// returns what to wait for.
func (r *receiver) take(max int) (ds []*driver.Delivery, changed <-chan struct{}) {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	room := r.window - len(r.hands)
	if room == 0 {
		return nil, r.whenSettled()
	}
	n := min(max, room, len(r.group.queue))
	select {
	case <-r.done:
		n = 0
	default:
	}
	for _, it := range r.group.queue[:n] {
		size := it.msg.Size()
		if r.bytes > 0 && len(r.hands) > 0 && r.held+size > r.bytes {
			changed = r.whenSettled()
			break
		}
		d := &driver.Delivery{Message: it.msg.Clone()}
		r.hands[d] = it
		r.held += size
		ds = append(ds, d)
	}
	r.group.queue = r.group.queue[len(ds):]
	if changed == nil {
		changed = r.group.changed
	}
	return ds, changed
}

// whenSettled returns what is closed with the next settlement.
func (r *receiver) whenSettled() <-chan struct{} {
	if r.settled == nil {
		r.settled = make(chan struct{})
	}
	return r.settled
}

// Settle implements driver.Receiver.
func (r *receiver) Settle(_ context.Context, settlements []driver.Settlement) error {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	for _, s := range settlements {
		it, mine := r.hands[s.Delivery]
		if !mine {
			continue // settled before, or another receiver's
		}
		delete(r.hands, s.Delivery)
		r.held -= it.msg.Size()
		if s.Outcome == driver.Retry {
			r.group.put(it)
		}
	}
	if r.settled != nil {
		close(r.settled)
		r.settled = nil
	}
	return nil
}

// Close implements driver.Receiver.
func (r *receiver) Close(context.Context) error {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	r.close()
	return nil
}

// close gives back what was not settled.
func (r *receiver) close() {
	select {
	case <-r.done:
		return
	default:
	}
	close(r.done)
	for d, it := range r.hands {
		delete(r.hands, d)
		r.group.put(it)
	}
}
