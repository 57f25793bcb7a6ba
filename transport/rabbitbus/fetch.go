package rabbitbus

import (
	"context"
	"math/bits"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The server bounds what it delivers ahead by a number of messages, not of
// bytes, and a consumer keeps the number that it began with. The number is made
// of the byte budget and of how large messages were lately; where that changes,
// another consumer follows.
//
// Not so for partitions: a quorum queue (3.10) hands out what came back in the
// order in which it came back, so that order at a change of owner needs the same
// number everywhere. It is made of the budget alone.

const (
	// unseenSize is what a message is taken to have while none was seen, and
	// unseenMost how many are fetched then.
	unseenSize = 64 << 10
	unseenMost = 8

	// partitionSize is what a message of a partition is taken to have.
	partitionSize = 48 << 10
)

// sizes is how large the messages of a group's queues were lately.
type sizes struct {
	mu           sync.Mutex
	last, before int // the largest of this lot, and of the one before
	n            int // messages of this lot
}

const lotSize = 4096

func (z *sizes) note(size int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.n++; z.n > lotSize {
		z.n, z.last, z.before = 1, 0, z.last
	}
	z.last = max(z.last, size)
}

func (z *sizes) largest() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return max(z.last, z.before)
}

// sizeOf is what a delivery counts for in a byte budget.
func sizeOf(d *amqp.Delivery) int {
	n := len(d.Body)
	for name, value := range d.Headers {
		n += len(name)
		switch v := value.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		default:
			n += 16
		}
	}
	return n
}

// prefetch is how many messages the server may deliver ahead on each queue.
func (r *receiver) prefetch() int {
	if n := r.c.opts.Prefetch; n > 0 {
		return n
	}
	if r.s.WindowBytes <= 0 {
		return r.s.Window
	}
	if r.owned() {
		return min(r.s.Window, max(1, r.s.WindowBytes/r.queues/partitionSize))
	}
	size := r.sizes.largest()
	if size == 0 {
		return min(r.s.Window, max(1, r.s.WindowBytes/unseenSize), unseenMost)
	}
	n := max(1, r.s.WindowBytes/size)
	if n >= r.s.Window {
		return r.s.Window
	}
	return 1 << (bits.Len(uint(n)) - 1) // a little more or less changes nothing
}

// owned reports whether the queues are partitions, which have one owner at a time.
func (r *receiver) owned() bool { return r.st.exclusive() && !r.s.Broadcast }

// adapt has another consumer follow where the prefetch is used up and too small, or
// used up by what was set aside. Where nothing of the source is handed out, it is
// opened again if the prefetch no longer fits: what waits here goes back to where it
// was, since one consumer had it all.
func (r *receiver) adapt(ctx context.Context) error {
	if r.owned() {
		return nil
	}
	src, want := r.sources[0], r.prefetch()
	fixed := r.s.WindowBytes <= 0 || r.c.opts.Prefetch > 0 || r.sizes.largest() == 0
	r.mu.Lock()
	grows, shrinks := !fixed && want >= 2*src.budget, !fixed && 2*want <= src.budget
	follows := src.full() && (grows || src.aside > src.prefetch/8 && src.consumers < mostConsumers)
	reopens := !src.isDown() && src.held.first == nil && (grows || shrinks)
	prefetch := max(1, want/4, want-r.held) // what is in hand counts as well
	r.mu.Unlock()
	var err error
	switch {
	case follows:
		err = src.follow(ctx, prefetch, want)
	case reopens:
		if err = src.stop(ctx); err == nil {
			r.mu.Lock()
			r.forget(src)
			src.ours = true
			r.mu.Unlock()
		}
	}
	return translate("receive from "+r.s.Channel.Name, err)
}
