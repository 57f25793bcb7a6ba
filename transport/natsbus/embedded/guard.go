package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats-server/v2/server"
)

// A server that could not write, since the disk was full, refuses every message
// from then on, without an answer, until it is started again. The guard of a
// server does that once the disk takes data again. Its clients reconnect.

// guardEvery is how often the guard of a server in trouble looks at the disk,
// and how long it waits at least between two starts.
const guardEvery = time.Second

// A guard is what a server and its clients know of its disk.
type guard struct {
	mu      sync.Mutex
	trouble string        // why nothing can be stored; "" when all is well
	told    chan struct{} // capacity 1: there is trouble

	end   context.CancelFunc
	ended chan struct{}
}

// hear takes in a line of the server's log.
func (g *guard) hear(line string) {
	if !strings.Contains(line, "ritical write error") && !strings.Contains(line, "will be DISABLED") {
		return
	}
	g.mu.Lock()
	if g.trouble == "" {
		g.trouble = line
	}
	g.mu.Unlock()
	select {
	case g.told <- struct{}{}:
	default:
	}
}

// why returns why nothing can be stored, nil when all is well.
func (s *shared) why() error {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	if s.guard.trouble == "" {
		return nil
	}
	what := s.guard.trouble
	if i := strings.LastIndex(what, ": "); i >= 0 {
		what = what[i+2:]
	}
	return fmt.Errorf("embedded: %w: directory %s cannot be written to (%s): free space on its disk, and the server goes on by itself", driver.ErrRetryable, s.opts.Dir, what)
}

// watch runs the guard until its end.
func (s *shared) watch() {
	ctx, end := context.WithCancel(context.Background())
	s.guard.end, s.guard.ended = end, make(chan struct{})
	go func() {
		defer close(s.guard.ended)
		for {
			select {
			case <-s.guard.told:
			case <-ctx.Done():
				return
			}
			if s.why() != nil {
				s.recover(ctx)
			}
		}
	}()
}

// recover waits until the disk takes data, and starts the server again.
func (s *shared) recover(ctx context.Context) {
	s.opts.Logger.Error("embedded: nothing can be stored until there is space", "error", s.why())
	for pause := guardEvery; ; pause = min(2*pause, 30*time.Second) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if s.tryDisk() != nil {
			pause = guardEvery / 2 // look again soon: what has to be rare is starting
			continue
		}
		s.mu.Lock()
		err := s.restart()
		s.mu.Unlock()
		if err == nil {
			s.opts.Logger.Info("embedded: there is space again, and the server was started again", "directory", s.opts.Dir)
			return
		}
		s.opts.Logger.Error("embedded: start again", "directory", s.opts.Dir, "error", err)
	}
}

// tryDisk writes as much as a message may take.
func (s *shared) tryDisk() error {
	f, err := os.CreateTemp(s.opts.Dir, ".space-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 1<<20+int(s.opts.MaxPayload)))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// restart replaces the server by another on the same data and the same port.
func (s *shared) restart() error {
	c := s.config()
	c.JetStreamMaxStore = s.maxStore // not three quarters of what is free now
	if s.port != 0 {
		c.Port = s.port
	}
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	next, err := s.launch(c, 30*time.Second)
	if err != nil {
		return err
	}
	s.ns = next
	s.guard.mu.Lock()
	s.guard.trouble = ""
	s.guard.mu.Unlock()
	return nil
}

// InProcessConn is how the client connects: to the server that runs now.
func (s *shared) InProcessConn() (net.Conn, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ns.InProcessConn()
}

func (s *shared) server() *server.Server {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ns
}

// removeStray removes what a process that was killed while it tried the disk left.
func (s *shared) removeStray() {
	stray, _ := filepath.Glob(filepath.Join(s.opts.Dir, ".space-*"))
	for _, name := range stray {
		_ = os.Remove(name)
	}
}
