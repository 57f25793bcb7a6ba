package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// maxBatch is 0: a Send of any length shares its round trips; it is windowed
// inside.
const maxBatch = 0

// maxHeader is what the server stores at most of a message's headers, in bytes.
const maxHeader = 65_535

// An outgoing is the part of a Send that goes to one stream: start writes what
// fits the window, finish writes the rest and waits for the confirmations. So a
// batch over many channels takes one round trip, not one for each. Those of one
// Send finish beside each other: the server forgets a fast batch that idles.
type outgoing interface {
	start(ctx context.Context)
	finish(ctx context.Context)
}

// A sending is one call of Send.
type sending struct {
	c        *Conn
	messages []*driver.Message
	epoch    uint64 // of the link when it began
	began    time.Time

	mu       sync.Mutex
	enc      *encoder
	failures []driver.SendFailure
}

var encoders = sync.Pool{New: func() any { return newEncoder() }}

// Send publishes messages and waits until the server has confirmed each.
//
// When one of a channel's messages is refused, those after it are not stored:
// they are reported as not sent. A confirmed message is never ahead of an
// earlier one of its key that may yet be sent again.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return translate("send", err)
	}
	s := &sending{c: c, messages: messages, epoch: c.epoch(), began: time.Now()}
	if err := c.ready(); err != nil {
		return err
	}
	s.enc = encoders.Get().(*encoder)
	defer encoders.Put(s.enc)

	parts := s.split(ctx)
	for _, p := range parts {
		p.start(ctx)
	}
	if len(parts) == 1 {
		parts[0].finish(ctx)
	} else {
		var finishing sync.WaitGroup
		for _, p := range parts {
			finishing.Go(func() { p.finish(ctx) })
		}
		finishing.Wait()
	}
	if len(s.failures) == 0 {
		return nil
	}
	slices.SortFunc(s.failures, func(a, b driver.SendFailure) int { return a.Index - b.Index })
	return &driver.SendError{Failures: s.failures}
}

// A group is the messages of a batch that go to one stream, by index.
type group struct {
	st    *channelState
	index []int
}

// split makes an outgoing of each channel's messages, publishing those of
// transient channels on the way.
func (s *sending) split(ctx context.Context) []outgoing {
	var (
		groups []group
		cur    = -1
		places map[*channelState]int // in groups; nil while there is one channel
		absent map[string]error
	)
	for i, m := range s.messages {
		if cur >= 0 && groups[cur].st.name == m.Channel {
			groups[cur].index = append(groups[cur].index, i)
			continue
		}
		err := absent[m.Channel]
		var st *channelState
		if err == nil {
			st, err = s.c.resolve(ctx, m.Channel)
		}
		if err != nil {
			if absent == nil {
				absent = map[string]error{}
			}
			absent[m.Channel] = err
			s.fail(i, err, false)
			continue
		}
		if st.transient {
			s.publishTransient(i, st)
			continue
		}
		if places == nil && cur >= 0 {
			places = map[*channelState]int{groups[cur].st: cur}
		}
		place, met := places[st]
		if !met {
			place = len(groups)
			groups = append(groups, group{st, make([]int, 0, len(s.messages)-i)})
			if places != nil {
				places[st] = place
			}
		}
		cur = place
		groups[cur].index = append(groups[cur].index, i)
	}
	parts := make([]outgoing, len(groups))
	for n, g := range groups {
		if len(g.index) > 1 && g.st.batches.Load() {
			parts[n] = newFastBatch(s, g)
		} else {
			parts[n] = newPlain(s, g)
		}
	}
	return parts
}

func (s *sending) fail(index int, err error, unknown bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, driver.SendFailure{Index: index, Err: err, Unknown: unknown})
}

// publish writes message i, to be answered to reply; dedupe says whether the server may
// take it for one that it has. What cannot be encoded is told apart from what cannot be
// written.
func (s *sending) publish(i int, st *channelState, reply string, dedupe bool) (unfit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	msg, unfit := s.encode(i, st, dedupe)
	if unfit != nil {
		return unfit, nil
	}
	msg.Reply = reply
	return nil, s.c.nc.PublishMsg(msg)
}

// encode returns message i, ready but for its reply subject.
func (s *sending) encode(i int, st *channelState, dedupe bool) (*nats.Msg, error) {
	m := s.messages[i]
	msg := s.enc.encode(m)
	if n := s.enc.size; n > maxHeader {
		return nil, fmt.Errorf("natsbus: send to %s: %w: its headers take %d bytes and NATS stores %d", m.Channel, driver.ErrTooLarge, n, maxHeader)
	} else if size, limit := n+len(m.Body), s.c.nc.MaxPayload(); int64(size) > limit {
		return nil, fmt.Errorf("natsbus: send to %s: %w: it takes %d bytes and the server's max_payload is %d", m.Channel, driver.ErrTooLarge, size, limit)
	}
	// A question that a retried handler asks again under the same id must be
	// heard again: its first answers are gone.
	if dedupe && st.dedupe && m.ReplyTo == "" {
		if id := identity(m); id != "" {
			s.enc.add(nats.MsgIdHdr, id)
		}
	}
	msg.Subject = st.subjects[driver.PartitionOf(m.Key, len(st.subjects))]
	return msg, nil
}

// publishTransient sends to whoever listens, at most once.
func (s *sending) publishTransient(i int, st *channelState) {
	unfit, err := s.publish(i, st, "", false)
	if unfit != nil {
		s.fail(i, unfit, false)
	} else if err != nil {
		s.fail(i, translate("send to "+st.name, err), !notWritten(err))
	}
}

// notWritten reports whether the client refused to write at all.
func notWritten(err error) bool {
	return errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrMaxPayload) ||
		errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) ||
		errors.Is(err, nats.ErrBadSubject) || errors.Is(err, nats.ErrBadHeaderMsg) || errors.Is(err, driver.ErrTooLarge)
}

// resolve finds a channel to send to. One that has no stream is transient if
// somebody listens to it now, as on a caller's reply channel.
func (c *Conn) resolve(ctx context.Context, name string) (*channelState, error) {
	st, err := c.channel(ctx, name)
	if err == nil || !errors.Is(err, driver.ErrNotFound) {
		return st, err
	}
	listening, probeErr := c.probe(ctx, transientSubject(name))
	if probeErr != nil {
		return nil, probeErr
	}
	if !listening {
		return nil, err
	}
	st = transientState(name)
	c.chans.put(st)
	return st, nil
}

// unanswered says what a message without responders means: the stream is gone,
// or it has no leader at the moment.
func (c *Conn) unanswered(ctx context.Context, st *channelState) error {
	c.chans.drop(st.name, st)
	if _, err := c.channel(ctx, st.name); err != nil {
		return err
	}
	return fmt.Errorf("natsbus: send to %s: %w: its stream has no leader", st.name, driver.ErrRetryable)
}
