package verify

import (
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/internal/leak"
)

// echo answers every connection with what it sends, and returns its URL.
func echo(t *testing.T) string {
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
			_, _ = io.Copy(c, c) // one at a time is enough here
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "nats://user:secret@" + l.Addr().String() + "?x=1"
}

func said(c net.Conn, text string, within time.Duration) error {
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, len(text)))
	return err
}

func TestProxy_cuts_and_holds_up_until_it_is_healed(t *testing.T) {
	leak.Check(t)
	p, raw, err := proxied(echo(t))
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	defer p.close()
	u, err := url.Parse(raw)
	if err != nil || u.User.String() != "user:secret" || u.RawQuery != "x=1" {
		t.Fatalf("URL %s, %v: want only the host replaced", raw, err)
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	if err := said(c, "hello", 5*time.Second); err != nil {
		t.Fatal(err)
	}
	p.hold()
	if err := said(c, "held", 50*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("held up: %v, want a time-out", err)
	}
	p.heal()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Errorf("healed: %v, want what was held up", err)
	}
	p.breakAll()
	if err := said(c, "cut", 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("cut: %v, want a reset", err)
	}
	_ = c.Close()
	if c, err := net.Dial("tcp", u.Host); err == nil { // it may be reset before Dial has returned
		if said(c, "cut", 5*time.Second) == nil {
			t.Error("a new connection goes through while all are cut")
		}
		_ = c.Close()
	}
	p.heal()
	c = dial()
	if err := said(c, "hello", 5*time.Second); err != nil {
		t.Errorf("healed: %v", err)
	}
	_ = c.Close()
}

func TestProxied_leaves_alone_what_cannot_be_cut(t *testing.T) {
	for _, raw := range []string{"file:/tmp/x", "sqlite:/tmp/x.db", "kafka://127.0.0.1:9092", "nats://a:1,b:2", "nats://a?servers=b"} {
		if p, same, err := proxied(raw); p != nil || same != raw || err != nil {
			t.Errorf("%s: %v, %s, %v", raw, p, same, err)
		}
	}
	p, raw, err := proxied("postgres://db.example.com/shop")
	if err != nil || p.target != "db.example.com:5432" || !strings.HasSuffix(raw, "/shop") {
		t.Fatalf("%s, %v", raw, err)
	}
	p.close()
}
