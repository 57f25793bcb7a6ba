package dovetail_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// copying is a fake: a transport in memory whose receivers make each delivery
// again, as the client of a server does, and break when the test says so.
type copying struct {
	*scripted
	broken atomic.Bool
}

func (c *copying) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	return &copyingReceiver{r, c}, err
}

type copyingReceiver struct {
	driver.Receiver
	c *copying
}

func (r *copyingReceiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	if r.c.broken.CompareAndSwap(true, false) {
		return nil, driver.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ds, err := r.Receiver.Receive(ctx, max)
	if errors.Is(err, context.DeadlineExceeded) {
		err = driver.ErrRetryable
	}
	for i, d := range ds {
		m := *d.Message
		m.Body = bytes.Clone(m.Body)
		d.Message = nil // the bus keeps those of other deliveries beside it
		ds[i] = &driver.Delivery{Message: &m, Attempt: d.Attempt, Partition: d.Partition, Receipt: d.Receipt}
	}
	return ds, err
}

// heap is what is reachable now.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

var blob = dovetail.NewCommand[[]byte]("mail.store-blob").Keyed(func(b []byte) string { return string(b[:2]) })

func TestMessages_dropped_behind_a_slow_handler_keep_no_memory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		svc := dovetail.New("mail", conn, quick)
		slow := make(chan struct{})
		blob.Handle(svc, func(context.Context, []byte) error { <-slow; return nil })
		svc.Declare(blob)
		defer runBubble(t, svc)()
		defer close(slow)
		const size, n = 16 << 10, 100
		for range n {
			if err := blob.Send(t.Context(), svc, append([]byte("aa"), make([]byte, size)...)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(5 * time.Second)
		before := heap()
		for range 60 {
			conn.broken.Store(true)
			<-time.After(5 * time.Second)
		}
		if grown := heap() - before; grown > 3*n*size {
			t.Errorf("%d KiB more after the receiver was opened 60 times", grown>>10)
		}
		if opened := conn.openings(blob.Spec().Channel.Name); opened < 50 {
			t.Errorf("opened %d times", opened)
		}
	})
}

func TestMessage_that_is_held_keeps_the_memory_of_no_other(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		svc := dovetail.New("mail", conn, quick)
		blob.Handle(svc, func(_ context.Context, b []byte) error {
			if string(b[:1]) == "h" {
				return dovetail.RetryAfter(time.Hour, errors.New("later"))
			}
			return nil
		}, dovetail.Retry(dovetail.RetryPolicy{Attempts: 2}))
		svc.Declare(blob)
		defer runBubble(t, svc)()
		const size = 32 << 10
		before := heap()
		held := 0
		for n := range 640 {
			key := "ok"
			if n%32 == 0 {
				key = "h" + strconv.Itoa(held%10)
				held++
			}
			if err := blob.Send(t.Context(), svc, append([]byte(key), make([]byte, size)...)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(5 * time.Second)
		// The bus keeps the held ones as well; 640 were sent.
		if grown := heap() - before; grown > 8*int64(held)*size {
			t.Errorf("%d KiB for %d messages of %d KiB that are held", grown>>10, held, size>>10)
		}
	})
}
