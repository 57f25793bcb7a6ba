package membus

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A receiver of one group. Its fields are guarded by the channel's mutex,
// except for those that Receive alone uses.
type receiver struct {
	conn   *Conn
	ch     *channel
	g      *group
	window int
	bytes  int // WindowBytes; 0 for no bound

	closed  bool
	held    int
	size    int      // of what is held, in bytes
	blocked bool     // what comes next does not fit into the bytes
	hands   hand     // ring of what is in hand, oldest first
	mask    []uint64 // partitions that it may take from
	cursor  int      // the partition after the last that it took from
	waiting bool     // in Receive, with room in its window
	poked   bool     // marked to be woken

	wake chan struct{} // one token
	done chan struct{} // closed with the receiver

	timer *time.Timer // of Receive, while something is not due
}

// A hand is one delivery, in one piece with what the bus needs to know of it.
type hand struct {
	d          driver.Delivery
	it         item
	r          *receiver
	prev, next *hand
	held       bool
}

func (r *receiver) link(h *hand) {
	last := r.hands.prev
	h.prev, h.next = last, &r.hands
	last.next, r.hands.prev = h, h
	h.held = true
	r.held++
	r.size += h.it.m.size
}

func (r *receiver) unlink(h *hand) {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil // a delivery that somebody keeps does not keep its neighbours
	h.held = false
	r.held--
	r.size -= h.it.m.size
}

// wakeUp lets a waiting Receive look again.
func (r *receiver) wakeUp() {
	r.waiting, r.poked = false, false
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Receive implements driver.Receiver.
func (r *receiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if max < 1 {
		return nil, fmt.Errorf("membus: receive at most %d: want at least 1", max)
	}
	for {
		if err := ctx.Err(); err != nil {
			r.pass()
			return nil, fmt.Errorf("membus: receive from %s: %w", r.ch.spec.Name, err)
		}
		ds, wait, err := r.take(max)
		if ds != nil || err != nil {
			return ds, err
		}
		var due <-chan time.Time
		if wait >= 0 {
			if r.timer == nil {
				r.timer = time.NewTimer(wait)
			} else {
				r.timer.Reset(wait)
			}
			due = r.timer.C
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
		case <-r.done:
		case <-due:
		}
		if due != nil {
			r.timer.Stop()
		}
	}
}

// take hands out what is there, or begins to wait: then it returns nothing, and
// how long until the next message is due, negative for none.
func (r *receiver) take(max int) (ds []*driver.Delivery, wait time.Duration, err error) {
	r.ch.mu.Lock()
	switch {
	case r.closed:
		r.ch.mu.Unlock()
		return nil, 0, fmt.Errorf("membus: receiver of %s: %w", r.ch.spec.Name, driver.ErrClosed)
	case r.g.gone:
		r.ch.mu.Unlock()
		return nil, 0, fmt.Errorf("membus: group %s of channel %s was removed: %w", r.g.name, r.ch.spec.Name, driver.ErrNotFound)
	}
	r.waiting, r.poked, r.blocked = false, false, false
	room := min(max, r.window-r.held)
	if room == 0 { // Settle wakes it
		r.ch.mu.Unlock()
		return nil, -1, nil
	}
	wait = r.g.promote()
	if r.g.queued > 0 {
		ds = make([]*driver.Delivery, 0, min(room, r.g.queued))
		var slab []hand
		r.g.take(r, room, func(it item) {
			var h *hand
			if it.m.size >= largeMessage {
				h = new(hand)
			} else {
				if len(slab) == 0 {
					slab = make([]hand, min(slabSize, cap(ds)-len(ds)))
				}
				h, slab = &slab[0], slab[1:]
			}
			h.it, h.r = it, r
			r.link(h)
			h.d.Receipt = h
			ds = append(ds, &h.d)
		})
	}
	if len(ds) == 0 && r.blocked { // Settle wakes it
		r.passOn()
		r.ch.mu.Unlock()
		return nil, -1, nil
	}
	if len(ds) == 0 {
		r.waiting = true
		r.ch.mu.Unlock()
		return nil, wait, nil
	}
	r.ch.mu.Unlock()
	fill(ds)
	return ds, 0, nil
}

// fits reports whether a message may be handed out within the bytes.
func (r *receiver) fits(m *stored) bool {
	return r.bytes == 0 || r.held == 0 || r.size+m.size <= r.bytes
}

// fill gives each delivery its message, which never changes.
func fill(ds []*driver.Delivery) {
	for _, d := range ds {
		h := d.Receipt.(*hand)
		d.Message, d.Attempt = h.it.m.msg, h.it.attempt
		if part := int(h.it.m.part); !h.r.g.keyless(part) {
			d.Partition = part
		}
	}
}

// pass hands a wake-up that this receiver will not use to another.
func (r *receiver) pass() {
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	r.waiting, r.poked = false, false
	r.passOn()
}

// passOn pokes another receiver for what anybody may take. ch.mu is held.
func (r *receiver) passOn() {
	if last := len(r.g.parts) - 1; r.g.parts[last].q.n > 0 {
		r.g.poke(last)
		r.g.wakePoked()
	}
}

// Settle implements driver.Receiver. What another receiver handed out is named
// in a *driver.StaleError.
func (r *receiver) Settle(ctx context.Context, settlements []driver.Settlement) error {
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	if r.closed {
		return fmt.Errorf("membus: settle in %s: %w", r.ch.spec.Name, driver.ErrClosed)
	}
	full := r.held == r.window
	var stale driver.StaleError
	for i, s := range settlements {
		if s.Delivery == nil {
			continue
		}
		h, ok := s.Delivery.Receipt.(*hand)
		if !ok || h.r != r {
			stale.Indexes = append(stale.Indexes, i)
			continue
		}
		if !h.held {
			continue // settled before
		}
		r.unlink(h)
		it := h.it
		h.it.m = nil // a delivery that somebody keeps does not keep what the bus stored
		part := int(it.m.part)
		switch {
		case s.Outcome != driver.Retry || it.m.removed:
			r.ch.deref(it.m)
		case s.After > 0:
			r.g.delay(it, time.Now().Add(s.After))
		default:
			r.g.giveBack(it)
		}
		r.g.handedBack(part)
	}
	r.g.wakePoked()
	if full && r.held < r.window || r.blocked {
		r.wakeUp()
	}
	if len(stale.Indexes) > 0 {
		return &stale
	}
	return nil
}

// Widen implements driver.Widener.
func (r *receiver) Widen(aside []*driver.Delivery) {
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	r.window += len(aside)
	for _, d := range aside {
		if h, ok := d.Receipt.(*hand); ok && r.bytes > 0 {
			r.bytes += h.it.m.size
		}
	}
	r.wakeUp()
}

// Backlog implements driver.Backlogger: what waits and is due.
func (r *receiver) Backlog(ctx context.Context) (int64, error) {
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	if r.closed {
		return 0, fmt.Errorf("membus: backlog of %s: %w", r.ch.spec.Name, driver.ErrClosed)
	}
	r.g.promote()
	return int64(r.g.queued), nil
}

// Close implements driver.Receiver.
func (r *receiver) Close(context.Context) error {
	r.close()
	r.conn.mu.Lock()
	delete(r.conn.receivers, r)
	r.conn.mu.Unlock()
	return nil
}

func (r *receiver) close() {
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	close(r.done)
	for h := r.hands.prev; h != &r.hands; { // the newest first: each goes to the front
		before := h.prev
		r.unlink(h)
		it, part := h.it, int(h.it.m.part)
		if it.m.removed {
			r.ch.deref(it.m)
		} else {
			r.g.giveBack(it)
		}
		r.g.handedBack(part)
		h = before
	}
	r.g.leave(r)
}
