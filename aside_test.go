package dovetail_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
)

// However many messages of one key wait behind one that fails, other keys go on;
// and when the key goes on as well, it does so in order.
func TestKey_that_fails_takes_a_share_and_stops_no_other(t *testing.T) {
	keyFails(t, 0)
}

// A handler that takes long to fail runs most of the time, and holds the key for
// the rest.
func TestKey_that_fails_slowly_takes_a_share_and_stops_no_other(t *testing.T) {
	keyFails(t, 10*time.Second)
}

func keyFails(t *testing.T, after time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		opts := quick
		opts.Retry = dovetail.RetryPolicy{Attempts: 1000, First: time.Second, Factor: 1}
		svc := dovetail.New("mail", conn.Conn, opts)
		svc.Declare(ranLow)
		var mu sync.Mutex
		var broken atomic.Bool
		broken.Store(true)
		last, others := -1, 0
		ranLow.Subscribe(svc, func(_ context.Context, i item) error {
			if i.SKU == "bad" && broken.Load() {
				<-time.After(after)
				return errors.New("no")
			}
			mu.Lock()
			defer mu.Unlock()
			if i.SKU != "bad" {
				others++
				return nil
			}
			if i.Count > last+1 {
				t.Errorf("%d after %d", i.Count, last)
			}
			last = max(last, i.Count)
			return nil
		})
		defer runBubble(t, svc)()
		const n = 10_000
		if err := ranLow.Publish(t.Context(), svc, item{"bad", 0}); err != nil {
			t.Fatal(err)
		}
		<-time.After(after + after/2) // it has failed, and is tried again
		var bad []item
		for i := range n - 1 {
			bad = append(bad, item{"bad", i + 1})
		}
		if err := ranLow.PublishAll(t.Context(), svc, bad); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if err := ranLow.Publish(t.Context(), svc, item{"good" + string(rune('a'+i%26)), i}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(5 * time.Second)
		mu.Lock()
		if others != 1000 {
			t.Errorf("%d of 1000 messages of other keys were handled", others)
		}
		mu.Unlock()
		broken.Store(false)
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if last != n-1 {
			t.Errorf("the key goes on until %d, want %d", last, n-1)
		}
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

// As many messages of one key as may be set aside are no end: they come again
// once the key goes on.
func TestKey_that_has_used_up_what_may_be_set_aside_goes_on(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		opts := quick
		opts.Concurrency, opts.Window, opts.MaxDeferred, opts.StallAfter = 4, 16, 16, 24*time.Hour
		opts.Retry = dovetail.RetryPolicy{Attempts: 1000, First: time.Second, Factor: 1}
		svc := dovetail.New("mail", conn.Conn, opts)
		svc.Declare(ranLow)
		var broken atomic.Bool
		broken.Store(true)
		var last atomic.Int32
		ranLow.Subscribe(svc, func(_ context.Context, i item) error {
			if broken.Load() {
				return errors.New("no")
			}
			last.Store(int32(i.Count))
			return nil
		})
		defer runBubble(t, svc)()
		const n = 1000
		var bad []item
		for i := range n {
			bad = append(bad, item{"bad", i})
		}
		if err := ranLow.PublishAll(t.Context(), svc, bad); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		broken.Store(false)
		<-time.After(time.Minute)
		if last.Load() != n-1 {
			t.Errorf("the key goes on until %d, want %d", last.Load(), n-1)
		}
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

// A transient channel delivers nothing again: nothing of it can be set aside.
func TestKey_that_fails_on_a_transient_channel_goes_on_afterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		opts := quick
		opts.Concurrency, opts.Window, opts.MaxDeferred, opts.StallAfter = 4, 16, 16, 24*time.Hour
		opts.Retry = dovetail.RetryPolicy{Attempts: 1000, First: time.Second, Factor: 1}
		svc := dovetail.New("mail", conn.Conn, opts)
		tick := dovetail.NewEvent[item]("catalog.ticked").Keyed(func(i item) string { return i.SKU }).AtMostOnce()
		svc.Declare(tick)
		var broken atomic.Bool
		broken.Store(true)
		var last atomic.Int32
		tick.Subscribe(svc, func(_ context.Context, i item) error {
			if broken.Load() {
				return errors.New("no")
			}
			last.Store(int32(i.Count))
			return nil
		})
		defer runBubble(t, svc)()
		send := func(from, to int) {
			for i := range to - from {
				if err := tick.Publish(t.Context(), svc, item{"bad", from + i}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		send(0, 20)
		<-time.After(10 * time.Second)
		broken.Store(false)
		<-time.After(time.Minute)
		send(20, 30)
		if last.Load() != 29 {
			t.Errorf("the key goes on until %d, want 29", last.Load())
		}
	})
}
