package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// readyTime bounds the wait for a server to answer. It is for a machine
	// that does several other things; alone, every server needs seconds.
	readyTime = 2 * time.Minute
	// probeTime bounds one try.
	probeTime = 5 * time.Second
	// stopTime is how long a server may take to end in good order.
	stopTime = 30 * time.Second
)

// A Server is one real server on this machine. Its methods are safe for
// concurrent use; those that change it wait for each other.
type Server struct {
	kind Kind
	name string // of the kind, with the number of the node in a cluster
	in   Instance

	mu       sync.Mutex
	proc     *process // nil when it was told to end
	version  string
	detached bool
	watchdog *watchdog // nil for a detached server
	ports    *reservation
	closed   bool
}

// Launch installs what is missing and starts a server of that kind with new,
// empty data. It returns when the server answers. The caller has to Close it;
// it also ends when this process does.
func Launch(ctx context.Context, k Kind) (*Server, error) {
	return launch(ctx, k, false)
}

func launch(ctx context.Context, k Kind, detached bool) (_ *Server, err error) {
	if err := Install(ctx, k); err != nil {
		return nil, err
	}
	s := &Server{kind: k, name: k.Name(), detached: detached}
	if err = s.place(); err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin makes the data of a server that has its place, and starts it.
func (s *Server) begin(ctx context.Context) error {
	if err := s.kind.Prepare(ctx, &s.in); err != nil {
		return fmt.Errorf("prepare %s: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run(ctx)
}

// place gives the server its ports and its directory.
func (s *Server) place() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("prepare %s: %w", s.name, err)
		}
	}()
	taken, err := backgroundPorts()
	if err != nil {
		return err
	}
	if s.in.Ports, s.ports, err = reserve(s.kind.Ports(), taken); err != nil {
		return err
	}
	if s.in.Dir, err = os.MkdirTemp("", "dovetail-"+s.name+"-"); err != nil {
		return err
	}
	if !s.detached {
		if s.watchdog, err = watch(s.in.Dir); err != nil {
			return err
		}
	}
	// Others may look in: the server may run as another user.
	if err := os.Chmod(s.in.Dir, 0o755); err != nil {
		return err
	}
	return give(s.in.Dir, s.kind.Command(&s.in).User)
}

// Name returns the name of the server's kind, and the number of a node of a
// cluster: nats, nats-2.
func (s *Server) Name() string { return s.name }

// URL returns what a client connects to. It stays the same across Restart.
func (s *Server) URL() string { return s.kind.URL(&s.in) }

// Addr returns the loopback address, host and port, of the first port of the
// server's kind: what a [Proxy] is put in front of.
func (s *Server) Addr() string { return s.in.Addr(s.kind.Ports()[0]) }

// Dir returns the server's directory. It goes with the server.
func (s *Server) Dir() string { return s.in.Dir }

// Version returns what the server says that it is.
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Log returns the last lines of what the server wrote since it was last started.
func (s *Server) Log(lines int) string { return tail(s.log(), lines) }

func (s *Server) log() string { return filepath.Join(s.in.Dir, "server.log") }

// Kill sends SIGKILL to the server and all its processes and returns when they
// are gone. Its data stays. A server that is down stays so.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kill()
}

func (s *Server) kill() error {
	if s.proc == nil {
		return nil
	}
	if err := s.proc.kill(); err != nil {
		return fmt.Errorf("kill %s: %w", s.name, err)
	}
	s.proc = nil
	return errors.Join(s.watchdog.over(), s.save())
}

// Stop asks the server to end in good order and returns when it has; one that
// takes longer than half a minute, or than ctx allows, is killed and that is an
// error. Its data stays.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return s.kill() // what is left of it
	}
	sig := s.kind.Command(&s.in).Stop
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	err := errors.Join(s.proc.thaw(), signal(s.proc.pid, sig))
	if err == nil {
		err = s.proc.gone(ctx)
	}
	if err != nil {
		err = fmt.Errorf("stop %s: %w; it was killed, and its log ends with:\n%s", s.name, err, s.Log(15))
	}
	return errors.Join(err, s.kill())
}

// Restart starts the server on the data and the ports that it had and returns
// when it answers. One that still runs is killed first: Stop it before Restart
// for a restart in good order.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("restart %s: it was closed and its data is gone", s.name)
	}
	if err := s.kill(); err != nil {
		return err
	}
	return s.run(ctx)
}

// Pause stops the server's processes where they are, as SIGSTOP does: its
// connections stay open and nothing comes from them, until Resume.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return fmt.Errorf("pause %s: it is not running", s.name)
	}
	members, err := s.proc.freeze()
	// Those that sleep do not notice that their parent has gone.
	return errors.Join(err, s.watchdog.over(append([]int{-s.proc.pid}, members...)...))
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return fmt.Errorf("resume %s: it is not running", s.name)
	}
	return errors.Join(s.proc.thaw(), s.watchdog.over(-s.proc.pid))
}

// Close kills the server and removes its data. Closing twice is fine. To the
// other nodes of a cluster, a node that is closed is lost for good.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if err := s.kill(); err != nil {
		return err // its directory is in use, and the watchdog is still needed
	}
	s.closed = true
	err := s.watchdog.quit()
	if s.ports != nil {
		s.ports.release()
	}
	if s.in.Dir != "" {
		err = errors.Join(err, os.RemoveAll(s.in.Dir))
	}
	return errors.Join(err, s.forget())
}

// run starts the process and waits until it answers.
func (s *Server) run(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start %s: %w; its log ends with:\n%s", s.name, err, s.Log(25))
			err = errors.Join(err, s.kill())
		}
	}()
	// An earlier process that was killed may need a moment to let go of them, and
	// its log is its own.
	if err := s.portsFree(ctx); err != nil {
		return err
	}
	if err := os.Rename(s.log(), s.log()+".before"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.proc, err = spawn(s.kind.Command(&s.in), s.in.Dir, s.log(), s.detached); err != nil {
		s.proc = nil
		return err
	}
	if err := errors.Join(s.watchdog.over(-s.proc.pid), s.save()); err != nil {
		return err
	}
	if s.version, err = s.ready(ctx); err != nil {
		return err
	}
	return s.save()
}

// portsFree waits until nobody listens on the server's ports.
func (s *Server) portsFree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for name := range s.in.Ports {
		addr := s.in.Addr(name)
		err := poll(ctx, 5*time.Millisecond, func() bool {
			l, err := net.Listen("tcp", addr)
			return err == nil && l.Close() == nil
		})
		if err != nil {
			return fmt.Errorf("another process listens on %s, its port %q: %w", addr, name, err)
		}
	}
	return nil
}

// ready asks the server until it answers. It begins with short pauses, for
// those that start in milliseconds.
func (s *Server) ready(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		try, done := context.WithTimeout(ctx, probeTime)
		version, err = s.kind.Probe(try, &s.in)
		done()
		if err == nil {
			return version, nil
		}
		if !s.proc.alive() {
			return "", fmt.Errorf("it ended before it answered (%w)", errors.Join(s.proc.err, err))
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("it does not answer: %w (%w)", err, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
