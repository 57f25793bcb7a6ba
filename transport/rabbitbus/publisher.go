package rabbitbus

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// maxPublishers bounds the channels for publishing on a connection: that many
// Sends run at once, and others wait. Channels are kept and used again; one for
// each publish would use up their ids.
const maxPublishers = 32

// A publisher is a channel of the client in confirm mode, used by one Send at a
// time.
type publisher struct {
	ch       *amqp.Channel
	confirms chan amqp.Confirmation // in the order of tags; closed with ch
	returns  chan amqp.Return       // a return comes before the confirmation
	closes   chan *amqp.Error
	next     uint64 // the tag of the next publish

	// refused: the server refused a message. A channel on which it did so because
	// the leader of a quorum queue was lost goes on refusing what is meant for that
	// queue, long after another leader was elected (3.10), so that it is not used again.
	refused bool
}

// publisher takes one that is idle, or opens one.
func (s *session) publisher(ctx context.Context, room int) (*publisher, error) {
	select {
	case s.publishers <- struct{}{}:
	default:
		select {
		case s.publishers <- struct{}{}:
		case <-ctx.Done():
			return nil, canceled(ctx, "send")
		case <-s.lost:
			return nil, fmt.Errorf("rabbitbus: send: %w: %w", driver.ErrRetryable, ended(s.why))
		}
	}
	for {
		s.mu.Lock()
		n := len(s.idle)
		if n == 0 {
			s.mu.Unlock()
			break
		}
		p := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		if !p.ch.IsClosed() {
			return p, nil
		}
	}
	p := &publisher{next: 1}
	err := s.call(ctx, func() (err error) {
		if p.ch, err = s.conn.Channel(); err == nil {
			err = p.ch.Confirm(false)
		}
		return err
	}, func() { s.discard(p) })
	if err != nil {
		<-s.publishers
		return nil, translate("send", err)
	}
	// The client's reader must never wait for us.
	p.confirms = p.ch.NotifyPublish(make(chan amqp.Confirmation, room))
	p.returns = p.ch.NotifyReturn(make(chan amqp.Return, room))
	p.closes = p.ch.NotifyClose(make(chan *amqp.Error, 1))
	return p, nil
}

// release puts a publisher back whose messages are all confirmed.
func (s *session) release(p *publisher) {
	if p.refused {
		s.discard(p)
	} else if !p.ch.IsClosed() {
		s.mu.Lock()
		s.idle = append(s.idle, p)
		s.mu.Unlock()
	}
	<-s.publishers
}

// abandon closes a publisher that still has messages without an answer, and
// does not wait for it.
func (s *session) abandon(p *publisher) {
	s.discard(p)
	<-s.publishers
}

// discard closes a publisher. A server that does not answer is not taken for
// dead here, since it may just be short of memory; the close ends with the
// connection at the latest.
func (s *session) discard(p *publisher) {
	go func() { _ = p.ch.Close() }()
}

// why is what the client said when the publisher was closed.
func (p *publisher) why() error {
	select {
	case err, ok := <-p.closes:
		if ok && err != nil {
			return err
		}
	default:
	}
	return amqp.ErrClosed
}
