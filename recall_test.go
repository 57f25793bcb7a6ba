package dovetail_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// late is a fake: a transport in memory that takes deliveries back before they
// are settled, and says so.
type late struct {
	*scripted
	ackTimeout time.Duration
	left       atomic.Int32 // so many settlements come too late
}

func (c *late) Capabilities() driver.Capabilities {
	caps := c.scripted.Capabilities()
	caps.AckTimeout = c.ackTimeout
	return caps
}

func (c *late) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	r, err := c.scripted.OpenReceiver(ctx, s)
	return &lateReceiver{r, c}, err
}

type lateReceiver struct {
	driver.Receiver
	c *late
}

func (r *lateReceiver) Settle(ctx context.Context, list []driver.Settlement) error {
	var stale driver.StaleError
	mine := append([]driver.Settlement(nil), list...)
	for i := range mine {
		if r.c.left.Add(-1) >= 0 {
			mine[i].Outcome = driver.Retry
			stale.Indexes = append(stale.Indexes, i)
		}
	}
	if err := r.Receiver.Settle(ctx, mine); err != nil || stale.Indexes == nil {
		return err
	}
	return &stale
}

func TestMessage_whose_settlement_came_too_late_is_not_handled_again(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &late{scripted: scriptedConn(t)}
		conn.left.Store(60)
		svc := dovetail.New("mail", conn, quick)
		var mu sync.Mutex
		handled := map[int]int{}
		welcome.Handle(svc, func(_ context.Context, i item) error {
			mu.Lock()
			defer mu.Unlock()
			handled[i.Count]++
			if i.Count%5 == 0 {
				return dovetail.Permanent(errors.New("no"))
			}
			return nil
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		for n := range 100 {
			if err := welcome.Send(t.Context(), svc, item{Count: n}); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		for n := range 100 {
			if handled[n] != 1 {
				t.Errorf("message %d was handled %d times", n, handled[n])
			}
		}
		if n := svc.Stats().Dead; n != 20 {
			t.Errorf("%d dead letters, want 20", n)
		}
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

// A receiver that is opened again delivers what is still handled once more: that
// waits, and is settled with it.
func TestMessage_that_is_delivered_again_while_it_is_handled_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		svc := dovetail.New("mail", conn, quick)
		var begun atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error {
			begun.Add(1)
			<-time.After(15 * time.Second)
			return nil
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			conn.broken.Store(true)
			<-time.After(4 * time.Second)
		}
		<-time.After(time.Minute)
		if n := begun.Load(); n != 1 {
			t.Errorf("%d attempts", n)
		}
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

func TestAttempts_are_counted_on_when_a_receiver_is_opened_anew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		opts := quick
		opts.Retry = dovetail.RetryPolicy{Attempts: 5, First: 10 * time.Second, Factor: 1}
		svc := dovetail.New("mail", conn, opts)
		var attempts atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error { attempts.Add(1); return errors.New("no") })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			conn.broken.Store(true)
			<-time.After(5 * time.Second)
		}
		if n := attempts.Load(); n != 5 || svc.Stats().Dead != 1 {
			t.Errorf("%d attempts and %d dead letters, want 5 and 1", n, svc.Stats().Dead)
		}
	})
}

func TestPolicy_that_holds_longer_than_the_engine_lets_it_is_refused(t *testing.T) {
	policies := map[dovetail.RetryPolicy]bool{
		{}: true,
		{Attempts: 5, First: 3 * time.Second, Factor: 1, Jitter: -1}:                             true,
		{Attempts: 12, First: 3 * time.Second, Factor: 1, Jitter: -1}:                            false,
		{Attempts: 120, First: time.Second, Max: 12 * time.Minute}:                               false,
		{Attempts: 1 << 40, First: time.Second, Max: time.Minute}:                                false,
		{Attempts: 11, First: 2900 * time.Millisecond, Factor: 1, Jitter: 0.2}:                   false, // with its jitter
		{Attempts: 11, First: 2900 * time.Millisecond, Max: 2900 * time.Millisecond, Jitter: -1}: true,
	}
	for policy, ok := range policies {
		for _, own := range []bool{true, false} {
			opts := quick
			opts.Retry = dovetail.RetryPolicy{Attempts: 1}
			var option []dovetail.SubscribeOption
			if own {
				option = append(option, dovetail.Retry(policy))
			} else {
				opts.Retry = policy
			}
			svc := dovetail.New("mail", &late{scripted: scriptedConn(t), ackTimeout: 31 * time.Second}, opts)
			welcome.Handle(svc, func(context.Context, item) error { return nil }, option...)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := svc.Run(ctx)
			if ok && err != nil || !ok && (err == nil || !strings.Contains(err.Error(), "RetryPolicy.Attempts")) {
				t.Errorf("%+v: got %v", policy, err)
			}
		}
	}
}

// A receiver that is opened again does not cut the wait for the next attempt short.
func TestAttempt_is_waited_for_although_a_receiver_is_opened_again(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &copying{scripted: scriptedConn(t)}
		opts := quick
		opts.Retry = dovetail.RetryPolicy{Attempts: 3, First: time.Minute, Max: time.Minute, Factor: 1, Jitter: -1}
		svc := dovetail.New("mail", conn, opts)
		var attempts atomic.Int32
		welcome.Handle(svc, func(context.Context, item) error { attempts.Add(1); return errors.New("no") })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			conn.broken.Store(true)
			<-time.After(5 * time.Second)
		}
		if n := attempts.Load(); n != 1 {
			t.Errorf("%d attempts in the first minute, want 1", n)
		}
		<-time.After(2 * time.Minute)
		if n := attempts.Load(); n != 3 || svc.Stats().Dead != 1 {
			t.Errorf("%d attempts and %d dead letters, want 3 and 1", n, svc.Stats().Dead)
		}
	})
}
