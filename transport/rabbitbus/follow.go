package rabbitbus

import (
	"context"
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The server counts what is unsettled against the prefetch of its consumer, also
// what was set aside. A consumer that was cancelled keeps what it has, on its
// channel, and takes no more: another that follows it on the same channel goes on
// behind that, with a prefetch of its own. A consumer is cancelled only when it has
// used up its prefetch, and so nothing is on its way to it: a quorum queue would give
// that to the next one behind what that already has. Not so for partitions: when the active
// consumer of a queue is cancelled, the next in line becomes its owner.

// mostConsumers bounds how many consumers follow each other on a channel because of
// what was set aside. With more, a quorum queue (3.10) knows no order of their tags.
const mostConsumers = 32

// follow ends the consumer and begins another on the same channel, if it is still
// full. Nothing is settled while it ends: the server would have room for more.
func (src *source) follow(ctx context.Context, prefetch, budget int) error {
	r := src.r
	r.settling.Lock()
	r.mu.Lock()
	s, ch, pumped, n, queue := src.session, src.ch, src.pumped, src.consumers, src.queue
	full := src.full()
	src.passing = full
	r.mu.Unlock()
	if !full {
		r.settling.Unlock()
		return nil
	}
	var in <-chan amqp.Delivery
	settle := sync.OnceFunc(r.settling.Unlock)
	defer settle() // also where the server does not answer
	err := s.call(ctx, func() (err error) {
		err = ch.Cancel(consumerTag(n), false)
		settle()
		if err != nil {
			return err
		}
		<-pumped // all that came before is in arrived
		if err = ch.Qos(prefetch, 0, false); err == nil {
			in, err = ch.Consume(queue, consumerTag(n+1), false, false, false, false, nil)
		}
		return err
	}, func() { _ = ch.Close() })
	r.mu.Lock()
	defer r.mu.Unlock()
	src.passing = false
	if err != nil {
		if src.ch == ch && src.down == nil {
			src.down = err // resync opens it again
		}
		return err
	}
	src.pumped = make(chan struct{})
	src.prefetch, src.budget, src.consumers, src.out, src.aside = prefetch, budget, n+1, 0, 0
	go src.pump(ch, in, src.closes, src.pumped)
	return nil
}

// full reports whether a source's consumer has used up its prefetch, and all that it
// brought is handed out.
func (src *source) full() bool {
	return !src.isDown() && len(src.arrived) == 0 && src.out >= src.prefetch
}

// consumerTag names the nth consumer on a channel. A quorum queue takes back what
// a channel had one consumer after another, in the order of their tags.
func consumerTag(n int) string { return fmt.Sprintf("dovetail-%08d", n) }

// A whole is a receiver of a queue that is no partition: it can be widened.
type whole struct{ *receiver }

var _ driver.Widener = (*whole)(nil)

// Widen raises the window, as driver.Widener has it.
func (r *whole) Widen(aside []*driver.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range aside {
		rc, ok := d.Receipt.(*receipt)
		if !ok || rc.src.r != r.receiver || rc.done || rc.lost {
			continue
		}
		rc.done = true // the core does not settle it
		rc.src.held.replace(rc, &receipt{src: rc.src, tag: rc.tag, aside: true})
		rc.src.aside++
		r.held--
		r.bytes -= rc.size
	}
	r.kick()
}

// replace has b take the place of a.
func (l *receipts) replace(a, b *receipt) {
	b.prev, b.next = a.prev, a.next
	if b.prev != nil {
		b.prev.next = b
	} else {
		l.first = b
	}
	if b.next != nil {
		b.next.prev = b
	} else {
		l.last = b
	}
	a.prev, a.next = nil, nil
}
