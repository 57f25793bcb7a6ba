package rabbitbus_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// TestServer_killed_amid_20000_messages_loses_and_inverts_nothing kills the
// server under two instances that share the partitions, and starts it again.
func TestServer_killed_amid_20000_messages_loses_and_inverts_nothing(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o, c, s := partitioned(t, srv, 3)
	s.Window = 100
	m := newTeam(t, s)
	for _, c := range []*rabbitbus.Conn{c, connect(t, o)} {
		_, leave := m.join(c)
		defer leave()
	}
	const n, batch = 20_000, 200
	ms := numbered(s.Channel.Name, n, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; i < n; i += batch {
			if err := sendAll(within(t), c, ms[i:i+batch]); err != nil {
				t.Errorf("batch at %d: %v", i, err)
				return
			}
		}
	})
	m.await(t, n/3)
	if err := restart(within(t), srv); err != nil {
		t.Error(err)
	}
	wg.Wait()
	m.await(t, n)
	m.check(t, n)
}

// A consumer in a process of its own tells what it handles on its standard
// output before it acknowledges it.
const (
	consumerVariable = "DOVETAIL_RABBITBUS_TEST_CONSUMER" // the URL; the process is a consumer
	channelVariable  = "DOVETAIL_RABBITBUS_TEST_CHANNEL"
)

// consumerMain is such a process. It ends when it is killed.
func consumerMain(ctx context.Context) error {
	c, err := driver.Open(ctx, os.Getenv(consumerVariable))
	if err != nil {
		return err
	}
	r, err := c.OpenReceiver(ctx, driver.Subscription{Channel: driver.Channel{Name: os.Getenv(channelVariable)}, Group: "worker",
		Instance: fmt.Sprint(os.Getpid()), Window: 50, Ordered: true})
	if err != nil {
		return err
	}
	go func() {
		for parts := range r.(driver.Revoker).Revoked() {
			_ = r.(driver.Revoker).Release(ctx, parts)
		}
	}()
	for {
		ds, err := r.Receive(ctx, 50)
		if err != nil {
			return err
		}
		for _, d := range ds {
			m := d.Message
			line := fmt.Sprintf("%s %s %s %d\n", m.ID, m.Key, m.Body, d.Attempt)
			if _, err := os.Stdout.WriteString(line); err != nil {
				return err
			}
			if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil {
				return err
			}
		}
	}
}

func testConsumersKilled(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	_, c, s := partitioned(t, srv, 3)
	// All processes write to one pipe, so that their lines are in the order in
	// which they handled them.
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), consumerVariable+"="+srv.URL()+"?partitions=3", channelVariable+"="+s.Channel.Name)
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("kill: %v", err) // it has ended by itself
		}
		_ = cmd.Wait() // killed, it says
	}
	rec := newRecord()
	var reader, sender sync.WaitGroup
	reader.Go(func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var id, key string
			var number, attempt int
			if _, err := fmt.Sscan(lines.Text(), &id, &key, &number, &attempt); err != nil || !strings.HasPrefix(id, key+"/") {
				t.Errorf("a consumer wrote %q", lines.Text())
			}
			rec.add(id, key, number, attempt)
		}
	})
	const n, batch, kills = 6000, 60, 5
	ms := numbered(s.Channel.Name, n, 30)
	unknown := 0
	sender.Go(func() {
		for i := 0; i < n; i += batch {
			twice, err := sendAllCounting(within(t), c, ms[i:i+batch])
			if unknown += twice; err != nil {
				t.Error(err)
				return
			}
		}
	})
	running := []*exec.Cmd{start(), start()}
	for k := range kills {
		rec.await(t, (k+1)*n/(kills+1))
		kill(running[0])
		running = append(running[1:], start())
	}
	sender.Wait()
	rec.await(t, n)
	for _, cmd := range running {
		kill(cmd)
	}
	_ = out.Close()
	reader.Wait()
	_ = in.Close()
	rec.check(t, n)
	rec.checkMarked(t, unknown)
}
