package kafkabus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
)

// Several batches of a key are under way when the link is cut for longer than
// their deadline: whatever fails, what is confirmed is a prefix.
func TestSend_keeps_the_order_of_a_pipelined_key(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription("pipelined", 1)
	provision(t, connect(t, options(s)), sub.Channel, sub)
	p := servers.NewProxy(t, broker(s))
	o := options(s)
	by(&o, p.Addr(), &lifeline{})
	c := connect(t, o)
	group := drivertest.NewConsumerGroup(t, sub)
	send := func(ms []*driver.Message) {
		t.Helper()
		if err := group.Send(t.Context(), c, ms); err != nil {
			t.Fatal(err)
		}
	}
	send(numberedAll("pipelined", 1, 1))
	const batches = 40
	batch := func(i int) []*driver.Message { return drivertest.Numbered("pipelined", "k", 2*i+1, 2*i+3, 1) }
	outcome := make([]error, batches)
	var wg sync.WaitGroup
	for i := range batches {
		if i == batches/4 {
			p.Stall()
		}
		began := make(chan struct{})
		wg.Go(func() {
			close(began)
			outcome[i] = c.Send(context.Background(), batch(i))
		})
		if <-began; i < batches/4 {
			wg.Wait() // a busy machine may begin the next one's Send before this one's
		}
		<-time.After(10 * time.Millisecond)
	}
	wg.Wait()
	p.Cut()
	p.Heal()
	failed := -1
	for i, err := range outcome {
		if err != nil && failed < 0 {
			failed = i
		}
		if err == nil && failed >= 0 {
			t.Fatalf("batch %d was confirmed after batch %d had failed: %v", i, failed, outcome[failed])
		}
		var se *driver.SendError
		if err != nil && (!errors.As(err, &se) || c.Classify(se.Failures[0].Err) != driver.Retryable) {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	if failed < 0 {
		t.Fatal("nothing failed: the test stalled nothing")
	}
	t.Logf("%d of %d batches were confirmed", failed, batches)
	for i := range batches {
		if i < failed {
			group.Sent(batch(i)...)
			continue
		}
		send(batch(i))
	}
	group.Join(c, "1")
	group.Check()
}

// Every call has a deadline of ours, and shutdown ends in time, while the server
// is stopped where it is (watermill 446 and 568).
func TestConn_ends_in_time_under_a_server_that_does_not_answer(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	drivertest.CheckLeaks(t)
	sub := subscription("stopped", 2)
	provision(t, connect(t, options(s)), sub.Channel, sub)
	o := options(s)
	o.Timeout = 2 * time.Second
	c := connect(t, o)
	if err := drivertest.NewConsumerGroup(t, sub).Send(t.Context(), c, numberedAll("stopped", 2, 2)); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	ds := receive(t, r, 1)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	defer s.Resume()
	const most = 15 * time.Second // for calls of 2 s, on a machine that is busy with others
	within := func(what string, want driver.Kind, call func() error) {
		t.Helper()
		began := time.Now()
		err := call()
		took := time.Since(began)
		var se *driver.SendError
		if errors.As(err, &se) {
			if !se.Failures[0].Unknown {
				t.Errorf("%s: %v, want an unknown outcome", what, err)
			}
			err = se.Failures[0].Err
		}
		if k := c.Classify(err); err != nil && k != want || err == nil && want != driver.Unclassified {
			t.Errorf("%s: %v is %q, want %q", what, err, k, want)
		}
		if took > most {
			t.Errorf("%s took %v, want at most %v", what, took, most)
		}
	}
	ctx := context.Background()
	within("send", driver.Retryable, func() error { return c.Send(ctx, []*driver.Message{numbered("stopped", 0, 1)}) })
	within("settle", driver.Unclassified, func() error { return r.Settle(ctx, []driver.Settlement{{Delivery: ds[0]}}) })
	within("provision", driver.Retryable, func() error { return c.Provision(ctx, []driver.Channel{sub.Channel}, nil) })
	within("open receiver", driver.Retryable, func() error { _, err := c.OpenReceiver(ctx, sub); return err })
	within("receive", driver.Retryable, func() error {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		for {
			ds, err := r.Receive(short, 10)
			if err != nil {
				return err
			}
			_ = ds // was fetched before
		}
	})
	began := time.Now()
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := c.Close(short); err != nil {
		t.Logf("close: %v", err)
	}
	if took := time.Since(began); took > most {
		t.Errorf("close took %v, want at most %v", took, most)
	}
}

func TestConnect_to_nobody_is_retryable_and_quick(t *testing.T) {
	drivertest.CheckLeaks(t)
	began := time.Now()
	_, err := kafkabus.Connect(t.Context(), kafkabus.Options{Brokers: []string{"127.0.0.1:1"}, Timeout: time.Second, User: "u", Password: "secret"})
	if driver.Classify(err) != driver.Retryable {
		t.Errorf("%v is %q", err, driver.Classify(err))
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("took %v", took)
	}
}
