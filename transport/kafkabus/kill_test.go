package kafkabus_test

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
)

// The server is killed under two instances that share the partitions, with
// messages on their way to it and from it, and started again.
func TestServer_killed_amid_20000_messages_loses_and_inverts_nothing(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	drivertest.CheckLeaks(t)
	c := connect(t, options(s))
	sub := subscription("killed-server", 4)
	provision(t, c, sub.Channel, sub)
	h := newHandled()
	for range 2 {
		defer consume(t, connect(t, options(s)), sub, h, 0)()
	}
	const n, batch, keys = 20_000, 200, 50
	ms := numberedAll(sub.Channel.Name, n, keys)
	var again int
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := 0; i < n; i += batch {
			a, err := resend(c, ms[i:i+batch])
			if err != nil {
				t.Errorf("batch at %d: %v", i, err)
				return
			}
			again += a
		}
	})
	h.await(t, n/3)
	if h.count() > 9*n/10 {
		t.Errorf("%d of %d messages were handled before the server was killed", h.count(), n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	h.await(t, n)
	h.check(t, n)
	t.Logf("%d sends again, %d copies", again, h.copies)
}

// A consumer in a process of its own tells on its standard output what it
// handles, before it acknowledges it.
const (
	consumerVariable = "DOVETAIL_KAFKABUS_TEST_CONSUMER" // the URL; the process is a consumer
	channelVariable  = "DOVETAIL_KAFKABUS_TEST_CHANNEL"
)

// consumerMain is such a process. It ends when it is killed.
func consumerMain(ctx context.Context) error {
	c, err := driver.Open(ctx, os.Getenv(consumerVariable))
	if err != nil {
		return err
	}
	sub := subscription(os.Getenv(channelVariable), 0)
	sub.Instance = fmt.Sprint("process-", os.Getpid())
	sub.Window = 50
	r, err := c.OpenReceiver(ctx, sub)
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
			if _, err := os.Stdout.WriteString(fmt.Sprintf("%s %s %s\n", m.ID, m.Key, m.Body)); err != nil {
				return err
			}
			if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil && c.Classify(err) != driver.Retryable {
				return err
			}
		}
	}
}

func TestConsumer_killed_again_and_again_loses_and_inverts_nothing(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("killed-consumer", 4)
	provision(t, c, sub.Channel, sub)
	// All processes write to one pipe, so that their lines are in the order in
	// which they handled them.
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var running []*exec.Cmd
	start := func() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), consumerVariable+"="+s.URL()+"?session-timeout=6s&heartbeat=100ms", channelVariable+"="+sub.Channel.Name)
		cmd.Stdout, cmd.Stderr = out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	kill := func() {
		if err := running[0].Process.Kill(); err != nil {
			t.Errorf("kill: %v", err) // it has ended by itself
		}
		_ = running[0].Wait() // killed, it says
		running = running[1:]
	}
	h := newHandled()
	var wg sync.WaitGroup
	defer func() {
		for len(running) > 0 {
			kill()
		}
		_ = out.Close()
		wg.Wait()
		_ = in.Close()
	}()
	wg.Go(func() {
		for lines := bufio.NewScanner(in); lines.Scan(); {
			words := strings.Fields(lines.Text())
			if len(words) != 3 || words[0] != words[1]+"/"+words[2] {
				t.Errorf("a consumer wrote %q", lines.Text())
				continue
			}
			h.add(words[0], words[1], words[2])
		}
	})
	const n, batch, keys, kills = 4000, 40, 20, 3
	ms := numberedAll(sub.Channel.Name, n, keys)
	wg.Go(func() {
		for i := 0; i < n; i += batch {
			if _, err := resend(c, ms[i:i+batch]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	start()
	start()
	for k := range kills {
		h.await(t, (k+1)*n/(kills+2))
		kill()
		start()
	}
	h.await(t, n)
	h.check(t, n)
	t.Logf("%d copies after %d kills", h.copies, kills)
}
