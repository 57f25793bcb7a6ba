package rabbitbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// browseLimit is how far into a queue Browse and Remove can see. A queue has no
// positions to begin at: all is delivered and given back. It is always all, or
// this much, because a quorum queue (3.10) hands out what was given back in the
// order of the giving back: who takes less than the one before takes it away
// from the head to behind the rest.
const browseLimit = 20_000

// browseQuiet is how long a queue with other consumers may say nothing before it
// is believed that those took what it had. One without has the options' time-out:
// a server that does much else may be slow to deliver.
const browseQuiet = 500 * time.Millisecond

// stampHeader carries when a message of a point-to-point channel was sent, in
// nanoseconds of Unix time, different for each message of a process. It is what
// positions are made of.
const stampHeader = "dovetail-stamp"

var lastStamp atomic.Int64

func newStamp() int64 {
	for {
		last := lastStamp.Load()
		stamp := max(time.Now().UnixNano(), last+1)
		if lastStamp.CompareAndSwap(last, stamp) {
			return stamp
		}
	}
}

// A place is a position taken apart. Positions are in the order in which
// messages were sent, by the senders' clocks.
type place struct {
	stamp int64  // when it was sent; 0 for messages of other programs that do not say
	hash  uint32 // of what the message is
	nth   int    // of those that are alike, from 0
}

func (p place) String() string { return fmt.Sprintf("%d.%08x.%d", p.stamp, p.hash, p.nth) }

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.stamp, q.stamp), cmp.Compare(p.hash, q.hash), cmp.Compare(p.nth, q.nth))
}

func parsePlace(s string) (p place, err error) {
	parts := strings.Split(s, ".")
	if len(parts) == 3 {
		var err1, err2, err3 error
		var hash uint64
		p.stamp, err1 = strconv.ParseInt(parts[0], 10, 64)
		hash, err2 = strconv.ParseUint(parts[1], 16, 32)
		p.nth, err3 = strconv.Atoi(parts[2])
		p.hash = uint32(hash)
		if errors.Join(err1, err2, err3) == nil {
			return p, nil
		}
	}
	return p, fmt.Errorf("position %q is none of ours: use one that Browse returned", s)
}

func placeOf(d *amqp.Delivery) (p place) {
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.MessageId))
	var ours bool
	if p.stamp, ours = d.Headers[stampHeader].(int64); !ours {
		_, _ = h.Write(d.Body)
		if !d.Timestamp.IsZero() {
			p.stamp = d.Timestamp.UnixNano()
		}
	}
	p.hash = h.Sum32()
	return p
}

// Browse reads a point-to-point channel and gives back what it read. It counts
// as a delivery of each message, and while it lasts no receiver gets them.
func (c *Conn) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	doing := "browse channel " + channel
	st, err := c.browsable(ctx, channel)
	if err != nil || max <= 0 {
		return nil, err
	}
	from := place{stamp: -1}
	if after != "" {
		if from, err = parsePlace(after); err != nil {
			return nil, fmt.Errorf("rabbitbus: %s: %w", doing, err)
		}
	}
	type found struct {
		place place
		d     amqp.Delivery
	}
	var page []found // in order, no more than max
	err = c.scan(ctx, st, func(p place, d *amqp.Delivery, _ func() error) (bool, error) {
		if p.compare(from) <= 0 || len(page) == max && p.compare(page[max-1].place) > 0 {
			return true, nil
		}
		at, _ := slices.BinarySearchFunc(page, p, func(f found, p place) int { return f.place.compare(p) })
		if page = slices.Insert(page, at, found{p, *d}); len(page) > max {
			page[max] = found{}
			page = page[:max]
		}
		return true, nil
	})
	if err != nil {
		return nil, translate(doing, err)
	}
	out := make([]driver.StoredMessage, len(page))
	for i := range page {
		m := &driver.Message{}
		// What cannot be read stays among the headers; a page shows it as it is.
		_ = decode(m, channel, &page[i].d)
		out[i] = driver.StoredMessage{Position: page[i].place.String(), Message: m}
	}
	return out, nil
}

// Remove takes messages out of a point-to-point channel.
func (c *Conn) Remove(ctx context.Context, channel string, positions []string) error {
	doing := "remove from channel " + channel
	st, err := c.browsable(ctx, channel)
	if err != nil || len(positions) == 0 {
		return err
	}
	want := make(map[place]bool, len(positions))
	for _, s := range positions {
		p, err := parsePlace(s)
		if err != nil {
			return fmt.Errorf("rabbitbus: %s: %w", doing, err)
		}
		want[p] = true
	}
	return translate(doing, c.scan(ctx, st, func(p place, _ *amqp.Delivery, ack func() error) (bool, error) {
		if !want[p] {
			return true, nil
		}
		delete(want, p)
		return true, ack()
	}))
}

func (c *Conn) browsable(ctx context.Context, channel string) (*channelState, error) {
	st, err := c.find(ctx, channel) // and not from memory: people ask
	switch {
	case err != nil:
		return nil, err
	case st.kind != driver.PointToPoint:
		return nil, fmt.Errorf("rabbitbus: channel %s is %v: browsing it is %w, since each group has messages of its own", channel, st.kind, driver.ErrUnsupported)
	}
	return st, nil
}

// A visit is shown a message and may take it out of its queue.
type visit func(p place, d *amqp.Delivery, ack func() error) (more bool, err error)

// scan shows the messages of a channel's queues until see returns false. Those
// that see does not acknowledge go back to where they were.
func (c *Conn) scan(ctx context.Context, st *channelState, see visit) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	alike := map[place]int{}
	for _, queue := range partNames(st.name, st.partitions) {
		err := s.scanQueue(ctx, queue, st.exclusive(), func(p place, d *amqp.Delivery, ack func() error) (bool, error) {
			first := p
			p.nth = alike[first]
			alike[first]++
			return see(p, d, ack)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) scanQueue(ctx context.Context, queue string, exclusive bool, see visit) (err error) {
	var ch *amqp.Channel
	var in <-chan amqp.Delivery
	depth, there, acked := 0, 0, 0
	err = s.call(ctx, func() (err error) {
		if ch, err = s.conn.Channel(); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				_ = ch.Close()
			}
		}()
		q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
		if err != nil {
			return err
		}
		if q.Consumers > 0 && exclusive {
			return fmt.Errorf("%w: queue %s has a consumer, and can have one at a time: end the instances that receive from it first", driver.ErrRetryable, queue)
		}
		if q.Consumers == 0 {
			there = q.Messages
		}
		if depth = min(browseLimit, q.Messages); depth == 0 {
			return nil
		}
		if err = ch.Qos(browseLimit, 0, false); err == nil {
			in, err = ch.Consume(queue, "", false, false, false, false, nil)
		}
		return err
	}, func() { _ = ch.Close() })
	if err != nil {
		return err
	}
	defer func() {
		closeErr := s.call(ctx, ch.Close, nil)
		if closeErr == nil {
			closeErr = s.awaitBack(ctx, queue, there-acked)
		}
		if err == nil && !errors.Is(closeErr, amqp.ErrClosed) {
			err = closeErr
		}
	}()
	patience := browseQuiet
	if there > 0 {
		patience = s.patience
	}
	quiet := time.NewTimer(patience)
	defer quiet.Stop()
	for range depth {
		select {
		case d, ok := <-in:
			if !ok {
				return amqp.ErrClosed
			}
			quiet.Reset(patience)
			if more, err := see(placeOf(&d), &d, func() error { acked++; return d.Ack(false) }); err != nil || !more {
				return err
			}
		case <-quiet.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// awaitBack waits until a queue has as many messages again: a quorum queue takes
// back what a channel had a moment after the channel was closed, and somebody
// who looks again would find less. It may never have, where others take some.
func (s *session) awaitBack(ctx context.Context, queue string, want int) error {
	began := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var q amqp.Queue
		err := s.with(ctx, func(ch *amqp.Channel) (err error) {
			q, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			return err
		})
		waited := time.Since(began)
		if err != nil || q.Messages >= want || waited > s.patience || waited > browseQuiet && q.Consumers > 0 {
			return err
		}
		<-tick.C
	}
}
