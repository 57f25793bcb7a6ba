package membus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A lot is the part of a batch that goes to one channel.
type lot struct {
	name  string
	ch    *channel
	index []int // in the batch; nil where the batch is one lot
	count int
	ms    []*stored // what is not in the channel yet
}

// Send implements driver.Conn. While a channel is full its messages wait until
// there is room, ctx ends or Options.Wait has passed; those for other channels
// do not.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if err := c.usable(ctx, "send"); err != nil {
		return err
	}
	if len(messages) == 0 {
		return nil
	}
	var one [1]lot
	lots := split(messages, &one)
	var failed []driver.SendFailure
	for i := range lots {
		failed = c.prepare(&lots[i], messages, failed)
	}
	for i := range lots {
		_, failed = lots[i].admit(failed)
	}
	for i := range lots {
		failed = c.await(ctx, &lots[i], failed)
	}
	if len(failed) == 0 {
		return nil
	}
	slices.SortFunc(failed, func(a, b driver.SendFailure) int { return a.Index - b.Index })
	return &driver.SendError{Failures: failed}
}

// split sorts a batch by channel, keeping the order within each.
func split(messages []*driver.Message, one *[1]lot) []lot {
	lots := one[:]
	lots[0] = lot{name: messages[0].Channel, count: len(messages)}
	if !slices.ContainsFunc(messages, func(m *driver.Message) bool { return m.Channel != lots[0].name }) {
		return lots
	}
	lots[0].count = 0
	byName := map[string]int{lots[0].name: 0}
	for i, m := range messages {
		n, ok := byName[m.Channel]
		if !ok {
			n = len(lots)
			byName[m.Channel] = n
			lots = append(lots, lot{name: m.Channel})
		}
		lots[n].index = append(lots[n].index, i)
		lots[n].count++
	}
	return lots
}

// place returns where in the batch the lot's n-th message is.
func (l *lot) place(n int) int {
	if l.index == nil {
		return n
	}
	return l.index[n]
}

// prepare sorts the lot's messages into partitions and refuses those that cannot
// be sent.
func (c *Conn) prepare(l *lot, messages []*driver.Message, failed []driver.SendFailure) []driver.SendFailure {
	l.ch = c.bus.lookup(l.name)
	if l.ch == nil {
		err := notProvisioned(l.name)
		for n := range l.count {
			failed = append(failed, driver.SendFailure{Index: l.place(n), Err: err})
		}
		return failed
	}
	l.ms = make([]*stored, 0, l.count)
	limit := c.bus.opts.MessageBytes
	partitions := l.ch.spec.Partitions
	var slab []stored
	for n := range l.count {
		index := l.place(n)
		m := driver.Foreign(messages[index])
		size := m.Size()
		var s *stored
		if size >= largeMessage {
			s = new(stored)
		} else {
			if len(slab) == 0 {
				slab = make([]stored, min(slabSize, l.count-n))
			}
			s, slab = &slab[0], slab[1:]
		}
		s.index, s.msg, s.size = index, m, size
		if s.size > limit {
			err := fmt.Errorf("membus: %d bytes, the limit is %d: %w", s.size, limit, driver.ErrTooLarge)
			failed = append(failed, driver.SendFailure{Index: s.index, Err: err})
			continue
		}
		s.part = int32(partitions)
		if s.msg.Key != "" {
			s.part = int32(driver.PartitionOf(s.msg.Key, partitions))
		}
		l.ms = append(l.ms, s)
	}
	return failed
}

// What the bus keeps is made in slabs of so many, which the slowest of them
// keeps alive: few enough that this is little. Large messages are made alone.
const (
	slabSize     = 64
	largeMessage = 4 << 10
)

// admit puts what there is room for into the channel and returns what to wait
// on for the rest, nil if there is none.
func (l *lot) admit(failed []driver.SendFailure) (<-chan struct{}, []driver.SendFailure) {
	if len(l.ms) == 0 {
		return nil, failed
	}
	n, space, err := l.ch.admit(l.ms)
	l.ms = l.ms[n:]
	if err != nil {
		failed = l.fail(err, failed)
	}
	return space, failed
}

// fail ends the lot: what is left of it was not sent.
func (l *lot) fail(err error, failed []driver.SendFailure) []driver.SendFailure {
	for _, m := range l.ms {
		failed = append(failed, driver.SendFailure{Index: m.index, Err: err})
	}
	l.ms = nil
	return failed
}

// await waits for room until the lot is sent, ctx or the connection ends, or it
// has waited long enough.
func (c *Conn) await(ctx context.Context, l *lot, failed []driver.SendFailure) []driver.SendFailure {
	var timeout <-chan time.Time
	for len(l.ms) > 0 {
		var space <-chan struct{}
		if space, failed = l.admit(failed); space == nil {
			break
		}
		if timeout == nil {
			timer := time.NewTimer(c.bus.opts.Wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-space:
		case <-timeout:
			failed = l.fail(fmt.Errorf("membus: %s: %w", l.ch.fullness(), driver.ErrRetryable), failed)
		case <-ctx.Done():
			failed = l.fail(fmt.Errorf("membus: %s: %w", l.ch.fullness(), ctx.Err()), failed)
		case <-c.done:
			failed = l.fail(fmt.Errorf("membus: send: connection: %w", driver.ErrClosed), failed)
		}
	}
	return failed
}
