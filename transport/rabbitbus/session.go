package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A session is one connection of the client, from its handshake to its end.
type session struct {
	conn     *amqp.Connection
	socket   *corkedConn
	epoch    uint64
	version  string // of the server
	patience time.Duration
	lost     chan struct{} // closed when it has ended
	why      error         // once lost is closed; nil where we ended it
	blocked  atomic.Pointer[string]
	doubted  atomic.Bool // the server is asked whether it is there

	publishers chan struct{} // as many as are in use

	mu        sync.Mutex
	helpers   []*amqp.Channel // idle, for calls
	idle      []*publisher
	transient *amqp.Channel
}

func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return s.conn.IsClosed()
	}
}

// watch notes what the server says of the connection as a whole.
func (s *session) watch(closes <-chan *amqp.Error, blocks <-chan amqp.Blocking) {
	defer close(s.lost)
	for {
		select {
		case err, ok := <-closes:
			if ok && err != nil {
				s.why = err
			}
			return
		case b, ok := <-blocks:
			switch {
			case !ok:
				blocks = nil
			case b.Active:
				s.blocked.Store(&b.Reason)
			default:
				s.blocked.Store(nil)
			}
		}
	}
}

// refused says why publishing is of no use now, if so.
func (s *session) refused() error {
	reason := s.blocked.Load()
	if reason == nil {
		return nil
	}
	return fmt.Errorf("rabbitbus: %w: the server takes no messages (%s): free memory or disk, or raise its limits", driver.ErrRetryable, strings.TrimSpace(*reason))
}

// errNoAnswer ends a call that the server did not answer in time.
var errNoAnswer = errors.New("the server did not answer in time")

// call runs f, which makes calls to the server on one channel. The client's calls
// know neither contexts nor deadlines, and end only with their channel. Where ctx
// ends first, or the server has not answered in time, f goes on, and undo takes back
// what it has brought. What f writes belongs to the caller only if call returns nil.
//
// A call without an answer is the end of its channel, not of the link: a healthy
// node of a cluster does not answer for a queue that is with one which is frozen. But
// a server that answers nothing else either is left.
func (s *session) call(ctx context.Context, f func() error, undo func()) error {
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	done := make(chan error)
	abandoned := make(chan struct{})
	go func() {
		err := f()
		select {
		case done <- err:
		case <-abandoned:
			if err == nil && undo != nil {
				undo()
			}
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		close(abandoned)
		return context.Cause(ctx)
	case <-timer.C:
		close(abandoned)
		s.doubt()
		return errNoAnswer
	}
}

// doubt asks for what every server has at hand, a channel, and ends the link if
// that does not come either. It returns at once; one question at a time is enough.
func (s *session) doubt() {
	if s.doubted.Swap(true) {
		return
	}
	timer := time.AfterFunc(s.patience/2, s.socket.kill)
	go func() { // ends with the connection at the latest
		ch, err := s.conn.Channel()
		timer.Stop()
		s.doubted.Store(false)
		if err == nil {
			_ = ch.Close()
		}
	}()
}

// with makes one call on a channel that is for calls.
func (s *session) with(ctx context.Context, f func(ch *amqp.Channel) error) error {
	return s.call(ctx, func() error {
		ch, err := s.helper()
		if err != nil {
			return err
		}
		err = f(ch)
		if !ch.IsClosed() {
			s.mu.Lock()
			s.helpers = append(s.helpers, ch)
			s.mu.Unlock()
		}
		return err
	}, nil)
}

func (s *session) helper() (*amqp.Channel, error) {
	s.mu.Lock()
	if n := len(s.helpers); n > 0 {
		ch := s.helpers[n-1]
		s.helpers = s.helpers[:n-1]
		s.mu.Unlock()
		return ch, nil
	}
	s.mu.Unlock()
	return s.conn.Channel()
}

// end closes the connection in good order, as far as the server answers within
// patience and ctx, and in any case.
func (s *session) end(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, s.socket.kill)
	defer stop()
	if ctx.Err() != nil {
		s.socket.kill()
	}
	err := s.conn.Close()
	<-s.lost
	if ctx.Err() == nil || errors.Is(err, amqp.ErrClosed) {
		return nil // it was lost before, and nothing is left to say
	}
	return ctx.Err()
}
