package natsbus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// Close stops receiving and gives back what is unsettled, in order.
func (r *receiver) Close(ctx context.Context) error {
	var err error
	first := false
	r.end.Do(func() {
		first = true
		close(r.closing)
		err = r.close(ctx)
		if r.self != nil {
			r.c.leave(r.self)
		}
		close(r.ended)
	})
	if first {
		return err
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return translate("close receiver", ctx.Err())
	}
}

func (r *receiver) close(ctx context.Context) error {
	r.receiving.Lock() // Receive sees closing, and ends
	defer r.receiving.Unlock()
	r.timer.Stop()
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	owned := r.sources[0].owned
	r.mu.Lock()
	r.quitting = true
	r.mu.Unlock()
	// What is to be given back is, also where there is no time to hear from the
	// server that it has it.
	var errs []error
	if !owned && r.c.nc.IsConnected() {
		errs = append(errs, r.quiesce(ctx))
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	if r.c.nc.IsConnected() {
		if owned {
			errs = append(errs, r.yieldAll(ctx))
		} else {
			errs = append(errs, r.giveBack(ctx))
		}
	}
	r.abandon()
	return translate("close receiver of "+r.s.Group+" for "+r.s.Channel.Name, errors.Join(errs...))
}

// quiesce ends the subscription when the server has nothing on its way to it:
// a message that the server sends to a subscription that is gone would be lost
// until its lease ends. There is no way to withdraw a request, so it waits for
// those that are being served; there are no more than the window allows.
func (r *receiver) quiesce(ctx context.Context) error {
	for {
		r.mu.Lock()
		r.gather()
		underway := -len(r.backlog)
		for _, src := range r.sources {
			underway += src.credit
		}
		r.mu.Unlock()
		if underway <= 0 {
			break
		}
		if r.c.nc.FlushWithContext(ctx) != nil || len(r.in) == 0 {
			break
		}
	}
	return r.unsubscribe(ctx)
}

// unsubscribe ends the inboxes, and with them the requests, and returns when all
// that the server sent to them has come. What it finds nobody for, it delivers
// to others at once.
func (r *receiver) unsubscribe(ctx context.Context) error {
	r.mu.Lock()
	resting := r.resting
	r.mu.Unlock()
	if resting {
		return nil // that was done
	}
	for _, src := range r.sources {
		if src.sub == nil {
			continue
		}
		if err := src.sub.Drain(); err != nil {
			return err
		}
	}
	return r.c.nc.FlushWithContext(ctx)
}

// restTime bounds how long a Receive that was cancelled takes to end.
const restTime = time.Second

// rest withdraws the requests when Receive was cancelled. Handlers that go on
// may take long until Close, and meanwhile other receivers of the group are to
// get what is sent, and what this one hands back.
func (r *receiver) rest() {
	if r.members == nil || r.sources[0].owned || !r.c.nc.IsConnected() {
		return // it shares with nobody
	}
	ctx, cancel := context.WithTimeout(context.Background(), min(restTime, r.c.opts.Timeout))
	defer cancel()
	if r.unsubscribe(ctx) != nil {
		return // Close tries again
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resting = true
	r.gather()
	if !r.members.others() {
		return // and keeps what has come, in case that Receive is called again
	}
	var back []string
	for _, m := range r.waiting() {
		back = append(back, m.Reply)
	}
	if r.nak(ctx, back) == nil {
		r.forget()
	}
}

// wakeUp has Receive ask again after rest.
func (r *receiver) wakeUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.resting {
		return
	}
	r.resting = false
	for _, src := range r.sources {
		src.gap = true // what the server sent to the last inbox is asked back
	}
}

// yieldAll gives up what partitions are ours.
func (r *receiver) yieldAll(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, src := range r.sources {
		r.retire(src)
		errs = append(errs, r.yield(ctx, src))
	}
	return errors.Join(errs...)
}

// waiting are the deliveries that have come and are not handed out: those in the
// backlog, and before them what was asked back while it waits for more.
func (r *receiver) waiting() (ms []*nats.Msg) {
	for _, src := range r.sources {
		for _, seq := range slices.Sorted(maps.Keys(src.got)) {
			ms = append(ms, src.got[seq])
		}
	}
	for _, m := range r.backlog {
		if _, ok := placeOf(m.Reply); ok {
			ms = append(ms, m)
		}
	}
	return ms
}

// forget drops what is waiting.
func (r *receiver) forget() {
	r.backlog = nil
	for _, src := range r.sources {
		src.got = nil
	}
}

// gather moves what has come into the backlog.
func (r *receiver) gather() {
	for {
		select {
		case m := <-r.in:
			r.backlog = append(r.backlog, m)
		default:
			return
		}
	}
}

// giveBack asks the server to deliver what is unsettled to others, at once.
func (r *receiver) giveBack(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	type unsettled struct {
		seq   uint64
		reply string
	}
	var back []unsettled
	for _, src := range r.sources {
		for rc := src.held.first; rc != nil; rc = rc.next {
			back = append(back, unsettled{rc.seq, rc.reply})
			rc.drop()
		}
		for seq, reply := range src.aside {
			back = append(back, unsettled{seq, reply})
		}
		src.held, src.aside = receipts{}, nil
	}
	r.gather()
	for _, m := range r.waiting() {
		p, _ := placeOf(m.Reply)
		back = append(back, unsettled{p.stream, m.Reply})
	}
	r.forget()
	if len(back) == 0 {
		return r.c.nc.FlushWithContext(ctx)
	}
	slices.SortStableFunc(back, func(a, b unsettled) int { return int(int64(a.seq - b.seq)) })
	subjects := make([]string, len(back))
	for i, u := range back {
		subjects[i] = u.reply
	}
	return r.nak(ctx, subjects)
}
