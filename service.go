package dovetail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail/driver"
)

// A Service is one deployable program: it sends, handles, and runs what moves
// its messages. Its instances, one a process, compete for messages. It is safe
// for concurrent use; what it handles and sends is declared before Run.
type Service struct {
	name string
	conn driver.Conn
	caps driver.Capabilities
	owns bool // closes conn at the end
	opts Options

	hooks     hookSet
	fitter    driver.Fitter // the connection's; nil if it has none
	counts    counters
	failing   sync.Map                            // group → when a failing attempt of it was last logged as a warning
	told      sync.Map                            // notice kind, group and type of what was logged
	toldTypes atomic.Int64                        // how many
	sends     atomic.Pointer[map[string]declared] // what may be sent, by wire type; replaced, never changed
	replies   replyBox
	broker    broker              // as the receivers see it
	underway  atomic.Pointer[run] // what Run has opened; nil before
	deadLog   deadLog
	waiting   waitingChannels

	mu         sync.Mutex
	errs       []error // what is wrong with the registrations
	subs       []*subscription
	components []Component
	state      serviceState
	ready      chan struct{} // closed when Run serves
	ended      chan struct{} // closed when Run is over
	topo       provisioner
}

// declared is a contract that the service sends.
type declared struct {
	Spec
	single *batcher // for single sends, of its channel
}

type serviceState int

const (
	idle serviceState = iota
	running
	closed
)

// Open connects to the broker that url names and returns the service of that
// name, which closes the connection when Run ends. A broker that is away at that
// moment is an error, to be tried again by the caller or by whatever starts the
// program again; one that goes away later is waited for. The transport for the URL's
// scheme must be linked in: import its package. At most one Options may be given.
func Open(ctx context.Context, name, url string, opts ...Options) (*Service, error) {
	var o Options
	switch len(opts) {
	case 0:
	case 1:
		o = opts[0]
	default:
		return nil, fmt.Errorf("open service %s: %d Options given: want one", name, len(opts))
	}
	conn, err := driver.Open(driver.WithLogger(ctx, o.withDefaults().Logger), url)
	if err != nil {
		return nil, fmt.Errorf("open service %s: %w", name, err)
	}
	s := New(name, conn, o)
	s.owns = true
	if err := errors.Join(s.errs...); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return s, nil
}

// New returns the service of that name on a connection, which the caller closes
// after Run has ended; several services may share it. What is wrong with the
// name or the options is returned by Run.
func New(name string, conn driver.Conn, opts Options) *Service {
	s := &Service{
		name:  name,
		conn:  conn,
		caps:  conn.Capabilities(),
		opts:  opts.withDefaults(),
		ready: make(chan struct{}),
		ended: make(chan struct{}),
	}
	s.hooks.add(opts.Hooks)
	s.fitter, _ = conn.(driver.Fitter)
	s.sends.Store(&map[string]declared{})
	s.topo.changed()
	s.replies.init(s)
	s.broker.s = s
	if err := validService(name, s.opts.Instance); err != nil {
		s.errs = append(s.errs, fmt.Errorf("service %w", err))
	}
	if err := s.opts.check(); err != nil {
		s.errs = append(s.errs, fmt.Errorf("service %s: %w", name, err))
	}
	return s
}

// Name returns the service's name.
func (s *Service) Name() string { return s.name }

// Instance returns the name of this process among those of the service.
func (s *Service) Instance() string { return s.opts.Instance }

// Version returns the service's version, as its options say.
func (s *Service) Version() string { return s.opts.Version }

// Conn returns the transport's connection, for relays and tools.
func (s *Service) Conn() driver.Conn { return s.conn }

// Logger returns where the service logs.
func (s *Service) Logger() *slog.Logger { return s.opts.Logger }

// Ready returns a channel that is closed when Run serves: everything is
// provisioned and every receiver is open. If Run ends before that, the channel is
// never closed: select on it and on the result of Run.
func (s *Service) Ready() <-chan struct{} { return s.ready }

func (s *Service) caller() *Service { return s }

// Declare declares what the service sends: it is provisioned, and documented. It
// must be called before the contract is first sent. What goes wrong is returned
// by Run.
func (s *Service) Declare(contracts ...Contract) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := make(map[string]declared, len(*s.sends.Load())+len(contracts))
	batchers := make(map[string]*batcher)
	for wire, d := range *s.sends.Load() {
		next[wire] = d
		batchers[d.Channel.Name] = d.single
	}
	for _, c := range contracts {
		if c == nil {
			s.errs = append(s.errs, fmt.Errorf("service %s sends: contract is nil: leave it out", s.name))
			continue
		}
		if err := c.Err(); err != nil {
			s.errs = append(s.errs, err)
			continue
		}
		spec := c.Spec()
		if d, ok := next[spec.Type()]; ok && d.Channel.Name != spec.Channel.Name {
			s.errs = append(s.errs, fmt.Errorf("service %s sends %s on channel %s and on %s: give one of them another name or Version",
				s.name, spec.Type(), spec.Channel.Name, d.Channel.Name))
		}
		b := batchers[spec.Channel.Name]
		if b == nil {
			b = new(batcher)
			batchers[spec.Channel.Name] = b
		}
		next[spec.Type()] = declared{spec, b}
	}
	s.sends.Store(&next)
	s.topo.changed()
}

// Contracts returns what the service sends and what it handles, in the order of
// declaration; a contract may be in both.
func (s *Service) Contracts() (sends, handles []Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sends = sortedSends(*s.sends.Load())
	for _, sub := range s.subs {
		handles = append(handles, sub.spec)
	}
	return sends, handles
}

// Close ends a service that never ran, and its connection if Open made it. Run
// does the same at its end.
func (s *Service) Close(ctx context.Context) error {
	s.mu.Lock()
	switch s.state {
	case running:
		s.mu.Unlock()
		return errors.New("close: service is running: end the context that Run was given")
	case closed:
		s.mu.Unlock()
		return nil
	}
	s.state = closed
	close(s.ended)
	s.mu.Unlock()
	s.topo.stop()
	if s.owns {
		return s.conn.Close(ctx)
	}
	return nil
}
