package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// Start starts a server for one test, which fails when it cannot be had. The
// server ends with the test; when the test failed, the end of the server's log
// is in its output.
func Start(t testing.TB, k Kind) *Server {
	t.Helper()
	s, err := Launch(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	logVersion(t, s)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s ends with:\n%s", k.Name(), s.Log(40))
		}
		if err := s.Close(); err != nil {
			t.Errorf("close %s: %v", k.Name(), err)
		}
	})
	return s
}

// shared are the servers of this test binary, by name.
var shared struct {
	sync.Mutex
	main    bool
	servers map[string]*sharedServer
}

type sharedServer struct {
	once   sync.Once
	server *Server
	err    error
}

// Shared returns a server that all tests of this binary use: tests that leave
// it running and whose channels and tables have names of their own. The first
// that asks starts it. It needs [Main], which ends it.
func Shared(t testing.TB, k Kind) *Server {
	t.Helper()
	shared.Lock()
	if !shared.main {
		shared.Unlock()
		t.Fatal("servers.Shared needs servers.Main in TestMain, which ends the server")
	}
	s := shared.servers[k.Name()]
	if s == nil {
		s = &sharedServer{}
		shared.servers[k.Name()] = s
	}
	shared.Unlock()
	// Not the test's context: others go on with the server after this test.
	s.once.Do(func() { s.server, s.err = Launch(context.Background(), k) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	logVersion(t, s.server)
	return s.server
}

// logVersion says what a test ran against, for the table that make test ends
// with.
func logVersion(t testing.TB, s *Server) {
	t.Helper()
	t.Logf("server: %s %s", s.kind.Name(), s.Version())
}

// M is what Main needs of a *testing.M.
type M interface{ Run() int }

// Main wraps a package's tests so that the servers they share end with them:
//
//	func TestMain(m *testing.M) { os.Exit(servers.Main(m).Run()) }
func Main(m M) M { return sharing{m} }

type sharing struct{ m M }

func (s sharing) Run() int {
	shared.Lock()
	shared.main, shared.servers = true, map[string]*sharedServer{}
	shared.Unlock()
	code := s.m.Run()
	shared.Lock()
	defer shared.Unlock()
	var err error
	for _, s := range shared.servers {
		if s.server != nil {
			err = errors.Join(err, s.server.Close())
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}
