package drivertest

import (
	"context"
	"strconv"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

// testClientsDropped has the client lose its link again and again while the server
// goes on to send to it, as when its node is frozen or the network is cut in two.
func testClientsDropped(e *env) {
	e.link(3, func(_ int, p *netfault.Proxy, _ *ConsumerGroup) { p.DropClients() })
}

// testRepliesAfterClientsDropped has the client lose its link in the same way. Once replies
// come over the next link, all of them do: the one that the server still has gets
// none in its place.
func testRepliesAfterClientsDropped(e *env) {
	p, far := e.through()
	c, near := far(), e.conn()
	ch := driver.Channel{Name: "reply." + e.unique("desk") + ".first", Transient: true}
	s := e.subscription(ch, "desk")
	s.Ordered = false
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	e.provision(near, []driver.Channel{ch}, nil)
	came := make(chan string, 1000)
	h := &member{conn: c, s: s, fail: e.Errorf, note: func(ds ...*driver.Delivery) {
		for _, d := range ds {
			came <- d.Message.ID
		}
	}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.work(ctx) })
	defer wg.Wait()
	defer cancel()
	next := 0
	reply := func() string {
		m := transient([]*driver.Message{e.message(ch, "", next)})[0]
		m.ID = "reply-" + strconv.Itoa(next)
		next++
		e.send(near, m)
		return m.ID
	}
	heard := func() {
		e.Helper()
		sent := map[string]bool{}
		e.eventually("a reply", func() bool {
			sent[reply()] = true
			select {
			case id := <-came:
				return sent[id]
			default:
				return false
			}
		})
	}
	heard()
	for range 2 {
		p.DropClients()
		heard()
		missing := map[string]bool{}
		for range 40 {
			missing[reply()] = true
		}
		e.eventually("all replies", func() bool {
			for {
				select {
				case id := <-came:
					delete(missing, id)
				default:
					return len(missing) == 0
				}
			}
		})
	}
}
