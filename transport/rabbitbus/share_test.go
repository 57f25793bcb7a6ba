package rabbitbus_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// A team is several instances of a group that note what they handle.
type team struct {
	t  *testing.T
	mu sync.Mutex

	last     map[string]int // by key
	handled  map[string]int // by id
	inverted int
	owner    map[int]string // who had the last message of a partition
}

// join lets an instance receive until ctx ends.
func (m *team) join(ctx context.Context, c *rabbitbus.Conn, s driver.Subscription) {
	r := openReceiver(m.t, c, s)
	var wg sync.WaitGroup
	wg.Go(func() {
		for parts := range r.(driver.Revoker).Revoked() {
			if err := r.(driver.Revoker).Release(within(m.t), parts); err != nil {
				m.t.Errorf("release: %v", err)
			}
		}
	})
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		ds, err := r.Receive(ctx, 10)
		if err != nil && c.Classify(err) == driver.Retryable && ctx.Err() == nil {
			<-pause.C
			continue
		}
		if err != nil {
			break
		}
		for _, d := range ds {
			m.note(s.Instance, d)
			if err := r.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil && c.Classify(err) != driver.Retryable && ctx.Err() == nil {
				m.t.Errorf("settle: %v", err)
			}
		}
	}
	if err := r.Close(context.Background()); err != nil {
		m.t.Errorf("close: %v", err)
	}
	wg.Wait()
}

func (m *team) note(instance string, d *driver.Delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owner[d.Partition] = instance
	if m.handled[d.Message.ID]++; m.handled[d.Message.ID] > 1 {
		return
	}
	number, _ := strconv.Atoi(string(d.Message.Body))
	if number < m.last[d.Message.Key] {
		m.inverted++
	}
	m.last[d.Message.Key] = number
}

// shares are how many partitions each instance had last.
func (m *team) shares() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[string]int{}
	for _, instance := range m.owner {
		n[instance]++
	}
	return n
}

func newTeam(t *testing.T) *team {
	return &team{t: t, last: map[string]int{}, handled: map[string]int{}, owner: map[int]string{}}
}

// await waits until n messages were handled.
func (m *team) await(n int) {
	m.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		m.mu.Lock()
		handled := len(m.handled)
		m.mu.Unlock()
		if handled == n {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%d of %d were handled", handled, n)
		}
	}
}

// check says what went wrong, once all have left.
func (m *team) check() {
	if m.inverted > 0 {
		m.t.Errorf("%d of %d first copies out of order", m.inverted, len(m.handled))
	}
	copies := 0
	for _, n := range m.handled {
		copies += n - 1
	}
	m.t.Logf("%d messages, %d of them again", len(m.handled), copies)
}

// TestPartitions_survive_a_restart_in_mid_stream kills the server under two
// instances that share the partitions.
func TestPartitions_survive_a_restart_in_mid_stream(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes the server seconds to come back")
	}
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Partitions = 3
	c, other := connect(t, o), connect(t, o)
	s := newQueue(t, c, 50)
	s.Ordered = true
	second := s
	second.Instance = "2"
	m := newTeam(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.join(ctx, c, s) })
	wg.Go(func() { m.join(ctx, other, second) })
	const most, batch = 200_000, 40
	ms := numbered(s.Channel.Name, most, 40)
	n := 0
	back := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() {
		for after := 0; n < most && after < 20; n += batch {
			if err := sendAll(within(t), c, ms[n:n+batch]); err != nil {
				t.Errorf("batch at %d: %v", n, err)
				return
			}
			select {
			case <-back:
				after++
			default:
			}
		}
	})
	if err := restart(within(t), srv); err != nil {
		t.Fatal(err)
	}
	close(back)
	sender.Wait()
	m.await(n)
	cancel()
	wg.Wait()
	m.check()
}

func TestPartitions_are_shared_among_the_instances_in_order(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Partitions = 4
	c, other := connect(t, o), connect(t, o)
	s := newQueue(t, c, 20)
	s.Ordered = true
	m := newTeam(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { m.join(ctx, c, s) })
	sent := 0
	send := func() {
		ms := numbered(s.Channel.Name, sent+32, 32)[sent:] // each key's next
		sent += len(ms)
		if err := sendAll(within(t), c, ms); err != nil {
			t.Fatal(err)
		}
	}
	for m.shares()["1"] < 4 {
		send()
	}
	second := s
	second.Instance = "2"
	wg.Go(func() { m.join(ctx, other, second) })
	deadline := time.Now().Add(patience)
	for n := m.shares(); n["1"] != 2 || n["2"] != 2; n = m.shares() {
		if send(); time.Now().After(deadline) {
			t.Fatalf("the shares are %v", n)
		}
	}
	m.await(sent)
	cancel()
	wg.Wait()
	m.check()
}
