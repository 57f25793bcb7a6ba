//go:build unix

package embedded_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
)

func TestCalls_end_in_time_while_the_server_stands_still(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url(), Timeout: 500 * time.Millisecond})
	s := queue(t, c, "still")
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(server.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Signal(syscall.SIGCONT) }()
	// The signal is on its way: wait until every thread has stopped.
	if _, err := syscall.Wait4(process.Pid, nil, syscall.WUNTRACED, nil); err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]func() error{
		"send":          func() error { return c.Send(t.Context(), numbered("still", "k", 1)) },
		"send a batch":  func() error { return c.Send(t.Context(), numbered("still", "k", 2000)) },
		"provision":     func() error { return c.Provision(t.Context(), nil, []driver.Subscription{s}) },
		"open receiver": func() error { _, err := c.OpenReceiver(t.Context(), s); return err },
		"browse":        func() error { _, err := c.Browse(t.Context(), "still", "", 1); return err },
		"close":         func() error { return r.Close(t.Context()) },
	} {
		began := time.Now()
		err := call()
		if took := time.Since(began); err == nil || took > 3*time.Second {
			t.Errorf("%s: %v after %v, want an error within a second or so", what, err, took)
		}
		if what != "close" && c.Classify(err) != driver.Retryable {
			t.Errorf("%s: %v is %v, want it retryable", what, err, c.Classify(err))
		}
	}
	_ = process.Signal(syscall.SIGCONT)
	for began := time.Now(); c.Provision(t.Context(), nil, []driver.Subscription{s}) != nil; {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the server does not answer any more")
		}
	}
}

// A server that stands still is told from one that has nothing to say within
// seconds, so that another of its cluster can be taken.
func TestLink_to_a_server_that_stands_still_is_given_up(t *testing.T) {
	drivertest.CheckLeaks(t)
	server := newChild(t)
	c := connect(t, natsbus.Options{URL: server.url(), Ping: 200 * time.Millisecond})
	var nc *nats.Conn
	c.As(&nc)
	process, err := os.FindProcess(server.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Signal(syscall.SIGCONT) }()
	began := time.Now()
	for nc.IsConnected() {
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("after %v the link is taken for whole", took)
		}
		<-time.After(10 * time.Millisecond)
	}
}
