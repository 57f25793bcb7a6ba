package dovetail_test

import (
	"context"
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

func rebalanced(t *testing.T) (*dovetail.Service, *revocable) {
	t.Helper()
	r := &revocable{lost: make(chan []int), released: make(chan []int, 1)}
	r.receive = func(ctx context.Context, max int) ([]*driver.Delivery, error) { return r.Receiver.Receive(ctx, max) }
	conn := &rebalancing{Conn: scriptedConn(t).Conn, channel: welcome.Spec().Channel.Name, r: r}
	svc := dovetail.New("mail", conn, quick)
	svc.Sends(welcome)
	return svc, r
}

func TestPartition_is_not_released_while_messages_of_it_are_being_received(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, r := rebalanced(t)
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
		svc, r := rebalanced(t)
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
