package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

func (l *link) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := ping(l.addr); err != nil {
		return nil, err
	}
	m, asked := &l.e.m, s
	if m.opening != nil {
		m.opening(l.conn(), &s)
	}
	inner, term, _ := l.now()
	r, err := inner.OpenReceiver(ctx, s)
	if err != nil {
		return nil, l.away(err)
	}
	lr := &linkReceiver{l: l, s: s, asked: asked, inner: r, term: term}
	if m.opened != nil {
		m.opened(lr)
	}
	if m.leases != nil {
		lease := s.Lease
		if lease == 0 {
			lease = time.Minute
		}
		return &leaser{linkReceiver: lr, how: *m.leases, lease: lease, timers: map[*driver.Delivery]*time.Timer{}}, nil
	}
	return lr, nil
}

// A linkReceiver goes on over the link that takes the place of its own.
type linkReceiver struct {
	l *link
	s driver.Subscription

	asked driver.Subscription // s before a mutant changed it

	mu     sync.Mutex
	inner  driver.Receiver
	term   int
	closed bool
}

// now returns the receiver of the present link.
func (r *linkReceiver) now(ctx context.Context) (driver.Receiver, error) {
	conn, term, closed := r.l.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if term != r.term && !closed && !r.closed {
		inner, err := conn.OpenReceiver(ctx, r.s)
		if err != nil {
			return nil, err
		}
		r.inner, r.term = inner, term
	}
	return r.inner, nil
}

// after gives what r has back when the link was lost meanwhile.
func (r *linkReceiver) after(inner driver.Receiver, err error) error {
	if lost := ping(r.l.addr); lost != nil {
		r.mu.Lock()
		if r.inner == inner && !r.s.Broadcast {
			r.term = -1 // the next call opens another
		}
		r.mu.Unlock()
		return errors.Join(lost, inner.Close(context.Background()))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return err
	}
	return r.l.away(err)
}

func (r *linkReceiver) Receive(ctx context.Context, n int) ([]*driver.Delivery, error) {
	inner, err := r.now(ctx)
	if err != nil {
		return nil, r.l.away(err)
	}
	if r.l.e.lost(r.s.Channel.Name, r.s.GroupName()) {
		return nil, fmt.Errorf("lab: %w", driver.ErrPositionLost)
	}
	var ds []*driver.Delivery
	if receive := r.l.e.m.receive; receive != nil {
		ds, err = receive(inner, ctx, n)
	} else {
		ds, err = inner.Receive(ctx, n)
	}
	if deliver := r.l.e.m.deliver; deliver != nil {
		for _, d := range ds {
			d.Message = d.Message.Clone()
			deliver(r, d)
		}
	}
	if err = r.after(inner, err); err != nil {
		return nil, err
	}
	return ds, nil
}

func (r *linkReceiver) Settle(ctx context.Context, ss []driver.Settlement) error {
	inner, err := r.now(ctx)
	if err != nil {
		return r.l.away(err)
	}
	if settle := r.l.e.m.settle; settle != nil {
		return r.after(inner, settle(inner, ctx, ss))
	}
	return r.after(inner, inner.Settle(ctx, ss))
}

func (r *linkReceiver) Widen(aside []*driver.Delivery) {
	inner, err := r.now(context.Background())
	switch widen := r.l.e.m.widen; {
	case err != nil: // they come again
	case widen != nil:
		widen(inner, aside)
	default:
		inner.(driver.Widener).Widen(aside)
	}
}

func (r *linkReceiver) Backlog(ctx context.Context) (int64, error) {
	inner, err := r.now(ctx)
	if err != nil {
		return 0, r.l.away(err)
	}
	n, err := inner.(driver.Backlogger).Backlog(ctx)
	if r.l.e.m.backlog != nil {
		n = r.l.e.m.backlog(n)
	}
	return n, err
}

func (r *linkReceiver) Close(ctx context.Context) error {
	inner, _ := r.now(ctx)
	r.mu.Lock()
	twice := r.closed
	r.closed = true
	r.mu.Unlock()
	if inner == nil {
		return nil
	}
	if m := &r.l.e.m; m.close != nil {
		return m.close(r, inner, ctx, twice)
	}
	return inner.Close(ctx)
}
