package dovetail_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// rebalancing is a fake: a transport in memory whose receivers of one channel
// lose partitions when the test says so.
type rebalancing struct {
	driver.Conn
	channel string
	r       *revocable
}

func (c *rebalancing) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.Conn.OpenReceiver(ctx, s)
	if err != nil || s.Channel.Name != c.channel {
		return r, err
	}
	c.r.Receiver = r
	return c.r, nil
}

type revocable struct {
	driver.Receiver
	lost     chan []int
	released chan []int
	receive  func(ctx context.Context, max int) ([]*driver.Delivery, error)
}

func (r *revocable) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	return r.receive(ctx, max)
}

func (r *revocable) Revoked() <-chan []int { return r.lost }

func (r *revocable) Release(_ context.Context, partitions []int) error {
	r.released <- partitions
	return nil
}

func rebalanced(t *testing.T, opts dovetail.Options) (*dovetail.Service, *revocable) {
	t.Helper()
	r := &revocable{lost: make(chan []int), released: make(chan []int, 8)}
	r.receive = func(ctx context.Context, max int) ([]*driver.Delivery, error) { return r.Receiver.Receive(ctx, max) }
	conn := &rebalancing{Conn: scriptedConn(t).Conn, channel: welcome.Spec().Channel.Name, r: r}
	svc := dovetail.New("mail", conn, opts)
	svc.Declare(welcome)
	return svc, r
}

func TestPartition_is_not_released_while_messages_of_it_are_being_received(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, r := rebalanced(t, quick)
		taken := make(chan int, 1)
		r.receive = func(ctx context.Context, max int) ([]*driver.Delivery, error) {
			ds, err := r.Receiver.Receive(ctx, max)
			if len(ds) > 0 { // they are taken, and take their time to arrive
				taken <- ds[0].Partition
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
			return ds, err
		}
		var begun atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error { begun.Add(1); return nil })
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		r.lost <- []int{<-taken}
		<-r.released
		before := begun.Load()
		<-time.After(time.Minute)
		if n := begun.Load(); n != before {
			t.Errorf("%d messages of the partition were handled after another instance owned it", n-before)
		}
	})
}

func TestPartition_is_released_when_what_had_begun_of_it_is_settled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.RevokeTimeout = time.Hour
		svc, r := rebalanced(t, opts)
		var attempts atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error {
			attempts.Add(1)
			<-time.After(time.Minute)
			return nil
		}, dovetail.Concurrency(1))
		defer runBubble(t, svc)()
		if err := welcome.SendAll(t.Context(), svc, make([]item, 3)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		from := time.Now()
		r.lost <- []int{0}
		<-r.released
		if took := time.Since(from); took < time.Minute || took > time.Minute+time.Second || attempts.Load() != 1 {
			t.Errorf("released after %v and %d attempts", took, attempts.Load())
		}
	})
}

// inPartitions has a receiver deliver each message as one of the partition that
// its key names.
func inPartitions(r *revocable) {
	r.receive = func(ctx context.Context, max int) ([]*driver.Delivery, error) {
		ds, err := r.Receiver.Receive(ctx, max)
		for _, d := range ds {
			d.Partition, _ = strconv.Atoi(d.Message.Key)
		}
		return ds, err
	}
}

func TestPartitions_without_a_slow_handler_are_released_at_once_and_the_rest_in_time(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &revocable{lost: make(chan []int), released: make(chan []int, 8)}
		inPartitions(r)
		conn := &rebalancing{Conn: scriptedConn(t).Conn, channel: ranLow.Spec().Channel.Name, r: r}
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(ranLow)
		waits := map[string]time.Duration{"0": 0, "1": 3 * time.Second, "2": time.Minute, "3": 0}
		var mu sync.Mutex
		begun := map[item]int{}
		ranLow.Subscribe(svc, func(_ context.Context, i item) error {
			mu.Lock()
			begun[i]++
			mu.Unlock()
			<-time.After(waits[i.SKU])
			return nil
		})
		defer runBubble(t, svc)()
		for n := range 2 {
			for key := range waits {
				if err := ranLow.Publish(t.Context(), svc, item{key, n}); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		from := time.Now()
		r.lost <- []int{0, 1, 2}
		r.lost <- []int{3} // and another set right behind it
		want := map[int]time.Duration{0: 0, 3: 0, 1: 3 * time.Second, 2: 10 * time.Second}
		for len(want) > 0 {
			for _, p := range <-r.released {
				if took := time.Since(from); took != want[p] {
					t.Errorf("partition %d was released after %v, want %v", p, took, want[p])
				}
				delete(want, p)
			}
		}
		<-time.After(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for _, key := range []string{"1", "2"} {
			if begun[item{key, 1}] > 0 {
				t.Errorf("a message of key %s began after its partition was another instance's", key)
			}
		}
	})
}

// The message whose handler outlasted its partition is settled by who owns the
// partition now.
func TestMessage_whose_partition_was_released_before_its_handler_ended_is_not_settled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &revocable{lost: make(chan []int), released: make(chan []int, 8)}
		inPartitions(r)
		scripted := scriptedConn(t)
		conn := &rebalancing{Conn: scripted.Conn, channel: ranLow.Spec().Channel.Name, r: r}
		svc := dovetail.New("mail", conn, quick)
		svc.Declare(ranLow)
		ranLow.Subscribe(svc, func(_ context.Context, i item) error {
			<-time.After(time.Minute)
			return nil
		})
		defer runBubble(t, svc)()
		if err := ranLow.Publish(t.Context(), svc, item{"1", 0}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.lost <- []int{1}
		<-r.released
		<-time.After(2 * time.Minute)
		if n := scripted.unsettled(t); n != 1 {
			t.Errorf("%d messages are not settled, want 1", n)
		}
	})
}
