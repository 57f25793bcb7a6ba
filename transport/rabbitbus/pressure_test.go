package rabbitbus_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

func TestSend_keeps_the_order_of_a_key_when_the_queue_refuses(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, change := range map[string]func(*rabbitbus.Options){
		"quorum":     func(o *rabbitbus.Options) { o.MaxLength = 20 },
		"classic":    func(o *rabbitbus.Options) { o.MaxLength, o.Classic = 20, true },
		"partitions": func(o *rabbitbus.Options) { o.MaxLength, o.Partitions = 10, 3 },
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.CheckLeaks(t)
			o := optionsFor(t, srv)
			change(&o)
			c := connect(t, o)
			s := newQueue(t, c, 8)
			group := drivertest.NewConsumerGroup(t, s)
			group.Each = time.Millisecond
			// Whoever makes room begins when there is none.
			sender := &refusable{Conn: c, refused: make(chan struct{})}
			ended := make(chan error, 1)
			go func() {
				const n, batch, keys = 1500, 100, 10
				var err error
				for i := 0; i < n && err == nil; i += batch {
					err = group.Send(within(t), sender, drivertest.Numbered(s.Channel.Name, "k", i, i+batch, keys))
				}
				ended <- err
			}()
			select {
			case <-sender.refused:
			case err := <-ended:
				t.Fatalf("nothing was refused: %v", err)
			}
			group.Join(c, "1")
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			group.Check()
			if text := sender.first.Error(); !strings.Contains(text, "channel "+s.Channel.Name+" is full") {
				t.Errorf("the error does not name the channel: %s", text)
			}
		})
	}
}

// A refusable is a connection that tells of the first Send that fails.
type refusable struct {
	driver.Conn

	once    sync.Once
	first   error
	refused chan struct{} // closed once first is set
}

func (c *refusable) Send(ctx context.Context, messages []*driver.Message) error {
	err := c.Conn.Send(ctx, messages)
	if err != nil {
		c.once.Do(func() { c.first = err; close(c.refused) })
	}
	return err
}

// ctl runs rabbitmqctl against a server, whose environment it takes over, and
// returns what it says.
func ctl(t testing.TB, srv *servers.Server, args ...string) (output string) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b), "RABBITMQ_MNESIA_BASE="+srv.Dir()) {
			continue
		}
		cmd := exec.Command("/usr/lib/rabbitmq/bin/rabbitmqctl", args...)
		cmd.Env = strings.Split(strings.TrimRight(string(b), "\x00"), "\x00")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("rabbitmqctl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	t.Fatal("the server's process was not found")
	return ""
}

func TestSend_to_a_server_short_of_memory_fails_in_time_and_goes_on_later(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Timeout = 2 * time.Second
	c := connect(t, o)
	s := newQueue(t, c, 10)
	sendAll(t, c, numbered(s.Channel.Name, 4, 1))
	r := openReceiver(t, c, s)
	ctl(t, srv, "set_vm_memory_high_watermark", "absolute", "1")
	calm := sync.OnceFunc(func() { ctl(t, srv, "set_vm_memory_high_watermark", "absolute", "1GB") })
	defer calm()
	large := numbered(s.Channel.Name, 40, 40) // more than the sockets hold
	for _, m := range large {
		m.Body = make([]byte, 512<<10)
	}
	told := false
	for failures := 0; failures < 3; {
		inTime(t, "a send under a memory alarm", func() {
			err := c.Send(within(t), large)
			if err == nil && failures == 0 {
				return // the alarm is not up yet
			}
			failures++
			if c.Classify(err) != driver.Retryable {
				t.Errorf("it is %v, want a retryable error", err)
			}
			told = told || err != nil && strings.Contains(err.Error(), "memory")
		})
	}
	if !told {
		t.Error("no error names the cause")
	}
	// Receiving and settling go on: they have a connection of their own.
	for _, d := range take(t, r, 4) {
		if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
			t.Errorf("settle under a memory alarm: %v", err)
		}
	}
	inTime(t, "closing under a memory alarm", func() {
		other := tryConnect(t, o)
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		_ = other.Send(ctx, large[:1])
		_ = other.Close(within(t))
	})
	examined := func(alarm bool) { // what the management plugin tells is seconds old
		t.Helper()
		for ctx := within(t); ; pause(ctx, 200*time.Millisecond) {
			found, err := c.Examine(ctx)
			if err == nil && alarm == (len(found) == 1 && found[0].Stops && strings.Contains(found[0].Problem, "memory")) && (alarm || len(found) == 0) {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("with an alarm %t it tells of %+v, %v", alarm, found, err)
			}
		}
	}
	examined(true)
	calm()
	sendAll(t, c, numbered(s.Channel.Name, 4, 1))
	examined(false)
}
