package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

var errEnded = errors.New("outbox: the transaction has ended: send within the function that got the sender, and wait there for goroutines that use it")

// buffer is the sender of a transaction: it keeps messages until the commit.
type buffer struct {
	svc   Service
	delay bool

	mu       sync.Mutex
	messages []*driver.Message
	causes   []*dovetail.Delivery // of each message: what the handler that sent it was handling; nil for none
	ended    bool
}

// Name returns the name of the service in whose name messages are sent.
func (s *buffer) Name() string { return s.svc.Name() }

// Send checks messages and keeps them until they are written: before the commit, or by
// Flush. An error says that none was kept. Once they are written, Send returns an error.
// The messages must not be changed any more.
func (s *buffer) Send(ctx context.Context, messages []*driver.Message) error {
	cause := dovetail.DeliveryFromContext(ctx)
	if err := s.svc.Prepare(ctx, messages); err != nil {
		undone(cause, messages...)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return errEnded
	}
	s.messages = append(s.messages, messages...)
	for range messages {
		s.causes = append(s.causes, cause)
	}
	return nil
}

// undone has a handler that sends messages again send the same ids.
func undone(cause *dovetail.Delivery, messages ...*driver.Message) {
	if cause != nil {
		cause.Undone(messages...)
	}
}

func (s *buffer) mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.messages)
}

func (s *buffer) cut(mark int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := mark; i < len(s.messages); i++ {
		undone(s.causes[i], s.messages[i])
	}
	s.messages, s.causes = s.messages[:mark], s.causes[:mark]
}

// end returns what is to be written; the sender refuses more.
func (s *buffer) end() store.Writes {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return writes(s.messages, s.delay)
}

// writes tells the messages that the store must keep until they are due from
// those that go to the transport at once, which may wait itself.
func writes(messages []*driver.Message, delay bool) store.Writes {
	w := store.Writes{Messages: messages}
	if delay {
		return w
	}
	for i, m := range messages {
		if m.Due.IsZero() {
			continue
		}
		// The first with a due time: from here on there are two lists.
		w.Messages = append([]*driver.Message(nil), messages[:i]...)
		now := time.Now()
		for _, m := range messages[i:] {
			if m.Due.After(now) {
				w.Later = append(w.Later, m)
			} else {
				w.Messages = append(w.Messages, m)
			}
		}
		break
	}
	return w
}

// Sender returns a sender that writes each message to the outbox when it is sent, in
// the transaction tx, which the caller began and commits. The messages are published
// if tx commits. Call Wake after the commit, so that they need not wait for the next
// poll. The sender is used as tx is: by one goroutine at a time.
//
// Messages of one key are published in the order of their transactions only if they
// are sent while tx holds the lock that orders these transactions. Buffered makes
// that easier.
func (b *Box[Tx]) Sender(tx Tx) dovetail.Sender { return &direct[Tx]{b, tx} }

type direct[Tx any] struct {
	b  *Box[Tx]
	tx Tx
}

// Name returns the name of the service in whose name messages are sent.
func (s *direct[Tx]) Name() string { return s.b.svc.Name() }

// Send checks messages and writes them to the outbox, in the transaction. Where a check
// fails, nothing is written. After an error of the database the caller rolls back.
func (s *direct[Tx]) Send(ctx context.Context, messages []*driver.Message) error {
	if s.b.err != nil {
		return s.b.err
	}
	if err := s.b.svc.Prepare(ctx, messages); err != nil {
		return err
	}
	return s.b.write(ctx, s.tx, writes(messages, s.b.delay))
}

func (b *Box[Tx]) write(ctx context.Context, tx Tx, w store.Writes) error {
	if err := b.db.Write(ctx, tx, w); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	b.delayed(w)
	return nil
}

// delayed wakes what moves delayed messages.
func (b *Box[Tx]) delayed(w store.Writes) {
	if len(w.Later) > 0 {
		b.later.Notify()
	}
}

// A Buffered is a sender into a transaction that the caller began and commits. It
// checks messages when they are sent and keeps them in memory until Flush. Send is safe
// for concurrent use.
type Buffered[Tx any] struct {
	buffer
	b  *Box[Tx]
	tx Tx

	flushing sync.Mutex
	flushed  bool
}

// Buffered returns a sender that writes to the outbox, in the transaction tx, when it
// is flushed. Messages that are not flushed are never published. Call Wake after the
// commit.
func (b *Box[Tx]) Buffered(tx Tx) *Buffered[Tx] {
	return &Buffered[Tx]{buffer: buffer{svc: b.svc, delay: b.delay}, b: b, tx: tx}
}

// Flush writes the messages to the outbox. Called last before the commit, with all
// locks held, it gives the order by key that Do gives. After it, Send returns an error.
// If Flush failed it may be called again; once it succeeded, it does nothing.
func (s *Buffered[Tx]) Flush(ctx context.Context) error {
	if s.b.err != nil {
		return s.b.err
	}
	s.flushing.Lock()
	defer s.flushing.Unlock()
	if s.flushed {
		return nil
	}
	err := s.b.write(ctx, s.tx, s.end())
	s.flushed = err == nil
	return err
}

// Cancel takes back messages of this service that wait in the outbox until they are
// due, by their ids, when tx commits. It returns how many these are. For the other ids
// it is too late, or there is no such message. Where the transport delays messages
// itself (driver.Capabilities.Delay) none wait in the outbox, and Cancel returns 0 for
// them. The caller began tx and commits it.
func (b *Box[Tx]) Cancel(ctx context.Context, tx Tx, ids ...string) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	return b.db.Cancel(ctx, tx, b.svc.Name(), ids)
}
