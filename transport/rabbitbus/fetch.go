package rabbitbus

import (
	"context"
	"math/bits"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The server bounds what it delivers ahead by a number of messages, not of
// bytes, and a consumer keeps the number that it began with. The number is made
// of the byte budget and of how large messages were lately; where that changes,
// one consumer takes the place of another.
//
// Not so for partitions: a quorum queue (3.10) hands out what came back in the
// order in which it came back, so that order at a change of owner needs the same
// number everywhere. It is made of the budget alone.

const (
	// unseenSize is what a message is taken to have while none was seen, and
	// unseenMost how many are fetched then.
	unseenSize = 64 << 10
	unseenMost = 64

	// partitionSize is what a message of a partition is taken to have.
	partitionSize = 32 << 10
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

// adapt replaces the consumer where its prefetch no longer fits.
func (r *receiver) adapt(ctx context.Context) {
	if r.s.WindowBytes <= 0 || r.c.opts.Prefetch > 0 || r.owned() || r.sizes.largest() == 0 {
		return
	}
	want := r.prefetch()
	now := time.Now()
	src := r.sources[0]
	r.mu.Lock()
	fits := want < 2*src.prefetch && 2*want > src.prefetch
	if fits || src.isDown() || src.swap != nil || now.Before(src.adaptAfter) {
		r.mu.Unlock()
		return
	}
	src.adaptAfter = now.Add(time.Second)
	sw := &swap{done: make(chan struct{})}
	src.swap = sw
	s, ch, tag := src.session, src.ch, src.tag
	r.mu.Unlock()
	// An error ends the channel, which shows as the end of the consumer.
	_ = s.call(ctx, func() error { return src.replace(ch, tag, want, sw) }, nil)
}

// A swap is one consumer of a source taking the place of another.
type swap struct {
	done chan struct{}
	next <-chan amqp.Delivery // once done is closed; nil where there is none
}

// replace ends the consumer of the source and begins another on its channel. What
// the one has delivered stays in hand.
func (src *source) replace(ch *amqp.Channel, tag string, want int, sw *swap) (err error) {
	next := newTag()
	defer func() {
		r := src.r
		r.mu.Lock()
		if src.swap == sw && err == nil {
			src.tag, src.prefetch = next, want
		}
		r.mu.Unlock()
		close(sw.done)
	}()
	if err = ch.Qos(want, 0, false); err != nil {
		return err
	}
	if err = ch.Cancel(tag, false); err == nil {
		sw.next, err = ch.Consume(src.queue, next, false, false, false, false, nil)
	}
	return err
}

// after returns what follows when the deliveries of a consumer have ended, or nil.
func (src *source) after(ch *amqp.Channel) <-chan amqp.Delivery {
	r := src.r
	r.mu.Lock()
	sw := src.swap
	if src.ch != ch {
		sw = nil
	}
	r.mu.Unlock()
	if sw == nil {
		return nil
	}
	<-sw.done
	r.mu.Lock()
	defer r.mu.Unlock()
	if src.swap == sw {
		src.swap = nil
	}
	return sw.next
}

var tags atomic.Uint64

// newTag is the name of a new consumer.
func newTag() string { return "dovetail-" + strconv.FormatUint(tags.Add(1), 10) }
