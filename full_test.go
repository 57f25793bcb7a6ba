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
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A service that sends to the channel that it receives from cannot make room
// while its handlers wait for room: the wait ends, and says which channel it was.
func TestHandler_that_sends_to_its_own_full_channel_is_told_so_in_time_and_the_service_goes_on(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus, err := membus.New(membus.Options{Messages: 8})
		if err != nil {
			t.Fatal(err)
		}
		opts := quick
		opts.SendTimeout = 2 * time.Second
		opts.Retry = dovetail.RetryPolicy{Attempts: 2}
		conn := bus.Connect()
		svc := dovetail.New("mail", conn, opts)
		svc.Declare(welcome)
		var full, handled atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			if i.Count == 0 {
				handled.Add(1)
				return nil
			}
			from := time.Now()
			err := welcome.SendAll(ctx, svc, []item{{Count: i.Count - 1}, {Count: i.Count - 1}})
			if err != nil {
				if took := time.Since(from); took > 3*time.Second || !strings.Contains(err.Error(), "channel mail.send-welcome is full") {
					t.Errorf("after %v: %v", took, err)
				}
				full.Add(1)
			}
			return err
		})
		values := make([]item, 8)
		for i := range values {
			values[i].Count = 1
		}
		if err := welcome.SendAll(t.Context(), svc, values); err != nil {
			t.Fatal(err)
		}
		stop := runBubble(t, svc)
		<-time.After(time.Minute)
		synctest.Wait()
		if full.Load() == 0 {
			t.Error("the channel was never full")
		}
		if s := svc.Stats(); handled.Load() < 2 || s.Handled+s.Dead < 8 {
			t.Errorf("%d of the messages that were sent on were handled; %+v", handled.Load(), s)
		}
		stop()
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// However many wait behind a broker that does not answer, nobody waits longer
// than SendTimeout.
func TestSend_ends_within_the_time_out_however_many_wait(t *testing.T) {
	for name, key := range map[string]func(item) string{"one key": func(item) string { return "k" }, "no key": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := scriptedConn(t)
				conn.send = func(ctx context.Context, ms []*driver.Message) error {
					<-ctx.Done()
					<-time.After(10 * time.Millisecond) // it takes a moment to notice
					var se driver.SendError
					for i := range ms {
						se.Fail(i, errors.Join(driver.ErrRetryable, errors.New("the broker hangs")), true)
					}
					return &se
				}
				opts := quick
				opts.SendTimeout = 5 * time.Second
				svc := dovetail.New("mail", conn, opts)
				welcome := welcome.Keyed(key)
				svc.Declare(welcome)
				if err := svc.Provision(t.Context()); err != nil {
					t.Fatal(err)
				}
				var sending sync.WaitGroup
				for n := range 2000 {
					<-time.After(time.Millisecond)
					sending.Go(func() {
						from := time.Now()
						err := welcome.Send(t.Context(), svc, item{Count: n})
						took := time.Since(from)
						if took > 6*time.Second || took < 4*time.Second || err == nil || !strings.Contains(err.Error(), "the broker hangs") {
							t.Errorf("message %d: after %v: %v", n, took, err)
						}
					})
				}
				sending.Wait()
			})
		})
	}
}
