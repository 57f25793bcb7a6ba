package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A link is one connection to the server that comes back by itself: a session
// follows another. What is for publishing and what is for consuming have links
// of their own, because the server stops reading from those that publish while
// it is short of memory or disk, acknowledgements included.
type link struct {
	o    *Options
	role string // "publish" or "receive", for the server's tools

	mu      sync.Mutex
	cur     *session // nil while there is none
	why     error    // it is nil
	event   chan struct{}
	epoch   uint64
	closing chan struct{}
	ended   chan struct{}
}

// openLink connects once. A link that was lost later is mended without end.
func openLink(ctx context.Context, o *Options, role string) (*link, error) {
	l := &link{o: o, role: role, event: make(chan struct{}), closing: make(chan struct{}), ended: make(chan struct{})}
	s, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	l.cur = s
	go l.run(s)
	return l, nil
}

// run replaces sessions that ended until the link is closed.
func (l *link) run(s *session) {
	defer close(l.ended)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-l.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-s.lost:
		case <-ctx.Done():
			return
		}
		if !l.set(nil, s.why) {
			return
		}
		l.o.Logger.Warn("rabbitbus: link lost", "role", l.role, "error", s.why)
		for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			var err error
			if s, err = l.dial(ctx); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			l.set(nil, err)
			pause := time.NewTimer(wait/2 + rand.N(wait))
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
		l.o.Logger.Info("rabbitbus: link is back", "role", l.role, "server", s.conn.RemoteAddr().String())
		if !l.set(s, nil) {
			s.end(context.Background(), l.o.Timeout)
			return
		}
	}
}

// set makes s the present session; false says that the link was closed.
func (l *link) set(s *session, why error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return false
	default:
	}
	l.cur, l.why = s, why
	close(l.event)
	l.event = make(chan struct{})
	return true
}

// session returns the present session, or why there is none.
func (l *link) session() (*session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closing:
		return nil, fmt.Errorf("rabbitbus: connection %w", driver.ErrClosed)
	default:
	}
	if l.cur == nil || l.cur.isLost() {
		return nil, fmt.Errorf("rabbitbus: %w: not connected to %s; it is being retried: %w", driver.ErrRetryable, l.o.hosts(), ended(l.why))
	}
	return l.cur, nil
}

// ended is err for a message in which nil has no place.
func ended(err error) error {
	if err == nil {
		return errors.New("the link has ended")
	}
	return err
}

// changed returns what is closed when the link next comes or goes.
func (l *link) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.event
}

// close ends the link within the options' time-out and ctx.
func (l *link) close(ctx context.Context) error {
	l.mu.Lock()
	s := l.cur
	select {
	case <-l.closing:
		l.mu.Unlock()
		<-l.ended
		return nil
	default:
	}
	close(l.closing)
	close(l.event)
	l.event = make(chan struct{})
	l.cur = nil
	l.mu.Unlock()
	var err error
	if s != nil {
		err = s.end(ctx, l.o.Timeout)
	}
	<-l.ended
	return err
}

// dial makes a session with one of the servers.
func (l *link) dial(ctx context.Context) (*session, error) {
	l.epoch++
	var errs []error
	for i := range l.o.servers {
		addr := l.o.servers[(int(l.epoch)+i)%len(l.o.servers)]
		s, err := l.dialOne(ctx, addr)
		if err == nil {
			return s, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, errors.Join(errs...)
}

func (l *link) dialOne(ctx context.Context, addr string) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	s := &session{epoch: l.epoch, patience: l.o.Timeout, lost: make(chan struct{}), publishers: make(chan struct{}, maxPublishers)}
	stop := func() bool { return true }
	props := amqp.NewConnectionProperties()
	props.SetClientConnectionName(l.o.Name + " (" + l.role + ")")
	config := amqp.Config{
		SASL:            []amqp.Authentication{&amqp.PlainAuth{Username: l.o.User, Password: l.o.Password}},
		Vhost:           l.o.VHost,
		Heartbeat:       l.o.Heartbeat,
		TLSClientConfig: l.o.TLS.Clone(),
		Properties:      props,
		Dial: func(network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			s.wire = newWire(conn, l.o.Timeout)
			stop = context.AfterFunc(ctx, s.wire.kill)
			// The handshake ends with ctx; the client takes the deadline away
			// when it is over.
			deadline, _ := ctx.Deadline()
			return s.wire, conn.SetDeadline(deadline)
		},
	}
	scheme := "amqp://"
	if l.o.TLS != nil {
		scheme = "amqps://"
	}
	conn, err := amqp.DialConfig(scheme+addr, config)
	if !stop() && err == nil {
		err = context.Cause(ctx) // killed in the moment in which it was there
	}
	if err != nil {
		if s.wire != nil {
			s.wire.kill()
		}
		return nil, err
	}
	s.conn = conn
	s.version, _ = conn.Properties["version"].(string)
	go s.watch(conn.NotifyClose(make(chan *amqp.Error, 1)), conn.NotifyBlocked(make(chan amqp.Blocking, 16)))
	return s, nil
}

// A session is one connection of the client, from its handshake to its end.
type session struct {
	conn     *amqp.Connection
	wire     *wire
	epoch    uint64
	version  string // of the server
	patience time.Duration
	lost     chan struct{} // closed when it has ended
	why      error         // once lost is closed; nil where we ended it
	blocked  atomic.Pointer[string]

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

// call runs f, which makes one call to the server. The client's calls know
// neither contexts nor deadlines and end only with their connection, which is
// therefore ended when the server does not answer: it answers calls within
// milliseconds or is not there. Where ctx ends first, f goes on, and undo takes
// back what it has brought.
func (s *session) call(ctx context.Context, f func() error, undo func()) error {
	var late atomic.Bool
	timer := time.AfterFunc(s.patience, func() { late.Store(true); s.wire.kill() })
	done := make(chan error)
	abandoned := make(chan struct{})
	go func() {
		err := f()
		timer.Stop()
		if err != nil && late.Load() {
			err = fmt.Errorf("%w: %w", errNoAnswer, err)
		}
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
	}
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
	stop := context.AfterFunc(ctx, s.wire.kill)
	defer stop()
	if ctx.Err() != nil {
		s.wire.kill()
	}
	err := s.conn.Close()
	<-s.lost
	if ctx.Err() == nil || errors.Is(err, amqp.ErrClosed) {
		return nil // it was lost before, and nothing is left to say
	}
	return ctx.Err()
}
