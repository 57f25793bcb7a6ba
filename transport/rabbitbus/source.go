package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A source is one queue that a receiver consumes, on a channel of its own: the
// server numbers deliveries by channel, and takes back what is unsettled when
// the channel is closed. Its fields belong to the receiver's lock, but for those
// that never change.
type source struct {
	r         *receiver
	queue     string
	partition int

	session *session
	ch      *amqp.Channel
	pumped  chan struct{} // closed when no delivery comes any more
	down    error         // why, once pumped is closed

	consumers int                // begun on this channel, one after another
	closes    <-chan *amqp.Error // of the channel
	passing   bool               // one consumer ends and another follows
	prefetch  int                // what the consumer began with
	budget    int                // what prefetch said then
	out       int                // what the consumer brought, handed out and not settled
	aside     int                // of these, set aside

	arrived []arrival // and not handed out
	held    receipts  // handed out and not settled
	last    uint64    // tag of the last that was handed out

	owner   bool // it is ours alone, as far as is known
	leaving bool // it is being given up

	alone bool      // nobody else consumed the queue when we began or last looked
	ours  bool      // we ended the consumer: the server is about to know
	grace time.Time // until when a former consumer of ours may still be there

	slow  time.Duration // how long the server did not answer when it was last opened again
	later time.Time     // until when it is not tried again
}

// An arrival is a delivery with what it counts for.
type arrival struct {
	d    amqp.Delivery
	size int
}

// A receipt is what a receiver knows of a delivery of its own.
type receipt struct {
	src        *source
	tag        uint64
	size       int
	consumer   int  // which of the channel's brought it
	done       bool // settled
	aside      bool // set aside: a copy, which has no message
	lost       bool // the server has the message again
	prev, next *receipt
}

// receipts is a list in the order of tags; removing needs no search. Package
// prefix is not used: AMQP acknowledges single messages as well, so nothing has
// to be kept, or comes again, beyond the first unsettled one.
type receipts struct{ first, last *receipt }

func (l *receipts) add(r *receipt) {
	r.prev, r.next = l.last, nil
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last = r
}

func (l *receipts) remove(r *receipt) {
	if r.prev != nil {
		r.prev.next = r.next
	} else if l.first == r {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else if l.last == r {
		l.last = r.prev
	}
	r.prev, r.next = nil, nil
}

// floor is the tag below which everything is settled.
func (src *source) floor() uint64 {
	if src.held.first != nil {
		return src.held.first.tag
	}
	return src.last + 1
}

// errZombie says that the server does not know yet that the consumer of a link
// that was lost is gone.
var errZombie = errors.New("the server still has the consumer of the link that was lost")

// open begins to consume. It is called without the receiver's lock, by one
// goroutine at a time.
func (src *source) open(ctx context.Context, s *session) error {
	var ch *amqp.Channel
	var in <-chan amqp.Delivery
	var closes chan *amqp.Error
	alone := false
	prefetch, queue := src.r.prefetch(), src.queue
	err := s.call(ctx, func() (err error) {
		if ch, err = s.conn.Channel(); err != nil {
			return err
		}
		closes = ch.NotifyClose(make(chan *amqp.Error, 1))
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			return err
		}
		alone = q.Consumers == 0
		if !alone && src.mayBeOurs() {
			_ = ch.Close()
			return errZombie
		}
		if err = ch.Qos(prefetch, 0, false); err == nil {
			in, err = ch.Consume(queue, consumerTag(1), false, false, false, false, nil)
		}
		return err
	}, func() { _ = ch.Close() })
	if err != nil {
		return err
	}
	src.r.mu.Lock()
	defer src.r.mu.Unlock()
	if src.r.closed {
		go func() { _ = ch.Close() }() // ends with the connection at the latest
		return fmt.Errorf("receiver %w", driver.ErrClosed)
	}
	src.session, src.ch, src.alone, src.owner = s, ch, alone, alone
	src.pumped, src.down, src.closes, src.passing = make(chan struct{}), nil, closes, false
	src.arrived, src.held, src.last = nil, receipts{}, 0
	src.prefetch, src.budget, src.consumers, src.out, src.aside, src.ours = prefetch, prefetch, 1, 0, 0, false
	go src.pump(ch, in, closes, src.pumped)
	return nil
}

// mayBeOurs reports whether a consumer of the queue may be our own of a link
// that was lost: what it had would come after what we get now. Where a queue has
// one consumer at a time, the server sees to that.
func (src *source) mayBeOurs() bool {
	src.r.mu.Lock()
	defer src.r.mu.Unlock()
	return !src.r.st.exclusive() && !src.r.s.Broadcast && src.alone && time.Now().Before(src.grace)
}

// pump takes in what the server delivers. The client's own buffer hands out
// deliveries one by one; Receive takes what is there at once. The server's
// prefetch bounds both.
func (src *source) pump(ch *amqp.Channel, in <-chan amqp.Delivery, closes <-chan *amqp.Error, pumped chan<- struct{}) {
	r := src.r
	for d := range in {
		size := sizeOf(&d)
		r.sizes.note(size)
		r.mu.Lock()
		if src.ch == ch && !r.closed {
			src.arrived = append(src.arrived, arrival{d, size})
		}
		r.mu.Unlock()
		r.kick()
	}
	// Its queue was deleted, or the channel has ended.
	err := error(fmt.Errorf("%w: the server ended it", errConsumerGone))
	select {
	case e, ok := <-closes:
		if ok && e != nil {
			err = e
		} else {
			err = amqp.ErrClosed
		}
	default:
	}
	r.mu.Lock()
	if src.ch == ch && !src.passing {
		src.down = err
	}
	close(pumped)
	r.mu.Unlock()
	r.kick()
}

var errConsumerGone = errors.New("the consumer is gone")

// isDown reports whether src needs to be opened again.
func (src *source) isDown() bool { return src.ch == nil || src.down != nil }

// stop ends the consumer; the server takes back what is unsettled, in order.
func (src *source) stop(ctx context.Context) error {
	src.r.mu.Lock()
	s, ch, pumped := src.session, src.ch, src.pumped
	src.r.mu.Unlock()
	if ch == nil {
		return nil
	}
	err := s.call(ctx, ch.Close, nil)
	if err == nil || errors.Is(err, amqp.ErrClosed) {
		err = nil
		select {
		case <-pumped:
		case <-ctx.Done():
		}
	}
	return err
}
