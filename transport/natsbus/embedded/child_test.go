package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
	"github.com/nats-io/nats-server/v2/server"
)

// TestMain runs the test binary again as a server that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("DOVETAIL_TEST_SERVER"); dir != "" {
		serve(dir, os.Getenv("DOVETAIL_TEST_LISTEN"))
		return
	}
	if dir := os.Getenv("DOVETAIL_TEST_FULL_DISK"); dir != "" {
		if err := onFullDisk(dir); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs a server until its standard input ends, then stops it cleanly.
func serve(dir, listen string) {
	s, err := embedded.Start(context.Background(), embedded.Options{Dir: dir, Listen: listen})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("listening", s.ClientURL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(context.Background()); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// A child is a server in a process of its own, on a port that it keeps.
type child struct {
	dir, listen string

	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.Closer
}

func newChild(t testing.TB) *child {
	t.Helper()
	logVersion(t)
	c := &child{dir: t.TempDir(), listen: freeAddress(t)}
	if err := c.start(); err != nil {
		t.Fatalf("start server: %v", err)
	}
	t.Cleanup(func() { _ = c.kill() })
	return c
}

// logVersion says what a test ran against, for the table that make test ends
// with.
func logVersion(t testing.TB) {
	t.Helper()
	t.Log("server: nats " + server.VERSION + " embedded")
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *child) url() string { return "nats://" + c.listen }

func (c *child) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DOVETAIL_TEST_SERVER="+c.dir, "DOVETAIL_TEST_LISTEN="+c.listen)
	cmd.Stderr = os.Stderr
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c.cmd = cmd
	line := make(chan string, 1)
	go func() {
		l, _ := bufio.NewReader(out).ReadString('\n')
		line <- l
	}()
	select {
	case l := <-line:
		if !strings.HasPrefix(l, "listening") {
			return fmt.Errorf("server: %s", l)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("server: not listening within 20 s")
	}
}

// kill ends the server as a crash would.
func (c *child) kill() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cmd == nil {
		return nil
	}
	err := c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	c.cmd = nil
	return err
}

// stop ends the server cleanly.
func (c *child) stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.stdin.Close()
	err := c.cmd.Wait()
	c.cmd = nil
	return err
}

func (c *child) restart(context.Context) error {
	if err := c.kill(); err != nil {
		return err
	}
	return c.start()
}
