package drivertest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

var faultTests = map[string]test{
	"Server_killed_in_mid_stream_loses_and_inverts_nothing":    {run: testServerKilled, gap: needsRestart},
	"Link_cut_again_and_again_loses_and_inverts_nothing":       {run: testLinkCut, gap: needsThrough, beside: true},
	"Link_half_open_again_and_again_loses_and_inverts_nothing": {run: testLinkHalfOpen, gap: needsThrough, beside: true},
	"Process_killed_again_and_again_loses_and_inverts_nothing": {run: testProcessKilled, gap: needsURL, beside: true},
	"Owner_with_a_half_open_link_is_succeeded":                 {run: testOwnerHalfOpen, gap: needsOwnerAndThrough, beside: true},
	"Owners_change_every_second_and_keep_the_order":            {run: testOwnersChange, gap: needsOrder(driver.OrderOwner), beside: true},
	"Owners_share_the_partitions":                              {run: testOwnersShare, gap: needsOrder(driver.OrderOwner), beside: true},
	"Full_channel_refuses_in_mid_stream_and_inverts_nothing":   {run: testFull, gap: needsFull, beside: true},
}

// Faults breaks the engine of h, its network and the processes that use it while
// messages flow, and checks that nothing is lost or invented and that the first
// copies of each key come in order. What it can break, h says. Except for the
// server's death, faults happen beside each other, each to channels of its own.
//
// Owners change for ten seconds, or for as long as DOVETAIL_FAULT_PERIOD says,
// as in 1m.
func Faults(t *testing.T, h Harness) { run(t, h, faultTests) }

// period is for how long owners change.
func period(t testing.TB) time.Duration {
	const name = "DOVETAIL_FAULT_PERIOD"
	v := os.Getenv(name)
	if v == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		t.Fatalf("%s is %q: want a duration as in 1m", name, v)
	}
	return d
}

func needsThrough(_ driver.Capabilities, h Harness) string {
	if h.Through == nil {
		return "the harness has no Through"
	}
	return ""
}

func needsOwnerAndThrough(c driver.Capabilities, h Harness) string {
	if why := needsOrder(driver.OrderOwner)(c, h); why != "" {
		return why
	}
	return needsThrough(c, h)
}

func needsURL(_ driver.Capabilities, h Harness) string {
	if h.URL == "" {
		return "the harness has no URL"
	}
	return ""
}

func needsFull(_ driver.Capabilities, h Harness) string {
	if h.Full == nil {
		return "the harness has no Full"
	}
	return ""
}

// crew provisions a channel, with partitions where they have owners, and
// returns the crew of its group.
func (e *env) crew(c driver.Conn) *Crew {
	e.Helper()
	ch := e.channel(driver.PointToPoint)
	if e.caps.Order >= driver.OrderOwner {
		ch.Partitions = 4
	}
	s := e.subscription(ch, "worker")
	s.Window = 200
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	crew := NewCrew(e.T, s)
	crew.Patience, crew.unordered = e.h.Patience, e.caps.Order < driver.OrderInstance
	return crew
}

// several is how many instances a crew may have at a time and keep the order.
func (e *env) several() int {
	if e.caps.Order == driver.OrderInstance {
		return 1
	}
	return 2
}

// batch is how many messages of a key may be in one Send and keep their order
// when some are refused.
func (e *env) batch(most int) int {
	if e.caps.OrderedBatch || e.caps.OrderedPipeline {
		return most
	}
	return 1
}

// feed sends each key's next messages, batch by batch and a few batches ahead of
// what is handled, until stop is called, which returns when it has ended.
func (e *env) feed(crew *Crew, c driver.Conn) (stop func()) {
	const keys, ahead = 40, 10
	batch := e.batch(2) * keys
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for sent := 0; ctx.Err() == nil; sent += batch {
			if err := crew.reach(ctx, func() bool { return crew.hurried || len(crew.ledger.count) >= sent-ahead*batch }); err != nil {
				if ctx.Err() == nil {
					e.Errorf("nothing was handled for %v", e.h.Patience)
				}
				return
			}
			if err := crew.Send(context.Background(), c, Numbered(crew.s.Channel.Name, "k", sent, sent+batch, keys)); err != nil {
				e.Errorf("send from %d on: %v", sent, err)
				return
			}
			<-tick.C
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	e.Cleanup(stop)
	return stop
}

// killed restarts the engine while n messages are sent, so many of each key in a
// Send, and handled.
func (e *env) killed(n, keys, per int) {
	sender := e.conn()
	crew := e.crew(sender)
	for i := range e.several() {
		crew.Join(e.conn(), fmt.Sprint(i))
	}
	batch := per * keys
	dying, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; i < n; i += batch {
			if i >= 2*n/3 {
				<-dying // so that some are still to be sent
			}
			if err := crew.Send(context.Background(), sender, Numbered(crew.s.Channel.Name, "k", i, min(n, i+batch), keys)); err != nil {
				e.Errorf("batch at %d: %v", i, err)
				return
			}
		}
	}()
	defer func() { <-sent }()
	die := sync.OnceFunc(func() { close(dying) })
	defer die()
	crew.more(n / 3)
	die()
	e.restart()
	<-sent
	if e.Failed() {
		return
	}
	crew.Check()
}

func testServerKilled(e *env) { e.killed(2*e.h.Many, 50, e.batch(4)) }

// through opens a connection over a new proxy.
func (e *env) through() (*netfault.Proxy, func() driver.Conn) {
	e.Helper()
	p, err := netfault.Listen(e.h.Addr)
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(p.Close)
	return p, func() driver.Conn {
		return e.open(func(ctx context.Context) (driver.Conn, error) { return e.h.Through(ctx, p.Addr()) })
	}
}

// link lets a crew and its sender work over a link that is in trouble again and
// again.
func (e *env) link(times int, trouble func(i int, p *netfault.Proxy, crew *Crew)) {
	p, far := e.through()
	crew := e.crew(e.conn())
	crew.Each = 2 * time.Millisecond // so that something is in hand
	crew.Join(far(), "1")
	stop := e.feed(crew, far())
	for i := range times {
		crew.more(300)
		crew.hurry(true) // whether anything gets through or not
		trouble(i, p, crew)
		p.Heal()
		crew.hurry(false)
	}
	crew.more(300)
	stop()
	crew.Check()
}

func testLinkCut(e *env) {
	e.link(6, func(i int, p *netfault.Proxy, _ *Crew) {
		p.Cut()
		pause(context.Background(), time.Duration(i)*50*time.Millisecond)
	})
}

// testLinkHalfOpen leaves the link silent until the sender has given it up. By
// turns the network has forgotten what was written meanwhile, or delivers it
// late, beside what was sent again since.
func testLinkHalfOpen(e *env) {
	e.link(4, func(i int, p *netfault.Proxy, crew *Crew) {
		p.Stall()
		before := crew.Failed()
		crew.until("the sender to give a silent link up", func() bool { return crew.failed > before })
		if i%2 == 0 {
			p.Cut()
		}
	})
}

// testOwnerHalfOpen makes the link of the owner of everything silent: others
// take over, and when it is back it does no harm and gets its share.
func testOwnerHalfOpen(e *env) {
	p, far := e.through()
	crew := e.crew(e.conn())
	crew.Each = 2 * time.Millisecond
	stop := e.feed(crew, e.conn())
	crew.Join(far(), "far")
	crew.until("the far instance to own everything", func() bool { return crew.owns("far") == 4 })
	crew.Join(e.conn(), "near")
	p.Stall()
	crew.until("the near instance to take everything over", func() bool { return crew.owns("near") == 4 })
	p.Heal()
	crew.until("the far instance to get a share again", func() bool { return crew.owns("far") > 0 })
	stop()
	crew.Check()
}

// testProcessKilled kills the oldest of the consuming processes in the midst of
// its work.
func testProcessKilled(e *env) {
	c := e.conn()
	crew := e.crew(c)
	stop := e.feed(crew, c)
	ps := crew.processes(e.h.URL)
	var names []string
	for range e.several() {
		names = append(names, ps.start())
	}
	works := func(instance string) {
		crew.until(instance+" to be at work", func() bool { return crew.ledger.by[instance] >= 50 })
	}
	for kills := range 3 {
		works(names[kills])
		ps.kill()
		names = append(names, ps.start())
	}
	works(names[len(names)-1])
	stop()
	crew.Check()
	ps.end()
	crew.checkMarked()
}

// testOwnersChange replaces one of two instances every second, as often as the
// period has seconds. One in four goes without a farewell, with all that it has
// in hand, and the next change waits until it is succeeded.
func testOwnersChange(e *env) {
	c := e.conn()
	crew := e.crew(c)
	crew.Each = time.Millisecond
	stop := e.feed(crew, c)
	type member struct {
		c     driver.Conn
		leave func()
	}
	var members []member
	join := func() (name string) {
		name = fmt.Sprint("member-", e.seq.Add(1))
		c := e.conn()
		members = append(members, member{c, crew.Join(c, name)})
		return name
	}
	join()
	join()
	for i := range max(1, int(period(e.T)/time.Second)) {
		pause(context.Background(), time.Second)
		oldest := members[0]
		members = members[1:]
		if i%4 == 3 {
			e.crash(oldest.c)
			oldest.leave()
			name := join()
			crew.until(name+" to succeed one that died", func() bool { return crew.owns(name) > 0 })
			continue
		}
		oldest.leave()
		join()
	}
	stop()
	crew.Check()
	crew.checkMarked()
}

func testOwnersShare(e *env) {
	c := e.conn()
	crew := e.crew(c)
	stop := e.feed(crew, c)
	names := []string{"first", "second"}
	for _, name := range names {
		crew.Join(e.conn(), name)
	}
	crew.until("two partitions for each of two instances", func() bool { return crew.owns(names[0]) == 2 && crew.owns(names[1]) == 2 })
	stop()
	crew.Check()
}

// testFull has two senders with keys of their own send batches that do not fit.
func testFull(e *env) {
	full := func() driver.Conn { return e.open(e.h.Full) }
	c := full()
	crew := e.crew(c)
	crew.Each, crew.s.Window = time.Millisecond, 8 // what is in hand need not count
	for i := range e.several() {
		crew.Join(full(), fmt.Sprint(i))
	}
	const keys = 100
	batch := keys * e.batch(5)
	n := max(e.h.Many/4, 4*batch)
	var wg sync.WaitGroup
	for _, prefix := range []string{"a", "b"} {
		sender := full()
		wg.Go(func() {
			for i := 0; i < n; i += batch {
				if err := crew.Send(context.Background(), sender, Numbered(crew.s.Channel.Name, prefix, i, min(n, i+batch), keys)); err != nil {
					e.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	crew.Check()
	if crew.Failed() == 0 {
		e.Error("nothing was refused, so that this shows nothing")
	}
}
