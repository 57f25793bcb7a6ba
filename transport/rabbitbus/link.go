package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A link is one connection to the server that comes back by itself: a session
// follows another. What is for publishing and what is for consuming have links
// of their own, because the server stops reading from those that publish while
// it is short of memory or disk, acknowledgements included.
type link struct {
	o    *Options
	role string // "publish" or "receive", for the server's tools

	channels atomic.Int32 // that a connection may have, as the server said last
	used     int          // of these, by receivers; under the lock of Conn

	mu      sync.Mutex
	cur     *session // nil while there is none
	why     error    // it is nil
	event   chan struct{}
	epoch   uint64
	closing chan struct{}
	ended   chan struct{}
}

// openLink connects once. A link that was lost later is repaired without end.
func openLink(ctx context.Context, o *Options, role string) (*link, error) {
	l := &link{o: o, role: role, epoch: rand.Uint64N(1 << 16), event: make(chan struct{}), closing: make(chan struct{}), ended: make(chan struct{})}
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
	wait := firstWait
	for began := time.Now(); ; began = time.Now() {
		select {
		case <-s.lost:
		case <-ctx.Done():
			return
		}
		if !l.set(nil, s.why) {
			return
		}
		l.o.Logger.Warn("rabbitbus: link lost", "role", l.role, "error", s.why)
		// A server that takes connections and ends them is not asked in a loop.
		if time.Since(began) > longestWait {
			wait = firstWait
		} else if !backoff.Sleep(ctx, backoff.Jitter(wait)) {
			return
		}
		for ; ; wait = min(2*wait, longestWait) {
			var err error
			if s, err = l.dial(ctx); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			l.set(nil, err)
			if !backoff.Sleep(ctx, backoff.Jitter(wait)) {
				return
			}
		}
		wait = min(2*wait, longestWait)
		l.o.Logger.Info("rabbitbus: link is back", "role", l.role, "server", s.conn.RemoteAddr().String())
		if !l.set(s, nil) {
			s.end(context.Background(), l.o.Timeout)
			return
		}
	}
}

// How long a link waits before the next try, at first and at most.
const (
	firstWait   = 20 * time.Millisecond
	longestWait = 2 * time.Second
)

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

// dial makes a session with one of the servers, beginning at any of them, so that
// the links of many services do not all meet at the first.
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
			s.socket = newCorkedConn(conn, l.o.Timeout)
			stop = context.AfterFunc(ctx, s.socket.kill)
			// The handshake ends with ctx; the client takes the deadline away
			// when it is over.
			deadline, _ := ctx.Deadline()
			return s.socket, conn.SetDeadline(deadline)
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
		if s.socket != nil {
			s.socket.kill()
		}
		return nil, err
	}
	s.conn = conn
	l.channels.Store(int32(conn.Config.ChannelMax))
	s.version, _ = conn.Properties["version"].(string)
	go s.watch(conn.NotifyClose(make(chan *amqp.Error, 1)), conn.NotifyBlocked(make(chan amqp.Blocking, 16)))
	return s, nil
}
