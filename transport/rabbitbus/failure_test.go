package rabbitbus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

// by changes options so that they reach the server by way of a proxy, and give a
// silent link up soon.
func by(o *rabbitbus.Options, addr string) {
	o.Servers = []string{addr}
	o.Timeout = 2 * time.Second
	o.Heartbeat = time.Second
}

// through are such options.
func through(t testing.TB, srv *servers.Server, addr string) rabbitbus.Options {
	o := optionsFor(t, srv)
	by(&o, addr)
	return o
}

func testLinkStalls(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	proxy := servers.NewProxy(t, srv.Addr())
	o := through(t, srv, proxy.Addr())
	o.Heartbeat = 10 * time.Second // it is the calls that end
	stall(t, connect(t, o), proxy.Stall, proxy.Heal)
}

func TestServer_that_is_stopped_hangs_nobody(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	pause := func() {
		if err := srv.Pause(); err != nil {
			t.Error(err)
		}
	}
	resume := func() {
		if err := srv.Resume(); err != nil {
			t.Error(err)
		}
	}
	o := through(t, srv, srv.Addr())
	o.Heartbeat = 10 * time.Second
	stall(t, connect(t, o), pause, resume)
	// Shutting down while the server is stopped ends in time as well.
	c := connect(t, o)
	s := newQueue(t, c, 10)
	sendAll(t, c, numbered(s.Channel.Name, 5, 1))
	r := openReceiver(t, c, s)
	ds := take(t, r, 3)
	pause()
	defer resume()
	sent := make(chan error, 1)
	go func() { sent <- c.Send(within(t), numbered(s.Channel.Name, 5, 1)) }()
	inTime(t, "shutdown under a stopped server", func() {
		_ = r.Settle(within(t), []driver.Settlement{{Delivery: ds[0]}})
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_ = r.Close(ctx)
		_ = c.Close(ctx)
	})
	if err := <-sent; err == nil {
		t.Error("a send that a stopped server did not confirm is a success")
	}
}

// stall makes every call while the server does not answer, and sees whether all
// goes on afterwards.
func stall(t *testing.T, c *rabbitbus.Conn, stop, goOn func()) {
	s := newQueue(t, c, 10)
	ms := numbered(s.Channel.Name, 20, 1)
	r := openReceiver(t, c, s)
	sendAll(t, c, ms[:10])
	ds := take(t, r, 5)
	stop()
	inTime(t, "a send to a server that does not answer", func() {
		err := c.Send(within(t), ms[10:11])
		var se *driver.SendError
		if !errors.As(err, &se) || !se.Failures[0].Unknown || c.Classify(err) != driver.Retryable {
			t.Errorf("it is %v, want a retryable error of unknown outcome", err)
		}
	})
	inTime(t, "settling", func() { _ = r.Settle(within(t), []driver.Settlement{{Delivery: ds[0]}}) })
	inTime(t, "provisioning", func() {
		if err := c.Provision(within(t), []driver.Channel{{Name: "other-" + s.Channel.Name}}, nil); c.Classify(err) != driver.Retryable {
			t.Errorf("it is %v, want a retryable error", err)
		}
	})
	inTime(t, "receiving with a context that ends", func() {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		for ctx.Err() == nil {
			got, _ := r.Receive(ctx, 10)
			ds = append(ds, got...)
		}
	})
	goOn()
	sendAll(t, c, ms[10:])
	seen := map[string]bool{}
	for _, d := range ds { // they come again only if the link was lost
		seen[d.Message.ID] = true
		_ = r.Settle(within(t), []driver.Settlement{{Delivery: d}})
	}
	for ctx := within(t); len(seen) < len(ms); {
		got, err := r.Receive(ctx, 10)
		if err != nil && c.Classify(err) != driver.Retryable || ctx.Err() != nil {
			t.Fatalf("received %d of %d: %v", len(seen), len(ms), err)
		}
		for _, d := range got {
			seen[d.Message.ID] = true
			_ = r.Settle(ctx, []driver.Settlement{{Delivery: d}})
		}
	}
}

// A tearing proxy can take the client's side of a connection away without the
// server's notice, as the loss of a machine would.
type tearing struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup
	mu     sync.Mutex
	in     []net.Conn
	out    []net.Conn
}

func newTearing(t testing.TB, target string) *tearing {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tearing{l: l, target: target}
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.in, p.out = append(p.in, in), append(p.out, out)
			p.mu.Unlock()
			p.wg.Go(func() { _, _ = io.Copy(out, in) })
			p.wg.Go(func() { _, _ = io.Copy(io.MultiWriter(in, io.Discard), out) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.tear()
		p.mu.Lock()
		for _, c := range p.out {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *tearing) tear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.in {
		_ = c.Close()
	}
	p.in = nil
}

func testLostLink(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	for name, partitions := range map[string]int{"one queue": 0, "partitions": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			proxy := newTearing(t, srv.Addr())
			o := through(t, srv, proxy.l.Addr().String())
			o.Partitions = partitions
			c := connect(t, o)
			s := newQueue(t, c, 10)
			group := drivertest.NewConsumerGroup(t, s)
			const n = 60
			if err := group.Send(within(t), c, numbered(s.Channel.Name, n, 3)); err != nil {
				t.Fatal(err)
			}
			r := openReceiver(t, c, s)
			hand := take(t, r, 5) // of the rest of the window nobody ever hears
			group.Note("1", hand...)
			proxy.tear()
			seen := map[string]bool{}
			for _, d := range hand {
				seen[d.Message.ID] = true
			}
			for len(seen) < n {
				d := take(t, r, 1)[0]
				group.Note("1", d)
				seen[d.Message.ID] = true
				_ = r.Settle(within(t), []driver.Settlement{{Delivery: d}}) // it comes again if that fails
			}
			group.Check()
		})
	}
}

func TestSend_to_what_was_deleted_meanwhile_is_not_found(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	gone, stays := newQueue(t, c, 10), newQueue(t, c, 10)
	topic := driver.Channel{Name: "topic-" + gone.Channel.Name, Kind: driver.PublishSubscribe}
	if err := c.Provision(within(t), []driver.Channel{topic}, nil); err != nil {
		t.Fatal(err)
	}
	err := withChannel(srv, func(ch *amqp.Channel) error {
		_, err := ch.QueueDelete(gone.Channel.Name, false, false, false)
		return errors.Join(err, ch.ExchangeDelete(topic.Name, false, false))
	})
	if err != nil {
		t.Fatal(err)
	}
	ms := numbered(stays.Channel.Name, 6, 6)
	ms[1].Channel, ms[4].Channel = gone.Channel.Name, gone.Channel.Name
	err = c.Send(within(t), ms)
	var se *driver.SendError
	if !errors.As(err, &se) || len(se.Failures) != 2 || se.Failures[0].Index != 1 || se.Failures[1].Index != 4 ||
		!errors.Is(se.Failures[0].Err, driver.ErrNotFound) || se.Failures[0].Unknown {
		t.Errorf("a send of which 1 and 4 go to a queue that is gone: %v", err)
	}
	// The server ends the channel of who publishes to an exchange that is gone.
	ms = numbered(stays.Channel.Name, 3, 3)
	ms[1].Channel = topic.Name
	err = c.Send(within(t), ms)
	if !errors.As(err, &se) || !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a send of which 1 goes to an exchange that is gone: %v", err)
	}
	for _, f := range se.Failures {
		if is := errors.Is(f.Err, driver.ErrNotFound); is != (f.Index == 1) {
			t.Errorf("message %d: %v", f.Index, f.Err)
		}
	}
	if err := c.Send(within(t), numbered(stays.Channel.Name, 1, 1)); err != nil {
		t.Errorf("the send after it: %v", err)
	}
}

func TestSend_of_more_than_the_server_takes_is_too_large(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	ctl(t, srv, "eval", "application:set_env(rabbit, max_message_size, 1000).")
	defer ctl(t, srv, "eval", "application:set_env(rabbit, max_message_size, 134217728).")
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 10)
	ms := numbered(s.Channel.Name, 4, 4)
	ms[1].Body, ms[3].Body = make([]byte, 1001), make([]byte, 2000)
	left := ms
	for len(left) > 0 { // as a sender does: what failed may be sent again, unless it is too large
		err := c.Send(within(t), left)
		if err == nil {
			break
		}
		var se *driver.SendError
		if !errors.As(err, &se) {
			t.Fatal(err)
		}
		var next []*driver.Message
		for _, f := range se.Failures {
			m := left[f.Index]
			switch tooLarge := len(m.Body) > 1000; {
			case tooLarge != errors.Is(f.Err, driver.ErrTooLarge):
				t.Fatalf("%s with a body of %d bytes: %v", m.ID, len(m.Body), f.Err)
			case tooLarge && (f.Unknown || c.Classify(f.Err) != driver.TooLarge):
				t.Errorf("%s with a body of %d bytes: %v, unknown: %v", m.ID, len(m.Body), f.Err, f.Unknown)
			case !tooLarge:
				next = append(next, m)
			}
		}
		left = next
	}
	r := openReceiver(t, c, s)
	for seen := map[string]bool{}; len(seen) < 2; { // one of unknown outcome may come twice
		seen[take(t, r, 1)[0].Message.ID] = true
	}
	m := numbered(s.Channel.Name, 1, 1)[0]
	m.Headers = driver.Headers{{Name: "a", Value: strings.Repeat("x", 66_000)}, {Name: "b", Value: strings.Repeat("x", 66_000)}}
	if err := c.Send(within(t), []*driver.Message{m}); c.Classify(err) != driver.TooLarge {
		t.Errorf("headers beyond a frame: %v", err)
	}
}

func TestSend_uses_no_channel_ids_up(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 10)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() { // more in all than the 2047 channels of a connection
			for range 35 {
				if err := c.Send(within(t), numbered(s.Channel.Name, 1, 1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestClose_with_deliveries_in_hand_leaves_nothing_behind(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 50)
	if err := c.Send(within(t), numbered(s.Channel.Name, 100, 4)); err != nil {
		t.Fatal(err)
	}
	take(t, openReceiver(t, c, s), 20)
	if err := c.Close(within(t)); err != nil {
		t.Error(err)
	}
}

func testConnectErrors(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	o := optionsFor(t, srv)
	for name, change := range map[string]func(*rabbitbus.Options){
		"password": func(o *rabbitbus.Options) { o.User, o.Password = "guest", "sesame" },
		"vhost":    func(o *rabbitbus.Options) { o.VHost = "nowhere" },
	} {
		o := o
		change(&o)
		c, err := rabbitbus.Connect(within(t), o)
		if err == nil {
			_ = c.Close(within(t))
		}
		if !errors.Is(err, driver.ErrDenied) {
			t.Errorf("a wrong %s is %v, want denied", name, err)
		}
	}
	o.Servers = []string{"127.0.0.1:1"}
	if _, err := rabbitbus.Connect(within(t), o); !errors.Is(err, driver.ErrRetryable) {
		t.Errorf("no server: %v, want it retryable", err)
	}
	u, _ := url.Parse("amqp://me:sesame@127.0.0.1:1/shop")
	o, err := rabbitbus.ParseURL(u)
	if err != nil || o.User != "me" || o.Password != "sesame" || o.VHost != "shop" {
		t.Errorf("%+v, %v", o, err)
	}
}
