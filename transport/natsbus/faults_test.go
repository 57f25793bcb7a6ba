package natsbus_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func work(channel string) driver.Subscription {
	return driver.Subscription{Channel: driver.Channel{Name: channel}, Group: "worker", Instance: "1", Window: 400}
}

// meddle does something to the network now and then until the returned function
// is called, which heals it.
func meddle(do func(r *rand.Rand, ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			do(r, ctx)
		}
	})
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// flaky cuts or stalls a link for up to a second, again and again.
func flaky(p *servers.Proxy, longest time.Duration) (stop func()) {
	stop = meddle(func(r *rand.Rand, ctx context.Context) {
		pause(ctx, 300*time.Millisecond+rand.N(200*time.Millisecond))
		if r.IntN(2) == 0 {
			p.Cut()
		} else {
			p.Stall()
		}
		pause(ctx, rand.N(longest))
		p.Heal()
	})
	return stop
}

// A receiver that lost its link, and one that is opened in its stead, first get
// what was on its way to it: seen as first effects that came behind their
// successors when the lease of the earlier ones had run out.
func TestOrder_of_one_receiver_survives_links_that_are_cut_under_load(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	p := servers.NewProxy(t, srv.Addr())
	o := natsbus.Options{URL: p.URL(srv.URL()), AckWait: 2 * time.Second}
	sender, c := connect(t, o), connect(t, o)
	s := work("cut-under-load")
	provision(t, sender, s)
	w := newCrew(t)
	w.drain = 5 * time.Millisecond // so that much is in hand when the link is cut
	w.join(c, s, "1")
	stop := flaky(p, 500*time.Millisecond)
	defer stop()
	sent := 0
	for began := time.Now(); time.Since(began) < 6*time.Second; sent += 100 {
		if err := sendAll(within(t), sender, keyed("cut-under-load", sent, sent+100, 25)); err != nil {
			t.Fatal(err)
		}
		pause(within(t), 10*time.Millisecond)
	}
	stop()
	w.await(sent)
	w.check(sent)
}

// A receiver that was killed with all it had in hand is succeeded at once, not
// when its leases have run out, and in order.
func TestOrder_of_one_receiver_survives_its_death(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	c := connect(t, natsbus.Options{URL: srv.URL()}) // leases of 30 s
	s := work("death-of-one")
	provision(t, c, s)
	const n = 200
	feed(t, c, s.Channel.Name, n, 5, 50, nil)
	dead, err := natsbus.Connect(within(t), natsbus.Options{URL: srv.URL(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	r, err := dead.OpenReceiver(within(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Receive(within(t), 10); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = dead.Close(ended) // gives nothing back
	w := newCrew(t)
	began := time.Now()
	w.join(c, s, "2")
	w.await(n)
	w.check(n)
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %v, as if leases had run out", took)
	}
}

// killHalfway kills the server and starts it again when half is sent.
func killHalfway(t *testing.T, srv *servers.Server, n int) func(sent int) {
	var once sync.Once
	return func(sent int) {
		if sent < n/2 {
			return
		}
		once.Do(func() {
			if err := srv.Restart(within(t)); err != nil {
				t.Errorf("restart: %v", err)
			}
		})
	}
}

func TestServer_killed_in_the_middle_of_20000_messages_loses_none(t *testing.T) {
	srv := servers.Start(t, servers.NATS)
	drivertest.CheckLeaks(t)
	const n, keys = 20_000, 50
	o := natsbus.Options{URL: srv.URL(), AckWait: 5 * time.Second}
	sender, c := connect(t, o), connect(t, o)
	s := work("killed")
	provision(t, sender, s)
	one := newCrew(t)
	one.join(c, s, "1")
	shared := s
	shared.Channel.Name, shared.Channel.Partitions, shared.Ordered = "killed.shared", 4, true
	po := partitioned(srv.URL(), 0)
	provision(t, connect(t, po), shared)
	two := newCrew(t)
	two.join(connect(t, po), shared, "1")
	two.join(connect(t, po), shared, "2")

	// The server dies while both feeds are under way.
	var wg sync.WaitGroup
	wg.Go(func() { feed(t, sender, shared.Channel.Name, n, keys, 200, nil) })
	feed(t, connect(t, o), s.Channel.Name, n, keys, 200, killHalfway(t, srv, n))
	wg.Wait()
	one.await(n)
	one.check(n)
	two.await(n)
	two.check(n)
}

// A full channel refuses messages in the middle of what is under way; the sender
// sends them again, and nothing is lost or out of order.
func TestFull_channel_refuses_in_the_middle_of_a_pipeline_and_loses_nothing(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	drivertest.CheckLeaks(t)
	const n, keys = 6_000, 40
	o := partitioned(srv.URL(), 3)
	o.MaxBytes = 64 << 10 // some 250 messages
	c := connect(t, o)
	s := work("full")
	s.Ordered = true
	provision(t, c, s)
	refused := 0
	var mu sync.Mutex
	w := newCrew(t)
	w.drain = time.Millisecond
	w.join(connect(t, o), s, "1")
	w.join(connect(t, o), s, "2")
	// Two senders with keys of their own, each with batches larger than what fits.
	var wg sync.WaitGroup
	for half := range 2 {
		wg.Go(func() {
			sender := connect(t, o)
			var mine []*driver.Message
			for _, m := range keyed(s.Channel.Name, 0, n, keys) {
				if int(m.Key[len(m.Key)-1])%2 == half {
					mine = append(mine, m)
				}
			}
			for len(mine) > 0 {
				batch := mine[:min(len(mine), 500)]
				mine = mine[len(batch):]
				times, err := sendCounting(within(t), sender, batch)
				mu.Lock()
				refused += times
				mu.Unlock()
				if err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	w.await(n)
	w.check(n)
	if refused == 0 {
		t.Error("the channel refused nothing, so that this showed nothing")
	}
	t.Logf("%d sends met a full channel", refused)
}
