package kafkabus_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
)

// handled is what several consumers did, in the order in which they did it.
type handled struct {
	mu         sync.Mutex
	next       map[string]int // by key
	seen       map[string]bool
	inversions []string
	copies     int
}

func newHandled() *handled { return &handled{next: map[string]int{}, seen: map[string]bool{}} }

func (h *handled) note(m *driver.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen[m.ID] {
		h.copies++
		return
	}
	h.seen[m.ID] = true
	n, _ := strconv.Atoi(string(m.Body))
	if n != h.next[m.Key] {
		h.inversions = append(h.inversions, fmt.Sprintf("%s: %d, want %d", m.Key, n, h.next[m.Key]))
	}
	h.next[m.Key] = n + 1
}

func (h *handled) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.seen)
}

// A consumer handles one message after the other, as a lane does, and releases
// lost partitions when it has begun none of their messages, as the core does.
type consumer struct {
	r    driver.Receiver
	stop func()
}

var instances atomic.Int64

func consume(t testing.TB, c *kafkabus.Conn, s driver.Subscription, h *handled, each time.Duration) *consumer {
	t.Helper()
	s.Instance = fmt.Sprint("instance-", instances.Add(1)) // no two have one name
	r, err := c.OpenReceiver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var busy sync.Mutex // held while a batch is handled
	var lostMu sync.Mutex
	lost := map[int]bool{}
	wg.Go(func() {
		for ctx.Err() == nil {
			ds, err := r.Receive(ctx, 32)
			if err != nil {
				if k := c.Classify(err); ctx.Err() == nil && k != driver.Retryable {
					t.Errorf("receive: %v", err)
					return
				}
				continue
			}
			busy.Lock()
			var ss []driver.Settlement
			for _, d := range ds {
				lostMu.Lock()
				gone := lost[d.Partition]
				lostMu.Unlock()
				if gone {
					continue
				}
				h.note(d.Message)
				if each > 0 {
					<-time.After(each)
				}
				ss = append(ss, driver.Settlement{Delivery: d})
			}
			if err := r.Settle(context.Background(), ss); err != nil && c.Classify(err) != driver.Retryable && c.Classify(err) != driver.Closed {
				t.Errorf("settle: %v", err)
			}
			busy.Unlock()
		}
	})
	wg.Go(func() {
		for {
			select {
			case parts := <-r.(driver.Revoker).Revoked():
				lostMu.Lock()
				for _, p := range parts {
					lost[p] = true
				}
				lostMu.Unlock()
				busy.Lock() // what has begun is settled
				lostMu.Lock()
				for _, p := range parts {
					delete(lost, p)
				}
				lostMu.Unlock()
				if err := r.(driver.Revoker).Release(ctx, parts); err != nil {
					t.Errorf("release: %v", err)
				}
				busy.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	return &consumer{r: r, stop: sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		bounded, done := context.WithTimeout(context.Background(), 20*time.Second)
		defer done()
		if err := r.Close(bounded); err != nil {
			t.Errorf("close receiver: %v", err)
		}
	})}
}

func subscription(name string, partitions int) driver.Subscription {
	return driver.Subscription{Channel: driver.Channel{Name: name, Partitions: partitions}, Group: "worker", Instance: "1", Ordered: true, Window: 200}
}

func numbered(channel string, key, n int) *driver.Message {
	k := "k" + strconv.Itoa(key)
	return &driver.Message{Channel: channel, ID: k + "/" + strconv.Itoa(n), Source: "test", Type: "test.numbered.v1", Key: k, Body: []byte(strconv.Itoa(n))}
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// Watermill-kafka's PR 30 and issue 210: a rebalance during a handler hangs, or
// loops, or commits for a generation that is over.
func TestReceiver_keeps_order_by_key_while_instances_join_and_leave_every_second(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	drivertest.CheckLeaks(t)
	c := connect(t, options(s))
	sub := subscription("rebalanced", 6)
	provision(t, c, sub.Channel, sub)
	h := newHandled()
	for range 2 {
		stay := consume(t, connect(t, options(s)), sub, h, 200*time.Microsecond)
		defer stay.stop()
	}
	const keys, rounds = 24, 6
	sent := 0
	ctx, cancel := context.WithTimeout(t.Context(), rounds*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			ms := make([]*driver.Message, keys)
			for k := range ms {
				ms[k] = numbered("rebalanced", k, n)
			}
			if err := c.Send(context.Background(), ms); err != nil {
				t.Errorf("send: %v", err)
				return
			}
			sent += len(ms)
			<-time.After(20 * time.Millisecond) // about half of what the consumers manage
		}
	})
	wg.Go(func() {
		guest := connect(t, options(s))
		for ctx.Err() == nil {
			g := consume(t, guest, sub, h, 200*time.Microsecond)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			g.stop()
		}
	})
	wg.Wait()
	eventually(t, "everything to be handled", func() bool { return h.count() == sent })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.inversions) > 0 {
		t.Errorf("%d inversions in %d messages, the first: %s", len(h.inversions), sent, h.inversions[0])
	}
	t.Logf("%d messages, %d came again", sent, h.copies)
}

// A receiver that settles nothing gives its partition up after the drain's time,
// and what it settles later is passed over.
func TestReceiver_gives_a_partition_up_when_draining_takes_too_long(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	drivertest.CheckLeaks(t)
	o := options(s)
	o.DrainTimeout = 500 * time.Millisecond
	c := connect(t, o)
	sub := subscription("undrained", 2)
	provision(t, c, sub.Channel, sub)
	var ms []*driver.Message
	for k := range 20 {
		ms = append(ms, numbered("undrained", k, 0))
	}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	first, err := c.OpenReceiver(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	var held []*driver.Delivery
	for len(held) < len(ms) {
		ds, err := first.Receive(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, ds...)
	}
	other := sub
	other.Instance = "2"
	second, err := c.OpenReceiver(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	lost := <-first.(driver.Revoker).Revoked() // and not released
	ds, err := second.Receive(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(lost) != 1 || ds[0].Partition != lost[0] {
		t.Fatalf("the second receiver got partition %d, and the first lost %v", ds[0].Partition, lost)
	}
	var all []driver.Settlement
	for _, d := range held {
		all = append(all, driver.Settlement{Delivery: d})
	}
	if err := first.Settle(t.Context(), all); err != nil {
		t.Errorf("settling what was lost: %v", err)
	}
	if err := second.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Error(err)
	}
}
