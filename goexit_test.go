package dovetail_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
)

// As t.FailNow does when a test calls it in a hook.
func TestNotice_that_ends_its_goroutine_stops_nothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		opts := quick
		opts.Hooks.Notice = func(dovetail.Notice) { runtime.Goexit() }
		svc := dovetail.New("mail", conn.Conn, opts)
		svc.Declare(welcome, ranLow)
		var handled, batches atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			switch {
			case i.Count%3 == 0:
				return dovetail.Permanent(errors.New("no"))
			case i.Count%3 == 1 && dovetail.DeliveryFromContext(ctx).Attempt == 1:
				return errors.New("not yet")
			}
			handled.Add(1)
			return nil
		}, dovetail.Concurrency(2))
		ranLow.SubscribeBatch(svc, func(_ context.Context, is []item) []error {
			if batches.Add(1) == 1 {
				panic("a batch")
			}
			handled.Add(int32(len(is)))
			return nil
		}, dovetail.Concurrency(1))
		defer runBubble(t, svc)()
		for n := range 30 {
			if err := errors.Join(welcome.Send(t.Context(), svc, item{Count: n}), ranLow.Publish(t.Context(), svc, item{Count: n})); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); handled.Load() != 50 || svc.Stats().Dead != 10 || n != 0 {
			t.Errorf("%d handled, %d dead letters, %d messages are not settled", handled.Load(), svc.Stats().Dead, n)
		}
	})
}

func TestOnDeadLetter_that_ends_its_goroutine_is_called_again(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn.Conn, quick)
		svc.Declare(welcome)
		var calls atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			dovetail.DeliveryFromContext(ctx).OnDeadLetter(func(context.Context) error {
				if calls.Add(1) == 1 {
					runtime.Goexit()
				}
				return nil
			})
			return dovetail.Permanent(errors.New("no"))
		})
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 || calls.Load() != 2 {
			t.Errorf("%d calls, %d messages are not settled", calls.Load(), n)
		}
	})
}

type leaving struct{}

func (leaving) Run(context.Context) error { runtime.Goexit(); return nil }

func TestComponent_that_ends_its_goroutine_ends_the_service(t *testing.T) {
	svc := open(t, "mail", quick)
	svc.Attach(leaving{})
	if err := svc.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
		t.Errorf("got %v", err)
	}
}
