package rabbitbus_test

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

// A team is several instances of a group that share the partitions of a
// channel.
type team struct {
	*record
	t testing.TB
	s driver.Subscription

	mu    sync.Mutex
	joins int
	owner map[int]string // who had the last message of a partition
}

func newTeam(t testing.TB, s driver.Subscription) *team {
	s.Ordered = true
	return &team{record: newRecord(), t: t, s: s, owner: map[int]string{}}
}

// join lets a new instance handle messages until it is told to leave. leave
// returns when it has.
func (m *team) join(c *rabbitbus.Conn) (instance string, leave func()) {
	m.t.Helper()
	m.mu.Lock()
	m.joins++
	s := m.s
	s.Instance = strconv.Itoa(m.joins)
	m.mu.Unlock()
	r := openReceiver(m.t, c, s)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for parts := range r.(driver.Revoker).Revoked() {
			if err := r.(driver.Revoker).Release(within(m.t), parts); err != nil && c.Classify(err) != driver.Retryable {
				m.t.Errorf("release: %v", err)
			}
		}
	})
	wg.Go(func() {
		m.handle(ctx, m.t, c, r, func(d *driver.Delivery) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.owner[d.Partition] = s.Instance
		})
		if err := r.Close(within(m.t)); err != nil && c.Classify(err) != driver.Retryable {
			m.t.Errorf("close: %v", err)
		}
	})
	return s.Instance, sync.OnceFunc(func() { cancel(); wg.Wait() })
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

// partitioned provisions a new channel with that many partitions.
func partitioned(t testing.TB, srv *servers.Server, partitions int) (rabbitbus.Options, *rabbitbus.Conn, driver.Subscription) {
	o := optionsFor(t, srv)
	o.Partitions = partitions
	c := connect(t, o)
	return o, c, newQueue(t, c, 20)
}

func testShares(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	o, c, s := partitioned(t, srv, 4)
	m := newTeam(t, s)
	sent := 0
	send := func() {
		ms := numbered(s.Channel.Name, sent+32, 32)[sent:] // each key's next
		sent += len(ms)
		if err := sendAll(within(t), c, ms); err != nil {
			t.Fatal(err)
		}
	}
	first, leave := m.join(c)
	defer leave()
	for ctx := within(t); m.shares()[first] < 4 && ctx.Err() == nil; {
		send()
	}
	second, leaveToo := m.join(connect(t, o))
	defer leaveToo()
	ctx := within(t)
	for n := m.shares(); n[first] != 2 || n[second] != 2; n = m.shares() {
		if send(); ctx.Err() != nil {
			t.Fatalf("the shares are %v", n)
		}
	}
	m.await(t, sent)
	leave()
	leaveToo()
	m.check(t, sent)
}

// periodVariable is for how long owners change, as in 60s.
const periodVariable = "DOVETAIL_RABBITBUS_TEST_PERIOD"

// period is fifteen seconds unless the environment says otherwise.
func period(t testing.TB) time.Duration {
	v := os.Getenv(periodVariable)
	if v == "" {
		return 15 * time.Second
	}
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		t.Fatalf("%s is %q: want a duration as in 60s", periodVariable, v)
	}
	return d
}

// Of two instances one goes and another comes every second, while messages
// flow: by turns one leaves as it should, and one loses its connection with all
// that it has in hand.
func testOwnersChange(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	o, c, s := partitioned(t, srv, 4)
	m := newTeam(t, s)
	type member struct {
		c     *rabbitbus.Conn
		leave func()
	}
	join := func() member {
		c := connect(t, o)
		_, leave := m.join(c)
		return member{c, leave}
	}
	const keys, batch = 40, 80
	sent, unknown := 0, 0
	ctx, stop := context.WithTimeout(context.Background(), period(t))
	defer stop()
	var sender sync.WaitGroup
	sender.Go(func() {
		for ; ctx.Err() == nil; sent += batch {
			// No faster than they are handled, so that owners change in the
			// middle of what they have.
			err := m.reached(within(t), sent-10*batch)
			if err == nil {
				var twice int
				twice, err = sendAllCounting(within(t), c, numbered(s.Channel.Name, sent+batch, keys)[sent:])
				unknown += twice
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	members := []member{join(), join()}
	changes := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ; ctx.Err() == nil; changes++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		oldest := members[0]
		if changes%2 == 1 {
			ended, end := context.WithCancel(context.Background())
			end()
			_ = oldest.c.Close(ended) // no farewell: what it had in hand is the server's again
		}
		oldest.leave()
		members = append(members[1:], join())
	}
	sender.Wait()
	m.await(t, sent)
	for _, member := range members {
		member.leave()
	}
	m.check(t, sent)
	m.checkMarked(t, unknown)
	t.Logf("%d changes of owner, %d sends with an unknown outcome", changes, unknown)
}
