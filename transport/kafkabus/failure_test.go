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
	"github.com/twmb/franz-go/pkg/kgo"
)

// through returns options whose every connection goes through a proxy.
func through(s *servers.Server, p *servers.Proxy) kafkabus.Options {
	o := options(s)
	o.Brokers = []string{p.Addr()}
	o.Timeout = 2 * time.Second
	o.Client = []kgo.Opt{kgo.Dialer((&lifeline{to: p.Addr()}).dial)}
	return o
}

func testLink(t *testing.T, name string, trouble func(*servers.Proxy)) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription(name, 3)
	provision(t, connect(t, options(s)), sub.Channel, sub)
	p := servers.NewProxy(t, broker(s))
	c := connect(t, through(s, p))
	h := newHandled()
	defer consume(t, connect(t, through(s, p)), sub, h, 0)()
	const keys, rounds = 12, 150
	ms := numberedAll(name, keys*rounds, keys)
	var wg sync.WaitGroup
	defer wg.Wait()
	middle := make(chan struct{})
	var again int
	wg.Go(func() {
		for i := 0; i < len(ms); i += keys {
			a, err := resend(c, ms[i:i+keys])
			if err != nil {
				t.Errorf("send: %v", err)
				return
			}
			again += a
			if i == len(ms)/3 {
				close(middle)
			}
		}
	})
	await(t, middle)
	trouble(p)
	wg.Wait()
	h.await(t, len(ms))
	h.check(t, len(ms))
	t.Logf("%d messages, %d sends again, %d copies", len(ms), again, h.copies)
}

func TestLink_that_is_cut_again_and_again_loses_and_inverts_nothing(t *testing.T) {
	testLink(t, "cut", func(p *servers.Proxy) {
		for range 3 {
			p.Cut()
			<-time.After(150 * time.Millisecond)
			p.Heal()
			<-time.After(150 * time.Millisecond)
		}
	})
}

func TestLink_that_is_half_open_loses_and_inverts_nothing(t *testing.T) {
	testLink(t, "half-open", func(p *servers.Proxy) {
		p.Stall()
		<-time.After(3 * time.Second)
		p.Cut() // what was written meanwhile must not arrive: the network forgot it
		p.Heal()
	})
}

// What the network has kept for longer than the client waited arrives after all,
// beside what the client has sent again since.
func TestLink_that_delivers_late_loses_and_inverts_nothing(t *testing.T) {
	testLink(t, "late", func(p *servers.Proxy) {
		for range 2 {
			p.Stall()
			<-time.After(2500 * time.Millisecond) // and Options.Timeout is 2 s
			p.Heal()
		}
	})
}

// Several batches of a key are under way when the link is cut for longer than
// their deadline: whatever fails, what is confirmed is a prefix.
func TestSend_keeps_the_order_of_a_pipelined_key(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription("pipelined", 1)
	provision(t, connect(t, options(s)), sub.Channel, sub)
	p := servers.NewProxy(t, broker(s))
	c := connect(t, through(s, p))
	if _, err := resend(c, []*driver.Message{numbered("pipelined", 0, 0)}); err != nil {
		t.Fatal(err)
	}
	const batches = 40
	outcome := make([]error, batches)
	var wg sync.WaitGroup
	for i := range batches {
		began := make(chan struct{})
		wg.Go(func() {
			close(began)
			outcome[i] = c.Send(context.Background(), []*driver.Message{numbered("pipelined", 0, 2*i+1), numbered("pipelined", 0, 2*i+2)})
		})
		<-began
		<-time.After(10 * time.Millisecond)
		if i == batches/4 {
			p.Stall()
		}
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
	for i := failed; i < batches; i++ {
		if _, err := resend(c, []*driver.Message{numbered("pipelined", 0, 2*i+1), numbered("pipelined", 0, 2*i+2)}); err != nil {
			t.Fatal(err)
		}
	}
	h := newHandled()
	defer consume(t, c, sub, h, 0)()
	h.await(t, 2*batches+1)
	h.check(t, 2*batches+1)
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
	if _, err := resend(c, []*driver.Message{numbered("stopped", 0, 0), numbered("stopped", 1, 0)}); err != nil {
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
