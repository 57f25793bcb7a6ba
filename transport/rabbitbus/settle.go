package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A verdict is what is to be said to the server of one source's deliveries.
type verdict struct {
	src    *source
	ch     *amqp.Channel
	socket *corkedConn
	acks   []uint64
	nacks  []uint64
	prefix uint64 // acknowledge all up to this one; 0 for none
}

// Settle writes acknowledgements. The server confirms none; it has them, for
// all that is known, when the link carries on. Neighbours share one frame.
// Deliveries whose channel or receiver has ended are the server's again:
// *driver.StaleError names them.
func (r *receiver) Settle(ctx context.Context, settlements []driver.Settlement) error {
	if len(settlements) == 0 {
		return nil
	}
	doing := "settle for " + r.s.Group + " of channel " + r.s.Channel.Name
	r.settling.Lock()
	defer r.settling.Unlock()
	if ctx.Err() != nil {
		return canceled(ctx, doing)
	}
	verdicts, stale, err := r.verdicts(settlements)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range verdicts {
		switch err := v.write(); {
		case errors.Is(err, amqp.ErrClosed):
			stale = append(stale, r.lose(v.src, settlements)...)
		case err != nil:
			r.lose(v.src, settlements)
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil || len(stale) == 0 {
		return translate(doing, err)
	}
	slices.Sort(stale)
	return &driver.StaleError{Indexes: stale}
}

// lose notes that settlements of a source did not reach the server, so that
// nobody who tries again takes them for settled.
func (r *receiver) lose(src *source, settlements []driver.Settlement) (indexes []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range settlements {
		if rc, ok := settlements[i].Delivery.Receipt.(*receipt); ok && rc.src == src && !rc.lost {
			rc.lost = true
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// verdicts takes note of settlements and makes of them what is to be written.
// Those of deliveries that are not ours, or no longer, are stale; those that
// were settled before are passed over.
func (r *receiver) verdicts(settlements []driver.Settlement) (out []*verdict, stale []int, err error) {
	for i := range settlements {
		if o := settlements[i].Outcome; o < driver.Ack || o > driver.Reject {
			return nil, nil, fmt.Errorf("rabbitbus: outcome %d is unknown: use Ack, Retry or Reject", o)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var v *verdict
	for i := range settlements {
		s := &settlements[i]
		rc, ok := s.Delivery.Receipt.(*receipt)
		switch {
		case !ok || rc.src.r != r || rc.lost:
			stale = append(stale, i)
			continue
		case rc.done:
			continue
		case rc.src.isDown() || r.closed:
			rc.lost = true
			stale = append(stale, i)
			continue
		}
		rc.done = true
		rc.src.held.remove(rc)
		r.held--
		r.bytes -= rc.size
		if rc.consumer == rc.src.consumers {
			rc.src.out--
		}
		if v == nil || v.src != rc.src {
			n := slices.IndexFunc(out, func(v *verdict) bool { return v.src == rc.src })
			if n < 0 {
				n = len(out)
				out = append(out, &verdict{src: rc.src, ch: rc.src.ch, socket: rc.src.session.socket})
			}
			v = out[n]
		}
		// A rejected message is acknowledged too: a dead-letter policy of the
		// server's would keep it a second time.
		if s.Outcome == driver.Retry {
			v.nacks = append(v.nacks, rc.tag)
		} else {
			v.acks = append(v.acks, rc.tag)
		}
	}
	for _, v := range out {
		v.fold()
	}
	r.kick() // there is room
	return out, stale, nil
}

// fold turns the acknowledgements up to the first unsettled delivery into one.
func (v *verdict) fold() {
	slices.Sort(v.acks)
	slices.Sort(v.nacks)
	floor := v.src.floor()
	below, _ := slices.BinarySearch(v.acks, floor)
	if below > 0 {
		v.prefix = v.acks[below-1]
		v.acks = v.acks[below:]
	}
}

// write says it to the server. What is to come again is said first: an
// acknowledgement of a prefix takes in all that was not mentioned.
func (v *verdict) write() error {
	if len(v.acks)+len(v.nacks) > 1 {
		v.socket.cork()
		defer v.socket.uncork()
	}
	for _, tag := range v.nacks {
		if err := v.ch.Nack(tag, false, true); err != nil {
			return err
		}
	}
	if v.prefix > 0 {
		if err := v.ch.Ack(v.prefix, true); err != nil {
			return err
		}
	}
	for _, tag := range v.acks {
		if err := v.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// Close stops receiving and gives back what is unsettled.
func (r *receiver) Close(ctx context.Context) error {
	first := false
	var err error
	r.end.Do(func() {
		first = true
		close(r.closing)
		err = r.close(ctx)
		r.c.leave(r)
		close(r.ended)
	})
	if first {
		return err
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return canceled(ctx, "close receiver")
	}
}

func (r *receiver) close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	var errs []error
	for _, src := range r.sources {
		errs = append(errs, src.stop(ctx))
		r.mu.Lock()
		src.arrived = nil
		for rc := src.held.first; rc != nil; rc = src.held.first {
			rc.lost = true
			src.held.remove(rc) // whoever holds one delivery holds no other
		}
		r.mu.Unlock()
	}
	return translate("close receiver of "+r.s.Group+" for "+r.s.Channel.Name, errors.Join(errs...))
}
