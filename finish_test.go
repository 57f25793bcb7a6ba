package dovetail_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestDeadLetter_whose_sending_hangs_holds_up_no_other_message(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		var full atomic.Bool
		full.Store(true)
		conn.send = func(ctx context.Context, ms []*driver.Message) error {
			if ms[0].Channel == "dead.mail" && full.Load() {
				<-ctx.Done() // as a full channel in memory, or a broker that has stopped
				return ctx.Err()
			}
			return conn.Conn.Send(ctx, ms)
		}
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(_ context.Context, i item) error {
			if i.Count == 0 {
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
			synctest.Wait()
		}
		if n := conn.unsettled(t); n != 1 {
			t.Errorf("%d messages are not settled, want only the one that failed", n)
		}
		full.Store(false)
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

func TestOnDeadLetter_that_hangs_holds_up_no_other_message(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn, quick)
		var away atomic.Bool
		away.Store(true)
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			if i.Count > 0 {
				return nil
			}
			dovetail.DeliveryFromContext(ctx).OnDeadLetter(func(ctx context.Context) error {
				if away.Load() {
					<-ctx.Done()
				}
				return ctx.Err()
			})
			return dovetail.Permanent(errors.New("no"))
		})
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		for n := range 100 {
			if err := welcome.Send(t.Context(), svc, item{Count: n}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if n := conn.unsettled(t); n != 1 {
			t.Errorf("%d messages are not settled, want only the one that failed", n)
		}
		away.Store(false)
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n != 0 {
			t.Errorf("%d messages are not settled", n)
		}
	})
}

func TestDeadLetter_is_counted_once_it_is_kept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		var full atomic.Bool
		full.Store(true)
		conn.refuse(driver.ErrRetryable, func(m *driver.Message) bool { return full.Load() && m.Channel == "dead.mail" })
		svc := dovetail.New("mail", conn, quick)
		welcome.Handle(svc, func(context.Context, item) error { return dovetail.Permanent(errors.New("no")) })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := svc.Stats().Dead; n != 0 {
			t.Errorf("%d counted and none kept", n)
		}
		full.Store(false)
		<-time.After(time.Minute)
		if n := svc.Stats().Dead; n != 1 {
			t.Errorf("%d counted and one kept", n)
		}
	})
}
