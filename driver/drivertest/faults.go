package drivertest

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var faultTests = map[string]test{
	"Server_killed_in_mid_stream_loses_and_inverts_nothing":         {run: testServerKilled, gap: needsRestart},
	"Link_cut_again_and_again_loses_and_inverts_nothing":            {run: testLinkCut, gap: needsThrough, beside: true},
	"Link_half_open_again_and_again_loses_and_inverts_nothing":      {run: testLinkHalfOpen, gap: needsThrough, beside: true},
	"Link_the_server_does_not_miss_loses_and_inverts_nothing":       {run: testClientsDropped, gap: needsThrough, beside: true},
	"Replies_come_over_the_link_after_one_the_server_does_not_miss": {run: testRepliesAfterClientsDropped, gap: needsThrough, beside: true},
	"Process_killed_again_and_again_loses_and_inverts_nothing":      {run: testProcessKilled, gap: needsURL, beside: true},
	"Owner_with_a_half_open_link_is_succeeded":                      {run: testOwnerHalfOpen, gap: needsOwnerAndThrough, beside: true},
	"Owners_change_every_second_and_keep_the_order":                 {run: testOwnersChange, gap: needsOrder(driver.OrderOwner), beside: true},
	"Owners_share_the_partitions":                                   {run: testOwnersShare, gap: needsOrder(driver.OrderOwner), beside: true},
	"Full_channel_refuses_in_mid_stream_and_inverts_nothing":        {run: testFull, gap: needsFull, beside: true},
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

func needsThrough(c driver.Capabilities, h Harness) string {
	switch {
	case !c.Shared:
		return "Shared is not declared: there is no link"
	case h.Through == nil:
		return noHook + "Through"
	}
	return ""
}

func needsOwnerAndThrough(c driver.Capabilities, h Harness) string {
	if why := needsOrder(driver.OrderOwner)(c, h); why != "" {
		return why
	}
	return needsThrough(c, h)
}

func needsURL(c driver.Capabilities, h Harness) string {
	switch {
	case !c.Shared:
		return "Shared is not declared: there is one process"
	case h.URL == "":
		return noHook + "URL"
	}
	return ""
}

func needsFull(_ driver.Capabilities, h Harness) string {
	if h.Full == nil {
		return noHook + "Full"
	}
	return ""
}

// group provisions a channel, with partitions where they have owners, and
// returns the group of its group.
func (e *env) group(c driver.Conn) *ConsumerGroup {
	e.Helper()
	ch := e.channel(driver.PointToPoint)
	if e.caps.Order >= driver.OrderOwner {
		ch.Partitions = 4
	}
	s := e.subscription(ch, "worker")
	s.Window = 200
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	group := NewConsumerGroup(e.T, s)
	group.Patience, group.unordered = e.h.Patience, e.caps.Order < driver.OrderInstance
	return group
}

// several is how many instances a group may have at a time and keep the order.
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
func (e *env) feed(group *ConsumerGroup, c driver.Conn) (stop func()) {
	const keys, ahead = 40, 10
	batch := e.batch(2) * keys
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for sent := 0; ctx.Err() == nil; sent += batch {
			if err := group.reach(ctx, func() bool { return group.hurried || len(group.recorder.count) >= sent-ahead*batch }); err != nil {
				if ctx.Err() == nil {
					e.Errorf("nothing was handled for %v", e.h.Patience)
				}
				return
			}
			if err := group.Send(context.Background(), c, Numbered(group.s.Channel.Name, "k", sent, sent+batch, keys)); err != nil {
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
