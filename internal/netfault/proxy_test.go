package netfault

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/internal/leak"
)

// slow bounds what comes for certain, moment is how long nothing is waited for.
const (
	slow   = 30 * time.Second
	moment = 50 * time.Millisecond
)

func listen(t *testing.T, target string) *Proxy {
	t.Helper()
	leak.Check(t)
	p, err := Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// echo answers every connection with what it sends.
func echo(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c) // the tests have one connection at a time
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func connect(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// attempt returns how a connection ends that may not even be made.
func attempt(t *testing.T, p *Proxy) error {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = receive(c, 1, slow)
	return err
}

// exchange sends text and wants it back within the time.
func exchange(c net.Conn, text string, within time.Duration) (string, error) {
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	return receive(c, len(text), within)
}

func receive(c net.Conn, n int, within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	buf := make([]byte, n)
	n, err := io.ReadFull(c, buf)
	return string(buf[:n]), err
}

func TestProxy_forwards_and_passes_the_end_on(t *testing.T) {
	p := listen(t, echo(t))
	c := connect(t, p)
	if got, err := exchange(c, "hello", slow); got != "hello" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(c, 1, slow); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF", err)
	}
	if got, want := p.URL("amqp://u:p@"+p.target+"/"), "amqp://u:p@"+p.Addr()+"/"; got != want {
		t.Errorf("URL %s, want %s", got, want)
	}
}

func TestProxy_Cut_resets_connections_until_Heal(t *testing.T) {
	p := listen(t, echo(t))
	c := connect(t, p)
	if _, err := exchange(c, "hello", slow); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	if _, err := receive(c, 1, slow); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that was cut says %v, want a reset", err)
	}
	if err := attempt(t, p); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a new connection says %v, want a reset", err)
	}
	p.Heal()
	if got, err := exchange(connect(t, p), "again", slow); got != "again" || err != nil {
		t.Errorf("after Heal: %q, %v", got, err)
	}
}

func TestProxy_Stall_holds_bytes_until_Heal(t *testing.T) {
	p := listen(t, echo(t))
	c := connect(t, p)
	if _, err := exchange(c, "hello", slow); err != nil {
		t.Fatal(err)
	}
	p.Stall()
	if got, err := exchange(c, "held", moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("stalled: %q, %v, want a timeout", got, err)
	}
	fresh := connect(t, p)
	if got, err := exchange(fresh, "new", moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a new connection, stalled: %q, %v, want a timeout", got, err)
	}
	_ = fresh.Close()
	p.Heal()
	if got, err := receive(c, 4, slow); got != "held" || err != nil {
		t.Errorf("after Heal: %q, %v", got, err)
	}
}

func TestProxy_DropClients_tells_the_client_and_not_the_server(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := listen(t, l.Addr().String())
	c := connect(t, p)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := server.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got, err := receive(c, 5, slow); got != "hello" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	p.DropClients()
	if _, err := receive(c, 1, slow); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client is told %v, want a reset", err)
	}
	if _, err := server.Write(make([]byte, 8<<20)); err != nil {
		t.Errorf("the server's write: %v, want it to go nowhere", err)
	}
	if _, err := receive(server, 1, moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the server reads %v, want silence", err)
	}
	fresh := connect(t, p)
	next, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := next.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := receive(fresh, 3, slow); got != "new" || err != nil {
		t.Errorf("a new connection got %q, %v", got, err)
	}
}

func TestProxy_without_a_target_resets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	_ = l.Close()
	if err := attempt(t, listen(t, gone)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with nobody behind the proxy: %v, want a reset", err)
	}
}
