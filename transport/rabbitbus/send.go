package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A sending is one call of Send.
type sending struct {
	c        *Conn
	messages []*driver.Message
	frame    int // the server's bound, for what is not body
	failures []driver.SendFailure

	parts []*target // by index; nil for what is not to be published
	after []int     // by index: the next message of its key, or none
	ready []int     // what may be published now, in order
	sent  []written // by tag, less that of the first
	open  int       // of sent, without an answer
	back  map[int]error
}

const none = -1

// A written is a message that was published. The client tells of answers in the
// order of tags, and tells wrongly of some: where the server refuses a message
// and then acknowledges all up to a later one, the client (1.16.0) announces the
// refused one as acknowledged. Its deferred confirmation has what the server
// said first, which is the truth.
type written struct {
	index  int // none once it has been dealt with
	answer *amqp.DeferredConfirmation
}

// Send publishes messages and waits until the server has confirmed each.
//
// Many are under way at once, but of one key only one, unless
// Options.PipelineKeys is set: where the server refuses one, a later one of its
// key would be ahead of it when it is sent again. What comes after a message of
// its key that failed is not sent.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := c.begin(); err != nil {
		return err
	}
	defer c.sends.Done()
	if ctx.Err() != nil {
		return canceled(ctx, "send")
	}
	s, err := c.pub.session()
	if err != nil {
		return err
	}
	if err := s.refused(); err != nil {
		return err
	}
	b := &sending{c: c, messages: messages, frame: s.conn.Config.FrameSize - 8}
	n := b.route(ctx, s)
	if n > 0 {
		p, err := s.publisher(ctx, c.opts.InFlight)
		if err != nil {
			b.failRest(err)
			return b.result()
		}
		if b.publish(ctx, s, p) {
			s.release(p)
		} else {
			s.abandon(p)
		}
	}
	return b.result()
}

func (b *sending) result() error {
	if len(b.failures) == 0 {
		return nil
	}
	slices.SortFunc(b.failures, func(x, y driver.SendFailure) int { return x.Index - y.Index })
	return &driver.SendError{Failures: b.failures}
}

func (b *sending) fail(index int, err error, unknown bool) {
	b.failures = append(b.failures, driver.SendFailure{Index: index, Err: err, Unknown: unknown})
	b.parts[index] = nil
}

// failRest fails what was not published.
func (b *sending) failRest(err error) {
	for i, t := range b.parts {
		if t != nil {
			b.fail(i, err, false)
		}
	}
}

// route finds out where each message goes, sends those of transient channels
// on the way, and returns how many are left to be published.
func (b *sending) route(ctx context.Context, s *session) (n int) {
	type lane struct {
		st  *channelState
		key string
	}
	b.parts = make([]*target, len(b.messages))
	b.after = make([]int, len(b.messages))
	b.ready = make([]int, 0, len(b.messages))
	var last map[lane]int
	var absent map[string]error
	var st *channelState
	for i, m := range b.messages {
		b.after[i] = none
		if err := absent[m.Channel]; err != nil {
			b.fail(i, err, false)
			continue
		}
		if st == nil || st.name != m.Channel {
			var err error
			find := b.c.channel
			if m.Transient {
				find = b.c.findTransient
			}
			if st, err = find(ctx, m.Channel); err != nil {
				if absent == nil {
					absent = map[string]error{}
				}
				absent[m.Channel] = err
				b.fail(i, err, false)
				st = nil
				continue
			}
		}
		if len(m.Body) > b.c.opts.MaxBytes {
			b.fail(i, fmt.Errorf("rabbitbus: send to %s: %w: its body has %d bytes and option MaxBytes is %d", m.Channel, driver.ErrTooLarge, len(m.Body), b.c.opts.MaxBytes), false)
			continue
		}
		if m.Transient || st.transient {
			if err := b.c.sendTransient(ctx, s, st, m, b.frame); err != nil {
				b.fail(i, err, !errors.Is(err, driver.ErrTooLarge))
			}
			continue
		}
		to, err := b.c.route(ctx, st, m)
		if err != nil {
			b.fail(i, err, false)
			continue
		}
		b.parts[i] = to
		n++
		if m.Key != "" && !b.c.opts.PipelineKeys && len(b.messages) > 1 {
			if last == nil {
				last = make(map[lane]int, len(b.messages))
			}
			before, met := last[lane{st, m.Key}]
			last[lane{st, m.Key}] = i
			if met {
				b.after[before] = i
				continue
			}
		}
		b.ready = append(b.ready, i)
	}
	return n
}

// route is where a message goes now.
func (c *Conn) route(ctx context.Context, st *channelState, m *driver.Message) (*target, error) {
	to := st.targetFor(m.Key)
	if !m.Due.IsZero() {
		if wait := time.Until(m.Due); wait > 0 {
			return c.delayed(ctx, to, wait)
		}
	}
	return to, nil
}

// publish publishes what route left, and returns whether every message that was
// written has an answer.
func (b *sending) publish(ctx context.Context, s *session, p *publisher) (settled bool) {
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	first := p.next
	patience := time.NewTimer(b.c.opts.Timeout)
	defer patience.Stop()
	for len(b.ready) > 0 || b.open > 0 {
		if len(b.ready) > 0 && b.open < b.c.opts.InFlight {
			if err := s.refused(); err != nil {
				b.failRestOf(b.ready, err)
			} else if err := b.write(s, p, enc); err != nil {
				return b.lost(s, p, first, err)
			}
			if b.open == 0 {
				continue
			}
		}
		select {
		case conf, ok := <-p.confirms:
			if !ok {
				return b.lost(s, p, first, nil)
			}
			b.confirm(p, conf, first)
			patience.Reset(b.c.opts.Timeout)
			// What else has come is taken along.
			for more := true; more; {
				select {
				case conf, ok := <-p.confirms:
					if !ok {
						return b.lost(s, p, first, nil)
					}
					b.confirm(p, conf, first)
				default:
					more = false
				}
			}
		case <-patience.C:
			err := fmt.Errorf("rabbitbus: send: %w: the server confirmed nothing for %v", driver.ErrRetryable, b.c.opts.Timeout)
			if refused := s.refused(); refused != nil {
				err = refused
			} else {
				s.doubt()
			}
			b.giveUp(err)
			return false
		case <-ctx.Done():
			b.giveUp(canceled(ctx, "send"))
			return false
		}
	}
	return true
}

// write publishes what is ready and fits the window, in few system calls.
func (b *sending) write(s *session, p *publisher, enc *encoder) error {
	if len(b.ready) > 1 {
		s.socket.cork()
		defer s.socket.uncork()
	}
	n := 0
	defer func() { b.ready = b.ready[n:] }()
	for _, i := range b.ready {
		if b.open >= b.c.opts.InFlight || s.blocked.Load() != nil {
			break
		}
		n++
		m := b.messages[i]
		pub, err := enc.encode(m, b.frame, b.parts[i].mandatory)
		if err != nil {
			b.fail(i, err, false)
			b.next(i) // it can never be sent: the others of its key need not wait
			continue
		}
		t := b.parts[i]
		answer, err := p.ch.PublishWithDeferredConfirm(t.exchange, t.key, t.mandatory, false, pub)
		if errors.Is(err, amqp.ErrClosed) {
			return err
		}
		p.next++
		b.sent = append(b.sent, written{i, answer})
		b.open++
		if err != nil {
			return err // something of it may have been written
		}
	}
	return nil
}

// next makes the message of i's key that waits for it ready.
func (b *sending) next(i int) {
	if after := b.after[i]; after != none {
		b.ready = append(b.ready, after)
	}
}

// confirm takes in one answer of the server. Returns that precede it are there.
func (b *sending) confirm(p *publisher, conf amqp.Confirmation, first uint64) {
	for {
		select {
		case r, ok := <-p.returns:
			if ok {
				b.returned(r)
				continue
			}
		default:
		}
		break
	}
	w := &b.sent[conf.DeliveryTag-first]
	if w.answer == nil {
		return // its write failed, and the link with it: what became of it is unknown
	}
	i := w.index
	w.index = none
	b.open--
	m := b.messages[i]
	switch err := b.back[i]; {
	case err != nil:
		b.failChain(i, err)
	case !conf.Ack || !w.answer.Acked():
		p.refused = true
		b.failChain(i, fmt.Errorf("rabbitbus: send to %s: %w: channel %s is full, or its queue is failing: the server refused the message: let receivers catch up, or raise the bound: of a policy at the server, of max-length by removing the channel once it is empty (dovetail topology remove %s)",
			m.Channel, driver.ErrRetryable, m.Channel, m.Channel))
	default:
		b.parts[i] = nil
		b.next(i)
	}
}

// failChain fails a message and those of its key that wait for it.
func (b *sending) failChain(i int, err error) {
	b.fail(i, err, false)
	for i = b.after[i]; i != none; i = b.after[i] {
		b.fail(i, fmt.Errorf("not sent, to keep the order of its key: an earlier message failed: %w", err), false)
	}
}

// failRestOf fails what is ready, and what waits for it.
func (b *sending) failRestOf(ready []int, err error) {
	b.ready = nil
	for _, i := range ready {
		b.failChain(i, err)
	}
}

// giveUp fails what has no answer as unknown, and the rest as not sent.
func (b *sending) giveUp(err error) {
	for _, w := range b.sent {
		if w.index != none {
			b.fail(w.index, err, true)
		}
	}
	b.failRest(err)
}

// lost takes in what was confirmed before the channel ended, and gives up the
// rest.
func (b *sending) lost(s *session, p *publisher, first uint64, why error) bool {
	wait := time.NewTimer(b.c.opts.Timeout) // the client closes it in a moment
	defer wait.Stop()
	for open := true; open; {
		select {
		case conf, ok := <-p.confirms:
			if open = ok; ok {
				b.confirm(p, conf, first)
			}
		case <-wait.C:
			open = false
		}
	}
	if e := p.why(); why == nil || e != amqp.ErrClosed {
		why = e
	}
	b.ready = nil
	err := translate("send", why)
	if refused := s.refused(); refused != nil {
		err = refused // the link was given up because the server did not read
	}
	if most := serverMaximum(why); most > 0 || isCode(why, amqp.NotFound) {
		if most > 0 {
			b.oversized(most)
		} else {
			b.missing(why)
		}
		err = fmt.Errorf("rabbitbus: send: %w: another message of the batch ended the channel: %w", driver.ErrRetryable, withoutKind{why})
	}
	b.giveUp(err)
	return false
}

// sendTransient publishes to a channel that nobody misses: without confirmation
// and to those who listen.
func (c *Conn) sendTransient(ctx context.Context, s *session, st *channelState, m *driver.Message, frame int) error {
	doing := "send to " + m.Channel
	enc := encoders.Get().(*encoder)
	defer encoders.Put(enc)
	pub, err := enc.encode(m, frame, false)
	if err != nil {
		return err
	}
	pub.DeliveryMode = amqp.Transient
	if st.kind == driver.PointToPoint && st.partitions == 0 {
		pub.Headers[copiesHeader] = copies(st.name)
	}
	to := st.targetFor(m.Key)
	ch, err := s.forTransient(ctx)
	if err != nil {
		return translate(doing, err)
	}
	return translate(doing, ch.Publish(to.exchange, to.key, false, false, pub))
}

// forTransient returns the channel that all transient messages share.
func (s *session) forTransient(ctx context.Context) (*amqp.Channel, error) {
	s.mu.Lock()
	ch := s.transient
	s.mu.Unlock()
	if ch != nil && !ch.IsClosed() {
		return ch, nil
	}
	err := s.call(ctx, func() error {
		ch, err := s.conn.Channel()
		if err == nil {
			s.mu.Lock()
			s.transient = ch
			s.mu.Unlock()
		}
		return err
	}, nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.transient, err
}
