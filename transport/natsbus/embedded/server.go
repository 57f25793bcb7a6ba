package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A Server is a NATS server in this process. Several Starts of one directory
// share it; it ends with the last Close.
type Server struct {
	shared *shared
	once   sync.Once
	err    error
}

// shared is the server of one directory, with the number of those who use it.
type shared struct {
	opts  Options
	lock  *dirLock
	mark  *marker
	uses  int
	guard guard

	mu       sync.RWMutex // held while the server is replaced
	ns       *server.Server
	maxStore int64 // of the first start
	port     int   // likewise, where it listens
}

var (
	runningMu sync.Mutex // also held while a server starts or ends
	running   = map[string]*shared{}
)

// Start starts a server, or joins the one that this process runs in the same
// directory.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	runningMu.Lock()
	defer runningMu.Unlock()
	if s := running[o.Dir]; s != nil {
		if err := s.opts.same(o); err != nil {
			return nil, err
		}
		s.uses++
		return &Server{shared: s}, nil
	}
	s, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	running[o.Dir] = s
	return &Server{shared: s}, nil
}

func start(ctx context.Context, o Options) (_ *shared, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded: make directory: %w", err)
	}
	// The server would make it, and the files in it, so that a group may read them.
	if err := os.MkdirAll(filepath.Join(o.Dir, "jetstream"), 0o700); err != nil {
		return nil, fmt.Errorf("embedded: make directory: %w", err)
	}
	s := &shared{opts: o, uses: 1, guard: guard{told: make(chan struct{}, 1)}}
	if s.lock, err = lockDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("embedded: start in %s: %w", o.Dir, err)
			s.lock.release()
		}
	}()
	if s.mark, err = openMarker(o.Dir); err != nil {
		return nil, err
	}
	s.removeStray()
	wait := 30 * time.Second
	if d, ok := ctx.Deadline(); ok {
		wait = max(time.Millisecond, min(wait, time.Until(d)))
	}
	if s.ns, err = s.launch(s.config(), wait); err != nil {
		return nil, err
	}
	s.maxStore = s.ns.JetStreamConfig().MaxStore
	if a, ok := s.ns.Addr().(*net.TCPAddr); ok && o.Listen != "" {
		s.port = a.Port
	}
	s.watch()
	return s, nil
}

// launch starts a server and waits until it is ready.
func (s *shared) launch(c *server.Options, wait time.Duration) (*server.Server, error) {
	ns, err := server.NewServer(c)
	if err != nil {
		return nil, err
	}
	ns.SetLoggerV2(logger{s.opts.Logger, &s.guard}, false, false, false)
	// Start recovers what is stored before it returns, however much it is; the
	// listener comes after that.
	ns.Start()
	if !ns.ReadyForConnections(wait) {
		err = fmt.Errorf("%w: not ready within %v", driver.ErrRetryable, wait)
		if listen := s.opts.Listen; listen != "" {
			err = fmt.Errorf("%w: is another program listening on %s?", err, listen)
		}
	} else if !ns.JetStreamEnabled() {
		err = fmt.Errorf("its storage could not be enabled: the log says why; is the disk full, or the directory not ours to write?")
	}
	if err != nil {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, err
	}
	return ns, nil
}

func (s *shared) config() *server.Options {
	o := s.opts
	c := &server.Options{
		ServerName:        natsbus.IncarnationPrefix + s.mark.Incarnation + "-" + s.window().String(),
		JetStream:         true,
		StoreDir:          o.Dir,
		JetStreamMaxStore: o.MaxStore,
		SyncAlways:        o.SyncAlways,
		SyncInterval:      o.SyncInterval,
		MaxPayload:        o.MaxPayload,
		MaxPending:        256 << 20, // a window of large messages is not a slow consumer
		Authorization:     o.Token,
		NoSigs:            true,
		NoLog:             true,
		DontListen:        o.Listen == "",
	}
	if o.TLS != nil {
		c.TLS, c.TLSConfig, c.TLSTimeout = true, o.TLS, 5
	}
	if o.Listen != "" {
		host, port, _ := net.SplitHostPort(o.Listen) // checked by withDefaults
		c.Host = host
		if c.Port, _ = strconv.Atoi(port); c.Port == 0 {
			c.Port = server.RANDOM_PORT
		}
	}
	return c
}

// window is how long before an unclean stop what was confirmed may be gone if
// the power went with it.
func (s *shared) window() time.Duration {
	if s.opts.SyncAlways {
		return 0
	}
	return 2 * s.opts.SyncInterval
}

// ClientURL is where other processes reach the server, as in
// "nats://127.0.0.1:4222"; "" if it does not listen. A token is not part of it.
func (s *Server) ClientURL() string {
	if s.shared.opts.Listen == "" {
		return ""
	}
	return s.shared.server().ClientURL()
}

// Dir is the directory that holds the server's messages.
func (s *Server) Dir() string { return s.shared.opts.Dir }

// Connect connects within the process, without a socket. The connection must be
// closed before the server; o's URL is not used.
func (s *Server) Connect(ctx context.Context, o natsbus.Options) (*natsbus.Conn, error) {
	o.Client = append([]nats.Option{nats.InProcessServer(s.shared)}, o.Client...)
	o.URL, o.Token = "", s.shared.opts.Token
	if o.Logger == nil {
		o.Logger = s.shared.opts.Logger
	}
	return natsbus.Connect(ctx, o)
}

// As sets *target, a **server.Server, to the server underneath, and reports
// whether target is one.
func (s *Server) As(target any) bool {
	t, ok := target.(**server.Server)
	if ok {
		*t = s.shared.server()
	}
	return ok
}

// Close ends the server if no other Start shares it, after writing all to the
// disk. Calling it again is right. It cannot be cut short without harm, so it
// does not look at ctx.
func (s *Server) Close(context.Context) error {
	s.once.Do(func() {
		runningMu.Lock()
		defer runningMu.Unlock()
		if s.shared.uses--; s.shared.uses > 0 {
			return
		}
		delete(running, s.shared.opts.Dir)
		s.err = s.shared.stop()
	})
	return s.err
}

func (s *shared) stop() error {
	defer s.lock.release()
	s.guard.end()
	<-s.guard.ended
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	if err := syncTree(s.opts.Dir); err != nil {
		return fmt.Errorf("embedded: write %s to the disk: %w", s.opts.Dir, err)
	}
	return s.mark.clean()
}
