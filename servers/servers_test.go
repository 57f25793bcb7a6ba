package servers

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/internal/leak"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(ownerVar); mode != "" {
		os.Exit(own(mode))
	}
	os.Exit(leak.Main(Main(m)))
}

const (
	slow   = 20 * time.Second      // for what happens, on a machine that does other things
	moment = 50 * time.Millisecond // for what does not
)

func TestLock_has_one_holder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), moment, errors.New("waited"))
	defer cancel()
	if _, err := lock(ctx, name); err == nil || ctx.Err() == nil {
		t.Fatalf("the lock that somebody has gives %v", err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := lock(t.Context(), name)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Errorf("the lock that was given back: %v", err)
	}
}

func TestReserve_keeps_ports_from_others(t *testing.T) {
	t.Setenv(CacheVar, t.TempDir())
	ports, r, err := reserve([]string{"a", "b", "c"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.release()
	if ports["a"] == ports["b"] || ports["b"] == ports["c"] || ports["a"] < firstPort || ports["c"] > lastPort {
		t.Errorf("ports %v", ports)
	}
	other := &reservation{}
	defer other.release()
	if ok, err := other.take(cached("ports"), ports["b"]); ok || err != nil {
		t.Errorf("somebody else may have port %d: %v, %v", ports["b"], ok, err)
	}
	r.release()
	if ok, err := other.take(cached("ports"), ports["b"]); !ok || err != nil {
		t.Errorf("a port that was given back is %v, %v", ok, err)
	}
}

func TestShared_is_one_server(t *testing.T) {
	t.Parallel()
	if a, b := Shared(t, NATS), Shared(t, NATS); a != b || a.Answers(t.Context()) != nil {
		t.Errorf("%p and %p", a, b)
	}
}

// receive reads n bytes, or what comes of them within the time.
func receive(c net.Conn, n int, within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	buf := make([]byte, n)
	n, err := io.ReadFull(c, buf)
	return string(buf[:n]), err
}
